// ForwardPass: one step of k rows per sequence through the trunk, as a resumable object that waits for
// nobody. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "model/combine.hpp"
#include "model/gate.hpp"
#include "model/kv_pages.hpp"
#include "model/matrix.hpp"
#include "model/trunk.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"
#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::model {

// Consecutive rows of one sequence. Positions before the first one must have been written by earlier passes.
struct SequenceRows {
  std::uint64_t sequence = 0;        // the caller's name for it, unique within the pass
  std::vector<std::uint32_t> pages;  // page i holds positions 64 i .. 64 i + 63
  std::int64_t first_position = 0;
  std::vector<std::int32_t> tokens;  // one row each
  std::int64_t logit_rows = 1;       // logits are wanted of this many last rows
};

struct RowOrigin {
  std::uint64_t sequence = 0;
  std::int64_t position = 0;
  constexpr bool operator==(const RowOrigin&) const = default;
};

// Sees what a pass goes through; for `logits` and tests. Views live during the call only.
class PassListener {
 public:
  virtual ~PassListener() = default;
  // index 0: embeddings; i: after layer i - 1; num_hidden_layers: after the final norm, of the rows that want
  // logits.
  virtual void on_hidden(std::int64_t index, std::span<const RowOrigin> rows, runtime::ConstTensorView hidden) = 0;
  virtual void on_routes(runtime::LayerIndex layer, std::span<const RowOrigin> rows, const Routes& routes) = 0;
};

// The pass stands before a layer's routed experts. The views live until take().
struct PartsNeeded {
  runtime::LayerIndex layer;
  runtime::ConstTensorView rows;        // [n, hidden] F32: what the experts get
  const Routes* routes = nullptr;       // of the n rows
  std::span<const std::uint8_t> alive;  // [n]; a row that is 0 was dropped, its parts are not needed
};
// The pass is over: logits() are there.
struct LogitsReady {};
using PassStep = std::variant<PartsNeeded, LogitsReady>;

// The cycle is advance() -> PartsNeeded -> while_away() -> take() -> advance() -> ... -> LogitsReady.
// Functions that compute take the workers they may use; all are to be called from one thread at a time. A
// row's bits depend on its own tokens and position only: not on the rows beside it, nor on how a prompt was
// cut into passes.
class ForwardPass {
 public:
  // Refuses token ids outside the vocabulary and pages that are too few or do not exist. `trunk` must hold
  // every layer. `pages` and `listener` must outlive the pass.
  static runtime::Outcome<std::unique_ptr<ForwardPass>> begin(std::shared_ptr<const Trunk> trunk, KvPages& pages,
                                                              std::vector<SequenceRows> sequences,
                                                              PassListener* listener = nullptr);
  ~ForwardPass();

  // Runs until the next layer's parts are needed, or to the end. Writes KV by position: running a pass again
  // writes the same bytes.
  PassStep advance(runtime::Workers& workers);
  // Computes what needs no parts: the shared expert. Optional: take() does it where it was not done.
  void while_away(runtime::Workers& workers);
  // Goes on with the outputs of the layer's parts. Every row that is alive must be complete.
  void take(const PartOutputs& outputs, runtime::Workers& workers);
  // Rows of this sequence leave the pass, at any time; the others go on and their bits do not change.
  void drop_rows(std::uint64_t sequence);

  // The rows of the layer at hand, dropped ones included until the next advance().
  std::span<const RowOrigin> rows() const { return origins_; }
  std::span<const std::uint8_t> alive() const { return alive_; }

  // After LogitsReady: [logit_origins().size(), vocab_size] F32.
  runtime::ConstTensorView logits() const { return logits_.view(); }
  std::span<const RowOrigin> logit_origins() const { return logit_origins_; }

 private:
  enum class Step : std::uint8_t { kBeforeLayer, kParts, kDone };
  struct Scratch;
  ForwardPass(std::shared_ptr<const Trunk> trunk, KvPages& pages, std::vector<SequenceRows> sequences,
              PassListener* listener);

  void embed(runtime::Workers& workers);
  void leave_out_dropped_rows();
  void add_attention(const struct LayerWeights& layer, runtime::Workers& workers);
  void write_latents(const struct LayerWeights& layer, runtime::Workers& workers);
  void attend(const struct LayerWeights& layer, std::int64_t first_row, std::int64_t row_count,
              runtime::Workers& workers);
  void finish(runtime::Workers& workers);
  void after_layer();
  std::int64_t row_count() const { return static_cast<std::int64_t>(origins_.size()); }

  std::shared_ptr<const Trunk> trunk_;
  KvPages& pages_;
  std::vector<SequenceRows> sequences_;
  PassListener* listener_;
  Step step_ = Step::kBeforeLayer;
  bool has_embedded_ = false;
  bool has_shared_ = false;  // while_away() is done for this layer
  std::int64_t layer_ = 0;
  // One entry per row.
  std::vector<RowOrigin> origins_;
  std::vector<std::uint8_t> alive_;
  std::vector<std::uint8_t> wants_logits_;
  std::vector<std::size_t> sequence_of_;  // index into sequences_
  Matrix cos_, sin_;                      // [n, qk_rope_head_dim / 2]
  Matrix x_, h_;                          // [n, hidden]: residual, normed
  Routes routes_;
  std::unique_ptr<Scratch> scratch_;
  Matrix logits_;
  std::vector<RowOrigin> logit_origins_;
};

}  // namespace consort::model
