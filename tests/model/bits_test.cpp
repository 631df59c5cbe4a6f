// A row's bits depend on its own tokens and position only: chunks, neighbours, threads, order and instruction
// set do not show.
#include "support/test.hpp"

#include <algorithm>
#include <random>
#include <thread>

#include "kernels/instruction_set.hpp"
#include "model/local_generation.hpp"
#include "support/formula_checkpoint.hpp"

using namespace consort;
using namespace consort::model;

namespace {

// Hands items to threads as they come, so that which thread runs what is never the same twice.
class ThreadWorkers final : public runtime::Workers {
 public:
  explicit ThreadWorkers(int count) : count_(count) {}
  int count() const override { return count_; }
  void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& body) override {
    std::atomic<std::int64_t> next{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < count_; ++i)
      threads.emplace_back([&] {
        for (std::int64_t item = next++; item < n; item = next++) body(item);
      });
  }

 private:
  int count_;
};

std::shared_ptr<const LocalModel> small_model(std::int64_t ranges, runtime::Dtype dtype = runtime::Dtype::kBf16,
                                              std::map<std::string, std::string> changes = {}) {
  if (dtype == runtime::Dtype::kF8E4m3)
    changes["quantization_config"] =
        "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [128, 128]}";
  tests::TemporaryDirectory directory;
  tests::FormulaOptions options;
  options.dtype = dtype;
  options.seed = 5;
  const std::string json = tests::small_config(changes);
  REQUIRE(tests::write_formula_checkpoint(directory.path(), json, options).ok());
  auto config = parse_config(json, "test");
  REQUIRE(config.ok());
  auto plan = cut_plan(config.value(), ranges);
  REQUIRE(plan.ok());
  auto model = LocalModel::load(directory.path(), plan.value());
  REQUIRE(model.ok());
  return model.value();
}

std::vector<std::int32_t> some_tokens(std::uint32_t seed, std::size_t count) {
  tests::Formula formula(seed, 0);
  std::vector<std::int32_t> tokens(count);
  for (auto& t : tokens) t = static_cast<std::int32_t>((formula.next() >> 8) % 96);
  return tokens;
}

std::vector<std::uint32_t> crcs(const Matrix& logits) {
  std::vector<std::uint32_t> out;
  for (std::int64_t t = 0; t < logits.rows(); ++t) out.push_back(logits_crc(logits.row(t)));
  return out;
}

// The CRC of every row's logits, the prompt cut into chunks of this many rows.
std::vector<std::uint32_t> run(const std::shared_ptr<const LocalModel>& model, std::span<const std::int32_t> tokens,
                               std::int64_t chunk, runtime::Workers& workers) {
  LocalGeneration generation(model, 8, workers);
  auto logits = generation.prefill(generation.open(), tokens, chunk, static_cast<std::int64_t>(tokens.size()));
  REQUIRE(logits.ok());
  return crcs(logits.value());
}

}  // namespace

TEST_CASE("logits have the same bits whatever the chunk size") {
  runtime::InlineWorkers workers;
  const auto tokens = some_tokens(1, 150);
  for (const auto dtype :
       {runtime::Dtype::kF32, runtime::Dtype::kBf16, runtime::Dtype::kF16, runtime::Dtype::kF8E4m3}) {
    for (const std::int64_t ranges : {1, 3}) {
      const auto model = small_model(ranges, dtype);
      const auto whole = run(model, tokens, 150, workers);
      for (const std::int64_t chunk : {1, 2, 3, 7, 63, 64, 65, 100}) CHECK(run(model, tokens, chunk, workers) == whole);
    }
  }
}

TEST_CASE("logits have the same bits on any number of threads") {
  const auto model = small_model(2);
  const auto tokens = some_tokens(2, 100);
  runtime::InlineWorkers alone;
  const auto expected = run(model, tokens, 40, alone);
  for (const int threads : {2, 3, 5}) {
    ThreadWorkers workers(threads);
    CHECK(run(model, tokens, 40, workers) == expected);
  }
}

