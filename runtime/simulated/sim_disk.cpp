#include "runtime/simulated/sim_disk.hpp"

#include <algorithm>
#include <utility>

#include "runtime/simulated/world.hpp"

namespace consort::runtime {

std::size_t SimStorage::used_bytes() const {
  std::size_t sum = 0;
  for (const auto& [path, bytes] : files) sum += bytes.size();
  return sum;
}

// An open file is its path; what was appended goes on after the handle is closed, as write-back does.
class SimFile final : public DiskFile {
 public:
  SimFile(SimDisk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
  void append_synced(std::vector<std::byte> bytes, std::function<void(Status)> done) override {
    disk_.append(path_, std::move(bytes), std::move(done));
  }

 private:
  SimDisk& disk_;
  const std::string path_;
};

SimDisk::SimDisk(World& world, std::uint32_t process, SimStorage& storage, Rng rng)
    : world_(world), process_(process), storage_(storage), rng_(rng) {}
SimDisk::~SimDisk() = default;

Outcome<std::vector<std::byte>> SimDisk::read(const std::string& path) {
  const auto file = storage_.files.find(path);
  if (file == storage_.files.end()) return failure(ErrorKind::kInvalid, path + ": no such file on this host");
  return file->second;
}

Outcome<std::unique_ptr<DiskFile>> SimDisk::open_append(const std::string& path) {
  storage_.files.try_emplace(path);
  return std::unique_ptr<DiskFile>(std::make_unique<SimFile>(*this, path));
}

Status SimDisk::replace(const std::string& path, std::span<const std::byte> bytes) {
  // The old and the new file exist side by side for a moment.
  if (storage_.used_bytes() + bytes.size() > storage_.capacity_bytes) {
    return failure(ErrorKind::kExhausted, path + ": no space left on the disk of this host; free some, then try again");
  }
  storage_.files[path].assign(bytes.begin(), bytes.end());
  return runtime::done();
}

void SimDisk::append(const std::string& path, std::vector<std::byte> bytes, std::function<void(Status)> done) {
  const SimDiskModel& model = world_.model_.disk;
  const auto range = static_cast<std::uint64_t>((model.last_sync - model.first_sync).count()) + 1;
  const Duration sync = model.first_sync + Duration(static_cast<std::int64_t>(rng_.below(range)));
  last_sync_ = std::max(last_sync_, world_.now() + world_.slowed(process_, sync) + storage_.extra_sync);
  pending_.push({path, std::move(bytes), std::move(done)});
  world_.agenda_.add(last_sync_, Happening::kDisk, process_);
}

void SimDisk::complete_first() {
  Append append = pending_.pop();
  if (storage_.used_bytes() + append.bytes.size() > storage_.capacity_bytes) {
    return append.done(failure(ErrorKind::kExhausted,
                               append.path + ": no space left on the disk of this host; free some, then try again"));
  }
  auto& file = storage_.files[append.path];
  file.insert(file.end(), append.bytes.begin(), append.bytes.end());
  append.done(runtime::done());
}

// Appends reach the platter in order, so that the first one that is not whole ends the row. Whole ones that were never
// acknowledged are what a log must be able to read, too.
void SimDisk::crash() {
  enum Fate : std::uint64_t { kWhole = 0, kTorn = 1, kLost = 2 };
  bool ended = false;
  while (!pending_.empty()) {
    Append append = pending_.pop();
    const std::uint64_t fate = ended ? kLost : storage_.always_tear ? kTorn : rng_.below(3);
    std::size_t kept = append.bytes.size();
    if (fate == kTorn) {
      kept = storage_.always_tear || kept == 0 ? kept / 2 : static_cast<std::size_t>(rng_.below(kept));
      ++storage_.torn_appends;
    } else if (fate == kLost) {
      kept = 0;
      ++storage_.lost_appends;
    }
    ended = ended || fate != kWhole;
    auto& file = storage_.files[append.path];
    file.insert(file.end(), append.bytes.begin(), append.bytes.begin() + static_cast<std::ptrdiff_t>(kept));
  }
}

}  // namespace consort::runtime
