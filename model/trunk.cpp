#include "model/trunk.hpp"

#include <algorithm>
#include <cstring>

#include "model/trunk_weights.hpp"

namespace consort::model {
namespace {

using kernels::kScaleBlock;
using kernels::WeightMatrix;
using runtime::Outcome;
using runtime::Status;

// kv_b_proj is head-major, each head its key rows, then its value rows.
struct HeadSplit {
  std::int64_t heads, key_rows, value_rows, latent;
  std::int64_t rows() const { return key_rows + value_rows; }
};

template <class Word>
void transpose(const std::byte* from_bytes, std::byte* to_bytes, std::int64_t rows, std::int64_t cols) {
  const auto* from = reinterpret_cast<const Word*>(from_bytes);
  auto* to = reinterpret_cast<Word*>(to_bytes);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) to[c * rows + r] = from[r * cols + c];
}

// Copies the key rows of every head transposed: [heads][latent, key_rows].
void transpose_keys(const OwnedWeight& whole, const HeadSplit& split, AttentionWeights& out) {
  const auto width = static_cast<std::size_t>(runtime::dtype_bytes(whole.matrix.dtype));
  OwnedWeight& keys = out.kv_b_memory_key;
  keys.memory = WeightMemory(static_cast<std::uint64_t>(split.heads * split.key_rows * split.latent) * width);
  std::byte* to = keys.memory.bytes().data();
  const auto turn = width == 1   ? transpose<std::uint8_t>
                    : width == 2 ? transpose<std::uint16_t>
                                 : transpose<std::uint32_t>;
  for (std::int64_t head = 0; head < split.heads; ++head)
    turn(whole.memory.bytes().data() + static_cast<std::size_t>(head * split.rows() * split.latent) * width,
         to + static_cast<std::size_t>(head * split.key_rows * split.latent) * width, split.key_rows, split.latent);
  // Scales are transposed whole, so that column key_row of head h finds the scale of row h * rows() +
  // key_row.
  const auto blocks_in = whole.matrix.scale_stride;
  const auto blocks_out = blocks_in > 0 ? static_cast<std::int64_t>(whole.scale.size()) / blocks_in : 0;
  keys.scale.resize(whole.scale.size());
  for (std::int64_t r = 0; r < blocks_out; ++r)
    for (std::int64_t c = 0; c < blocks_in; ++c)
      keys.scale[static_cast<std::size_t>(c * blocks_out + r)] =
          whole.scale[static_cast<std::size_t>(r * blocks_in + c)];
  for (std::int64_t head = 0; head < split.heads; ++head) {
    WeightMatrix m;
    m.data = to + static_cast<std::size_t>(head * split.latent * split.key_rows) * width;
    m.dtype = whole.matrix.dtype;
    m.rows = split.latent;
    m.cols = m.row_stride = split.key_rows;
    m.scale_inv = keys.scale.empty() ? nullptr : keys.scale.data();
    m.scale_stride = blocks_out;
    m.col_origin = head * split.rows();
    out.key_transposed.push_back(m);
  }
}

// Copies the value rows of every head: [heads][value_rows, latent].
void split_values(OwnedWeight whole, const HeadSplit& split, AttentionWeights& out) {
  const auto row_bytes = static_cast<std::size_t>(split.latent * runtime::dtype_bytes(whole.matrix.dtype));
  const auto head_bytes = static_cast<std::size_t>(split.value_rows) * row_bytes;
  OwnedWeight& values = out.kv_b_memory_value;
  values.memory = WeightMemory(static_cast<std::uint64_t>(split.heads) * head_bytes);
  values.scale = std::move(whole.scale);
  for (std::int64_t head = 0; head < split.heads; ++head) {
    const std::int64_t first_row = head * split.rows() + split.key_rows;
    std::byte* to = values.memory.bytes().data() + static_cast<std::size_t>(head) * head_bytes;
    std::memcpy(to, whole.memory.bytes().data() + static_cast<std::size_t>(first_row) * row_bytes, head_bytes);
    WeightMatrix m;
    m.data = to;
    m.dtype = whole.matrix.dtype;
    m.rows = split.value_rows;
    m.cols = m.row_stride = split.latent;
    m.scale_inv = values.scale.empty() ? nullptr : values.scale.data();
    m.scale_stride = whole.matrix.scale_stride;
    m.row_origin = first_row;
    out.value.push_back(m);
  }
}

Status load_attention(const Checkpoint& checkpoint, std::int64_t layer, AttentionWeights& out) {
  const ModelConfig& c = checkpoint.config();
  const auto at = [&](const char* rest) { return layer_name(layer, std::string("self_attn.") + rest); };
  if (c.q_lora_rank == 0) {
    CONSORT_TRY(out.q, load_weight(checkpoint, at("q_proj.weight")));
  } else {
    CONSORT_TRY(out.q_a, load_weight(checkpoint, at("q_a_proj.weight")));
    CONSORT_TRY(out.q_a_norm, load_vector(checkpoint, at("q_a_layernorm.weight")));
    CONSORT_TRY(out.q, load_weight(checkpoint, at("q_b_proj.weight")));
  }
  CONSORT_TRY(out.kv_a, load_weight(checkpoint, at("kv_a_proj_with_mqa.weight")));
  CONSORT_TRY(out.kv_a_norm, load_vector(checkpoint, at("kv_a_layernorm.weight")));
  CONSORT_TRY(out.o, load_weight(checkpoint, at("o_proj.weight")));
  OwnedWeight kv_b;
  CONSORT_TRY(kv_b, load_weight(checkpoint, at("kv_b_proj.weight")));
  const HeadSplit split{c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim, c.kv_lora_rank};
  transpose_keys(kv_b, split, out);
  split_values(std::move(kv_b), split, out);
  return runtime::done();
}

Outcome<LayerWeights> load_layer(const Checkpoint& checkpoint, std::int64_t layer) {
  const ModelConfig& c = checkpoint.config();
  LayerWeights out;
  CONSORT_TRY(out.input_norm, load_vector(checkpoint, layer_name(layer, "input_layernorm.weight")));
  CONSORT_TRY(out.ffn_norm, load_vector(checkpoint, layer_name(layer, "post_attention_layernorm.weight")));
  CONSORT_RETURN_IF_ERROR(load_attention(checkpoint, layer, out.attention));
  if (c.is_dense(layer)) {
    CONSORT_TRY(out.dense,
                load_ffn(checkpoint, layer_name(layer, "mlp."), {0, static_cast<std::uint32_t>(c.intermediate_size)}));
    return out;
  }
  CONSORT_TRY(out.gate, load_weight(checkpoint, layer_name(layer, "mlp.gate.weight")));
  if (c.topk_method == TopkMethod::kNoauxTc) {
    CONSORT_TRY(out.gate_bias, load_vector(checkpoint, layer_name(layer, "mlp.gate.e_score_correction_bias")));
  }
  if (c.n_shared_experts > 0) {
    const auto width = static_cast<std::uint32_t>(c.moe_intermediate_size * c.n_shared_experts);
    CONSORT_TRY(out.shared, load_ffn(checkpoint, layer_name(layer, "mlp.shared_experts."), {0, width}));
  }
  return out;
}

// Whether load() reads the tensor for this range.
bool belongs(const ModelConfig& c, const std::string& name, LayerRange range) {
  const bool is_first = range.first == 0, is_last = range.last == c.num_hidden_layers;
  if (name == "model.embed_tokens.weight") return is_first || (is_last && c.tie_word_embeddings);
  if (name == "model.norm.weight") return is_last;
  if (name == "lm_head.weight") return is_last && !c.tie_word_embeddings;
  const std::int64_t layer = layer_of(name);
  return layer >= range.first && layer < range.last && name.find(".mlp.experts.") == std::string::npos;
}

}  // namespace

