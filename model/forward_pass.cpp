#include "model/forward_pass.hpp"

#include <algorithm>
#include <unordered_set>

#include "kernels/attention.hpp"
#include "kernels/gemm.hpp"
#include "kernels/vector.hpp"
#include "model/part_weights.hpp"
#include "model/trunk_weights.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::TensorView;
using runtime::Workers;

// q_a_layernorm and kv_a_layernorm use this whatever rms_norm_eps says, as in the reference code.
constexpr float kLoraNormEps = 1e-6F;
// Rows whose absorbed queries are held at once: 64 rows of DeepSeek-V3 take 19 MB, and a head's GEMM has
// enough rows.
constexpr std::int64_t kAttentionRows = 64;
// Rows that one worker normalises at a time: small enough to share out a prefill, large enough to be worth
// waking for.
constexpr std::int64_t kNormRows = 8;

void norm_rows(TensorView out, runtime::ConstTensorView x, std::span<const float> weight, float eps, Workers& workers) {
  const std::int64_t blocks = (x.rows() + kNormRows - 1) / kNormRows;
  workers.parallel_for(blocks, [&](std::int64_t b) {
    const std::int64_t first = b * kNormRows, count = std::min(kNormRows, x.rows() - first);
    kernels::rms_norm(out.slice_rows(first, count), x.slice_rows(first, count), weight, eps);
  });
}

// Keeps the rows of `values` whose `keep` is set.
template <class T>
void keep_rows(std::vector<T>& values, std::span<const std::uint8_t> keep) {
  std::size_t to = 0;
  for (std::size_t from = 0; from < keep.size(); ++from)
    if (keep[from]) values[to++] = values[from];
  values.resize(to);
}

void keep_rows(Matrix& matrix, std::span<const std::uint8_t> keep) {
  std::int64_t to = 0;
  for (std::int64_t from = 0; from < matrix.rows(); ++from) {
    if (!keep[static_cast<std::size_t>(from)]) continue;
    if (to != from) std::ranges::copy(matrix.row(from), matrix.row(to).begin());
    ++to;
  }
  matrix.resize(to, matrix.cols());
}

}  // namespace

// What one layer computes in; kept from layer to layer so that its memory is asked for once.
struct ForwardPass::Scratch {
  Matrix q_a, q, kv, query, attended, heads, out;
};

Outcome<std::unique_ptr<ForwardPass>> ForwardPass::begin(std::shared_ptr<const Trunk> trunk, KvPages& pages,
                                                         std::vector<SequenceRows> sequences, PassListener* listener) {
  const ModelConfig& c = trunk->config();
  CONSORT_CHECK(trunk->range() == (LayerRange{0, c.num_hidden_layers}), "the trunk must hold every layer");
  CONSORT_CHECK(pages.layer_count() == c.num_hidden_layers && pages.width() == c.latent_width(), pages.width());
  std::unordered_set<std::uint64_t> names;
  for (const SequenceRows& s : sequences) {
    const auto bad = [&](const std::string& what) {
      return failure(ErrorKind::kInvalid, "sequence " + std::to_string(s.sequence) + ": " + what);
    };
    if (!names.insert(s.sequence).second) return bad("is in the step twice");
    if (s.first_position < 0 || s.tokens.empty()) return bad("has no rows, or a negative position");
    const auto count = static_cast<std::int64_t>(s.tokens.size());
    if (s.logit_rows < 0 || s.logit_rows > count) return bad("wants logits of more rows than it has");
    if (static_cast<std::int64_t>(s.pages.size()) < pages_for(s.first_position + count))
      return bad("has " + std::to_string(s.pages.size()) + " pages for " + std::to_string(s.first_position + count) +
                 " positions");
    for (const std::uint32_t id : s.pages)
      if (std::int64_t{id} >= pages.page_count())
        return bad("names page " + std::to_string(id) + ", which does not exist");
    for (const std::int32_t token : s.tokens)
      if (token < 0 || token >= c.vocab_size)
        return bad("has token id " + std::to_string(token) + ", outside the vocabulary of " +
                   std::to_string(c.vocab_size));
  }
  return std::unique_ptr<ForwardPass>(new ForwardPass(std::move(trunk), pages, std::move(sequences), listener));
}

