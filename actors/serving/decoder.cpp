#include "actors/serving/decoder.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <utility>

#include "actors/serving/micro_batch.hpp"
#include "model/local_generation.hpp"
#include "model/sampler.hpp"
#include "runtime/trace.hpp"

namespace consort::actors {

using runtime::Buffer;
using runtime::Duration;
using runtime::Error;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Instant;
using runtime::MessageClass;
using runtime::Outcome;
using runtime::Status;

namespace {

// The Batcher hears of a step this long before it would give it up.
constexpr Duration kAnswerMargin = std::chrono::milliseconds(20);
// Captured tensors of one Decoder: a few hundred positions of the widest vocabulary.
constexpr std::uint64_t kMaxCaptureBytes = std::uint64_t{1} << 30;
// The shared expert is about a quarter of a layer's trunk, in weights and in work for a row: what simulated devices go
// by.
constexpr std::uint64_t kSharedShare = 4;

}  // namespace

// One pass over some rows of the step. While kComputing, the executor has pass, outputs, needed, origins and sampled.
struct Decoder::MicroBatch {
  enum class Step : std::uint8_t { kReady, kComputing, kWaiting, kDone };
  MicroBatchPlan plan;
  std::unique_ptr<model::PassListener> listener;
  std::unique_ptr<model::ForwardPass> pass;
  Step step = Step::kReady;
  std::uint64_t advances = 0;        // done so far; the next one ends before the parts of one more layer
  bool is_away = false;              // the shared expert is being computed
  std::vector<std::size_t> leavers;  // sequences that leave before the next advance
  std::optional<RoutedOutputs> outputs;
  // What the last advance came to.
  std::optional<RoutePass> needed;
  std::vector<model::RowOrigin> origins;  // of needed->rows
  std::int64_t top_k = 0;
  DispatchKey key;                                                  // of what was asked for last
  std::vector<std::pair<std::size_t, Outcome<StepToken>>> sampled;  // with their sequences, in order of position
};

struct Decoder::Running {
  RunStep message;
  Instant deadline;
  MessageClass urgency = MessageClass::kDecode;
  DecoderParts parts;                 // keeps trunk and pages alive while the executor works
  std::atomic<bool> is_over = false;  // given up: work that is still queued must not touch the pages
  std::vector<MicroBatch> batches;
  std::vector<std::shared_ptr<Capture>> captures;  // by sequence; null: none
  StepDone done;
  std::set<runtime::NodeId> visited;

  void keep_going(MicroBatch& batch, std::span<const std::size_t> leavers, runtime::Env& env,
                  runtime::Workers& workers);
  void sample(MicroBatch& batch, runtime::Workers& workers);
  void read_parts_needed(MicroBatch& batch, const model::PartsNeeded& needed);
};

namespace {

// Files what a pass goes through under the captures of its sequences.
class CaptureListener final : public model::PassListener {
 public:
  explicit CaptureListener(const std::vector<std::shared_ptr<Capture>>& captures) : captures_(captures) {}
  void on_hidden(std::int64_t index, std::span<const model::RowOrigin> rows, runtime::ConstTensorView hidden) override {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      Capture* capture = captures_[rows[r].sequence].get();
      if (capture == nullptr) continue;
      const std::span<const float> row(hidden.f32(static_cast<std::int64_t>(r)),
                                       static_cast<std::size_t>(hidden.cols()));
      capture->keep_hidden(index, rows[r].position, row);
    }
  }
  void on_routes(runtime::LayerIndex layer, std::span<const model::RowOrigin> rows,
                 const model::Routes& routes) override {
    const auto top_k = static_cast<std::size_t>(routes.top_k);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      Capture* capture = captures_[rows[r].sequence].get();
      if (capture == nullptr) continue;
      capture->keep_routes(layer.value, rows[r].position, std::span(routes.experts).subspan(r * top_k, top_k),
                           std::span(routes.weights).subspan(r * top_k, top_k));
    }
  }

 private:
  const std::vector<std::shared_ptr<Capture>>& captures_;
};

class Span {
 public:
  Span(runtime::Env& env, std::string_view name, std::int64_t batch, std::int64_t step)
      : env_(env), event_{name, "device", env.clock.now(), Duration(0), batch, step} {}
  ~Span() {
    event_.length = env_.clock.now() - event_.begin;
    env_.trace.record(event_);
  }

