#include "cluster/decision_log.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "cluster/view_codec-inl.hpp"
#include "runtime/frame.hpp"

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::size_t kMaxRecordBytes = wire::kMaxTableBytes;
// Past this, and past four times its content, the log is rewritten at start: reading it must not grow with its age.
constexpr std::size_t kRewriteBytes = 1 << 20;
constexpr std::size_t kRewriteFactor = 4;

template <class T>
void put(std::vector<std::byte>& out, std::size_t at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out[at + i] = static_cast<std::byte>(value >> (8 * i));
}
template <class T>
T get(std::span<const std::byte> bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | T(bytes[at + i]) << (8 * i));
  return value;
}

// Of length, sequence and content.
std::uint32_t record_crc(std::span<const std::byte> record) {
  const std::uint32_t head = runtime::crc32c(record.subspan(4, 12));
  return runtime::crc32c(record.subspan(kRecordHeaderBytes), head);
}

std::vector<std::byte> encode_decision(const Decision& decision) {
  return wire::encode_segment<schema::LogRecord>([&](schema::LogRecord::Builder out) {
    std::visit(
        [&](const auto& d) {
          using D = std::decay_t<decltype(d)>;
          if constexpr (std::is_same_v<D, TermStarted>) {
            auto body = out.initTermStarted();
            body.setTerm(d.term.value);
            body.setManifest(d.manifest);
          } else if constexpr (std::is_same_v<D, NumericPlanDecided>) {
            wire::write(out.initNumericPlanDecided(), d.plan);
          } else if constexpr (std::is_same_v<D, NodeIncarnated>) {
            auto body = out.initNodeIncarnated();
            body.setNode(d.node.value);
            body.setIncarnation(d.incarnation.value);
            body.setBoot(d.boot);
          } else if constexpr (std::is_same_v<D, PlacementDecided>) {
            auto body = out.initPlacementDecided();
            body.setEpoch(d.epoch.value);
            body.setDecided(d.decided.value);
            body.setShape(d.shape);
            wire::write(body.initPlacement(), d.placement);
          } else if constexpr (std::is_same_v<D, NodeDied>) {
            auto body = out.initNodeDied();
            body.setNode(d.node.value);
            body.setIncarnation(d.incarnation.value);
            body.setEpoch(d.epoch.value);
            body.setWhy(d.why);
          } else {
            static_assert(std::is_same_v<D, NodeLeft>);
            out.setNodeLeft(d.node.value);
          }
        },
        decision);
  });
}

Outcome<Decision> decode_decision(std::span<const std::byte> bytes) {
  using runtime::Epoch;
  using runtime::Incarnation;
  using runtime::NodeId;
  return wire::decode<schema::LogRecord>(bytes, [](schema::LogRecord::Reader in) -> Outcome<Decision> {
    switch (in.which()) {
      case schema::LogRecord::TERM_STARTED: {
        const auto body = in.getTermStarted();
        return Decision(TermStarted{Incarnation{body.getTerm()}, wire::text(body.getManifest())});
      }
      case schema::LogRecord::NUMERIC_PLAN_DECIDED:
        return Decision(NumericPlanDecided{wire::read(in.getNumericPlanDecided())});
      case schema::LogRecord::NODE_INCARNATED: {
        const auto body = in.getNodeIncarnated();
        return Decision(NodeIncarnated{NodeId{body.getNode()}, Incarnation{body.getIncarnation()}, body.getBoot()});
      }
      case schema::LogRecord::PLACEMENT_DECIDED: {
        const auto body = in.getPlacementDecided();
        return Decision(PlacementDecided{Epoch{body.getEpoch()}, wire::read(body.getPlacement()), body.getShape(),
                                         Epoch{body.getDecided()}});
      }
      case schema::LogRecord::NODE_DIED: {
        const auto body = in.getNodeDied();
        return Decision(NodeDied{NodeId{body.getNode()}, Incarnation{body.getIncarnation()}, Epoch{body.getEpoch()},
                                 wire::text(body.getWhy())});
      }
      case schema::LogRecord::NODE_LEFT:
        return Decision(NodeLeft{NodeId{in.getNodeLeft()}});
    }
    return failure(ErrorKind::kMalformed, "a decision of an unknown kind");
  });
}

