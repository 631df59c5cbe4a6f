// A message is a plain C++ struct with a kind and a class. Local delivery moves it; between nodes its Codec is called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/buffer.hpp"
#include "runtime/frame.hpp"
#include "runtime/outcome.hpp"

namespace consort::runtime {

// A message as bytes: Cap'n Proto metadata (one segment, no segment table) and raw tensors.
struct WireMessage {
  std::vector<std::byte> metadata;
  Buffer payload;
};

// Specialised beside each message struct that may leave its node, implemented beside its .capnp:
//   template <> struct Codec<RunExperts> {
//     static Outcome<WireMessage> encode(const RunExperts&);
//     static Outcome<RunExperts> decode(std::span<const std::byte> metadata, Buffer payload);  // kMalformed in words
//   };
template <class M>
struct Codec;

// struct Ping { static constexpr MessageKind kKind = 0x0101; static constexpr MessageClass kClass =
// MessageClass::kSystem;
//               using Reply = Pong; ... };       Reply only where it is a request.
// kKind is asked for first: whether AnyMessage is movable depends on whether it is a Message.
template <class M>
concept Message = requires {
  { M::kKind } -> std::convertible_to<MessageKind>;
  { M::kClass } -> std::convertible_to<MessageClass>;
}
&&std::movable<M>;
template <class M>
concept Request = Message<M> && Message<typename M::Reply>;

// `static constexpr bool kLocal = true;` marks a message that never leaves its node and has no codec.
template <class M>
constexpr bool is_local_message() {
  if constexpr (requires { M::kLocal; }) return M::kLocal;
  return false;
}

// A message of any type on its way inside the node.
class AnyMessage {
 public:
  AnyMessage() = default;
  template <Message M>
  explicit AnyMessage(M message) : box_(std::make_unique<Box<M>>(std::move(message))) {}

  bool empty() const { return box_ == nullptr; }
  MessageKind kind() const { return box_->kind; }
  // As bytes for another node; kInternal for a local message.
  Outcome<WireMessage> encode() const { return box_->encode(); }
  // The struct again. Taking another type than was put in is a bug.
  template <Message M>
  M take() {
    CONSORT_CHECK(box_ != nullptr && box_->kind == M::kKind, box_ ? box_->kind : 0, M::kKind);
    M message = std::move(static_cast<Box<M>*>(box_.get())->message);
    box_.reset();
    return message;
  }

 private:
  struct Base {
    explicit Base(MessageKind k) : kind(k) {}
    virtual ~Base() = default;
    virtual Outcome<WireMessage> encode() const = 0;
    MessageKind kind;
  };
  template <class M>
  struct Box final : Base {
    explicit Box(M m) : Base(M::kKind), message(std::move(m)) {}
    Outcome<WireMessage> encode() const override {
      if constexpr (is_local_message<M>()) {
        return failure(ErrorKind::kInternal, "a local message was sent to another node");
      } else {
        return Codec<M>::encode(message);
      }
    }
    M message;
  };
  std::unique_ptr<Base> box_;
};

// What arrives: the struct itself from this node, bytes from another.
using MessageBody = std::variant<AnyMessage, WireMessage>;

template <Message M>
Outcome<M> open_body(MessageBody body) {
  if (auto* local = std::get_if<AnyMessage>(&body)) return local->take<M>();
  if constexpr (is_local_message<M>()) {
    return failure(ErrorKind::kMalformed, "a local message arrived from another node");
  } else {
    auto& wire = std::get<WireMessage>(body);
    return Codec<M>::decode(wire.metadata, std::move(wire.payload));
  }
}

}  // namespace consort::runtime
