#include "support/test.hpp"

#include <algorithm>
#include <fstream>

#include "model/checkpoint.hpp"
#include "support/formula_checkpoint.hpp"

using namespace consort;
using namespace consort::model;
using tests::WrittenTensor;

namespace {

std::vector<WrittenTensor> weights(const std::string& config, tests::FormulaOptions options = {}) {
  auto parsed = parse_config(config, "test");
  REQUIRE_MESSAGE(parsed.ok(), (parsed.ok() ? "" : parsed.error().text));
  return tests::formula_weights(parsed.value(), options);
}

WrittenTensor& named(std::vector<WrittenTensor>& all, const std::string& name) {
  const auto found = std::ranges::find(all, name, &WrittenTensor::name);
  REQUIRE(found != all.end());
  return *found;
}

runtime::Outcome<std::shared_ptr<const Checkpoint>> open(const std::string& config,
                                                         const std::vector<WrittenTensor>& all, int shards = 1) {
  tests::TemporaryDirectory directory;
  REQUIRE(tests::write_checkpoint(directory.path(), config, all, shards).ok());
  return Checkpoint::open(directory.path());
}

void refused(const std::string& config, const std::vector<WrittenTensor>& all, const std::string& words) {
  const auto checkpoint = open(config, all);
  REQUIRE_FALSE(checkpoint.ok());
  CHECK_MESSAGE(checkpoint.error().text.find(words) != std::string::npos, checkpoint.error().text);
}

const std::string kFp8 =
    "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", "
    "\"weight_block_size\": [128, 128]}";

}  // namespace

TEST_CASE("a checkpoint opens whole, in one file or in shards, and reads headers only") {
  const std::string config = tests::small_config();
  const auto all = weights(config);
  const auto one = open(config, all);
  REQUIRE_MESSAGE(one.ok(), (one.ok() ? "" : one.error().text));
  const auto three = open(config, all, 3);
  REQUIRE_MESSAGE(three.ok(), (three.ok() ? "" : three.error().text));
  CHECK(one.value()->tensors().size() == all.size());
  CHECK(three.value()->tensors().size() == all.size());
  CHECK(one.value()->data_bytes_read() == 0);
  CHECK(one.value()->header_bytes_read() > 0);
}

TEST_CASE("a checkpoint that lacks any of its tensors is refused by that name") {
  const std::string config = tests::small_config();
  const auto all = weights(config);
  for (std::size_t i = 0; i < all.size(); i += 7) {
    auto fewer = all;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    refused(config, fewer, "the tensor '" + all[i].name + "' is missing");
  }
}

TEST_CASE("a checkpoint with a wrong shape or dtype is refused by the tensor's name") {
  const std::string config = tests::small_config();
  const std::string name = "model.layers.1.mlp.experts.3.down_proj.weight";
  auto all = weights(config);
  std::ranges::reverse(named(all, name).shape);
  refused(config, all, "'" + name + "' has shape [48, 64] where config.json needs [64, 48]");
  all = weights(config);
  named(all, name).dtype = runtime::Dtype::kI32;
  refused(config, all, "'" + name + "' has dtype I32");
  all = weights(config);
  all.push_back({"model.layers.0.self_attn.q_a_proj.bias", runtime::Dtype::kF32, {1}, std::vector<std::byte>(4)});
  refused(config, all, "'model.layers.0.self_attn.q_a_proj.bias' has no place");
  all = weights(config);
  all.push_back({name + "_scale_inv", runtime::Dtype::kF32, {1, 1}, std::vector<std::byte>(4)});
  refused(config, all, "'" + name + "' is not F8_E4M3, but has");
}

TEST_CASE("an FP8 checkpoint needs its scales, and its config.json must say FP8") {
  const std::string config = tests::small_config({{"quantization_config", kFp8}});
  tests::FormulaOptions options;
  options.dtype = runtime::Dtype::kF8E4m3;
  const auto all = weights(config, options);
  CHECK(open(config, all).ok());
  const std::string name = "model.layers.2.self_attn.o_proj.weight";
  auto changed = all;
  std::erase_if(changed, [&](const WrittenTensor& t) { return t.name == name + "_scale_inv"; });
  refused(config, changed, "'" + name + "_scale_inv' is missing");
  changed = all;
  named(changed, name + "_scale_inv").shape = {1};
  refused(config, changed, "needs '" + name + "_scale_inv' as F32 [1, 1]");
  refused(tests::small_config(), all, "no quantization_config");
  changed = all;
  WrittenTensor& embed = named(changed, "model.embed_tokens.weight");
  embed.dtype = runtime::Dtype::kF8E4m3;
  embed.bytes.resize(embed.bytes.size() / 4);
  refused(config, changed, "'model.embed_tokens.weight' has dtype F8_E4M3, which is supported for projections only");
}

