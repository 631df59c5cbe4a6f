#include "cli/jobs/job_progress.hpp"

#include <algorithm>
#include <cstdio>

namespace consort::cli {

namespace {

constexpr std::size_t kBarColumns = 24;
constexpr runtime::Duration kSampleEvery = std::chrono::milliseconds(500);

double seconds_of(runtime::Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::string clock_text(std::chrono::seconds time) {
  const auto total = static_cast<long long>(time.count());
  char text[48];
  if (total >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  }
  return text;
}

std::string progress_text(const JobState& state, std::size_t bar_columns) {
  std::string text;
  if (bar_columns > 0) {
    const std::size_t filled = state.lines == 0 ? bar_columns : bar_columns * state.done / state.lines;
    text = "[" + std::string(filled, '=');
    if (filled < bar_columns) text += ">" + std::string(bar_columns - filled - 1, ' ');
    text += "] ";
  }
  text += std::to_string(state.done) + "/" + std::to_string(state.lines) + " lines";
  if (state.failed > 0) text += ", " + std::to_string(state.failed) + " failed";
  if (state.tokens_per_second > 0) {
    char rate[40];
    std::snprintf(rate, sizeof rate, ", %.1f tokens/s", state.tokens_per_second);
    text += rate;
  }
  if (state.left) text += ", " + clock_text(*state.left) + " left";
  if (!state.trouble.empty()) text += "; waiting: " + state.trouble;
  return text;
}

JobProgress::JobProgress(bool on_terminal, std::uint64_t lines, std::uint64_t done_before)
    : on_terminal_(on_terminal), lines_(lines), done_before_(done_before) {}

void JobProgress::estimate(runtime::Instant now, JobState& state, std::uint64_t tokens) {
  if (!begun_) begun_ = now;
  if (samples_.empty() || now - samples_.back().at >= kSampleEvery) samples_.push_back({now, tokens});
  while (samples_.size() > 2 && now - samples_[1].at >= kWindow) samples_.pop_front();
  const Sample& first = samples_.front();
  if (now > first.at) state.tokens_per_second = static_cast<double>(tokens - first.tokens) / seconds_of(now - first.at);
  const std::uint64_t here = state.done - done_before_;
  if (here > 0 && state.done < lines_) {
    const double each = seconds_of(now - *begun_) / static_cast<double>(here);
    state.left = std::chrono::seconds(static_cast<std::int64_t>(each * static_cast<double>(lines_ - state.done) + 0.5));
  }
}

void JobProgress::show(const JobState& state) const {
  if (on_terminal_) {
    std::fprintf(stderr, "\r\033[K%s", progress_text(state, kBarColumns).c_str());
    std::fflush(stderr);
  } else {
    std::fprintf(stderr, "%s\n", progress_text(state, 0).c_str());
  }
}

void JobProgress::look(runtime::Instant now, JobState state, std::uint64_t tokens) {
  estimate(now, state, tokens);
  if (shown_ && now - *shown_ < (on_terminal_ ? kDrawEvery : kSayEvery)) return;
  shown_ = now;
  show(state);
}

void JobProgress::end(runtime::Instant now, const JobState& state, std::uint64_t tokens) {
  JobState last = state;
  estimate(now, last, tokens);
  last.left.reset();
  show(last);
  if (on_terminal_) std::fputc('\n', stderr);
}

}  // namespace consort::cli
