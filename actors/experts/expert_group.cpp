#include "actors/experts/expert_group.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "model/expert_part.hpp"

namespace consort::actors {

using runtime::Buffer;
using runtime::Duration;
using runtime::Error;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Instant;
using runtime::MessageClass;
using runtime::Outcome;

namespace {

// Parts are read in pieces of about this size, so that work for tokens gets its turn on the executor in between.
constexpr std::uint64_t kLoadPieceBytes = std::uint64_t{8} << 20;
// A probe reads this many bytes of weights in each of its runs: enough that a turn of the loop does not show ...
constexpr std::uint64_t kProbeRunBytes = std::uint64_t{32} << 20;
// ... but no more repetitions than this, where parts are small.
constexpr std::uint64_t kMaxProbeRepeats = 2000;
// What is read for a probe is read besides the node's parts: a five hundredth of all experts, so that a node's start
// reads hardly more than it holds; at least one piece; at most this, which no cache holds, so that memory is timed, not
// a cache.
constexpr std::uint64_t kProbeShare = 500;
constexpr std::uint64_t kMaxProbeBytes = std::uint64_t{256} << 20;
// The fastest of these counts: whatever else the host did in between can only have made a run slower.
constexpr std::size_t kProbeRuns = 15;

bool exists(const model::ModelConfig& config, const model::PartKey& key) {
  return key.kind == model::PartKind::kRoutedExpert && std::int64_t{key.layer.value} < config.num_hidden_layers &&
         config.is_moe(key.layer.value) && std::int64_t{key.index} < config.n_routed_experts && key.column_count > 0 &&
         std::int64_t{key.first_column} + key.column_count <= config.moe_intermediate_size;
}

// Pieces of one cut unit of the first MoE layer's experts, neighbours apart in memory.
std::vector<model::PartKey> probe_pieces(const model::Checkpoint& checkpoint) {
  const model::ModelConfig& config = checkpoint.config();
  const auto layer = static_cast<std::uint32_t>(config.first_k_dense_replace);
  const auto unit = static_cast<std::uint32_t>(model::cut_unit(config));
  const auto units = static_cast<std::uint32_t>(config.moe_intermediate_size) / unit;
  const auto experts = static_cast<std::uint64_t>(config.n_routed_experts);
  const auto layers = static_cast<std::uint64_t>(config.num_hidden_layers - config.first_k_dense_replace);
  const auto piece = [&](std::uint64_t i) {
    return model::PartKey{runtime::LayerIndex{layer}, model::PartKind::kRoutedExpert,
                          static_cast<std::uint32_t>(i % experts), static_cast<std::uint32_t>(i / experts) * unit,
                          unit};
  };
  const std::uint64_t piece_bytes = model::part_bytes(checkpoint, piece(0));
  const std::uint64_t budget = std::min(piece_bytes * units * experts * layers / kProbeShare, kMaxProbeBytes);
  const std::uint64_t count = std::clamp<std::uint64_t>(budget / piece_bytes, 1, units * experts);
  std::vector<model::PartKey> keys;
  for (std::uint64_t i = 0; i < count; ++i) keys.push_back(piece(i));
  return keys;
}

}  // namespace

// One ComputeParts on the executor.
struct ExpertGroup::Computation {
  ComputeParts message;
  std::vector<ComputeParts::PartRows> requests;
  std::vector<std::shared_ptr<const model::PartWeights>> weights;
  Buffer outputs;
  std::uint64_t weight_bytes = 0;
  Duration took{0};
  bool too_late = false;