TEST_CASE("MTP layers and stray rotary tables are recognised and left alone") {
  const std::string config = tests::small_config();
  auto all = weights(config);
  const std::size_t used = all.size();
  all.push_back({"model.layers.3.eh_proj.weight", runtime::Dtype::kI32, {1}, std::vector<std::byte>(4)});
  all.push_back(
      {"model.layers.3.mlp.experts.0.gate_proj.weight", runtime::Dtype::kF32, {1}, std::vector<std::byte>(4)});
  all.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", runtime::Dtype::kF32, {1}, std::vector<std::byte>(4)});
  const auto checkpoint = open(config, all);
  REQUIRE_MESSAGE(checkpoint.ok(), (checkpoint.ok() ? "" : checkpoint.error().text));
  CHECK(checkpoint.value()->ignored().size() == 3);
  CHECK(checkpoint.value()->tensors().size() == used);
}

TEST_CASE("tied embeddings need no lm_head") {
  const std::string config = tests::small_config({{"tie_word_embeddings", "true"}});
  auto all = weights(config);
  std::erase_if(all, [](const WrittenTensor& t) { return t.name == "lm_head.weight"; });
  CHECK(open(config, all).ok());
  refused(tests::small_config(), all, "'lm_head.weight' is missing");
}

TEST_CASE("an index that lies about its shards is refused") {
  const std::string config = tests::small_config();
  const auto all = weights(config);
  const auto refused_index = [&](const std::string& from, const std::string& to, const std::string& words,
                                 bool everywhere = false) {
    tests::TemporaryDirectory directory;
    REQUIRE(tests::write_checkpoint(directory.path(), config, all, 2).ok());
    const auto path = directory.path() / "model.safetensors.index.json";
    std::ifstream in(path);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    for (auto next = at; next != std::string::npos;
         next = everywhere ? text.find(from, next + to.size()) : std::string::npos)
      text.replace(next, from.size(), to);
    std::ofstream(path) << text;
    const auto checkpoint = Checkpoint::open(directory.path());
    REQUIRE_FALSE(checkpoint.ok());
    CHECK_MESSAGE(checkpoint.error().text.find(words) != std::string::npos, checkpoint.error().text);
  };
  refused_index("\"weight_map\"", "\"weights\"", "weight_map is missing");
  refused_index("model-0.safetensors", "model-9.safetensors", "cannot open", true);
  refused_index("model-0.safetensors", "../model-0.safetensors", "no file name in this directory");
  refused_index("model-0.safetensors", "model-1.safetensors", "the index does not place it there");
  refused_index("\"model.embed_tokens.weight\"", "\"model.embed_tokens.other\"", "the index does not place it there");
  refused_index("{\"model.embed", "{\"ghost\": \"model-0.safetensors\", \"model.embed",
                "'ghost' is said to be in model-0.safetensors");
  refused_index("{\"model.embed", "{\"lm_head.weight\": \"model-0.safetensors\", \"model.embed", "appears twice");
}

TEST_CASE("a directory that is no checkpoint is refused in words") {
  tests::TemporaryDirectory directory;
  CHECK(Checkpoint::open(directory.path() / "absent").error().text.find("is not a directory") != std::string::npos);
  CHECK(Checkpoint::open(directory.path()).error().text.find("config.json") != std::string::npos);
  std::ofstream(directory.path() / "config.json") << tests::small_config();
  CHECK(Checkpoint::open(directory.path()).error().text.find("neither model.safetensors nor") != std::string::npos);
}

TEST_CASE("the manifest hash tells other weights and other configs apart") {
  const std::string config = tests::small_config();
  const auto all = weights(config);
  const std::uint64_t hash = open(config, all).value()->manifest_hash();
  CHECK(open(config, all).value()->manifest_hash() == hash);
  CHECK(open(config, all, 2).value()->manifest_hash() != hash);
  CHECK(open(tests::small_config({{"rms_norm_eps", "1e-5"}}), all).value()->manifest_hash() != hash);
  tests::FormulaOptions other;
  other.seed = 1;
  CHECK(open(config, weights(config, other)).value()->manifest_hash() != hash);  // same shapes, other values
}
