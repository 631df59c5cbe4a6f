// SPDX-License-Identifier: Apache-2.0
#include "cluster/decision_log.hpp"

#include <algorithm>
#include <map>

#include "runtime/env.hpp"
#include "support/test.hpp"

namespace {

using namespace consort::cluster;
using namespace consort::runtime;

// A disk in memory that completes at once.
class MemoryDisk final : public Disk {
 public:
  std::map<std::string, std::vector<std::byte>> files;
  int replaced = 0;

  Outcome<std::vector<std::byte>> read(const std::string& path) override {
    if (files.count(path) == 0) return failure(ErrorKind::kInvalid, "no such file");
    return files[path];
  }
  Outcome<std::unique_ptr<DiskFile>> open_append(const std::string& path) override {
    files[path];
    return std::unique_ptr<DiskFile>(std::make_unique<File>(files[path]));
  }
  Status replace(const std::string& path, std::span<const std::byte> bytes) override {
    ++replaced;
    files[path].assign(bytes.begin(), bytes.end());
    return done();
  }

 private:
  struct File final : DiskFile {
    explicit File(std::vector<std::byte>& bytes) : bytes_(bytes) {}
    void append_synced(std::vector<std::byte> bytes, std::function<void(Status)> then) override {
      bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
      then(done());
    }
    std::vector<std::byte>& bytes_;
  };
};

PlacementTable small_placement() {
  return {{PartId{1, kRoutedExpertPart, 0, 0, 64}, {NodeId{1}, NodeId{2}}},
          {PartId{1, kRoutedExpertPart, 1, 0, 64}, {NodeId{2}}}};
}
std::vector<Decision> some_decisions() {
  return {TermStarted{Incarnation{1}, "model"},
          NodeIncarnated{NodeId{1}, Incarnation{1}, 11},
          NodeIncarnated{NodeId{2}, Incarnation{1}, 22},
          NumericPlanDecided{{{{0, 32}, {32, 32}}, "ordered", "f32", "canonical"}},
          PlacementDecided{Epoch{1}, small_placement(), 77, {}},
          NodeDied{NodeId{2}, Incarnation{1}, Epoch{2}, "signal 9"},
          NodeIncarnated{NodeId{2}, Incarnation{2}, 33}};
}
std::vector<std::byte> some_log() {
  std::vector<std::byte> bytes;
  std::uint64_t sequence = 1;
  for (const auto& decision : some_decisions()) {
    const auto record = encode_record(sequence++, decision);
    bytes.insert(bytes.end(), record.begin(), record.end());
  }
  return bytes;
}

TEST_CASE("the decision log gives back what was decided") {
  MemoryDisk disk;
  {
    auto log = DecisionLog::open(disk, "log");
    REQUIRE(log.ok());
    CHECK((*log)->recovered().term.value == 0);
    for (const auto& decision : some_decisions()) (*log)->append(decision, [](Status s) { CHECK(s.ok()); });
  }
  auto log = DecisionLog::open(disk, "log");
  REQUIRE(log.ok());
  const DecidedState& state = (*log)->recovered();
  CHECK(state.term.value == 1);
  CHECK(state.epoch.value == 2);
  CHECK(state.placement_epoch.value == 1);
  CHECK(state.placement_shape == 77);
  CHECK(state.placement == small_placement());
  REQUIRE(state.numeric_plan.has_value());
  CHECK(state.numeric_plan->cut.size() == 2);
  CHECK(state.nodes.at(NodeId{1}).incarnation.value == 1);
  CHECK(state.nodes.at(NodeId{1}).boot == 11);
  CHECK(state.nodes.at(NodeId{2}).incarnation.value == 2);
  CHECK_FALSE(state.nodes.at(NodeId{2}).dead);
  CHECK((*log)->cut_bytes() == 0);
  CHECK(disk.replaced == 0);
}

TEST_CASE("a log cut at any byte keeps every whole record before the cut") {
  const auto bytes = some_log();
  std::vector<std::size_t> ends{0};
  std::uint64_t sequence = 1;
  for (const auto& decision : some_decisions())
    ends.push_back(ends.back() + encode_record(sequence++, decision).size());
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    MemoryDisk disk;
    disk.files["log"].assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    auto log = DecisionLog::open(disk, "log");
    REQUIRE(log.ok());
    const auto whole = *std::prev(std::upper_bound(ends.begin(), ends.end(), length));
    CHECK((*log)->cut_bytes() == length - whole);
    CHECK(disk.files["log"].size() == whole);
    // What is appended afterwards is found again.
    (*log)->append(TermStarted{Incarnation{9}, "model"}, [](Status) {});
    auto again = DecisionLog::open(disk, "log");
    REQUIRE(again.ok());
    CHECK((*again)->recovered().term.value == 9);
  }
}

