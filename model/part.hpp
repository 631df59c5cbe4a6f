// Part: a piece of the model that maps rows to rows, and the numeric plan that says how the model is cut into
// parts. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Routed experts are the parts of today; the others are named so that tables and messages need no change for
// them.
enum class PartKind : std::uint8_t { kRoutedExpert = 1, kSharedExpert, kDenseFfn, kVocabularySlice, kAttentionHeads };
std::string_view name(PartKind kind);

// Columns [first_column, first_column + column_count) of expert `index` of a layer: rows of its gate_proj and
// up_proj, columns of its down_proj. A whole expert is the range over all moe_intermediate_size columns.
struct PartKey {
  runtime::LayerIndex layer;
  PartKind kind = PartKind::kRoutedExpert;
  std::uint32_t index = 0;
  std::uint32_t first_column = 0;
  std::uint32_t column_count = 0;
  constexpr auto operator<=>(const PartKey&) const = default;
};

// "layer 3 expert 17 columns 0..127"
std::string describe(const PartKey& key);

struct ColumnRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  constexpr bool operator==(const ColumnRange&) const = default;
};

// All that decides the bits of a row besides the checkpoint. Two runs with equal plans give equal bits,
// wherever their parts lie. Decided once per cluster and kept; every expert of the model is cut alike.
struct NumericPlan {
  std::vector<ColumnRange> columns;         // of moe_intermediate_size, ascending, without gap
  std::string combine = "ordered";          // [later] "reduced"
  std::string wire = "f32";                 // dtype of rows between nodes; [later] "bf16", "fp8"
  std::string numeric_class = "canonical";  // what arithmetic a replica must have

  bool operator==(const NumericPlan&) const = default;
  std::uint64_t digest() const;
};

std::string to_json(const NumericPlan& plan);
// Strict; `where` names the file. Whether the plan fits a model is check_plan's question.
runtime::Outcome<NumericPlan> plan_from_json(std::string_view json, std::string_view where);
// Refuses a plan whose columns do not cover the model's experts in whole units, or with a mode that is not
// built.
runtime::Status check_plan(const ModelConfig& config, const NumericPlan& plan);

// Columns are cut in multiples of this: 128, the FP8 scale block, or 16, one register, for narrow experts.
std::int64_t cut_unit(const ModelConfig& config);
NumericPlan whole_experts_plan(const ModelConfig& config);
// Every expert in `range_count` nearly equal ranges of whole units; refused if there are fewer units than
// ranges.
runtime::Outcome<NumericPlan> cut_plan(const ModelConfig& config, std::int64_t range_count);

// Every part of the model under the plan, in PartKey order.
std::vector<PartKey> parts_of(const ModelConfig& config, const NumericPlan& plan);

}  // namespace consort::model

template <>
struct std::hash<consort::model::PartKey> {
  std::size_t operator()(const consort::model::PartKey& key) const noexcept {
    std::uint64_t h = (std::uint64_t{key.layer.value} << 40) ^
                      (std::uint64_t{static_cast<std::uint8_t>(key.kind)} << 56) ^ (std::uint64_t{key.index} << 20) ^
                      key.first_column;
    h = (h ^ (std::uint64_t{key.column_count} << 32)) * 0x9e3779b97f4a7c15ULL;
    return static_cast<std::size_t>(h ^ (h >> 29));
  }
};