ForwardPass::ForwardPass(std::shared_ptr<const Trunk> trunk, KvPages& pages, std::vector<SequenceRows> sequences,
                         PassListener* listener)
    : trunk_(std::move(trunk)),
      pages_(pages),
      sequences_(std::move(sequences)),
      listener_(listener),
      scratch_(std::make_unique<Scratch>()) {
  for (std::size_t s = 0; s < sequences_.size(); ++s) {
    const auto count = static_cast<std::int64_t>(sequences_[s].tokens.size());
    for (std::int64_t i = 0; i < count; ++i) {
      origins_.push_back({sequences_[s].sequence, sequences_[s].first_position + i});
      wants_logits_.push_back(i >= count - sequences_[s].logit_rows);
      sequence_of_.push_back(s);
    }
  }
  alive_.assign(origins_.size(), 1);
}

ForwardPass::~ForwardPass() = default;

PassStep ForwardPass::advance(Workers& workers) {
  CONSORT_CHECK(step_ == Step::kBeforeLayer, "advance() while parts are outstanding, or after the end");
  leave_out_dropped_rows();
  if (!has_embedded_) embed(workers);
  const ModelConfig& c = trunk_->config();
  const auto eps = static_cast<float>(c.rms_norm_eps);
  for (; layer_ < c.num_hidden_layers; after_layer()) {
    if (row_count() == 0) break;
    const LayerWeights& layer = trunk_->weights().layers[static_cast<std::size_t>(layer_)];
    add_attention(layer, workers);
    norm_rows(h_.view(), x_.view(), layer.ffn_norm, eps, workers);
    if (layer.dense) {
      scratch_->out.resize(row_count(), c.hidden_size);
      ffn(*layer.dense, h_.view(), scratch_->out.view(), workers);
      kernels::add(x_.view(), scratch_->out.view());
      continue;
    }
    scratch_->heads.resize(row_count(), c.n_routed_experts);
    kernels::gemm(scratch_->heads.view(), h_.view(), layer.gate->matrix, workers);
    choose_experts(routes_, c, scratch_->heads.view(), layer.gate_bias);
    const runtime::LayerIndex index(static_cast<std::uint32_t>(layer_));
    if (listener_ != nullptr) listener_->on_routes(index, origins_, routes_);
    step_ = Step::kParts;
    has_shared_ = false;
    return PartsNeeded{index, h_.view(), &routes_, alive_};
  }
  finish(workers);
  step_ = Step::kDone;
  return LogitsReady{};
}

void ForwardPass::while_away(Workers& workers) {
  CONSORT_CHECK(step_ == Step::kParts, "while_away() without outstanding parts");
  if (has_shared_) return;
  has_shared_ = true;
  const LayerWeights& layer = trunk_->weights().layers[static_cast<std::size_t>(layer_)];
  if (!layer.shared) return;
  scratch_->out.resize(row_count(), trunk_->config().hidden_size);
  ffn(*layer.shared, h_.view(), scratch_->out.view(), workers);
  kernels::add(x_.view(), scratch_->out.view());
}

void ForwardPass::take(const PartOutputs& outputs, Workers& workers) {
  CONSORT_CHECK(step_ == Step::kParts, "take() without outstanding parts");
  while_away(workers);
  combine(x_.view(), outputs, routes_, alive_);
  step_ = Step::kBeforeLayer;
  after_layer();
}

void ForwardPass::drop_rows(std::uint64_t sequence) {
  for (std::size_t i = 0; i < origins_.size(); ++i)
    if (origins_[i].sequence == sequence) alive_[i] = 0;
}

void ForwardPass::leave_out_dropped_rows() {
  if (std::ranges::all_of(alive_, [](std::uint8_t a) { return a != 0; })) return;
  if (has_embedded_) {
    for (Matrix* matrix : {&x_, &h_, &cos_, &sin_}) keep_rows(*matrix, alive_);
  }
  keep_rows(origins_, alive_);
  keep_rows(wants_logits_, alive_);
  keep_rows(sequence_of_, alive_);
  alive_.assign(origins_.size(), 1);
}

