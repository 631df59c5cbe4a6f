// Outcome<T>: a value, or an Error with a sentence that helps whoever is on call. Expected failures are values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "runtime/check.hpp"

namespace consort::runtime {

enum class ErrorKind : unsigned char {
  kTimedOut = 1,
  kCancelled,
  kPeerDown,
  kNoActor,
  kStaleIncarnation,
  kWrongEpoch,
  kExhausted,
  kMalformed,
  kUnauthorised,
  kInternal,
  kInvalid,  // a user's file, flag or request is wrong; the text says what to do
};
inline constexpr int kErrorKindCount = 11;

// "timed_out", "peer_down", ...
std::string_view name(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string text;
};

// "peer_down: node garage left"
std::string describe(const Error& error);

template <class T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Outcome(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    CONSORT_CHECK(ok(), describe(std::get<1>(state_)));
    return std::get<0>(state_);
  }
  const T& value() const& {
    CONSORT_CHECK(ok(), describe(std::get<1>(state_)));
    return std::get<0>(state_);
  }
  T&& value() && {
    CONSORT_CHECK(ok(), describe(std::get<1>(state_)));
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    CONSORT_CHECK(!ok());
    return std::get<1>(state_);
  }
  Error&& error() && {
    CONSORT_CHECK(!ok());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Outcome<Done>;
inline Status done() { return Status(Done{}); }

// Error{kind, text} in one word at a return.
inline Error failure(ErrorKind kind, std::string text) { return Error{kind, std::move(text)}; }

}  // namespace consort::runtime

// Returns the error of `expression` from the enclosing function, or binds its value to `target`.
#define CONSORT_TRY(target, expression) CONSORT_TRY_(target, expression, __COUNTER__)
#define CONSORT_TRY_(target, expression, counter) CONSORT_TRY__(target, expression, counter)
#define CONSORT_TRY__(target, expression, counter)                          \
  auto outcome_##counter = (expression);                                    \
  if (!outcome_##counter.ok()) return std::move(outcome_##counter).error(); \
  target = std::move(outcome_##counter).value()
#define CONSORT_RETURN_IF_ERROR(expression)                                            \
  do {                                                                                 \
    if (auto status_ = (expression); !status_.ok()) return std::move(status_).error(); \
  } while (false)