 private:
  runtime::Env& env_;
  runtime::TraceEvent event_;
};

}  // namespace

Decoder::Decoder(DecoderParts parts, DecoderSettings settings) : parts_(std::move(parts)), settings_(settings) {
  CONSORT_CHECK(parts_.trunk != nullptr && parts_.pages != nullptr && parts_.buffers != nullptr);
}

Decoder::~Decoder() {
  if (running_) running_->is_over = true;
}

void Decoder::on(OpenLedger message, runtime::ReplyTo<LedgerOpened> reply) {
  if (running_) {
    running_->is_over = true;
    running_.reset();
    reply_.reject({ErrorKind::kCancelled, "a new ledger was opened while the step ran"});
  }
  ledger_ = message.ledger;
  captures_.clear();
  const model::ModelConfig& config = parts_.trunk->config();
  LedgerOpened opened;
  opened.page_count = static_cast<std::uint32_t>(parts_.pages->page_count());
  opened.context_tokens = static_cast<std::uint32_t>(config.max_position_embeddings);
  opened.vocabulary = static_cast<std::uint32_t>(config.vocab_size);
  opened.hidden = static_cast<std::uint32_t>(config.hidden_size);
  opened.layers = static_cast<std::uint32_t>(config.num_hidden_layers);
  opened.first_moe_layer = static_cast<std::uint32_t>(config.first_k_dense_replace);
  opened.top_k = static_cast<std::uint32_t>(config.num_experts_per_tok);
  reply.send(opened);
}

void Decoder::on(RunStep message, runtime::ReplyTo<StepDone> reply, const runtime::Context& context) {
  if (message.ledger != ledger_) {
    return reply.reject({ErrorKind::kWrongEpoch, "the step names pages of a ledger that is not in force here"});
  }
  if (running_) return reply.reject({ErrorKind::kExhausted, "a step is running already"});
  auto step = std::make_shared<Running>();
  step->message = std::move(message);
  step->deadline = context.deadline == Instant::max() ? context.deadline : context.deadline - kAnswerMargin;
  step->urgency = context.message_class;
  step->parts = parts_;
  step->done.step = step->message.step;
  if (Status begun = begin(*step); !begun.ok()) return reply.reject(std::move(begun).error());
  running_ = step;
  reply_ = std::move(reply);
  advance_ready(step);
}

Status Decoder::begin(Running& step) {
  std::size_t rows = 0;
  for (const StepSequence& sequence : step.message.sequences) {
    rows += sequence.tokens.size();
    if (sequence.first_sampled_row > sequence.tokens.size())
      return failure(ErrorKind::kInvalid, "rows to sample that are not there");
    CONSORT_RETURN_IF_ERROR(model::check(sequence.sampling));
    CONSORT_RETURN_IF_ERROR(
        model::check(sequence.adjustment, static_cast<std::size_t>(parts_.trunk->config().vocab_size)));
    std::shared_ptr<Capture> capture;
    if (sequence.capture != 0) {
      auto& kept = captures_[sequence.capture];
      if (kept == nullptr) kept = std::make_shared<Capture>(parts_.trunk->config());
      const std::uint64_t tokens = sequence.first_position + sequence.tokens.size();
      if (Capture::bytes_needed(parts_.trunk->config(), tokens) > kMaxCaptureBytes) {
        return failure(ErrorKind::kInvalid,
                       "logits of " + std::to_string(tokens) + " positions would take more than 1 GiB");
      }
      capture = kept;
    }
    step.captures.push_back(std::move(capture));
    step.done.sequences.push_back({sequence.request, false, false, {}, {}});
  }
  if (rows == 0 || rows > kMaxStepRows || step.message.sequences.size() > kMaxStepSequences) {
    return failure(ErrorKind::kInvalid, "a step of " + std::to_string(rows) + " rows in " +
                                            std::to_string(step.message.sequences.size()) + " sequences");
  }
  const bool any_capture = std::ranges::any_of(step.captures, [](const auto& capture) { return capture != nullptr; });
  auto plans = cut_step(step.message.sequences, settings_.micro_batches, settings_.min_rows_to_split);
  for (MicroBatchPlan& plan : plans) {
    MicroBatch& batch = step.batches.emplace_back();
    std::vector<model::SequenceRows> pass_rows;
    for (const SequenceSlice& slice : plan.slices) {
      const StepSequence& sequence = step.message.sequences[slice.sequence];
      model::SequenceRows in;
      in.sequence = slice.sequence;
      in.pages = sequence.pages;
      in.first_position = std::int64_t{sequence.first_position} + slice.first_row;
      const auto first = sequence.tokens.begin() + slice.first_row;
      in.tokens.assign(first, first + slice.row_count);
      const std::uint32_t end = slice.first_row + slice.row_count;
      const bool all = step.captures[slice.sequence] != nullptr;
      const std::uint32_t first_logits = all ? slice.first_row : std::max(slice.first_row, sequence.first_sampled_row);
      in.logit_rows = end > first_logits ? end - first_logits : 0;
      pass_rows.push_back(std::move(in));
    }
    batch.plan = std::move(plan);
    if (any_capture) batch.listener = std::make_unique<CaptureListener>(step.captures);
    CONSORT_TRY(batch.pass,
                model::ForwardPass::begin(parts_.trunk, *parts_.pages, std::move(pass_rows), batch.listener.get()));
  }
  return runtime::done();
}