// The length of the whole record at `at`, if one is there and is sound; 0 otherwise.
std::size_t sound_record(std::span<const std::byte> bytes, std::size_t at) {
  if (bytes.size() - at < kRecordHeaderBytes || get<std::uint32_t>(bytes, at) != kRecordMagic) return 0;
  const std::size_t length = get<std::uint32_t>(bytes, at + 4);
  if (length == 0 || length % 8 != 0 || length > kMaxRecordBytes) return 0;
  if (bytes.size() - at - kRecordHeaderBytes < length) return 0;
  const auto record = bytes.subspan(at, kRecordHeaderBytes + length);
  if (get<std::uint32_t>(record, 16) != record_crc(record) || get<std::uint32_t>(record, 20) != 0) return 0;
  return record.size();
}

// Is there a sound record later than `sequence` anywhere behind `at`? Then what is at `at` is damage, not a torn end.
bool sound_record_behind(std::span<const std::byte> bytes, std::size_t at, std::uint64_t sequence) {
  for (std::size_t i = at; i + kRecordHeaderBytes <= bytes.size(); ++i) {
    if (get<std::uint32_t>(bytes, i) != kRecordMagic) continue;
    if (sound_record(bytes, i) != 0 && get<std::uint64_t>(bytes, i + 8) >= sequence) return true;
  }
  return false;
}

// The fewest decisions that lead to the same state.
std::vector<Decision> summary(const DecidedState& state) {
  std::vector<Decision> decisions;
  decisions.emplace_back(TermStarted{state.term, state.manifest});
  if (state.numeric_plan) decisions.emplace_back(NumericPlanDecided{*state.numeric_plan});
  for (const auto& [node, life] : state.nodes) {
    if (life.incarnation.value != 0) decisions.emplace_back(NodeIncarnated{node, life.incarnation, life.boot});
    if (life.dead)
      decisions.emplace_back(NodeDied{node, life.incarnation, state.epoch, "before the log was rewritten"});
    if (life.left) decisions.emplace_back(NodeLeft{node});
  }
  decisions.emplace_back(PlacementDecided{state.epoch, state.placement, state.placement_shape, state.placement_epoch});
  return decisions;
}

}  // namespace

void DecidedState::apply(const Decision& decision) {
  std::visit(
      [&](const auto& d) {
        using D = std::decay_t<decltype(d)>;
        if constexpr (std::is_same_v<D, TermStarted>) {
          term = d.term;
          manifest = d.manifest;
        } else if constexpr (std::is_same_v<D, NumericPlanDecided>) {
          numeric_plan = d.plan;
        } else if constexpr (std::is_same_v<D, NodeIncarnated>) {
          nodes[d.node] = {d.incarnation, d.boot, false, false};
        } else if constexpr (std::is_same_v<D, PlacementDecided>) {
          epoch = d.epoch;
          placement_epoch = d.decided.value == 0 ? d.epoch : d.decided;
          placement_shape = d.shape;
          placement = d.placement;
        } else if constexpr (std::is_same_v<D, NodeDied>) {
          Node& node = nodes[d.node];
          if (node.incarnation == d.incarnation) node.dead = true;
          epoch = std::max(epoch, d.epoch);
        } else {
          static_assert(std::is_same_v<D, NodeLeft>);
          nodes[d.node].left = true;
        }
      },
      decision);
}