void ForwardPass::embed(Workers& workers) {
  const ModelConfig& c = trunk_->config();
  const std::int64_t n = row_count();
  x_.resize(n, c.hidden_size);
  h_.resize(n, c.hidden_size);
  cos_.resize(n, c.qk_rope_head_dim / 2);
  sin_.resize(n, c.qk_rope_head_dim / 2);
  workers.parallel_for(n, [&](std::int64_t t) {
    const RowOrigin& origin = origins_[static_cast<std::size_t>(t)];
    const SequenceRows& rows = sequences_[sequence_of_[static_cast<std::size_t>(t)]];
    const std::int32_t token = rows.tokens[static_cast<std::size_t>(origin.position - rows.first_position)];
    kernels::expand_row(x_.row(t), trunk_->weights().embed->matrix, token);
    trunk_->rope().angles(origin.position, cos_.row(t), sin_.row(t));
  });
  has_embedded_ = true;
  if (listener_ != nullptr) listener_->on_hidden(0, origins_, x_.view());
}

void ForwardPass::after_layer() {
  ++layer_;
  if (listener_ != nullptr && layer_ < trunk_->config().num_hidden_layers)
    listener_->on_hidden(layer_, origins_, x_.view());
}

// x += attention(norm(x)), absorbed. DeepSeek-V2 (arXiv:2405.04434) section 2.1.2.
void ForwardPass::add_attention(const LayerWeights& layer, Workers& workers) {
  const ModelConfig& c = trunk_->config();
  const AttentionWeights& a = layer.attention;
  const std::int64_t n = row_count();
  Scratch& s = *scratch_;
  norm_rows(h_.view(), x_.view(), layer.input_norm, static_cast<float>(c.rms_norm_eps), workers);
  s.q.resize(n, c.num_attention_heads * c.qk_head_dim());
  if (a.q_a) {
    s.q_a.resize(n, c.q_lora_rank);
    kernels::gemm(s.q_a.view(), h_.view(), a.q_a->matrix, workers);
    norm_rows(s.q_a.view(), s.q_a.view(), a.q_a_norm, kLoraNormEps, workers);
    kernels::gemm(s.q.view(), s.q_a.view(), a.q.matrix, workers);
  } else {
    kernels::gemm(s.q.view(), h_.view(), a.q.matrix, workers);
  }
  write_latents(layer, workers);
  s.heads.resize(n, c.num_attention_heads * c.v_head_dim);
  for (std::int64_t first = 0; first < n; first += kAttentionRows)
    attend(layer, first, std::min(kAttentionRows, n - first), workers);
  s.out.resize(n, c.hidden_size);
  kernels::gemm(s.out.view(), s.heads.view(), a.o.matrix, workers);
  kernels::add(x_.view(), s.out.view());
}

// Every row writes its own position before any row reads.
void ForwardPass::write_latents(const LayerWeights& layer, Workers& workers) {
  const ModelConfig& c = trunk_->config();
  const std::int64_t n = row_count(), width = c.latent_width();
  Scratch& s = *scratch_;
  s.kv.resize(n, width);
  kernels::gemm(s.kv.view(), h_.view(), layer.attention.kv_a.matrix, workers);
  workers.parallel_for(n, [&](std::int64_t t) {
    const std::int64_t position = origins_[static_cast<std::size_t>(t)].position;
    const SequenceRows& rows = sequences_[sequence_of_[static_cast<std::size_t>(t)]];
    float* to = pages_.page(layer_, rows.pages[static_cast<std::size_t>(position / kPagePositions)]) +
                position % kPagePositions * width;
    const auto latent = static_cast<std::size_t>(c.kv_lora_rank);
    kernels::rms_norm(matrix_view(to, 1, c.kv_lora_rank), s.kv.view().slice_rows(t, 1).slice_cols(0, c.kv_lora_rank),
                      layer.attention.kv_a_norm, kLoraNormEps);
    const std::span<float> key(to + latent, static_cast<std::size_t>(c.qk_rope_head_dim));
    std::ranges::copy(s.kv.row(t).subspan(latent), key.begin());
    kernels::rotate_pairs(key, cos_.row(t), sin_.row(t));
  });
}