std::uint64_t Decoder::layer_bytes() const {
  return parts_.trunk_bytes / static_cast<std::uint64_t>(parts_.trunk->config().num_hidden_layers);
}

// Starts every micro-batch whose parts are here and whose KV of earlier rows is written.
void Decoder::advance_ready(const RunningPtr& step) {
  for (std::size_t b = 0; b < step->batches.size(); ++b) {
    MicroBatch& batch = step->batches[b];
    const bool has_parts = batch.step == MicroBatch::Step::kWaiting && batch.outputs && !batch.is_away;
    if (batch.step != MicroBatch::Step::kReady && !has_parts) continue;
    if (batch.plan.follows_previous) {
      const MicroBatch& before = step->batches[b - 1];
      if (before.advances <= batch.advances && before.step != MicroBatch::Step::kDone) continue;
    }
    advance(step, b);
  }
}

void Decoder::advance(const RunningPtr& step, std::size_t b) {
  MicroBatch& batch = step->batches[b];
  batch.step = MicroBatch::Step::kComputing;
  runtime::DeviceWork work;
  work.label = "advance";
  work.weight_bytes = layer_bytes() - layer_bytes() / kSharedShare;
  work.rows = batch.pass->rows().size() - batch.pass->rows().size() / kSharedShare;
  work.run = [step, b, leavers = std::exchange(batch.leavers, {}), environment = &env()](runtime::Workers& workers) {
    if (!step->is_over) step->keep_going(step->batches[b], leavers, *environment, workers);
  };
  compute(std::move(work), step->urgency, [this, step, b] {
    if (step->is_over) return;
    MicroBatch& advanced = step->batches[b];
    ++advanced.advances;
    if (advanced.needed) {
      advanced.step = MicroBatch::Step::kWaiting;
      ask_for_parts(step, b);
    } else {
      advanced.step = MicroBatch::Step::kDone;
    }
    advance_ready(step);
    if (std::ranges::all_of(step->batches, [](const MicroBatch& one) { return one.step == MicroBatch::Step::kDone; })) {
      finish(step);
    }
  });
}

// On the executor: takes the parts that have come and runs until the next ones are needed, or to the sampled tokens.
void Decoder::Running::keep_going(MicroBatch& batch, std::span<const std::size_t> leavers, runtime::Env& env,
                                  runtime::Workers& workers) {
  const auto number = &batch - batches.data();
  const auto step_number = static_cast<std::int64_t>(message.step);
  for (const std::size_t sequence : leavers) batch.pass->drop_rows(sequence);
  if (batch.outputs) {
    const Span span(env, "take", number, step_number);
    if (parts.observer != nullptr) parts.observer->on_combined(batch.key, batch.outputs->outputs);
    batch.pass->take(batch.outputs->outputs, workers);
    batch.outputs.reset();
  }
  batch.needed.reset();
  const Span span(env, "advance", number, step_number);
  const model::PassStep at = batch.pass->advance(workers);
  if (const auto* needed = std::get_if<model::PartsNeeded>(&at)) {
    read_parts_needed(batch, *needed);
  } else {
    sample(batch, workers);
  }
}

