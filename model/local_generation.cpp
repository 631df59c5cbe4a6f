#include "model/local_generation.hpp"

#include <algorithm>
#include <bit>

#include "runtime/frame.hpp"

namespace consort::model {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

static_assert(std::endian::native == std::endian::little, "weights and CRCs are read as little-endian bytes");

Outcome<std::shared_ptr<const LocalModel>> LocalModel::load(const std::filesystem::path& directory,
                                                            std::optional<NumericPlan> plan, const Progress& progress) {
  auto model = std::make_shared<LocalModel>();
  CONSORT_TRY(model->checkpoint_, Checkpoint::open(directory));
  const Checkpoint& checkpoint = *model->checkpoint_;
  const ModelConfig& config = checkpoint.config();
  model->plan_ = plan ? std::move(*plan) : whole_experts_plan(config);
  CONSORT_RETURN_IF_ERROR(check_plan(config, model->plan_));

  const LayerRange all{0, config.num_hidden_layers};
  const std::vector<PartKey> keys = parts_of(config, model->plan_);
  Progress trunk_progress, part_progress;
  if (progress) {
    std::uint64_t part_total = 0;
    for (const PartKey& key : keys) part_total += part_bytes(checkpoint, key);
    const std::uint64_t trunk_total = Trunk::bytes_needed(checkpoint, all);
    trunk_progress = [=](std::uint64_t done, std::uint64_t) { progress(done, trunk_total + part_total); };
    part_progress = [=](std::uint64_t done, std::uint64_t) { progress(trunk_total + done, trunk_total + part_total); };
  }
  CONSORT_TRY(model->trunk_, Trunk::load(checkpoint, all, trunk_progress));
  CONSORT_RETURN_IF_ERROR(model->parts_.load(checkpoint, keys, part_progress));
  return std::shared_ptr<const LocalModel>(std::move(model));
}

void compute_parts_locally(ForwardPass& pass, const PartsNeeded& needed, const NumericPlan& plan,
                           const PartStore& parts, runtime::Workers& workers) {
  const std::int64_t hidden = needed.rows.cols();
  const auto ranges = static_cast<std::int64_t>(plan.columns.size());
  const std::vector<Assignment> assignments = by_expert(*needed.routes, needed.alive);
  PartOutputs outputs(needed.routes->tokens, needed.routes->top_k, ranges);
  Matrix computed(static_cast<std::int64_t>(assignments.size()) * ranges, hidden);
  Matrix gathered;
  pass.while_away(workers);
  for (std::size_t first = 0, last = 0; first < assignments.size(); first = last) {
    const std::uint32_t expert = assignments[first].expert;
    while (last < assignments.size() && assignments[last].expert == expert) ++last;
    const auto count = static_cast<std::int64_t>(last - first);
    gathered.resize(count, hidden);
    for (std::int64_t i = 0; i < count; ++i) {
      const float* row = needed.rows.f32(assignments[first + static_cast<std::size_t>(i)].token);
      std::copy_n(row, hidden, gathered.row(i).begin());
    }
    for (std::int64_t range = 0; range < ranges; ++range) {
      const ColumnRange columns = plan.columns[static_cast<std::size_t>(range)];
      const auto part = parts.find({needed.layer, PartKind::kRoutedExpert, expert, columns.first, columns.count});
      CONSORT_CHECK(part != nullptr, "a part is not loaded: layer", needed.layer, "expert", expert);
      const std::int64_t to = static_cast<std::int64_t>(first) * ranges + range * count;
      compute_part(*part, gathered.view(), computed.view().slice_rows(to, count), workers);
      for (std::int64_t i = 0; i < count; ++i) {
        const Assignment& a = assignments[first + static_cast<std::size_t>(i)];
        outputs.set(a.token, a.k, range, computed.row(to + i).data());
      }
    }
  }
  pass.take(outputs, workers);
}

LocalGeneration::LocalGeneration(std::shared_ptr<const LocalModel> model, std::int64_t page_count,
                                 runtime::Workers& workers)
    : model_(std::move(model)),
      pages_(model_->config(), model_->config().num_hidden_layers, page_count),
      workers_(workers) {
  for (std::int64_t id = page_count; id-- > 0;) free_pages_.push_back(static_cast<std::uint32_t>(id));
}

std::uint64_t LocalGeneration::open() {
  sequences_.push_back({next_name_, 0, {}});
  return next_name_++;
}

void LocalGeneration::close(std::uint64_t name) {
  roll_back(name, 0);
  std::erase_if(sequences_, [&](const Sequence& s) { return s.name == name; });
}

std::int64_t LocalGeneration::length(std::uint64_t name) const { return find(name).length; }

void LocalGeneration::roll_back(std::uint64_t name, std::int64_t length) {
  Sequence& sequence = find(name);
  CONSORT_CHECK(length >= 0 && length <= sequence.length, length, sequence.length);
  sequence.length = length;
  while (static_cast<std::int64_t>(sequence.pages.size()) > pages_for(length)) {
    free_pages_.push_back(sequence.pages.back());
    sequence.pages.pop_back();
  }
}

Outcome<Matrix> LocalGeneration::step(std::span<const Rows> rows, PassListener* listener) {
  std::vector<SequenceRows> pass_rows;
  const auto give_pages_back = [&] {
    for (const Rows& r : rows) roll_back(r.sequence, find(r.sequence).length);
  };
  for (const Rows& r : rows) {
    Sequence& sequence = find(r.sequence);
    const std::int64_t needed = pages_for(sequence.length + static_cast<std::int64_t>(r.tokens.size()));
    while (static_cast<std::int64_t>(sequence.pages.size()) < needed) {
      if (free_pages_.empty()) {
        give_pages_back();
        return failure(ErrorKind::kExhausted,
                       "the KV memory of " + std::to_string(pages_.page_count()) + " pages of 64 positions is full");
      }
      sequence.pages.push_back(free_pages_.back());
      free_pages_.pop_back();
    }
    pass_rows.push_back({r.sequence, sequence.pages, sequence.length, r.tokens, r.logit_rows});
  }
  auto begun = ForwardPass::begin(model_->trunk(), pages_, std::move(pass_rows), listener);
  if (!begun.ok()) {
    give_pages_back();
    return std::move(begun).error();
  }
  ForwardPass& pass = *begun.value();
  for (PassStep at = pass.advance(workers_); std::holds_alternative<PartsNeeded>(at); at = pass.advance(workers_))
    compute_parts_locally(pass, std::get<PartsNeeded>(at), model_->plan(), model_->parts(), workers_);
  for (const Rows& r : rows) find(r.sequence).length += static_cast<std::int64_t>(r.tokens.size());

  Matrix logits(pass.logits().rows(), pass.logits().cols());
  for (std::int64_t i = 0; i < logits.rows(); ++i)
    std::copy_n(pass.logits().f32(i), logits.cols(), logits.row(i).begin());
  return logits;
}

Outcome<Matrix> LocalGeneration::prefill(std::uint64_t sequence, std::span<const std::int32_t> tokens,
                                         std::int64_t chunk_tokens, std::int64_t logit_rows, PassListener* listener) {
  CONSORT_CHECK(chunk_tokens > 0, chunk_tokens);
  const auto total = static_cast<std::int64_t>(tokens.size());
  const std::int64_t first_logit = total - logit_rows;
  Matrix all(logit_rows, model_->config().vocab_size);
  for (std::int64_t first = 0; first < total; first += chunk_tokens) {
    const std::int64_t count = std::min(chunk_tokens, total - first);
    Rows rows{sequence, {}, std::clamp(first + count - first_logit, std::int64_t{0}, count)};
    const auto chunk = tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    rows.tokens.assign(chunk.begin(), chunk.end());
    Matrix logits;
    CONSORT_TRY(logits, step(std::span(&rows, 1), listener));
    for (std::int64_t i = 0; i < logits.rows(); ++i)
      std::ranges::copy(logits.row(i), all.row(first + count - logits.rows() + i - first_logit).begin());
  }
  return all;
}

LocalGeneration::Sequence& LocalGeneration::find(std::uint64_t name) {
  const auto found = std::ranges::find(sequences_, name, &Sequence::name);
  CONSORT_CHECK(found != sequences_.end(), "no such sequence:", name);
  return *found;
}

const LocalGeneration::Sequence& LocalGeneration::find(std::uint64_t name) const {
  return const_cast<LocalGeneration*>(this)->find(name);
}

std::int32_t greedy_token(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best]) best = i;
  return static_cast<std::int32_t>(best);
}

std::uint32_t logits_crc(std::span<const float> logits) { return runtime::crc32c(std::as_bytes(logits)); }

}  // namespace consort::model