TEST_CASE("logits have the same bits on every instruction set, and those recorded") {
  // CRC32C over the CRCs of all rows; recorded with AVX2. NEON and AVX-512 must give them too.
  const std::map<runtime::Dtype, std::uint32_t> recorded{{runtime::Dtype::kF32, 2707104495U},
                                                         {runtime::Dtype::kBf16, 1759425017U},
                                                         {runtime::Dtype::kF8E4m3, 3699306825U}};
  const auto tokens = some_tokens(3, 90);
  const std::string before = kernels::chosen_instruction_set();
  runtime::InlineWorkers workers;
  for (const std::string& set : kernels::available_instruction_sets()) {
    REQUIRE(kernels::force_instruction_set(set).ok());
    for (const auto& [dtype, crc] : recorded) {
      const auto rows = run(small_model(2, dtype), tokens, 33, workers);
      std::vector<float> as_floats(rows.size());
      std::memcpy(as_floats.data(), rows.data(), rows.size() * sizeof(float));
      CAPTURE(set);
      CAPTURE(runtime::name(dtype));
      CHECK(logits_crc(as_floats) == crc);
    }
  }
  REQUIRE(kernels::force_instruction_set(before).ok());
}

TEST_CASE("logits have the same bits whatever rows are beside them") {
  runtime::InlineWorkers workers;
  const auto model = small_model(2, runtime::Dtype::kBf16, {{"topk_group", "4"}});
  const std::vector<std::vector<std::int32_t>> texts{some_tokens(10, 70), some_tokens(11, 5), some_tokens(12, 129)};
  LocalGeneration together(model, 8, workers);
  std::vector<std::uint64_t> names;
  std::vector<std::vector<std::uint32_t>> seen(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) names.push_back(together.open());
  std::mt19937 random(7);
  std::vector<std::size_t> at(texts.size(), 0);
  while (at[0] < texts[0].size() || at[1] < texts[1].size() || at[2] < texts[2].size()) {
    std::vector<LocalGeneration::Rows> rows;
    std::vector<std::size_t> who;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::size_t count = std::min<std::size_t>(random() % 9, texts[i].size() - at[i]);
      if (count == 0) continue;
      rows.push_back({names[i],
                      {texts[i].begin() + static_cast<std::ptrdiff_t>(at[i]),
                       texts[i].begin() + static_cast<std::ptrdiff_t>(at[i] + count)},
                      static_cast<std::int64_t>(count)});
      who.push_back(i);
      at[i] += count;
    }
    if (rows.empty()) continue;
    auto logits = together.step(rows);
    REQUIRE(logits.ok());
    const auto crc = crcs(logits.value());
    std::size_t next = 0;
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t k = 0; k < rows[r].tokens.size(); ++k) seen[who[r]].push_back(crc[next++]);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) CHECK(seen[i] == run(model, texts[i], 1000, workers));
}

TEST_CASE("logits have the same bits after a roll-back and after prefilling again") {
  runtime::InlineWorkers workers;
  const auto model = small_model(1);
  const auto tokens = some_tokens(20, 140);
  const auto expected = run(model, tokens, 140, workers);
  LocalGeneration generation(model, 5, workers);
  const auto sequence = generation.open();
  REQUIRE(generation.prefill(sequence, some_tokens(21, 140), 50).ok());  // other tokens, so that stale KV would show
  generation.roll_back(sequence, 0);
  REQUIRE(generation.prefill(sequence, std::span(tokens).first(130), 64).ok());
  generation.roll_back(sequence, 60);
  CHECK(generation.length(sequence) == 60);
  auto logits = generation.prefill(sequence, std::span(tokens).subspan(60), 9, 80);
  REQUIRE(logits.ok());
  CHECK(crcs(logits.value()) == std::vector(expected.begin() + 60, expected.end()));
}

