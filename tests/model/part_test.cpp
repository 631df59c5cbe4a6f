#include "support/test.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "model/matrix.hpp"
#include "model/part.hpp"
#include "model/part_store.hpp"
#include "model/trunk.hpp"
#include "support/formula_checkpoint.hpp"

using namespace consort;
using namespace consort::model;

namespace {

ModelConfig with_width(std::int64_t moe_intermediate_size) {
  auto config =
      parse_config(tests::small_config({{"moe_intermediate_size", std::to_string(moe_intermediate_size)}}), "test");
  REQUIRE(config.ok());
  return config.value();
}

const std::string kFp8 = "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [128, 128]}";

std::shared_ptr<const Checkpoint> checkpoint_of(runtime::Dtype dtype, std::map<std::string, std::string> changes = {}) {
  if (dtype == runtime::Dtype::kF8E4m3) changes["quantization_config"] = kFp8;
  tests::TemporaryDirectory directory;
  tests::FormulaOptions options;
  options.dtype = dtype;
  REQUIRE(tests::write_formula_checkpoint(directory.path(), tests::small_config(changes), options).ok());
  auto checkpoint = Checkpoint::open(directory.path());  // keeps its files open after the directory is gone
  REQUIRE_MESSAGE(checkpoint.ok(), (checkpoint.ok() ? "" : checkpoint.error().text));
  return checkpoint.value();
}

}  // namespace

TEST_CASE("experts are cut in whole units, nearly equal, without gap") {
  CHECK(cut_unit(with_width(240)) == 16);
  CHECK(cut_unit(with_width(256)) == 128);
  const auto plan = cut_plan(with_width(1408), 3);  // 11 units of 128
  REQUIRE(plan.ok());
  CHECK(plan.value().columns == std::vector<ColumnRange>{{0, 384}, {384, 512}, {896, 512}});
  const auto odd = cut_plan(with_width(100), 2);
  REQUIRE(odd.ok());
  CHECK(odd.value().columns == std::vector<ColumnRange>{{0, 48}, {48, 52}});
  CHECK(check_plan(with_width(100), odd.value()).ok());
  CHECK_FALSE(cut_plan(with_width(100), 8).ok());
  CHECK_FALSE(cut_plan(with_width(100), 0).ok());
  CHECK(cut_plan(with_width(100), 7).ok());
  CHECK(whole_experts_plan(with_width(100)).columns == std::vector<ColumnRange>{{0, 100}});
}

TEST_CASE("parts of a model are every range of every expert of every MoE layer, in order") {
  const ModelConfig config = with_width(48);
  const auto parts = parts_of(config, cut_plan(config, 3).value());
  CHECK(parts.size() == 2 * 16 * 3);
  CHECK(std::ranges::is_sorted(parts));
  CHECK(std::set(parts.begin(), parts.end()).size() == parts.size());
  std::set<std::size_t> hashes;
  for (const PartKey& key : parts) hashes.insert(std::hash<PartKey>{}(key));
  CHECK(hashes.size() == parts.size());
  CHECK(describe(parts[1]) == "layer 1 expert 0 columns 16..31");
}

