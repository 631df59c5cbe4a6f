#include "model/part.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <limits>

#include "model/digest.hpp"
#include "model/json_text.hpp"

namespace consort::model {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

std::string_view name(PartKind kind) {
  switch (kind) {
    case PartKind::kRoutedExpert:
      return "expert";
    case PartKind::kSharedExpert:
      return "shared expert";
    case PartKind::kDenseFfn:
      return "dense ffn";
    case PartKind::kVocabularySlice:
      return "vocabulary slice";
    case PartKind::kAttentionHeads:
      return "attention heads";
  }
  return "unknown part";
}

std::string describe(const PartKey& key) {
  return "layer " + std::to_string(key.layer.value) + " " + std::string(name(key.kind)) + " " +
         std::to_string(key.index) + " columns " + std::to_string(key.first_column) + ".." +
         std::to_string(key.first_column + key.column_count - 1);
}

std::string to_json(const NumericPlan& plan) {
  json::array columns;
  for (const ColumnRange& range : plan.columns) columns.push_back(json::array{range.first, range.count});
  return json::serialize(json::object{{"columns", std::move(columns)},
                                      {"combine", plan.combine},
                                      {"wire", plan.wire},
                                      {"numeric_class", plan.numeric_class}});
}

std::uint64_t NumericPlan::digest() const {
  Digest digest;
  digest.add(to_json(*this));
  return digest.value();
}

Outcome<NumericPlan> plan_from_json(std::string_view text, std::string_view where) {
  CONSORT_RETURN_IF_ERROR(check_json(text, where));
  const auto bad = [&](const std::string& what) {
    return failure(ErrorKind::kInvalid, std::string(where) + ": numeric plan: " + what);
  };
  json::error_code code;
  const json::value root = json::parse(json::string_view(text.data(), text.size()), code);
  if (code || !root.is_object()) return bad("not a JSON object");
  NumericPlan plan;
  for (const auto& member : root.get_object()) {
    const json::string_view key = member.key();
    const json::value& value = member.value();
    const auto text_into = [&](std::string& field) -> bool {
      if (!value.is_string()) return false;
      field.assign(value.get_string().data(), value.get_string().size());
      return true;
    };
    if (key == "combine" || key == "wire" || key == "numeric_class") {
      std::string& field = key == "combine" ? plan.combine : key == "wire" ? plan.wire : plan.numeric_class;
      if (!text_into(field)) return bad(std::string(key) + " is not a string");
    } else if (key == "columns") {
      if (!value.is_array()) return bad("columns is not an array");
      for (const json::value& range : value.get_array()) {
        const json::array* pair = range.if_array();
        if (pair == nullptr || pair->size() != 2) return bad("columns has an entry that is not [first, count]");
        ColumnRange out;
        for (std::size_t i = 0; i < 2; ++i) {
          const std::int64_t* number = (*pair)[i].if_int64();
          if (number == nullptr || *number < 0 || *number > std::numeric_limits<std::int32_t>::max())
            return bad("columns has an entry that is not [first, count]");
          (i == 0 ? out.first : out.count) = static_cast<std::uint32_t>(*number);
        }
        plan.columns.push_back(out);
      }
    } else {
      return bad("unknown key '" + std::string(key) + "'");
    }
  }
  if (plan.columns.empty()) return bad("columns is missing");
  return plan;
}

Status check_plan(const ModelConfig& config, const NumericPlan& plan) {
  const auto bad = [](const std::string& what) { return failure(ErrorKind::kInvalid, "numeric plan: " + what); };
  if (plan.combine != "ordered") return bad("combine is '" + plan.combine + "'; only ordered is supported");
  if (plan.wire != "f32") return bad("wire is '" + plan.wire + "'; only f32 is supported");
  if (plan.numeric_class != "canonical")
    return bad("numeric_class is '" + plan.numeric_class + "'; only canonical is supported");
  const std::int64_t unit = cut_unit(config);
  std::int64_t at = 0;
  for (const ColumnRange& range : plan.columns) {
    if (range.count == 0 || range.first != at || at % unit != 0)
      return bad("columns [" + std::to_string(range.first) + ", " + std::to_string(range.count) +
                 "] do not follow on in multiples of " + std::to_string(unit));
    at += range.count;
  }
  if (at != config.moe_intermediate_size)
    return bad("columns end at " + std::to_string(at) + ", but moe_intermediate_size is " +
               std::to_string(config.moe_intermediate_size) + ": the plan is of another model");
  return runtime::done();
}

std::int64_t cut_unit(const ModelConfig& config) { return config.moe_intermediate_size < 256 ? 16 : 128; }

NumericPlan whole_experts_plan(const ModelConfig& config) {
  NumericPlan plan;
  plan.columns = {{0, static_cast<std::uint32_t>(config.moe_intermediate_size)}};
  return plan;
}

Outcome<NumericPlan> cut_plan(const ModelConfig& config, std::int64_t range_count) {
  const std::int64_t unit = cut_unit(config);
  const std::int64_t units = (config.moe_intermediate_size + unit - 1) / unit;
  if (range_count < 1 || range_count > units)
    return failure(ErrorKind::kInvalid, "an expert of " + std::to_string(config.moe_intermediate_size) +
                                            " columns can be cut into 1 to " + std::to_string(units) + " ranges of " +
                                            std::to_string(unit) + " columns, not into " + std::to_string(range_count));
  NumericPlan plan;
  for (std::int64_t i = 0; i < range_count; ++i) {
    const std::int64_t first = units * i / range_count * unit;
    const std::int64_t last = std::min(units * (i + 1) / range_count * unit, config.moe_intermediate_size);
    plan.columns.push_back({static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(last - first)});
  }
  return plan;
}

std::vector<PartKey> parts_of(const ModelConfig& config, const NumericPlan& plan) {
  std::vector<PartKey> parts;
  for (std::int64_t layer = config.first_k_dense_replace; layer < config.num_hidden_layers; ++layer) {
    for (std::int64_t expert = 0; expert < config.n_routed_experts; ++expert) {
      for (const ColumnRange& range : plan.columns)
        parts.push_back({runtime::LayerIndex(static_cast<std::uint32_t>(layer)), PartKind::kRoutedExpert,
                         static_cast<std::uint32_t>(expert), range.first, range.count});
    }
  }
  return parts;
}

}  // namespace consort::model
