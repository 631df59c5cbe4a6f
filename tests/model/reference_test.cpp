// The model against numbers recorded from Hugging Face transformers: formula checkpoints, the golden model,
// the adder.
#include "support/test.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "model/local_generation.hpp"
#include "support/formula_checkpoint.hpp"

namespace json = boost::json;
using namespace consort;
using namespace consort::model;

namespace {

const std::filesystem::path kReference = std::filesystem::path(CONSORT_SOURCE_DIR) / "tests/reference";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

template <class T>
std::vector<T> read_tensor(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  std::vector<T> values((entry->end - entry->begin) / sizeof(T));
  REQUIRE(file.read(*entry, 0, std::as_writable_bytes(std::span(values))).ok());
  return values;
}

// Keeps what a pass goes through, row by row.
struct Recorder : PassListener {
  std::map<std::uint32_t, std::vector<std::uint32_t>> experts;
  std::map<std::uint32_t, std::vector<float>> weights;
  std::map<std::int64_t, std::vector<float>> hidden;
  void on_hidden(std::int64_t index, std::span<const RowOrigin>, runtime::ConstTensorView view) override {
    for (std::int64_t t = 0; t < view.rows(); ++t)
      hidden[index].insert(hidden[index].end(), view.f32(t), view.f32(t) + view.cols());
  }
  void on_routes(runtime::LayerIndex layer, std::span<const RowOrigin>, const Routes& routes) override {
    auto& e = experts[layer.value];
    auto& w = weights[layer.value];
    e.insert(e.end(), routes.experts.begin(), routes.experts.end());
    w.insert(w.end(), routes.weights.begin(), routes.weights.end());
  }
};

struct Comparison {
  std::int64_t rows = 0;
  std::int64_t excused_rows = 0;  // behind a margin under 1e-5, where rounding may choose otherwise
  double worst_logit = 0.0;       // over the largest logit of the reference
  double worst_weight = 0.0;      // over the largest route weight
  std::int64_t wrong_routes = 0;
  bool greedy_equal = true;
};

// Runs the ids of a reference file and its greedy continuation. A near tie excuses its row and, through
// attention, the rows behind it, but only as far as they really differ; excused rows are counted by the
// caller's 1 % rule.
Comparison compare(std::shared_ptr<const LocalModel> model, const SafetensorsFile& reference, std::int64_t chunk) {
  const auto ids64 = read_tensor<std::int64_t>(reference, "ids");
  const std::vector<std::int32_t> ids(ids64.begin(), ids64.end());
  const auto logits = read_tensor<float>(reference, "logits");
  const auto margins = read_tensor<float>(reference, "margins");
  const auto greedy = read_tensor<std::int64_t>(reference, "greedy");
  const ModelConfig& c = model->config();
  runtime::InlineWorkers workers;
  const auto rows = static_cast<std::int64_t>(ids.size());
  LocalGeneration generation(model, pages_for(rows + static_cast<std::int64_t>(greedy.size())), workers);
  const std::uint64_t sequence = generation.open();
  Recorder seen;
  auto ours = generation.prefill(sequence, ids, chunk, rows, &seen);
  REQUIRE_MESSAGE(ours.ok(), (ours.ok() ? "" : ours.error().text));

  Comparison result;
  result.rows = rows;
  std::int64_t first_tie = rows;
  for (std::int64_t t = rows; t-- > 0;)
    if (margins[static_cast<std::size_t>(t)] < 1e-5F) first_tie = t;
  double largest = 0.0;
  for (const float v : logits) largest = std::max(largest, std::abs(double{v}));
  for (std::int64_t t = 0; t < rows; ++t) {
    double worst = 0.0;
    for (std::int64_t v = 0; v < c.vocab_size; ++v)
      worst = std::max(worst, std::abs(double{ours.value().row(t)[static_cast<std::size_t>(v)]} -
                                       double{logits[static_cast<std::size_t>(t * c.vocab_size + v)]}));
    bool same_routes = true;
    double weight_gap = 0.0;
    for (std::int64_t layer = c.first_k_dense_replace; layer < c.num_hidden_layers; ++layer) {
      const std::string prefix = "routes." + std::to_string(layer) + ".";
      const auto experts = read_tensor<std::int32_t>(reference, prefix + "experts");
      const auto weights = read_tensor<float>(reference, prefix + "weights");
      float top = 0.0F;
      for (const float w : weights) top = std::max(top, w);
      for (std::int64_t k = 0; k < c.num_experts_per_tok; ++k) {
        const auto at = static_cast<std::size_t>(t * c.num_experts_per_tok + k);
        same_routes = same_routes &&
                      static_cast<std::uint32_t>(experts[at]) == seen.experts[static_cast<std::uint32_t>(layer)][at];
        weight_gap = std::max(
            weight_gap,
            std::abs(double{weights[at]} - double{seen.weights[static_cast<std::uint32_t>(layer)][at]}) / double{top});
      }
    }
    if (t >= first_tie && (!same_routes || worst / largest > 2e-4)) {
      ++result.excused_rows;
      continue;
    }
    result.worst_logit = std::max(result.worst_logit, worst / largest);
    result.worst_weight = std::max(result.worst_weight, weight_gap);
    result.wrong_routes += same_routes ? 0 : 1;
  }
  std::int32_t next = greedy_token(ours.value().row(rows - 1));
  for (const std::int64_t expected : greedy) {
    result.greedy_equal = result.greedy_equal && next == expected;
    const LocalGeneration::Rows row{sequence, {next}, 1};
    auto step = generation.step(std::span(&row, 1));
    REQUIRE(step.ok());
    next = greedy_token(step.value().row(0));
  }
  return result;
}

// Totals over the references of one test case, printed at its end.
struct Total {
  double worst_logit = 0.0;
  std::int64_t rows = 0, excused_rows = 0;
  ~Total() {
    MESSAGE(rows << " rows, " << excused_rows << " excused, worst logit " << worst_logit << " of the largest");
  }
};

void check(const Comparison& result, const std::string& name, Total& total) {
  CAPTURE(name);
  total.worst_logit = std::max(total.worst_logit, result.worst_logit);
  total.rows += result.rows;
  total.excused_rows += result.excused_rows;
  // The project's bar for another order of F32 sums; what is measured here is 1e-6 to 2e-5.
  CHECK(result.worst_logit <= 2e-4);
  CHECK(result.worst_weight <= 2e-4);
  CHECK(result.wrong_routes == 0);
  CHECK(result.greedy_equal);
  CHECK(result.excused_rows * 100 <= result.rows);
}

std::shared_ptr<const LocalModel> load(const std::filesystem::path& directory, std::optional<NumericPlan> plan = {}) {
  auto model = LocalModel::load(directory, std::move(plan));
  REQUIRE_MESSAGE(model.ok(), (model.ok() ? "" : model.error().text));
  return model.value();
}

}  // namespace