TEST_CASE("a numeric plan survives JSON and is refused where it fits no model") {
  const ModelConfig config = with_width(48);
  const NumericPlan plan = cut_plan(config, 2).value();
  const auto back = plan_from_json(to_json(plan), "plan.json");
  REQUIRE_MESSAGE(back.ok(), (back.ok() ? "" : back.error().text));
  CHECK(back.value() == plan);
  CHECK(back.value().digest() == plan.digest());
  CHECK(whole_experts_plan(config).digest() != plan.digest());
  const auto refused = [&](const std::string& json, const std::string& word) {
    auto parsed = plan_from_json(json, "plan.json");
    const runtime::Status status = parsed.ok() ? check_plan(config, parsed.value()) : runtime::Status(parsed.error());
    CAPTURE(json);
    REQUIRE_FALSE(status.ok());
    CHECK_MESSAGE(status.error().text.find(word) != std::string::npos, status.error().text);
  };
  refused("{}", "columns is missing");
  refused("{\"columns\": []}", "columns is missing");
  refused("{\"columns\": [[0, 48]], \"more\": 1}", "unknown key 'more'");
  refused("{\"columns\": [[0, 48]], \"combine\": \"reduced\"}", "combine");
  refused("{\"columns\": [[0, 48]], \"wire\": \"bf16\"}", "wire");
  refused("{\"columns\": [[0, 48]], \"numeric_class\": \"h100\"}", "numeric_class");
  refused("{\"columns\": [[0, 32]]}", "columns end at 32");
  refused("{\"columns\": [[0, 24], [24, 24]]}", "multiples of 16");
  refused("{\"columns\": [[0, 16], [32, 16]]}", "do not follow on");
  refused("{\"columns\": [[0, 0], [0, 48]]}", "do not follow on");
  refused("{\"columns\": [[0]]}", "[first, count]");
  refused("{\"columns\": [[0, -48]]}", "[first, count]");
  refused("{\"columns\": 3}", "not an array");
  refused("[", "not JSON");
}

TEST_CASE("a part store reads the bytes of its own parts and no others") {
  for (const auto dtype : {runtime::Dtype::kF32, runtime::Dtype::kBf16, runtime::Dtype::kF8E4m3}) {
    const auto checkpoint = checkpoint_of(dtype, {{"moe_intermediate_size", "144"}, {"hidden_size", "160"}});
    const auto plan = cut_plan(checkpoint->config(), 3).value();
    const auto all = parts_of(checkpoint->config(), plan);
    std::vector<PartKey> mine;
    for (std::size_t i = 0; i < all.size(); i += 5) mine.push_back(all[i]);
    std::uint64_t expected = 0;
    for (const PartKey& key : mine) expected += part_bytes(*checkpoint, key);

    PartStore store;
    std::uint64_t last_done = 0, last_total = 0;
    REQUIRE(store
                .load(*checkpoint, mine,
                      [&](std::uint64_t done, std::uint64_t total) {
                        CHECK(done > last_done);
                        last_done = done;
                        last_total = total;
                      })
                .ok());
    CHECK(last_done == expected);
    CHECK(last_total == expected);
    CHECK(checkpoint->data_bytes_read() == expected);
    CHECK(store.bytes_held() == expected);
    CHECK(store.keys() == mine);
    REQUIRE(store.load(*checkpoint, mine).ok());  // is here already
    CHECK(checkpoint->data_bytes_read() == expected);
    CHECK(store.find(all[1]) == nullptr);

    const auto held = store.find(mine[0]);
    store.drop(std::span(mine).first(2));
    CHECK(store.keys().size() == mine.size() - 2);
    CHECK(store.bytes_held() == expected - part_bytes(*checkpoint, mine[0]) - part_bytes(*checkpoint, mine[1]));
    CHECK(column_count(*held) == 48);  // lives on while somebody reads it
    store.drop(mine);
    CHECK(store.bytes_held() == 0);
  }
}

TEST_CASE("a part that does not exist is refused by name") {
  const auto checkpoint = checkpoint_of(runtime::Dtype::kF32);
  PartStore store;
  const auto refused = [&](PartKey key) {
    const auto status = store.load(*checkpoint, std::span(&key, 1));
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().text.find(describe(key)) != std::string::npos);
  };
  using runtime::LayerIndex;
  refused({LayerIndex(0), PartKind::kRoutedExpert, 0, 0, 48});  // dense
  refused({LayerIndex(3), PartKind::kRoutedExpert, 0, 0, 48});
  refused({LayerIndex(1), PartKind::kRoutedExpert, 16, 0, 48});
  refused({LayerIndex(1), PartKind::kRoutedExpert, 0, 32, 17});
  refused({LayerIndex(1), PartKind::kRoutedExpert, 0, 0, 0});
  refused({LayerIndex(1), PartKind::kSharedExpert, 0, 0, 48});
  CHECK(checkpoint->data_bytes_read() == 0);
}

