// World: a whole cluster in one thread and virtual time, decided by a seed. The same seed gives the same events.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"
#include "runtime/simulated/agenda.hpp"
#include "runtime/simulated/models.hpp"
#include "runtime/simulated/sim_event.hpp"
#include "runtime/simulated/sim_network.hpp"
#include "runtime/simulated/sim_process.hpp"

namespace consort::runtime {

// What a ProcessSpec stands for in this world; the simulator's argv parser.
struct SimProgram {
  NodeId node;
  SimBoot boot;
};

class World {
 public:
  explicit World(std::uint64_t seed, WorldModel model = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // --- who lives -----------------------------------------------------------------------------------------------
  // A process of its own, booted now. The reference holds for the world's life, the process may end.
  SimProcess& add_node(std::string name, NodeId node, SimBoot boot, std::string host = "host");
  void set_program(std::function<Outcome<SimProgram>(const ProcessSpec&)> program) { program_ = std::move(program); }
  SimProcess* find(NodeId node);  // the latest living process of that node, or null
  SimProcess* find(std::string_view name);
  SimProcess& process(std::uint32_t index) { return *processes_.at(index); }
  std::size_t process_count() const { return processes_.size(); }
  SimStorage& storage(const std::string& host);
  SimNetwork& network() { return *network_; }

  // --- faults ----------------------------------------------------------------------------------------------------
  // A crash or pause of whoever runs an event takes effect after it.
  void crash(SimProcess& process, std::string why = "signal 9");  // its children die with it, its parent is told
  void pause(SimProcess& process, Duration time);  // as SIGSTOP: what happens to it is held; time goes on
  void pause(SimProcess& process);                 // until resume()
  void resume(SimProcess& process);
  SimProcess& restart(const SimProcess& ended);  // the same name, boot and host: a new life, with no parent

  // --- running -----------------------------------------------------------------------------------------------------
  bool step();  // until one event has happened; false: nothing is left to happen
  struct Limits {
    Duration time = std::chrono::seconds(60);  // virtual
    std::uint64_t events = 10'000'000;
  };
  // Until the predicate holds; it is asked before the first event and after each. kTimedOut says for what it waited in
  // vain, and what everybody was doing.
  Status run_until(const std::function<bool()>& predicate, std::string_view waiting_for, Limits limits);
  Status run_until(const std::function<bool()>& predicate, std::string_view waiting_for) {
    return run_until(predicate, waiting_for, Limits{});
  }
  void run_for(Duration time);
  // A scenario gave a process something to do between two events other than by an action: an observer must say so.
  void touch() { touched_ = true; }

  Instant now() const { return now_; }
  std::uint64_t event_count() const { return event_count_; }
  std::uint64_t trace_hash() const { return hash_; }
  Rng& chance() { return chance_; }  // for scenarios; no draw of it changes what the world draws

  // --- scenarios and checkers ----------------------------------------------------------------------------------------
  void at_event(std::uint64_t index, std::function<void()> action);  // before the event of that index
  void at(Instant time, std::function<void()> action);
  void add_observer(std::function<void(const SimEvent&)> observer);  // after every event; may call faults
  // What is not at rest: outstanding asks, device and disk work, rest checks that are not 0, parcels under way. Empty:
  // all is. Heartbeats may be under way at any moment, so parcels count only with `parcels_too`.
  std::vector<std::string> not_at_rest(bool parcels_too = false);
  std::string describe();  // a line per process

 private:
  friend class SimDevice;
  friend class SimDisk;
  friend class SimLink;
  friend class SimNetwork;
  friend class SimProcess;
  friend class SimSpawner;
  friend class SimTerminator;

  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};

  SimProcess& add_process(std::string name, NodeId node, std::string host, SimBoot boot);
  void begin(SimProcess& process);
  void end(std::uint32_t index, std::string why);
  void end_now(SimProcess& process, const std::string& why);
  Outcome<ProcessId> start_child(std::uint32_t parent, const ProcessSpec& spec);
  void kill_child(std::uint32_t parent, ProcessId child);

  bool step_by(Instant last);
  std::optional<SimEvent> happen(const AgendaEntry& entry);
  std::optional<SimEvent> turn(SimProcess& process);
  std::optional<SimEvent> timer(SimProcess& process);
  std::optional<SimEvent> tell_exit(SimProcess& process, std::uint64_t exit);
  void finish(SimEvent event);
  void run_planned_actions();
  void settle(SimProcess& process);  // plans the turns and timers that it has now
  void settle_all();
  Duration slowed(std::uint32_t process, Duration time) const;
  static SimEvent event_of(SimEventKind kind, const SimProcess& process);

  const WorldModel model_;
  Instant now_;
  Agenda agenda_;
  Rng seeds_;  // for what is made: processes, tokens
  Rng order_;  // which ready actor, how long a turn
  Rng chance_;
  std::unique_ptr<SimNetwork> network_;
  std::map<std::string, SimStorage> storages_;
  std::vector<std::unique_ptr<SimProcess>> processes_;
  std::function<Outcome<SimProgram>(const ProcessSpec&)> program_;
  std::uint32_t current_ = kNobody;                            // whose event is happening
  std::vector<std::pair<std::uint32_t, std::string>> ending_;  // after the event
  std::vector<ProcessExit> exits_;
  std::multimap<std::uint64_t, std::function<void()>> event_actions_;
  std::vector<std::function<void()>> timed_actions_;
  std::vector<std::function<void(const SimEvent&)>> observers_;
  bool touched_ = true;  // a scenario may have given any process something to do
  std::uint64_t event_count_ = 0;
  std::uint64_t hash_;
};

}  // namespace consort::runtime
