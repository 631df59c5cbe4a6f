#include "runtime/simulated/sim_disk.hpp"

#include "simulated_cast.hpp"
#include "support/test.hpp"

namespace consort::runtime::cast {
namespace {

std::vector<std::byte> line(std::uint8_t number, std::size_t bytes = 8) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(number));
}

// A node that appends lines 1, 2, 3, ... one after the other is acknowledged, or all at once.
struct Logger {
  explicit Logger(std::uint64_t seed, WorldModel model = {}) : world(seed, model) {
    node = &world.add_node("desk", NodeId(1), nullptr, "host");
  }
  void append(std::uint8_t first, std::uint8_t count) {
    auto& disk = node->disk();
    file = disk.open_append("log").value();
    for (std::uint8_t i = first; i < first + count; ++i) {
      file->append_synced(line(i), [this, i](Status status) {
        if (status.ok()) {
          acknowledged = i;
        } else {
          failures.push_back(std::move(status).error());
        }
      });
    }
  }
  std::uint8_t acknowledged = 0;
  std::vector<Error> failures;
  World world;
  SimProcess* node = nullptr;
  std::unique_ptr<DiskFile> file;
};

TEST_CASE("an append is acknowledged after its sync and not before") {
  Logger log(1);
  log.append(1, 3);
  log.world.run_for(199us);
  CHECK(log.acknowledged == 0);
  CHECK(log.node->disk().read("log").value().empty());
  CHECK(log.node->disk().pending() == 3);
  log.world.run_for(2ms);
  CHECK(log.acknowledged == 3);
  CHECK(log.node->disk().read("log").value().size() == 24);
}

TEST_CASE("what was acknowledged survives every crash, in order, and what was not may be lost or torn") {
  std::size_t whole = 0;
  std::size_t torn = 0;
  std::size_t lost = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Logger log(seed);
    log.append(1, 10);
    log.world.run_for(Duration(Rng(seed).below(2'500'000)));
    const std::size_t acknowledged = log.acknowledged;
    log.world.crash(*log.node);
    log.file.reset();
    SimProcess& again = log.world.restart(*log.node);
    const auto bytes = again.disk().read("log").value();
    REQUIRE(bytes.size() >= 8 * acknowledged);
    for (std::size_t i = 0; i < bytes.size(); ++i) REQUIRE(bytes[i] == static_cast<std::byte>(1 + i / 8));
    if (bytes.size() % 8 != 0) ++torn;
    if (bytes.size() / 8 > acknowledged) ++whole;
    if (bytes.size() < 80) ++lost;
    CHECK(log.acknowledged == acknowledged);  // no word from beyond the grave
  }
  CHECK(whole >= 20);  // durable, though nobody was told
  CHECK(torn >= 20);
  CHECK(lost >= 100);
}

TEST_CASE("a disk can be told to tear, to take long and to be full") {
  Logger log(1);
  SimStorage& storage = log.world.storage("host");
  storage.always_tear = true;
  log.append(1, 1);
  log.world.crash(*log.node);
  log.file.reset();
  SimProcess& again = log.world.restart(*log.node);
  CHECK(again.disk().read("log").value().size() == 4);
  CHECK(storage.torn_appends == 1);

  log.node = &again;
  storage.extra_sync = 500ms;
  log.append(2, 1);
  log.world.run_for(500ms);
  CHECK(log.acknowledged == 0);
  log.world.run_for(3ms);
  CHECK(log.acknowledged == 2);

  storage.extra_sync = Duration{0};
  storage.capacity_bytes = 13;
  log.append(3, 1);
  log.world.run_for(3ms);
  REQUIRE(log.failures.size() == 1);
  CHECK(log.failures[0].kind == ErrorKind::kExhausted);
  CHECK(log.failures[0].text.find("no space left") != std::string::npos);
  CHECK(again.disk().read("log").value().size() == 12);
  CHECK(again.disk().replace("view", line(1, 2)).error().kind == ErrorKind::kExhausted);
}

TEST_CASE("replace is one step, files belong to the host, and a missing one is said") {
  World world(1);
  SimProcess& desk = world.add_node("desk", NodeId(1), nullptr, "a");
  SimProcess& attic = world.add_node("attic", NodeId(2), nullptr, "a");
  SimProcess& garage = world.add_node("garage", NodeId(3), nullptr, "b");
  REQUIRE(desk.disk().replace("keys", line(1)).ok());
  REQUIRE(desk.disk().replace("keys", line(2, 3)).ok());
  CHECK(attic.disk().read("keys").value() == line(2, 3));
  CHECK(garage.disk().read("keys").error().kind == ErrorKind::kInvalid);
  world.crash(desk);
  CHECK(attic.disk().read("keys").value() == line(2, 3));
}

}  // namespace
}  // namespace consort::runtime::cast