TEST_CASE("column ranges of an expert add up to the whole expert, also across FP8 blocks") {
  for (const auto dtype : {runtime::Dtype::kF32, runtime::Dtype::kBf16, runtime::Dtype::kF8E4m3}) {
    const auto checkpoint = checkpoint_of(dtype, {{"moe_intermediate_size", "208"}, {"hidden_size", "160"}});
    const ModelConfig& config = checkpoint->config();
    runtime::InlineWorkers workers;
    PartStore store;
    Matrix rows(5, 160);
    tests::Formula formula(1, 1);
    for (std::int64_t t = 0; t < 5; ++t)
      for (float& v : rows.row(t)) v = static_cast<float>(formula.next_u());
    Matrix whole(5, 160), sum(5, 160), piece(5, 160);
    const PartKey whole_key{runtime::LayerIndex(1), PartKind::kRoutedExpert, 3, 0, 208};
    REQUIRE(store.load(*checkpoint, std::span(&whole_key, 1)).ok());
    compute_part(*store.find(whole_key), rows.view(), whole.view(), workers);
    const NumericPlan plan = cut_plan(config, 13).value();
    for (const ColumnRange range : plan.columns) {
      const PartKey key{runtime::LayerIndex(1), PartKind::kRoutedExpert, 3, range.first, range.count};
      REQUIRE(store.load(*checkpoint, std::span(&key, 1)).ok());
      compute_part(*store.find(key), rows.view(), piece.view(), workers);
      for (std::int64_t t = 0; t < 5; ++t)
        for (std::size_t i = 0; i < 160; ++i) sum.row(t)[i] += piece.row(t)[i];
    }
    double worst = 0.0, largest = 0.0;
    for (std::int64_t t = 0; t < 5; ++t)
      for (std::size_t i = 0; i < 160; ++i) {
        worst = std::max(worst, std::abs(double{sum.row(t)[i]} - double{whole.row(t)[i]}));
        largest = std::max(largest, std::abs(double{whole.row(t)[i]}));
      }
    CHECK(largest > 0.0);
    CHECK(worst <= 1e-6 * largest);  // 208 products summed in another order
  }
}

TEST_CASE("a trunk reads its own layers once, and its bytes are known before") {
  for (const auto dtype : {runtime::Dtype::kBf16, runtime::Dtype::kF8E4m3}) {
    const auto checkpoint = checkpoint_of(dtype);
    const LayerRange all{0, 3};
    std::uint64_t last_done = 0, last_total = 0;
    REQUIRE(Trunk::load(*checkpoint, all, [&](std::uint64_t done, std::uint64_t total) {
              last_done = done;
              last_total = total;
            }).ok());
    CHECK(checkpoint->data_bytes_read() == Trunk::bytes_needed(*checkpoint, all));
    CHECK(last_done == last_total);
    CHECK(last_total == Trunk::bytes_needed(*checkpoint, all));
    std::uint64_t parts = 0;
    for (const PartKey& key : parts_of(checkpoint->config(), whole_experts_plan(checkpoint->config())))
      parts += part_bytes(*checkpoint, key);
    std::uint64_t everything = 0;
    for (const TensorEntry* entry : checkpoint->tensors()) everything += entry->end - entry->begin;
    CHECK(Trunk::bytes_needed(*checkpoint, all) + parts == everything);
    CHECK(Trunk::bytes_needed(*checkpoint, {0, 1}) + Trunk::bytes_needed(*checkpoint, {1, 2}) +
              Trunk::bytes_needed(*checkpoint, {2, 3}) + parts ==
          everything);
    const std::uint64_t before = checkpoint->data_bytes_read();
    REQUIRE(Trunk::load(*checkpoint, {1, 2}).ok());
    CHECK(checkpoint->data_bytes_read() - before == Trunk::bytes_needed(*checkpoint, {1, 2}));
  }
}
