// How simulated processes begin, pause and end.
#include <algorithm>
#include <utility>

#include "runtime/simulated/world.hpp"

namespace consort::runtime {

SimProcess& World::add_process(std::string name, NodeId node, std::string host, SimBoot boot) {
  CONSORT_CHECK(processes_.size() < model_.max_processes, "this scenario starts processes without end", name);
  const auto index = static_cast<std::uint32_t>(processes_.size());
  processes_.push_back(std::unique_ptr<SimProcess>(
      new SimProcess(*this, index, std::move(name), node, std::move(host), std::move(boot))));
  return *processes_.back();
}

SimProcess& World::add_node(std::string name, NodeId node, SimBoot boot, std::string host) {
  SimProcess& process = add_process(std::move(name), node, std::move(host), std::move(boot));
  const std::uint32_t before = std::exchange(current_, process.index_);
  begin(process);
  current_ = before;
  touched_ = true;
  if (current_ == kNobody) {
    for (auto& [index, why] : std::exchange(ending_, {})) end_now(*processes_[index], why);
  }
  return process;
}

SimProcess& World::restart(const SimProcess& ended) {
  CONSORT_CHECK(ended.ended_, ended.name_, "is still alive");
  SimProcess& again = add_node(ended.name_, ended.node_, ended.boot_, ended.host_);
  again.spec_ = ended.spec_;
  again.slowness_ = ended.slowness_;
  return again;
}

void World::begin(SimProcess& process) {
  process.life_ = std::make_unique<SimProcess::Life>(*this, process, seeds_.next());
  if (process.boot_) process.life_->house = process.boot_(process);
}

SimProcess* World::find(NodeId node) {
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    if ((*it)->node_ == node && (*it)->alive()) return it->get();
  }
  return nullptr;
}

SimProcess* World::find(std::string_view name) {
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    if ((*it)->name_ == name && (*it)->alive()) return it->get();
  }
  return nullptr;
}

SimStorage& World::storage(const std::string& host) {
  const auto [it, is_new] = storages_.try_emplace(host);
  if (is_new) it->second.capacity_bytes = model_.disk.capacity_bytes;
  return it->second;
}

Outcome<ProcessId> World::start_child(std::uint32_t parent, const ProcessSpec& spec) {
  if (!program_) return failure(ErrorKind::kInvalid, "this world has no program to start " + spec.name + " with");
  CONSORT_TRY(SimProgram program, program_(spec));
  SimProcess& above = *processes_[parent];
  SimProcess& child = add_process(spec.name, program.node, above.host_, std::move(program.boot));
  child.spec_ = spec;
  child.parent_ = parent;
  above.children_.push_back(child.index_);
  const auto range = static_cast<std::uint64_t>(model_.start_delay.count()) + 1;
  agenda_.add(now_ + model_.start_delay + Duration(static_cast<std::int64_t>(seeds_.below(range))), Happening::kStart,
              child.index_);
  return child.id();
}

void World::kill_child(std::uint32_t parent, ProcessId child) {
  const auto index = static_cast<std::uint32_t>(child - 1);
  if (child < 1 || index >= processes_.size() || processes_[index]->parent_ != parent) return;
  end(index, "signal 9");
}

void World::crash(SimProcess& process, std::string why) { end(process.index_, std::move(why)); }

// Never under the feet of a running handler.
void World::end(std::uint32_t index, std::string why) {
  if (current_ == index) {
    ending_.emplace_back(index, std::move(why));
  } else {
    end_now(*processes_[index], why);
  }
}

void World::end_now(SimProcess& process, const std::string& why) {
  if (process.ended_) return;
  process.ended_ = true;
  process.end_reason_ = why;
  process.held_.clear();
  network_->process_ended(process.index_);
  if (process.life_ != nullptr) {
    process.life_->disk.crash();
    process.life_->house.reset();
    process.life_->device.abandon();  // replies that its work holds end at the loop, which must still be there
    process.life_.reset();
  }
  if (process.parent_ != kNobody && !processes_[process.parent_]->ended_) {
    exits_.push_back({process.id(), why});
    agenda_.add(now_ + model_.exit_notice, Happening::kExit, process.parent_, exits_.size() - 1);
  }
  for (const std::uint32_t child : process.children_) {
    if (child == current_) {
      ending_.emplace_back(child, "its parent ended");
    } else {
      end_now(*processes_[child], "its parent ended");
    }
  }
}

void World::pause(SimProcess& process, Duration time) {
  if (process.ended_) return;
  pause(process);
  agenda_.add(now_ + time, Happening::kResume, process.index_, process.pause_number_);
}

void World::pause(SimProcess& process) {
  if (process.ended_) return;
  process.paused_ = true;
  ++process.pause_number_;
}

void World::resume(SimProcess& process) {
  if (!process.paused_) return;
  process.paused_ = false;
  for (const AgendaEntry& entry : std::exchange(process.held_, {})) {
    agenda_.add(now_, entry.what, entry.process, entry.item);
  }
}

}  // namespace consort::runtime