TEST_CASE("damage before the end of a log is refused in words") {
  const auto sound = some_log();
  const auto last = encode_record(7, some_decisions().back()).size();
  int refused = 0;
  for (std::size_t at = 0; at + last < sound.size(); ++at) {
    MemoryDisk disk;
    disk.files["log"] = sound;
    disk.files["log"][at] ^= std::byte{0x40};
    auto log = DecisionLog::open(disk, "log");
    REQUIRE_FALSE(log.ok());
    CHECK(log.error().text.find("the Coordinator's log log") == 0);
    CHECK(log.error().text.find("Restore") != std::string::npos);
    CHECK(disk.files["log"].size() == sound.size());  // left as it was found
    ++refused;
  }
  CHECK(refused > 100);
}

TEST_CASE("damage in the last record reads as a torn end") {
  MemoryDisk disk;
  disk.files["log"] = some_log();
  disk.files["log"].back() ^= std::byte{1};
  auto log = DecisionLog::open(disk, "log");
  REQUIRE(log.ok());
  CHECK((*log)->cut_bytes() > 0);
  CHECK((*log)->recovered().nodes.at(NodeId{2}).dead);  // its new life was in the torn record
}

TEST_CASE("a log that lost a record in between is refused") {
  MemoryDisk disk;
  const auto first = encode_record(1, TermStarted{Incarnation{1}, "model"});
  const auto third = encode_record(3, TermStarted{Incarnation{3}, "model"});
  disk.files["log"] = first;
  disk.files["log"].insert(disk.files["log"].end(), third.begin(), third.end());
  auto log = DecisionLog::open(disk, "log");
  REQUIRE_FALSE(log.ok());
  CHECK(log.error().text.find("holds decision 3") != std::string::npos);
}

TEST_CASE("a long log is rewritten and keeps its meaning") {
  MemoryDisk disk;
  PlacementTable wide;
  for (std::uint32_t i = 0; i < 2000; ++i) wide[PartId{1, kRoutedExpertPart, i, 0, 64}] = {NodeId{1 + i % 3}};
  {
    auto log = DecisionLog::open(disk, "log");
    REQUIRE(log.ok());
    for (const auto& decision : some_decisions()) (*log)->append(decision, [](Status) {});
    for (std::uint32_t e = 3; e < 40; ++e) (*log)->append(PlacementDecided{Epoch{e}, wide, e, {}}, [](Status) {});
    (*log)->append(NodeDied{NodeId{2}, Incarnation{2}, Epoch{40}, "signal 9"}, [](Status) {});
    (*log)->append(NodeLeft{NodeId{1}}, [](Status) {});
  }
  const auto before = disk.files["log"].size();
  auto log = DecisionLog::open(disk, "log");
  REQUIRE(log.ok());
  CHECK(disk.replaced == 1);
  CHECK(disk.files["log"].size() * 4 < before);
  (*log)->append(TermStarted{Incarnation{2}, "model"}, [](Status) {});
  auto again = DecisionLog::open(disk, "log");
  REQUIRE(again.ok());
  const DecidedState& state = (*again)->recovered();
  CHECK(state.term.value == 2);
  CHECK(state.manifest == "model");
  CHECK(state.epoch.value == 40);
  CHECK(state.placement_epoch.value == 39);
  CHECK(state.placement_shape == 39);
  CHECK(state.nodes.at(NodeId{2}).dead);
  CHECK(state.placement == wide);
  CHECK(state.nodes.at(NodeId{2}).incarnation.value == 2);
  CHECK(state.nodes.at(NodeId{2}).boot == 33);
  CHECK(state.nodes.at(NodeId{1}).left);
  CHECK(state.numeric_plan->cut.size() == 2);
}

}  // namespace