TEST_CASE("logits, routes and greedy tokens are those of transformers, in all families and dtypes") {
  int count = 0;
  Total total;
  for (const auto& entry : std::filesystem::directory_iterator(kReference)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++count;
    auto reference = SafetensorsFile::open(entry.path(), std::make_shared<ReadCounter>());
    REQUIRE(reference.ok());
    const auto& metadata = reference.value()->metadata();
    const std::string config = metadata.at("config");
    tests::FormulaOptions options;
    options.dtype = runtime::dtype_from_name(metadata.at("dtype")).value();
    options.seed = static_cast<std::uint32_t>(std::stoul(metadata.at("seed")));
    options.shard_count = count % 3 + 1;
    tests::TemporaryDirectory directory;
    const auto written = tests::write_formula_checkpoint(directory.path(), config, options);
    REQUIRE_MESSAGE(written.ok(), (written.ok() ? "" : written.error().text));
    auto parsed = parse_config(config, "metadata");
    REQUIRE(parsed.ok());
    check(compare(load(directory.path()), *reference.value(), 1000), entry.path().stem().string(), total);
    auto cut = cut_plan(parsed.value(), 3);
    REQUIRE(cut.ok());
    check(compare(load(directory.path(), cut.value()), *reference.value(), 7),
          entry.path().stem().string() + " cut in 3", total);
  }
  CHECK(count == 13);
}

