// How messages move: from an actor to another one here or away, and answers back.
#include <algorithm>
#include <utility>

#include "runtime/error_reply.hpp"
#include "runtime/loop_state.hpp"

namespace consort::runtime {
namespace {

std::string describe(ActorId id) {
  return "actor " + std::to_string(id.type) + "/" + std::to_string(id.index) + " generation " +
         std::to_string(id.generation);
}

}  // namespace

bool EventLoop::State::is_here(const ActorRef& ref) const { return ref.node == loop.node_; }

std::optional<Error> EventLoop::State::stale(const ActorRef& ref) const {
  // Incarnation 0 is a ref from before this node joined: the same life.
  if (ref.incarnation.value == 0 || ref.incarnation == loop.incarnation_) return std::nullopt;
  return Error{ErrorKind::kStaleIncarnation, "the message is for incarnation " + std::to_string(ref.incarnation.value) +
                                                 ", this is " + std::to_string(loop.incarnation_.value)};
}

Status EventLoop::State::deliver_here(ActorId target, Incoming incoming) {
  ActorCell* cell = actors.find(target);
  if (cell == nullptr) return failure(ErrorKind::kNoActor, describe(target) + " does not live here");
  const auto c = static_cast<std::size_t>(incoming.context.message_class);
  const auto bound = c == 0 ? limits.system_queue : limits.other_queue;
  if (cell->messages[c] >= bound) {
    return failure(ErrorKind::kExhausted, describe(target) + " has " + std::to_string(bound) + " messages waiting");
  }
  ++cell->messages[c];
  const auto message_class = incoming.context.message_class;
  enqueue(*cell, message_class, std::move(incoming));
  return done();
}

Status EventLoop::State::deliver_away(Outgoing outgoing, const AnyMessage& message) {
  if (loop.remote_ == nullptr) {
    return failure(ErrorKind::kPeerDown,
                   "node " + std::to_string(outgoing.target.node.value) + " cannot be reached: there is no cluster");
  }
  CONSORT_TRY(outgoing.message, message.encode());
  return loop.remote_->deliver(std::move(outgoing));
}

void EventLoop::send_tell(ActorRef source, ActorRef target, MessageClass message_class, Epoch epoch,
                          AnyMessage message) {
  const auto kind = message.kind();
  const Status sent = [&]() -> Status {
    if (!state_->is_here(target)) {
      return state_->deliver_away({target, source, FrameType::kTell, message_class, kind, epoch, 0, Instant::max(), {}},
                                  message);
    }
    if (auto error = state_->stale(target)) return *std::move(error);
    Incoming incoming{kind, false, {source, epoch, message_class, Instant::max()}, std::move(message), {}};
    incoming.route = {this, source, target.actor, 0, message_class};
    return state_->deliver_here(target.actor, std::move(incoming));
  }();
  if (!sent.ok()) note_dead_letter({sent.error().kind, kind, source, target});
}

std::uint64_t EventLoop::send_ask(ActorRef source, ActorRef target, MessageClass message_class, Epoch epoch,
                                  Duration deadline, MessageKind reply_kind, AnyMessage message) {
  State& state = *state_;
  ActorCell* asker = state.actors.find_exact(source.actor);
  const auto kind = message.kind();
  const Instant due = state.now + deadline;
  const bool away = !state.is_here(target);
  AskTable::Ask ask;
  ask.asker = source.actor;
  ask.target = target;
  ask.message_class = message_class;
  ask.reply_kind = reply_kind;
  ask.remote = away;
  // An actor asks in its own turns only, so an asker that is gone is one whose on_stop asks: nobody waits for that.
  const auto slot = asker == nullptr ? 0 : state.asks.open(std::move(ask));
  if (slot == 0) {
    state.over_limit_asker = source.actor;
    return 0;
  }
  ++asker->open_asks;
  state.asks.find(slot)->deadline = state.timers.add(due, std::nullopt, [this, slot] {
    state_->complete(slot, failure(ErrorKind::kTimedOut, "no answer by the deadline"));
  });
  const Status sent = [&]() -> Status {
    if (away) {
      return state.deliver_away({target, source, FrameType::kAsk, message_class, kind, epoch, slot, due, {}}, message);
    }
    if (auto error = state.stale(target)) return *std::move(error);
    Incoming incoming{kind, true, {source, epoch, message_class, due}, std::move(message), {}};
    incoming.route = {this, source, target.actor, slot, message_class};
    return state.deliver_here(target.actor, std::move(incoming));
  }();
  if (!sent.ok()) {
    note_dead_letter({sent.error().kind, kind, source, target});
    state.complete(slot, sent.error());
  }
  return slot;
}

void EventLoop::set_continuation(std::uint64_t slot, Callback<void(Outcome<MessageBody>)> continuation) {
  State& state = *state_;
  if (slot == 0) {
    CONSORT_CHECK(state.over_limit_asker.has_value());
    ActorCell* asker = state.actors.find_exact(*state.over_limit_asker);
    if (asker == nullptr) return;
    state.enqueue(*asker, MessageClass::kSystem,
                  Callback<void()>([continuation = std::move(continuation), limit = state.limits.asks]() mutable {
                    continuation(failure(ErrorKind::kExhausted,
                                         std::to_string(limit) + " asks of this loop wait for their answers"));
                  }));
    return;
  }
  AskTable::Ask* ask = state.asks.find(slot);
  CONSORT_CHECK(ask != nullptr && !ask->continuation, "then() once, in the turn of the ask", slot);
  ask->continuation = std::move(continuation);
}

void EventLoop::cancel_ask(std::uint64_t slot) {
  state_->complete(slot, failure(ErrorKind::kCancelled, "the asker cancelled"));
}

// The first outcome counts. Its continuation is a later turn of the asker, whatever this is called from.
void EventLoop::State::complete(std::uint64_t slot, Outcome<MessageBody> outcome) {
  AskTable::Ask* ask = asks.find(slot);
  if (ask == nullptr || ask->outcome) return;
  ActorCell* asker = actors.find_exact(ask->asker);
  if (asker == nullptr) return;  // its end is under way and unlinks the ask
  timers.cancel(std::exchange(ask->deadline, 0));
  ask->outcome.emplace(std::move(outcome));
  enqueue(*asker, ask->message_class, AskDone{slot});
}

void EventLoop::send_reply(const ReplyRoute& route, Outcome<AnyMessage> outcome) {
  state_->answer(route, std::move(outcome));
}

void EventLoop::State::answer(const ReplyRoute& route, Outcome<AnyMessage> outcome) {
  if (is_here(route.asker)) {
    if (!outcome.ok()) return complete(route.correlation, std::move(outcome).error());
    AskTable::Ask* ask = asks.find(route.correlation);
    if (ask == nullptr) return;
    CONSORT_CHECK(ask->reply_kind == outcome->kind(), ask->reply_kind, outcome->kind());
    return complete(route.correlation, MessageBody(std::move(outcome).value()));
  }
  Outgoing outgoing{route.asker,
                    {loop.node_, loop.incarnation_, route.answerer},
                    FrameType::kReply,
                    route.message_class,
                    0,
                    {},
                    route.correlation,
                    Instant::max(),
                    {}};
  Outcome<WireMessage> encoded = outcome.ok() ? outcome->encode() : Outcome<WireMessage>(outcome.error());
  if (encoded.ok()) {
    outgoing.kind = outcome->kind();
    outgoing.message = std::move(encoded).value();
  } else {
    outgoing.type = FrameType::kError;
    outgoing.message.metadata = encode_error(encoded.error());
  }
  const DeadLetter letter{ErrorKind::kPeerDown, outgoing.kind, outgoing.source, outgoing.target};
  const Status sent = loop.remote_ == nullptr
                          ? Status(failure(ErrorKind::kPeerDown, "the asker's node cannot be reached"))
                          : loop.remote_->deliver(std::move(outgoing));
  if (!sent.ok()) loop.note_dead_letter({sent.error().kind, letter.kind, letter.source, letter.target});
}

void EventLoop::asks_lost(NodeId peer, Error why) {
  state_->read_clock();
  for (const auto slot : state_->asks.at_node(peer)) state_->complete(slot, why);
}

void EventLoop::receive_remote(const FrameHeader& header, WireMessage message) {
  State& state = *state_;
  state.read_clock();
  const ActorRef source{header.source_node, header.source_incarnation, header.source_actor};
  switch (header.type) {
    case FrameType::kReply: {
      AskTable::Ask* ask = state.asks.find(header.correlation);
      if (ask != nullptr && ask->reply_kind != header.kind) {
        return state.complete_from(
            header.source_node, header,
            failure(ErrorKind::kMalformed, "the answer is of kind " + std::to_string(header.kind) + ", not " +
                                               std::to_string(ask->reply_kind)));
      }
      return state.complete_from(header.source_node, header, MessageBody(std::move(message)));
    }
    case FrameType::kError:
      return state.complete_from(header.source_node, header, decode_error(message.metadata));
    case FrameType::kTell:
    case FrameType::kAsk:
      break;
  }
  if (header.kind == kRuntimeKind && header.type == FrameType::kTell) {
    return state.receive_watch(header, message.metadata);
  }
  const bool is_ask = header.type == FrameType::kAsk;
  const Instant due =
      header.remaining_us == 0 ? Instant::max() : state.now + std::chrono::microseconds(header.remaining_us);
  Incoming incoming{header.kind, is_ask, {source, header.epoch, header.message_class, due}, std::move(message), {}};
  const ReplyRoute route{this, source, header.target_actor, header.correlation, header.message_class};
  incoming.route = route;
  const Status delivered = state.deliver_here(header.target_actor, std::move(incoming));
  if (delivered.ok()) return;
  note_dead_letter({delivered.error().kind, header.kind, source, {node_, incarnation_, header.target_actor}});
  if (is_ask) route.reject(delivered.error());
}

// An answer counts only from the node that was asked, for the actor that asked. A late one finds nothing.
void EventLoop::State::complete_from(NodeId node, const FrameHeader& header, Outcome<MessageBody> outcome) {
  const AskTable::Ask* ask = asks.find(header.correlation);
  if (ask == nullptr) return;
  if (!ask->remote || ask->target.node != node || ask->asker != header.target_actor) {
    loop.note_dead_letter({ErrorKind::kMalformed,
                           header.kind,
                           {node, header.source_incarnation, header.source_actor},
                           {loop.node_, loop.incarnation_, header.target_actor}});
    return;
  }
  complete(header.correlation, std::move(outcome));
}

}  // namespace consort::runtime
