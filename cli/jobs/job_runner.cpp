#include "cli/jobs/job_runner.hpp"

#include <algorithm>
#include <ctime>

#include "cli/http/http_text.hpp"

namespace consort::cli {

using runtime::Duration;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Instant;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr Duration kTurn = std::chrono::milliseconds(100);        // between looks at the clock and at `stop`
constexpr Duration kFirstPause = std::chrono::milliseconds(200);  // before a line is sent again; then twice as long
constexpr Duration kLongestPause = std::chrono::seconds(5);
constexpr Duration kLeaveTime = std::chrono::milliseconds(500);  // for cancellations to reach the Batcher
constexpr std::string_view kTokensName = "vllm:generation_tokens_total";

}  // namespace

class JobRunner::Sink final : public actors::PortSink {
 public:
  Sink(JobRunner& runner, std::uint64_t number) : runner_(runner), number_(number) {}
  void take(actors::PortEvent event) override { runner_.gather(number_, event); }

 private:
  JobRunner& runner_;
  const std::uint64_t number_;
};

JobRunner::JobRunner(GatewayProcess& gateway, const JobFile& job, const JobInput& input, JobRecord& record,
                     std::string model, JobProgress& progress)
    : gateway_(gateway),
      job_(job),
      input_(input),
      record_(record),
      model_(std::move(model)),
      progress_(progress),
      rng_(runtime::posix::kernel_seed()),
      allowed_(job.concurrency),
      tokens_before_(record.totals().completion_tokens) {}

std::uint64_t JobRunner::tokens() const {
  const auto snapshot = gateway_.metrics();
  const auto at = std::ranges::find(snapshot->numbers, kTokensName, &runtime::MetricsSnapshot::Number::name);
  const std::uint64_t told = at == snapshot->numbers.end() ? 0 : static_cast<std::uint64_t>(at->value);
  return std::max(told, record_.totals().completion_tokens - tokens_before_);  // it tells once a second
}

JobState JobRunner::state() const {
  JobState state;
  state.lines = input_.size();
  state.done = record_.totals().lines;
  state.failed = record_.totals().failed;
  state.open = open_.size();
  state.trouble = trouble_;
  return state;
}

Outcome<JobRunner::End> JobRunner::run(const std::function<bool()>& stop) {
  while (record_.totals().lines < input_.size()) {
    if (stop()) {
      leave();
      return End::kInterrupted;
    }
    Status status = watch_cluster();
    if (status.ok()) status = send_some();
    if (status.ok()) {
      (void)gateway_.turn_until([&] { return !ended_.empty() || !to_record_.empty() || stop(); }, kTurn);
      status = record_ended();
    }
    if (!status.ok()) {
      leave();
      return std::move(status).error();
    }
    progress_.look(clock_.now(), state(), tokens());
  }
  progress_.end(clock_.now(), state(), tokens());
  return End::kAllDone;
}

// A cluster that serves nobody for longer than the job's patience ends the run.
Status JobRunner::watch_cluster() {
  const actors::ServingState serving = gateway_.port()->state();
  if (serving.serves) {
    silent_since_.reset();
    trouble_.clear();
    return runtime::done();
  }
  if (!silent_since_) silent_since_ = clock_.now();
  trouble_ = serving.why;
  if (clock_.now() - *silent_since_ < job_.patience) return runtime::done();
  return failure(ErrorKind::kTimedOut, "the cluster does not serve: " + serving.why);
}

// --- lines out -------------------------------------------------------------------------------------------------------

bool JobRunner::may_send() const {
  return open_.size() < allowed_ && to_record_.size() < job_.concurrency && trouble_.empty();
}

std::optional<JobRunner::Waiting> JobRunner::next_line() {
  const auto due = std::ranges::find_if(again_, [now = clock_.now()](const Waiting& line) { return line.due <= now; });
  if (due != again_.end()) {
    Waiting line = *due;
    again_.erase(due);
    return line;
  }
  // Those that wait count as open: a cluster that is busy is not asked for ever more lines.
  if (open_.size() + again_.size() >= job_.concurrency) return std::nullopt;
  while (next_ < input_.size() && record_.is_done(next_)) ++next_;
  if (next_ == input_.size()) return std::nullopt;
  Waiting line;
  line.index = next_++;
  return line;
}