TEST_CASE("the golden model gives the recorded logits, routes and greedy tokens") {
  const json::value golden = json::parse(read_file(kReference / "golden.json"));
  const json::object& short_names = golden.at("config").as_object();
  json::object config{{"model_type", "deepseek_v3"}, {"rope_theta", 10000.0}};
  const std::vector<std::pair<const char*, const char*>> names{{"V", "vocab_size"},
                                                               {"H", "hidden_size"},
                                                               {"L", "num_hidden_layers"},
                                                               {"nh", "num_attention_heads"},
                                                               {"rq", "q_lora_rank"},
                                                               {"rkv", "kv_lora_rank"},
                                                               {"dn", "qk_nope_head_dim"},
                                                               {"dr", "qk_rope_head_dim"},
                                                               {"dv", "v_head_dim"},
                                                               {"E", "n_routed_experts"},
                                                               {"G", "n_group"},
                                                               {"TG", "topk_group"},
                                                               {"K", "num_experts_per_tok"},
                                                               {"ns", "n_shared_experts"},
                                                               {"I", "intermediate_size"},
                                                               {"MI", "moe_intermediate_size"},
                                                               {"dense", "first_k_dense_replace"},
                                                               {"rsf", "routed_scaling_factor"},
                                                               {"eps", "rms_norm_eps"},
                                                               {"maxpos", "max_position_embeddings"}};
  for (const auto& [from, to] : names) config[to] = short_names.at(from);
  config["norm_topk_prob"] = true;
  config["rope_scaling"] = {{"type", "yarn"},
                            {"factor", short_names.at("factor")},
                            {"original_max_position_embeddings", short_names.at("orig")},
                            {"beta_fast", short_names.at("bf")},
                            {"beta_slow", short_names.at("bs")},
                            {"mscale", short_names.at("ms")},
                            {"mscale_all_dim", short_names.at("msa")}};
  tests::FormulaOptions options;
  options.linear_gain = options.gate_gain = 1.0;
  tests::TemporaryDirectory directory;
  REQUIRE(tests::write_formula_checkpoint(directory.path(), json::serialize(config), options).ok());
  auto model = load(directory.path());

  std::vector<std::int32_t> ids;
  for (const json::value& id : golden.at("ids").as_array()) ids.push_back(static_cast<std::int32_t>(id.as_int64()));
  runtime::InlineWorkers workers;
  LocalGeneration generation(model, 1, workers);
  const std::uint64_t sequence = generation.open();
  Recorder seen;
  auto logits = generation.prefill(sequence, ids, 3, 8, &seen);
  REQUIRE(logits.ok());
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const json::array& expected = golden.at("logits").as_array()[t].as_array();
    for (std::size_t v = 0; v < expected.size(); ++v)
      CHECK(double{logits.value().row(static_cast<std::int64_t>(t))[v]} ==
            doctest::Approx(expected[v].as_double()).epsilon(2e-6));  // transformers in float32 is 1e-6 away
    std::map<std::uint32_t, double> weights;
    const json::array& route = golden.at("routing").as_array()[t].as_array();
    for (std::size_t k = 0; k < 3; ++k)
      weights[static_cast<std::uint32_t>(route[0].as_array()[k].as_int64())] = route[1].as_array()[k].as_double();
    std::size_t k = 0;
    for (const auto& [expert, weight] : weights) {
      CHECK(seen.experts[1][t * 3 + k] == expert);
      CHECK(double{seen.weights[1][t * 3 + k]} == doctest::Approx(weight).epsilon(2e-6));
      ++k;
    }
  }
  // deepseek-model.md 10.9: the residual after layer 0 of token 7 (as hidden.1) is known to ten digits.
  CHECK(double{seen.hidden[1][7 * 8]} == doctest::Approx(0.4358228709).epsilon(2e-6));
  CHECK(double{seen.hidden[1][7 * 8 + 7]} == doctest::Approx(-0.7204100418).epsilon(2e-6));

  std::int32_t next = greedy_token(logits.value().row(7));
  const json::array& greedy = golden.at("greedy").as_array();
  for (std::size_t i = ids.size(); i < greedy.size(); ++i) {
    CHECK(next == greedy[i].as_int64());
    const LocalGeneration::Rows row{sequence, {next}, 1};
    auto step = generation.step(std::span(&row, 1));
    REQUIRE(step.ok());
    next = greedy_token(step.value().row(0));
  }
}

TEST_CASE("the adder answers as transformers does") {
  const auto directory = std::filesystem::path(CONSORT_SOURCE_DIR) / "examples/models/adder";
  auto model = load(directory);
  runtime::InlineWorkers workers;
  const json::value answers = json::parse(read_file(kReference / "adder-answers.json"));
  CHECK(answers.as_array().size() == 100);
  for (const json::value& answer : answers.as_array()) {
    std::vector<std::int32_t> prompt;
    for (const json::value& id : answer.at("prompt_ids").as_array())
      prompt.push_back(static_cast<std::int32_t>(id.as_int64()));
    LocalGeneration generation(model, 2, workers);
    const std::uint64_t sequence = generation.open();
    auto logits = generation.prefill(sequence, prompt, 5);
    REQUIRE(logits.ok());
    std::int32_t next = greedy_token(logits.value().row(0));
    for (const json::value& expected : answer.at("ids").as_array()) {
      REQUIRE(next == expected.as_int64());
      const LocalGeneration::Rows row{sequence, {next}, 1};
      auto step = generation.step(std::span(&row, 1));
      REQUIRE(step.ok());
      next = greedy_token(step.value().row(0));
    }
  }
}

TEST_CASE("checkpoints of the oracle give its logits, routes and greedy tokens") {
  const char* root = std::getenv("CONSORT_ORACLE_DIR");
  if (root == nullptr) SKIP("set CONSORT_ORACLE_DIR to what `tools/record_reference.py oracle` made");
  int count = 0;
  Total total;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    const auto path = entry.path() / "reference.safetensors";
    if (!std::filesystem::exists(path)) continue;
    ++count;
    auto reference = SafetensorsFile::open(path, std::make_shared<ReadCounter>());
    REQUIRE(reference.ok());
    check(compare(load(entry.path()), *reference.value(), 33), entry.path().filename().string(), total);
  }
  CHECK(count > 0);
}