// Attention of rows [first_row, first_row + count), into scratch.heads.
void ForwardPass::attend(const LayerWeights& layer, std::int64_t first_row, std::int64_t count, Workers& workers) {
  const ModelConfig& c = trunk_->config();
  const std::int64_t width = c.latent_width(), head_dim = c.qk_head_dim(), heads = c.num_attention_heads;
  Scratch& s = *scratch_;
  s.query.resize(count, heads * width);
  s.attended.resize(count, heads * c.kv_lora_rank);
  const TensorView q = s.q.view().slice_rows(first_row, count);
  const auto nope = static_cast<std::size_t>(c.qk_nope_head_dim), rope = static_cast<std::size_t>(c.qk_rope_head_dim);
  workers.parallel_for(heads, [&](std::int64_t head) {
    runtime::InlineWorkers alone;
    const TensorView query = s.query.view().slice_cols(head * width, width);
    kernels::gemm(query.slice_cols(0, c.kv_lora_rank), q.slice_cols(head * head_dim, c.qk_nope_head_dim),
                  layer.attention.key_transposed[static_cast<std::size_t>(head)], alone);
    for (std::int64_t t = 0; t < count; ++t) {
      const std::span<const float> from(q.f32(t) + head * head_dim + static_cast<std::int64_t>(nope), rope);
      const std::span<float> to(query.f32(t) + c.kv_lora_rank, rope);
      std::ranges::copy(from, to.begin());
      kernels::rotate_pairs(to, cos_.row(first_row + t), sin_.row(first_row + t));
    }
  });

  // The pages of each sequence in this block, and the queries that read them.
  std::vector<std::vector<const float*>> page_lists(sequences_.size());
  std::vector<kernels::LatentQuery> queries(static_cast<std::size_t>(count));
  for (std::int64_t t = 0; t < count; ++t) {
    const std::size_t sequence = sequence_of_[static_cast<std::size_t>(first_row + t)];
    std::vector<const float*>& list = page_lists[sequence];
    if (list.empty()) {
      for (const std::uint32_t id : sequences_[sequence].pages) list.push_back(pages_.page(layer_, id));
    }
    kernels::LatentQuery& query = queries[static_cast<std::size_t>(t)];
    query.query = s.query.row(t).data();
    query.out = s.attended.row(t).data();
    query.position = origins_[static_cast<std::size_t>(first_row + t)].position;
    query.pages = std::span<const float* const>(list).first(static_cast<std::size_t>(pages_for(query.position + 1)));
  }
  kernels::latent_attention(queries, heads, c.kv_lora_rank, c.qk_rope_head_dim, trunk_->rope().softmax_scale(),
                            workers);

  const TensorView out = s.heads.view().slice_rows(first_row, count);
  workers.parallel_for(heads, [&](std::int64_t head) {
    runtime::InlineWorkers alone;
    kernels::gemm(out.slice_cols(head * c.v_head_dim, c.v_head_dim),
                  s.attended.view().slice_cols(head * c.kv_lora_rank, c.kv_lora_rank),
                  layer.attention.value[static_cast<std::size_t>(head)], alone);
  });
}

void ForwardPass::finish(Workers& workers) {
  const ModelConfig& c = trunk_->config();
  for (std::size_t i = 0; i < origins_.size(); ++i)
    if (wants_logits_[i]) logit_origins_.push_back(origins_[i]);
  const auto count = static_cast<std::int64_t>(logit_origins_.size());
  logits_.resize(count, c.vocab_size);
  if (count == 0) return;
  Matrix wanted = x_;
  keep_rows(wanted, wants_logits_);
  norm_rows(wanted.view(), wanted.view(), trunk_->weights().norm, static_cast<float>(c.rms_norm_eps), workers);
  if (listener_ != nullptr) listener_->on_hidden(c.num_hidden_layers, logit_origins_, wanted.view());
  kernels::gemm(logits_.view(), wanted.view(), trunk_->weights().head(), workers);
}

}  // namespace consort::model