Trunk::Trunk(const ModelConfig& config, LayerRange range)
    : config_(config), rope_(config), range_(range), weights_(std::make_unique<TrunkWeights>()) {}

Trunk::~Trunk() = default;

std::uint64_t Trunk::bytes_needed(const Checkpoint& checkpoint, LayerRange range) {
  std::uint64_t bytes = 0;
  for (const TensorEntry* entry : checkpoint.tensors())
    if (belongs(checkpoint.config(), entry->name, range)) bytes += entry->end - entry->begin;
  return bytes;
}

Outcome<std::shared_ptr<const Trunk>> Trunk::load(const Checkpoint& checkpoint, LayerRange range,
                                                  const Progress& progress) {
  const ModelConfig& c = checkpoint.config();
  CONSORT_CHECK(0 <= range.first && range.first < range.last && range.last <= c.num_hidden_layers, range.first,
                range.last);
  const std::uint64_t total = progress ? bytes_needed(checkpoint, range) : 0;
  const std::uint64_t before = checkpoint.data_bytes_read();
  const auto tell = [&] {
    if (progress) progress(std::min(checkpoint.data_bytes_read() - before, total), total);
  };
  std::shared_ptr<Trunk> trunk(new Trunk(c, range));
  TrunkWeights& w = *trunk->weights_;
  const bool is_last = range.last == c.num_hidden_layers;
  if (range.first == 0 || (is_last && c.tie_word_embeddings)) {
    CONSORT_TRY(w.embed, load_weight(checkpoint, "model.embed_tokens.weight"));
  }
  tell();
  for (std::int64_t layer = range.first; layer < range.last; ++layer) {
    LayerWeights layer_weights;
    CONSORT_TRY(layer_weights, load_layer(checkpoint, layer));
    w.layers.push_back(std::move(layer_weights));
    tell();
  }
  if (is_last) {
    CONSORT_TRY(w.norm, load_vector(checkpoint, "model.norm.weight"));
    if (!c.tie_word_embeddings) {
      CONSORT_TRY(w.lm_head, load_weight(checkpoint, "lm_head.weight"));
    }
    tell();
  }
  return std::shared_ptr<const Trunk>(std::move(trunk));
}

}  // namespace consort::model
