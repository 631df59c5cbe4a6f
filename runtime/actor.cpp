#include "runtime/actor.hpp"

#include <utility>

namespace consort::runtime {

Instant Actor::now() const { return loop_->now(); }
Env& Actor::env() const { return loop_->env(); }

void Actor::cancel_ask(std::uint64_t ask) { loop_->cancel_ask(ask); }

TimerId Actor::after(Duration delay, Callback<void()> callback) {
  return loop_->actor_timer(self_.actor, delay, std::move(callback));
}
void Actor::cancel(TimerId timer) { loop_->cancel(timer); }

void Actor::monitor(ActorRef actor, Callback<void(Down)> callback) {
  loop_->monitor(self_.actor, actor, std::move(callback));
}

void Actor::compute(DeviceWork work, MessageClass urgency, Callback<void()> then) {
  loop_->actor_compute(self_.actor, std::move(work), urgency, std::move(then));
}

ActorRef Actor::spawn(std::uint16_t type, std::uint32_t index, std::function<std::unique_ptr<Actor>()> make) {
  return loop_->spawn_child(self_.actor, type, index, std::move(make));
}
void Actor::stop() { loop_->actor_ends(self_.actor, std::nullopt); }
void Actor::fail(Error reason) { loop_->actor_ends(self_.actor, std::move(reason)); }

}  // namespace consort::runtime