TEST_CASE("outputs of parts may arrive in any order and lie anywhere") {
  runtime::InlineWorkers workers;
  const auto model = small_model(3);
  const auto tokens = some_tokens(30, 20);
  const auto expected = run(model, tokens, 20, workers);
  for (std::uint32_t seed = 1; seed <= 3; ++seed) {
    KvPages pages(model->config(), model->config().num_hidden_layers, 2);
    auto pass = ForwardPass::begin(model->trunk(), pages, {{1, {1}, 0, tokens, 20}});
    REQUIRE(pass.ok());
    std::mt19937 random(seed);
    PassStep step = pass.value()->advance(workers);
    for (; std::holds_alternative<PartsNeeded>(step); step = pass.value()->advance(workers)) {
      const auto& needed = std::get<PartsNeeded>(step);
      struct Piece {
        Assignment assignment;
        std::int64_t range;
      };
      std::vector<Piece> pieces;
      for (const Assignment& a : by_expert(*needed.routes))
        for (std::int64_t range = 0; range < 3; ++range) pieces.push_back({a, range});
      std::shuffle(pieces.begin(), pieces.end(), random);
      std::vector<std::unique_ptr<float[]>> buffers;  // every output in memory of its own
      PartOutputs outputs(needed.routes->tokens, needed.routes->top_k, 3);
      for (const Piece& p : pieces) {
        CHECK_FALSE(outputs.complete(p.assignment.token));
        const ColumnRange columns = model->plan().columns[static_cast<std::size_t>(p.range)];
        const auto part = model->parts().find(
            {needed.layer, PartKind::kRoutedExpert, p.assignment.expert, columns.first, columns.count});
        REQUIRE(part != nullptr);
        buffers.push_back(std::make_unique<float[]>(64));
        compute_part(*part, needed.rows.slice_rows(p.assignment.token, 1), matrix_view(buffers.back().get(), 1, 64),
                     workers);
        outputs.set(p.assignment.token, p.assignment.k, p.range, buffers.back().get());
      }
      for (std::int64_t t = 0; t < 20; ++t) CHECK(outputs.complete(t));
      if (seed == 2) pass.value()->while_away(workers);  // take() does it otherwise
      pass.value()->take(outputs, workers);
    }
    std::vector<std::uint32_t> seen;
    for (std::int64_t t = 0; t < 20; ++t) seen.push_back(logits_crc(std::span(pass.value()->logits().f32(t), 96)));
    CHECK(seen == expected);
  }
}

TEST_CASE("rows that are dropped in the middle of a pass leave the others' bits alone") {
  runtime::InlineWorkers workers;
  const auto model = small_model(2);
  const auto kept = some_tokens(40, 9), lost = some_tokens(41, 11);
  const auto expected = run(model, kept, 100, workers);
  const auto expected_lost = run(model, lost, 100, workers);
  for (int drop_at = 0; drop_at < 4;
       ++drop_at) {  // 0: before the first layer; 1, 2: with parts outstanding; 3: see below
    KvPages pages(model->config(), model->config().num_hidden_layers, 3);
    auto begun = ForwardPass::begin(model->trunk(), pages, {{7, {0}, 0, lost, 11}, {8, {2}, 0, kept, 9}});
    REQUIRE(begun.ok());
    ForwardPass& pass = *begun.value();
    if (drop_at == 0) pass.drop_rows(7);
    int layer = 0;
    PassStep step = pass.advance(workers);
    for (; std::holds_alternative<PartsNeeded>(step); step = pass.advance(workers)) {
      ++layer;
      if (drop_at == layer) pass.drop_rows(7);
      if (drop_at == layer) CHECK(pass.rows().size() == 20);
      compute_parts_locally(pass, std::get<PartsNeeded>(step), model->plan(), model->parts(), workers);
      if (drop_at == 3 && layer == 1) pass.drop_rows(7);  // between take() and advance()
    }
    REQUIRE(pass.logit_origins().size() == 9);
    for (std::int64_t t = 0; t < 9; ++t) {
      CHECK(pass.logit_origins()[static_cast<std::size_t>(t)] == RowOrigin{8, t});
      CHECK(logits_crc(std::span(pass.logits().f32(t), 96)) == expected[static_cast<std::size_t>(t)]);
    }
    // The dropped sequence is run again over the KV that its first try left behind.
    auto again = ForwardPass::begin(model->trunk(), pages, {{7, {0}, 0, lost, 11}});
    REQUIRE(again.ok());
    step = again.value()->advance(workers);
    for (; std::holds_alternative<PartsNeeded>(step); step = again.value()->advance(workers))
      compute_parts_locally(*again.value(), std::get<PartsNeeded>(step), model->plan(), model->parts(), workers);
    for (std::int64_t t = 0; t < 11; ++t)
      CHECK(logits_crc(std::span(again.value()->logits().f32(t), 96)) == expected_lost[static_cast<std::size_t>(t)]);
  }
}

