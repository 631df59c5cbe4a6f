#include "actors/serving/step_pace.hpp"

#include <algorithm>
#include <bit>
#include <chrono>

namespace consort::actors {
namespace {

void blend(double& mean, double value) { mean = mean == 0 ? value : mean + StepPace::kWeight * (value - mean); }

}  // namespace

std::size_t StepPace::size_of(std::uint32_t decode_rows) {
  return std::min<std::size_t>(kSizes - 1, static_cast<std::size_t>(std::bit_width(decode_rows)));
}

double StepPace::quiet_seconds(std::uint32_t decode_rows) const {
  const std::size_t size = size_of(decode_rows);
  for (std::size_t s = size + 1; s-- > 0;) {  // a smaller one is quicker: it promises less
    if (quiet_[s] > 0) return quiet_[s];
  }
  for (std::size_t s = size + 1; s < kSizes; ++s) {
    if (quiet_[s] > 0) return quiet_[s];
  }
  return 0;
}

void StepPace::measured(std::uint32_t decode_rows, std::uint32_t prompt_rows, runtime::Duration length) {
  const double seconds = std::chrono::duration<double>(length).count();
  if (seconds <= 0 || decode_rows + prompt_rows == 0) return;
  rows_ = rows_ * (1 - kWeight) + decode_rows + prompt_rows;
  seconds_ = seconds_ * (1 - kWeight) + seconds;
  if (prompt_rows == 0) return blend(quiet_[size_of(decode_rows)], seconds);
  if (decode_rows == 0) {
    if (row_is_guessed_) blend(row_seconds_, seconds / prompt_rows);
    return;
  }
  const double quiet = quiet_seconds(decode_rows);
  if (quiet == 0) return;
  if (row_is_guessed_) row_seconds_ = 0;
  row_is_guessed_ = false;
  // Not zero: what takes no time at all was measured by chance.
  blend(row_seconds_, std::max(seconds - quiet, 0.01 * quiet) / prompt_rows);
}

std::uint32_t StepPace::prompt_rows(std::uint32_t decode_rows, std::uint32_t most) const {
  if (decode_rows == 0) return most;
  const double quiet = quiet_seconds(decode_rows);
  if (quiet == 0 || row_seconds_ == 0) return std::min(most, kFirstPromptRows);
  const double rows = kAllowedDelay * quiet / row_seconds_;
  return std::min(most, static_cast<std::uint32_t>(std::clamp<double>(
                            rows, kLeastPromptRows, most < kLeastPromptRows ? kLeastPromptRows : most)));
}

}  // namespace consort::actors
