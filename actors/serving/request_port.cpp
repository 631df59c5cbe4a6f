#include "actors/serving/request_port.hpp"

#include <utility>

namespace consort::actors {

bool is_last(const PortEvent& event) {
  return std::holds_alternative<AnswerEnded>(event) || std::holds_alternative<Encoded>(event) ||
         std::holds_alternative<Decoded>(event) || std::holds_alternative<WorkFailed>(event);
}

runtime::Outcome<std::uint64_t> RequestPort::submit(PortWork work, std::shared_ptr<PortSink> sink) {
  std::uint64_t ticket = 0;
  std::function<void()> wake;
  {
    const std::lock_guard lock(mutex_);
    if (open_.size() >= kMaxOpen) {
      return runtime::failure(runtime::ErrorKind::kExhausted, std::to_string(kMaxOpen) + " requests are open already");
    }
    ticket = next_ticket_++;
    open_.insert(ticket);
    waiting_.works.push_back({ticket, std::move(work), std::move(sink)});
    wake = wake_;
  }
  if (wake) wake();
  return ticket;
}

void RequestPort::cancel(std::uint64_t ticket) {
  std::function<void()> wake;
  {
    const std::lock_guard lock(mutex_);
    if (!open_.contains(ticket)) return;
    waiting_.cancelled.push_back(ticket);  // once per open ticket and connection: bounded as they are
    wake = wake_;
  }
  if (wake) wake();
}

ServingState RequestPort::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void RequestPort::attach(std::function<void()> wake) {
  bool has_work = false;
  {
    const std::lock_guard lock(mutex_);
    wake_ = wake;
    has_work = !waiting_.works.empty() || !waiting_.cancelled.empty();
  }
  if (has_work) wake();
}

RequestPort::Taken RequestPort::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(waiting_, {});
}

void RequestPort::close(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  open_.erase(ticket);
}

void RequestPort::set_state(ServingState state) {
  const std::lock_guard lock(mutex_);
  state_ = std::move(state);
}

}  // namespace consort::actors
