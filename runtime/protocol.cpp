#include "runtime/protocol.hpp"

#include <utility>

#include "runtime/event_loop.hpp"

namespace consort::runtime {

void ReplyRoute::reply(AnyMessage message) const { loop->send_reply(*this, std::move(message)); }

void ReplyRoute::reject(Error error) const { loop->send_reply(*this, std::move(error)); }

void refuse(Incoming& incoming, Error error) {
  EventLoop& loop = *incoming.route.loop;
  loop.note_dead_letter(
      {error.kind, incoming.kind, incoming.context.source, {loop.node(), loop.incarnation(), incoming.route.answerer}});
  if (incoming.is_ask) incoming.route.reject(std::move(error));
}

}  // namespace consort::runtime
