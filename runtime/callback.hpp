// Callback<R(Args...)>: a move-only function object; small captures live inside it, without the heap.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "runtime/check.hpp"

namespace consort::runtime {

template <class Signature>
class Callback;

template <class R, class... Args>
class Callback<R(Args...)> {
 public:
  Callback() = default;
  Callback(std::nullptr_t) {}
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, Callback> && std::is_invocable_r_v<R, F&, Args...>) Callback(F&& function) {
    using Function = std::decay_t<F>;
    if constexpr (kFits<Function>) {
      new (storage_) Function(std::forward<F>(function));
      table_ = &kInline<Function>;
    } else {
      *reinterpret_cast<Function**>(storage_) = new Function(std::forward<F>(function));
      table_ = &kHeap<Function>;
    }
  }
  Callback(Callback&& other) noexcept { take(other); }
  Callback& operator=(Callback&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  ~Callback() { reset(); }

  explicit operator bool() const { return table_ != nullptr; }
  R operator()(Args... args) {
    CONSORT_CHECK(table_ != nullptr);
    return table_->call(storage_, std::forward<Args>(args)...);
  }
  void reset() {
    if (table_ != nullptr) std::exchange(table_, nullptr)->destroy(storage_);
  }

 private:
  static constexpr std::size_t kInlineBytes = 64;  // an actor, a reply slot and a few numbers
  struct Table {
    R (*call)(std::byte*, Args&&...);
    void (*move)(std::byte* from, std::byte* to) noexcept;
    void (*destroy)(std::byte*) noexcept;
  };
  template <class F>
  static constexpr bool kFits = sizeof(F) <= kInlineBytes &&
                                alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;
  template <class F>
  static constexpr Table kInline{
      [](std::byte* s, Args&&... args) -> R { return (*reinterpret_cast<F*>(s))(std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept {
        new (to) F(std::move(*reinterpret_cast<F*>(from)));
        reinterpret_cast<F*>(from)->~F();
      },
      [](std::byte* s) noexcept { reinterpret_cast<F*>(s)->~F(); }};
  template <class F>
  static constexpr Table kHeap{
      [](std::byte* s, Args&&... args) -> R { return (**reinterpret_cast<F**>(s))(std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept { *reinterpret_cast<F**>(to) = *reinterpret_cast<F**>(from); },
      [](std::byte* s) noexcept { delete *reinterpret_cast<F**>(s); }};

  void take(Callback& other) noexcept {
    if (other.table_ == nullptr) return;
    other.table_->move(other.storage_, storage_);
    table_ = std::exchange(other.table_, nullptr);
  }

  alignas(std::max_align_t) std::byte storage_[kInlineBytes];
  const Table* table_ = nullptr;
};

}  // namespace consort::runtime