void Decoder::Running::read_parts_needed(MicroBatch& batch, const model::PartsNeeded& needed) {
  RoutePass& pass = batch.needed.emplace();
  pass.hidden = static_cast<std::uint32_t>(needed.rows.cols());
  pass.key.layer = needed.layer;
  pass.routes = *needed.routes;
  pass.alive.assign(needed.alive.begin(), needed.alive.end());
  const auto row_bytes = static_cast<std::size_t>(needed.rows.cols()) * sizeof(float);
  const auto bytes = static_cast<std::size_t>(needed.rows.rows()) * row_bytes;
  auto pooled = parts.buffers->take(bytes);
  pass.rows = pooled.ok() ? std::move(pooled).value() : Buffer::allocate(bytes);
  for (std::int64_t r = 0; r < needed.rows.rows(); ++r) {
    std::memcpy(pass.rows.mutable_bytes().data() + static_cast<std::size_t>(r) * row_bytes, needed.rows.f32(r),
                row_bytes);
  }
  const auto rows = batch.pass->rows();
  batch.origins.assign(rows.begin(), rows.end());
}

void Decoder::Running::sample(MicroBatch& batch, runtime::Workers& workers) {
  const runtime::ConstTensorView logits = batch.pass->logits();
  const auto origins = batch.pass->logit_origins();
  const auto row_of = [&](std::size_t r) {
    return std::span(logits.f32(static_cast<std::int64_t>(r)), static_cast<std::size_t>(logits.cols()));
  };
  std::vector<std::size_t> rows;  // to be sampled
  for (std::size_t r = 0; r < origins.size(); ++r) {
    const std::size_t s = origins[r].sequence;
    if (captures[s]) captures[s]->keep_logits(origins[r].position, row_of(r));
    const StepSequence& sequence = message.sequences[s];
    if (origins[r].position < std::int64_t{sequence.first_position} + sequence.first_sampled_row) continue;
    rows.push_back(r);
    batch.sampled.emplace_back(s, StepToken{});
  }
  // A vocabulary is long: a row costs about as much as an expert.
  workers.parallel_for(static_cast<std::int64_t>(rows.size()), [&](std::int64_t i) {
    const std::size_t r = rows[static_cast<std::size_t>(i)];
    auto& [s, token] = batch.sampled[batch.sampled.size() - rows.size() + static_cast<std::size_t>(i)];
    const StepSequence& sequence = message.sequences[s];
    const std::span<const float> row = row_of(r);
    auto sampled =
        model::sample(row, sequence.sampling, static_cast<std::uint64_t>(origins[r].position + 1), sequence.adjustment);
    if (!sampled.ok()) {
      token = std::move(sampled).error();
    } else {
      token = StepToken{static_cast<std::uint32_t>(sampled->token), sampled->logprob, model::logits_crc(row),
                        std::move(sampled->alternatives)};
    }
  });
}

void Decoder::while_away(const RunningPtr& step, std::size_t b) {
  MicroBatch& batch = step->batches[b];
  batch.is_away = true;
  runtime::DeviceWork work;
  work.label = "shared";
  work.weight_bytes = layer_bytes() / kSharedShare;
  work.rows = batch.origins.size() / kSharedShare;
  work.run = [step, b, environment = &env()](runtime::Workers& workers) {
    if (step->is_over) return;
    const Span span(*environment, "shared", static_cast<std::int64_t>(b),
                    static_cast<std::int64_t>(step->message.step));
    step->batches[b].pass->while_away(workers);
  };
  compute(std::move(work), step->urgency, [this, step, b] {
    if (step->is_over) return;
    step->batches[b].is_away = false;
    advance_ready(step);
  });
}