Status JobRunner::send_some() {
  while (may_send()) {
    auto line = next_line();
    if (!line) break;
    CONSORT_RETURN_IF_ERROR(send(*line));
  }
  return runtime::done();
}

Status JobRunner::send(Waiting waiting) {
  CONSORT_TRY(JobLine line, input_.read(waiting.index));
  const std::string request_id = "req_" + hex(rng_.next());
  auto decoded = call_of(line, model_);
  if (const auto* refusal = std::get_if<Refusal>(&decoded)) {
    fail(waiting.index, line.custom_id, request_id, *refusal);
    return runtime::done();
  }
  auto& call = std::get<AnswerCall>(decoded);
  const std::uint64_t number = next_number_++;
  auto open = std::make_unique<Open>(Open{
      waiting, 0, line.custom_id, request_id,
      AnswerWriter(call, {hex(rng_.next()) + hex(rng_.next()), static_cast<std::int64_t>(std::time(nullptr)), model_}),
      std::nullopt});
  const auto ticket = gateway_.port()->submit(std::move(call.request), std::make_shared<Sink>(*this, number));
  if (!ticket.ok()) return ticket.error();  // concurrency is below the port's bound
  open->ticket = *ticket;
  open_.emplace(number, std::move(open));
  return runtime::done();
}

// --- answers in ------------------------------------------------------------------------------------------------------

void JobRunner::gather(std::uint64_t number, const actors::PortEvent& event) {
  const auto found = open_.find(number);
  if (found == open_.end()) return;
  found->second->writer.gather(event);
  if (!actors::is_last(event)) return;
  found->second->last = event;
  ended_.push_back(number);
}

Status JobRunner::record_ended() {
  for (const std::uint64_t number : std::exchange(ended_, {})) {
    const auto found = open_.find(number);
    take_ended(*found->second);
    open_.erase(found);
  }
  if (to_record_.empty()) return runtime::done();
  return record_.append(std::exchange(to_record_, {}));
}

void JobRunner::take_ended(Open& open) {
  if (const auto* failed = std::get_if<actors::WorkFailed>(&*open.last)) {
    Refusal refusal = refusal_of(*failed);
    const bool again = is_worth_retrying(refusal);
    if (again) return retry(open.line, failed->kind == actors::WorkFailure::kBusy, refusal, open);
    return fail(open.line.index, open.custom_id, open.request_id, refusal);
  }
  allowed_ = std::min(allowed_ + 1, job_.concurrency);
  JobAnswer answer{input_.job(),      input_.line_number(open.line.index), open.custom_id, 200, open.request_id,
                   open.writer.body()};
  to_record_.push_back({open.line.index, std::move(answer)});
}

void JobRunner::retry(Waiting line, bool is_busy, const Refusal& refusal, const Open& open) {
  const Instant now = clock_.now();
  if (is_busy) {
    // The others that are open were taken: so many fit.
    allowed_ = std::max<std::uint32_t>(1, std::min(allowed_, static_cast<std::uint32_t>(open_.size() - 1)));
    if (!line.first_busy) line.first_busy = now;
  } else {
    ++line.lost;
  }
  const bool gives_up = line.lost > job_.retries || (line.first_busy && now - *line.first_busy > job_.patience);
  if (gives_up) return fail(line.index, open.custom_id, open.request_id, refusal);
  line.pause = line.pause == Duration::zero() ? kFirstPause : std::min(2 * line.pause, kLongestPause);
  line.due = now + line.pause;
  again_.push_back(line);
}

void JobRunner::fail(std::size_t index, const std::string& custom_id, const std::string& request_id,
                     const Refusal& refusal) {
  JobAnswer answer{input_.job(), input_.line_number(index), custom_id, refusal.status, request_id, error_json(refusal)};
  to_record_.push_back({index, std::move(answer)});
}

// What is open is given up, and done again by the next run.
void JobRunner::leave() {
  for (const auto& [number, open] : open_) gateway_.port()->cancel(open->ticket);
  if (!open_.empty()) (void)gateway_.turn_until([] { return false; }, kLeaveTime);
  open_.clear();
  progress_.end(clock_.now(), state(), tokens());
}

}  // namespace consort::cli