std::vector<std::byte> encode_record(std::uint64_t sequence, const Decision& decision) {
  const std::vector<std::byte> content = encode_decision(decision);
  CONSORT_CHECK(content.size() % 8 == 0 && content.size() <= kMaxRecordBytes, content.size());
  std::vector<std::byte> record(kRecordHeaderBytes);
  put<std::uint32_t>(record, 0, kRecordMagic);
  put<std::uint32_t>(record, 4, static_cast<std::uint32_t>(content.size()));
  put<std::uint64_t>(record, 8, sequence);
  record.insert(record.end(), content.begin(), content.end());
  put<std::uint32_t>(record, 16, record_crc(record));
  return record;
}

Outcome<LogScan> scan_log(std::span<const std::byte> bytes) {
  LogScan scan;
  while (scan.valid_bytes < bytes.size()) {
    const std::size_t at = scan.valid_bytes;
    const std::size_t length = sound_record(bytes, at);
    if (length == 0) {
      if (!sound_record_behind(bytes, at, scan.next_sequence)) return scan;  // a crash cut it short
      return failure(ErrorKind::kInvalid, "is damaged at byte " + std::to_string(at) +
                                              ", with sound records behind it: decision " +
                                              std::to_string(scan.next_sequence) +
                                              " is lost. Restore the file from a copy, or move it away "
                                              "to let the cluster plan anew");
    }
    const auto sequence = get<std::uint64_t>(bytes, at + 8);
    if (sequence != scan.next_sequence) {
      return failure(ErrorKind::kInvalid, "holds decision " + std::to_string(sequence) + " at byte " +
                                              std::to_string(at) + " where " + std::to_string(scan.next_sequence) +
                                              " should be. Restore the file from a copy, or move it away to let the "
                                              "cluster plan anew");
    }
    auto decision = decode_decision(bytes.subspan(at + kRecordHeaderBytes, length - kRecordHeaderBytes));
    if (!decision.ok()) {
      return failure(ErrorKind::kInvalid, "holds a decision at byte " + std::to_string(at) +
                                              " that this program does not know (" + decision.error().text +
                                              "): it was written by a newer one");
    }
    scan.decisions.push_back(std::move(decision).value());
    scan.valid_bytes += length;
    ++scan.next_sequence;
  }
  return scan;
}

Outcome<std::unique_ptr<DecisionLog>> DecisionLog::open(runtime::Disk& disk, const std::string& path) {
  std::unique_ptr<DecisionLog> log(new DecisionLog);
  std::vector<std::byte> bytes;
  if (auto read = disk.read(path); read.ok()) {
    bytes = std::move(read).value();
  } else if (read.error().kind != ErrorKind::kInvalid) {  // kInvalid: there is none yet
    return failure(read.error().kind, "the Coordinator's log " + path + " cannot be read: " + read.error().text);
  }
  auto scan = scan_log(bytes);
  if (!scan.ok()) return failure(scan.error().kind, "the Coordinator's log " + path + " " + scan.error().text);
  for (const Decision& decision : scan->decisions) log->recovered_.apply(decision);
  log->next_sequence_ = scan->next_sequence;
  log->cut_bytes_ = bytes.size() - scan->valid_bytes;

  std::vector<std::byte> rewritten;
  if (bytes.size() > kRewriteBytes) {
    std::uint64_t sequence = 1;
    for (const Decision& decision : summary(log->recovered_)) {
      const auto record = encode_record(sequence++, decision);
      rewritten.insert(rewritten.end(), record.begin(), record.end());
    }
    if (rewritten.size() * kRewriteFactor < bytes.size()) log->next_sequence_ = sequence;
  }
  if (!rewritten.empty() && rewritten.size() * kRewriteFactor < bytes.size()) {
    CONSORT_RETURN_IF_ERROR(disk.replace(path, rewritten));
  } else if (log->cut_bytes_ != 0) {
    CONSORT_RETURN_IF_ERROR(disk.replace(path, std::span(bytes).first(scan->valid_bytes)));
  }
  CONSORT_TRY(log->file_, disk.open_append(path));
  return log;
}

void DecisionLog::append(const Decision& decision, std::function<void(Status)> done) {
  file_->append_synced(encode_record(next_sequence_++, decision), std::move(done));
}

}  // namespace consort::cluster