void Decoder::ask_for_parts(const RunningPtr& step, std::size_t b) {
  MicroBatch& batch = step->batches[b];
  RoutePass pass = std::move(*batch.needed);
  batch.top_k = pass.routes.top_k;
  pass.key.decoder_node = self().node;
  pass.key.decoder_incarnation = self().incarnation;
  pass.key.step = step->message.step;
  pass.key.micro_batch = static_cast<std::uint32_t>(b);
  batch.key = pass.key;
  pass.urgency = step->urgency;
  pass.visit_all_nodes = step->message.visit_all_nodes && b == 0 && batch.advances == 1;
  const runtime::RefTo<RouterProtocol> router{
      {loop().node(), loop().incarnation(), cluster::actor_id(cluster::Role::kRouter)}};
  const Duration patience = std::max(Duration(1), step->deadline - now());
  ask(router, std::move(pass), patience, {step->urgency, {}}).then([this, step, b](Outcome<RoutedOutputs> outcome) {
    if (!step->is_over) on_parts(step, b, std::move(outcome));
  });
  while_away(step, b);
}

void Decoder::on_parts(const RunningPtr& step, std::size_t b, Outcome<RoutedOutputs> outcome) {
  MicroBatch& batch = step->batches[b];
  RoutedOutputs outputs;
  if (outcome.ok()) {
    outputs = std::move(outcome).value();
  } else {  // nothing came: every row waits
    outputs.outputs = model::PartOutputs(static_cast<std::int64_t>(batch.origins.size()), batch.top_k, 1);
    outputs.waiting.assign(batch.origins.size(), 1);
    outputs.why_waiting = "the Router gave no answer: " + describe(outcome.error());
  }
  step->visited.insert(outputs.visited.begin(), outputs.visited.end());
  // A row without its parts takes its whole sequence along: later rows would read KV that is not there.
  for (std::size_t r = 0; r < outputs.waiting.size(); ++r) {
    SequenceDone& sequence = step->done.sequences[batch.origins[r].sequence];
    if (outputs.waiting[r] == 0 || sequence.waiting) continue;
    sequence.waiting = true;
    sequence.reason = outputs.why_waiting;
    for (MicroBatch& other : step->batches) {
      const auto& slices = other.plan.slices;
      const std::size_t leaver = batch.origins[r].sequence;
      if (other.step == MicroBatch::Step::kDone ||
          std::ranges::find(slices, leaver, &SequenceSlice::sequence) == slices.end())
        continue;
      other.leavers.push_back(leaver);
    }
  }
  batch.outputs = std::move(outputs);
  advance_ready(step);
}

void Decoder::finish(const RunningPtr& step) {
  step->is_over = true;
  for (MicroBatch& batch : step->batches) {
    for (auto& [s, token] : batch.sampled) {
      SequenceDone& sequence = step->done.sequences[s];
      if (sequence.waiting || sequence.failed) continue;
      if (token.ok()) {
        sequence.sampled.push_back(std::move(token).value());
      } else {
        sequence.failed = true;
        sequence.reason = token.error().text;
        sequence.sampled.clear();
      }
    }
  }
  step->done.visited.assign(step->visited.begin(), step->visited.end());
  running_.reset();
  reply_.send(std::move(step->done));
}

// --- captured tensors
// --------------------------------------------------------------------------------------------------

void Decoder::on(ReadLogitsSlice message, runtime::ReplyTo<LogitsSlice> reply) {
  const auto found = captures_.find(message.capture);
  if (found == captures_.end()) return reply.reject({ErrorKind::kInvalid, "no such logits are kept here"});
  if (running_ && std::ranges::find(running_->captures, found->second) != running_->captures.end()) {
    return reply.reject({ErrorKind::kExhausted, "these logits are still being computed"});
  }
  auto tensor = found->second->tensor(message.tensor);
  if (!tensor.ok()) return reply.reject(std::move(tensor).error());
  const std::span<const std::byte> bytes = tensor.value();
  if (message.first_byte > bytes.size())
    return reply.reject({ErrorKind::kInvalid, "the slice begins after the tensor's end"});
  const auto first = static_cast<std::size_t>(message.first_byte);
  const auto count = std::min<std::size_t>({bytes.size() - first, message.max_bytes, kMaxSliceBytes});
  reply.send({bytes.size(), Buffer::copy_of(bytes.subspan(first, count))});
}

void Decoder::on(ReleaseLogits message) { captures_.erase(message.capture); }

}  // namespace consort::actors