TEST_CASE("a pass whose rows were all dropped ends without logits") {
  runtime::InlineWorkers workers;
  const auto model = small_model(1);
  KvPages pages(model->config(), model->config().num_hidden_layers, 1);
  auto pass = ForwardPass::begin(model->trunk(), pages, {{1, {0}, 0, some_tokens(1, 3), 1}});
  REQUIRE(pass.ok());
  PassStep step = pass.value()->advance(workers);
  REQUIRE(std::holds_alternative<PartsNeeded>(step));
  pass.value()->drop_rows(1);
  pass.value()->take(PartOutputs(3, 4, 1), workers);
  step = pass.value()->advance(workers);
  CHECK(std::holds_alternative<LogitsReady>(step));
  CHECK(pass.value()->logits().rows() == 0);
}

TEST_CASE("a pass refuses rows that it cannot compute, in words") {
  runtime::InlineWorkers workers;
  const auto model = small_model(1);
  KvPages pages(model->config(), model->config().num_hidden_layers, 2);
  const auto refused = [&](std::vector<SequenceRows> rows, const std::string& word) {
    auto pass = ForwardPass::begin(model->trunk(), pages, std::move(rows));
    REQUIRE_FALSE(pass.ok());
    CHECK_MESSAGE(pass.error().text.find(word) != std::string::npos, pass.error().text);
  };
  refused({{1, {0}, 0, {96}, 1}}, "token id 96");
  refused({{1, {0}, 0, {-1}, 1}}, "token id -1");
  refused({{1, {2}, 0, {1}, 1}}, "page 2");
  refused({{1, {0}, 64, {1}, 1}}, "1 pages for 65 positions");
  refused({{1, {0}, -1, {1}, 1}}, "negative");
  refused({{1, {0}, 0, {}, 0}}, "no rows");
  refused({{1, {0}, 0, {1}, 2}}, "more rows");
  refused({{1, {0}, 0, {1}, 1}, {1, {1}, 0, {1}, 1}}, "twice");
}

TEST_CASE("local generation says when its KV memory is full and loses nothing") {
  runtime::InlineWorkers workers;
  const auto model = small_model(1);
  const auto tokens = some_tokens(50, 65);
  LocalGeneration generation(model, 1, workers);
  const auto sequence = generation.open();
  REQUIRE(generation.prefill(sequence, std::span(tokens).first(60), 60).ok());
  const LocalGeneration::Rows rows{sequence, {tokens.begin() + 60, tokens.end()}, 1};
  auto full = generation.step(std::span(&rows, 1));
  REQUIRE_FALSE(full.ok());
  CHECK(full.error().kind == runtime::ErrorKind::kExhausted);
  CHECK(generation.length(sequence) == 60);
  auto rest = generation.prefill(sequence, std::span(tokens).subspan(60, 4), 4, 4);
  REQUIRE(rest.ok());
  const auto expected = run(model, std::span(tokens).first(64), 64, workers);
  CHECK(crcs(rest.value()) == std::vector(expected.begin() + 60, expected.end()));
}
