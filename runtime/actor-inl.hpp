// The templates of actor.hpp that need EventLoop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "runtime/event_loop.hpp"

namespace consort::runtime {

template <Message R>
template <class F>
requires std::is_invocable_v<F&, Outcome<R>> std::uint64_t PendingAsk<R>::then(F handler) && {
  loop_->set_continuation(slot_, [handler = std::move(handler)](Outcome<MessageBody> body) mutable {
    if (!body.ok()) return handler(Outcome<R>(std::move(body).error()));
    handler(open_body<R>(std::move(body).value()));
  });
  return slot_;
}

template <class P, Message M>
void Actor::tell(const RefTo<P>& to, M message, SendOptions options) {
  static_assert(P::template tells<M>, "the receiver's protocol has no Tell<M>");
  loop_->send_tell(self_, to.ref, options.message_class.value_or(M::kClass), options.epoch,
                   AnyMessage(std::move(message)));
}

template <class P, Request M>
PendingAsk<typename M::Reply> Actor::ask(const RefTo<P>& to, M message, Duration deadline, SendOptions options) {
  static_assert(P::template asks<M>, "the receiver's protocol has no Ask<M>");
  const auto slot = loop_->send_ask(self_, to.ref, options.message_class.value_or(M::kClass), options.epoch, deadline,
                                    M::Reply::kKind, AnyMessage(std::move(message)));
  return PendingAsk<typename M::Reply>(*loop_, slot);
}

template <class T>
std::function<void(T)> Actor::as_turn(Callback<void(T)> callback) {
  auto shared = std::make_shared<Callback<void(T)>>(std::move(callback));
  return [poster = loop_->poster(), actor = self_.actor, shared](T value) {
    poster.post(actor, [shared, value = std::make_shared<T>(std::move(value))] { (*shared)(std::move(*value)); });
  };
}

}  // namespace consort::runtime