  void run(runtime::Workers& workers);
};

void ExpertGroup::Computation::run(runtime::Workers& workers) {
  const std::int64_t hidden = message.hidden;
  const runtime::ConstTensorView rows = message.rows();
  auto* out = reinterpret_cast<float*>(outputs.mutable_bytes().data());
  std::vector<float> gathered;
  for (std::size_t p = 0; p < requests.size(); ++p) {
    const auto count = static_cast<std::int64_t>(requests[p].rows.size());
    const auto row_bytes = static_cast<std::size_t>(hidden) * sizeof(float);
    runtime::ConstTensorView input = rows;
    if (count < rows.dim(0)) {
      gathered.resize(static_cast<std::size_t>(count * hidden));
      for (std::int64_t i = 0; i < count; ++i) {
        std::memcpy(gathered.data() + i * hidden, rows.f32(requests[p].rows[static_cast<std::size_t>(i)]), row_bytes);
      }
      input = {reinterpret_cast<const std::byte*>(gathered.data()), runtime::Dtype::kF32, {count, hidden}};
    }
    const runtime::TensorView output(reinterpret_cast<std::byte*>(out), runtime::Dtype::kF32, {count, hidden});
    model::compute_part(*weights[p], input, output, workers);
    out += count * hidden;
  }
}

struct ExpertGroup::Loading {
  std::uint64_t order = 0;
  std::vector<model::PartKey> wanted;  // sorted
  std::vector<model::PartKey> missing;
  std::size_t next = 0;
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
  runtime::ReplyTo<cluster::PartsLoaded> reply;
};

struct ExpertGroup::Probe {
  std::vector<std::shared_ptr<const model::PartWeights>> weights;
  std::vector<float> row, out;
  std::uint64_t repeats = 1;
  std::uint64_t run_bytes = 0;
  std::vector<double> bytes_per_second;
  Instant begin;
};

ExpertGroup::ExpertGroup(ExpertGroupParts parts, cluster::ClusterViewPtr view)
    : parts_(std::move(parts)), view_(std::move(view)) {
  CONSORT_CHECK(parts_.checkpoint != nullptr && parts_.store != nullptr && parts_.buffers != nullptr);
}

ExpertGroup::~ExpertGroup() = default;

// Results are pure, so a request of another epoch is answered, unless the cut differs or a part is not here.
Outcome<std::shared_ptr<ExpertGroup::Computation>> ExpertGroup::prepare(ComputeParts message,
                                                                        const runtime::Context& context) {
  const auto wrong_epoch = [&](const std::string& what) {
    const std::string here = view_ == nullptr ? "none" : std::to_string(view_->epoch.value);
    return failure(ErrorKind::kWrongEpoch,
                   what + " (asked under epoch " + std::to_string(context.epoch.value) + ", here " + here + ")");
  };
  const auto hidden = static_cast<std::uint64_t>(parts_.checkpoint->config().hidden_size);
  if (message.hidden != hidden) {
    return failure(ErrorKind::kMalformed,
                   "rows of " + std::to_string(message.hidden) + " columns for a model of " + std::to_string(hidden));
  }
  if (view_ != nullptr && model_plan(view_->numeric_plan).digest() != message.plan_digest) {
    return wrong_epoch("the parts were cut by another numeric plan");
  }
  auto work = std::make_shared<Computation>();
  work->message = std::move(message);
  work->requests = work->message.parts();
  for (const ComputeParts::PartRows& request : work->requests) {
    auto weights = parts_.store->find(request.part);
    if (weights == nullptr) return wrong_epoch(describe(request.part) + " is not held here");
    work->weight_bytes += model::weight_bytes(*weights);
    work->weights.push_back(std::move(weights));
  }
  const std::size_t bytes = std::size_t{work->message.output_count} * work->message.hidden * sizeof(float);
  CONSORT_TRY(work->outputs, parts_.buffers->take(bytes));
  return work;
}

void ExpertGroup::on(ComputeParts message, runtime::ReplyTo<PartOutputs> reply, const runtime::Context& context) {
  if (owed_.size() >= parts_.most_computations) {
    return reply.reject({ErrorKind::kExhausted, std::to_string(owed_.size()) + " computations wait here already"});
  }
  auto prepared = prepare(std::move(message), context);
  if (!prepared.ok()) return reply.reject(std::move(prepared).error());
  const std::shared_ptr<Computation> work = std::move(prepared).value();
  // Work that waited past its deadline (this process was stopped, the executor is behind) is not worth doing any more.
  runtime::Clock& clock = env().clock;
  const Instant deadline = context.deadline;
  runtime::DeviceWork device_work;
  device_work.label = "parts";
  device_work.weight_bytes = work->weight_bytes;
  device_work.rows = work->message.output_count;
  device_work.run = [work, &clock, deadline](runtime::Workers& workers) {
    if (clock.now() > deadline) {
      work->too_late = true;
    } else {
      const Instant begin = clock.now();
      work->run(workers);
      work->took = clock.now() - begin;
    }
  };
  const std::uint64_t name = next_computation_++;
  owed_.emplace(name, std::move(reply));
  compute(std::move(device_work), context.message_class, [this, work, name] {
    runtime::ReplyTo<PartOutputs> owed = std::move(owed_.extract(name).mapped());
    if (work->too_late) return owed.reject({ErrorKind::kTimedOut, "the executor came to it after its deadline"});
    const auto took_ns = static_cast<std::uint64_t>(work->took.count());
    if (parts_.counters) {
      ++parts_.counters->computations;
      parts_.counters->rows += work->message.output_count;
      parts_.counters->weight_bytes += work->weight_bytes;
      parts_.counters->busy_ns += took_ns;
    }
    owed.send({work->message.hidden, work->message.output_count, std::move(work->outputs), took_ns});
  });
}

// --- loading ---------------------------------------------------------------------------------------------------------

void ExpertGroup::on(cluster::LoadParts message, runtime::ReplyTo<cluster::PartsLoaded> reply) {
  for (const cluster::PartId& id : message.parts) {
    if (exists(parts_.checkpoint->config(), part_key(id))) continue;
    return reply.reject({ErrorKind::kInvalid, "the placement names " + describe(part_key(id)) +
                                                  ", which this node's checkpoint does not have"});
  }
  if (loading_) {
    loading_->reply.reject({ErrorKind::kCancelled, "a newer placement came while parts were being read"});
  }
  loading_ = std::make_unique<Loading>();
  loading_->order = ++load_orders_;
  loading_->reply = std::move(reply);
  for (const cluster::PartId& id : message.parts) loading_->wanted.push_back(part_key(id));
  std::ranges::sort(loading_->wanted);
  for (const model::PartKey& key : loading_->wanted) {
    if (parts_.store->find(key) != nullptr) continue;
    loading_->missing.push_back(key);
    loading_->total_bytes += model::part_bytes(*parts_.checkpoint, key);
  }
  load_next(loading_->order);
}

// Reads the next piece on the executor, at the lowest urgency.
void ExpertGroup::load_next(std::uint64_t order) {
  if (!loading_ || loading_->order != order) return;  // a newer placement took over
  if (loading_->next == loading_->missing.size()) return finish_loading();
  std::vector<model::PartKey> piece;
  std::uint64_t bytes = 0;
  while (loading_->next < loading_->missing.size() && (piece.empty() || bytes < kLoadPieceBytes)) {
    piece.push_back(loading_->missing[loading_->next++]);
    bytes += model::part_bytes(*parts_.checkpoint, piece.back());
  }
  auto status = std::make_shared<runtime::Status>(runtime::done());
  runtime::DeviceWork work;
  work.label = "load parts";
  work.weight_bytes = bytes;
  work.run = [status, piece = std::move(piece), store = parts_.store,
              checkpoint = parts_.checkpoint](runtime::Workers&) { *status = store->load(*checkpoint, piece); };
  compute(std::move(work), MessageClass::kBackground, [this, order, bytes, status] {
    if (!loading_ || loading_->order != order) return;
    if (!status->ok()) {
      loading_->reply.reject(status->error());
      loading_.reset();
      return;
    }
    loading_->done_bytes += bytes;
    if (parts_.progress) parts_.progress(loading_->done_bytes, loading_->total_bytes);
    load_next(order);
  });
}

void ExpertGroup::finish_loading() {
  std::vector<model::PartKey> dropped;
  for (const model::PartKey& key : parts_.store->keys()) {
    if (!std::ranges::binary_search(loading_->wanted, key)) dropped.push_back(key);
  }
  parts_.store->drop(dropped);
  cluster::PartsLoaded loaded;
  loaded.part_count = static_cast<std::uint32_t>(loading_->wanted.size());
  loaded.part_bytes = parts_.store->bytes_held();
  loaded.checkpoint_bytes_read = parts_.checkpoint->data_bytes_read();
  loading_->reply.send(loaded);
  loading_.reset();
}

// --- probing ---------------------------------------------------------------------------------------------------------

void ExpertGroup::on(cluster::ProbeParts, runtime::ReplyTo<cluster::PartsProbed> reply) {
  if (probe_) return reply.reject({ErrorKind::kExhausted, "this node is probing already"});
  const model::ModelConfig& config = parts_.checkpoint->config();
  if (config.first_k_dense_replace >= config.num_hidden_layers || config.n_routed_experts == 0) {
    return reply.reject({ErrorKind::kInvalid, "the model has no routed experts to time"});
  }
  probe_ = std::make_shared<Probe>();
  probe_reply_ = std::move(reply);
  const std::vector<model::PartKey> keys = probe_pieces(*parts_.checkpoint);
  auto status = std::make_shared<runtime::Status>(runtime::done());
  auto scratch = std::make_shared<model::PartStore>();
  runtime::DeviceWork work;
  work.label = "load parts";
  work.run = [status, scratch, keys, checkpoint = parts_.checkpoint](runtime::Workers&) {
    *status = scratch->load(*checkpoint, keys);
  };
  compute(std::move(work), MessageClass::kBackground, [this, status, scratch, keys] {
    if (!status->ok()) return finish_probe(status->error());
    std::uint64_t bytes = 0;
    for (const model::PartKey& key : keys) {
      probe_->weights.push_back(scratch->find(key));
      bytes += model::weight_bytes(*probe_->weights.back());
    }
    probe_->repeats =
        std::clamp<std::uint64_t>(kProbeRunBytes / std::max<std::uint64_t>(bytes, 1), 1, kMaxProbeRepeats);
    probe_->run_bytes = bytes * probe_->repeats;
    const auto hidden = static_cast<std::size_t>(parts_.checkpoint->config().hidden_size);
    probe_->row.resize(hidden);
    probe_->out.resize(hidden);
    for (std::size_t i = 0; i < hidden; ++i) probe_->row[i] = static_cast<float>(i % 7) - 3.0F;
    probe_next();
  });
}

void ExpertGroup::probe_next() {
  if (probe_->bytes_per_second.size() == kProbeRuns) {
    return finish_probe(
        cluster::PartsProbed{std::ranges::max(probe_->bytes_per_second), parts_.checkpoint->data_bytes_read()});
  }
  probe_->begin = now();
  runtime::DeviceWork work;
  work.label = "probe parts";
  work.weight_bytes = probe_->run_bytes;
  work.rows = 1;
  const std::uint64_t repeats = parts_.is_timed_by_model ? 1 : probe_->repeats;
  work.run = [probe = probe_, repeats](runtime::Workers& workers) {
    const auto hidden = static_cast<std::int64_t>(probe->row.size());
    const runtime::ConstTensorView row(reinterpret_cast<const std::byte*>(probe->row.data()), runtime::Dtype::kF32,
                                       {1, hidden});
    const runtime::TensorView out(reinterpret_cast<std::byte*>(probe->out.data()), runtime::Dtype::kF32, {1, hidden});
    for (std::uint64_t i = 0; i < repeats; ++i) {
      for (const auto& weights : probe->weights) model::compute_part(*weights, row, out, workers);
    }
  };
  compute(std::move(work), MessageClass::kBulk, [this] {
    // From turn to turn, so that whatever slows the executor down is in it.
    const double seconds = std::chrono::duration<double>(now() - probe_->begin).count();
    probe_->bytes_per_second.push_back(static_cast<double>(probe_->run_bytes) / std::max(seconds, 1e-9));
    probe_next();
  });
}

void ExpertGroup::finish_probe(Outcome<cluster::PartsProbed> outcome) {
  probe_.reset();
  probe_reply_.settle(std::move(outcome));
}

}  // namespace consort::actors
