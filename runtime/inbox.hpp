// Inbox: turns posted to a loop from any thread. A lock-free queue of many producers and one consumer, after Vyukov.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/event_loop.hpp"
#include "runtime/ids.hpp"

namespace consort::runtime {

struct PostedTurn {
  std::optional<ActorId> actor;  // none: a turn of nobody in particular
  std::function<void()> run;
};

class Inbox {
 public:
  Inbox();
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  // Any thread. Wakes the loop where it sleeps; drops the turn where the loop has ended.
  void push(PostedTurn turn);
  void wake();

  // The loop's thread only. pop() may find nothing for a moment while empty() is false: a push is under way.
  std::optional<PostedTurn> pop();
  bool empty() const;
  // Opens the descriptor that wake() signals; needed before the first sleep.
  Status open_wake_fd();
  int wake_fd() const { return wake_fd_.load(std::memory_order_relaxed); }
  void clear_wake();
  // After prepare_sleep() every push signals the descriptor; look at empty() once more before sleeping.
  void prepare_sleep() { sleeping_.store(true); }
  void end_sleep() { sleeping_.store(false); }
  // The loop ends: what is queued is dropped, what comes later too.
  void close();

 private:
  struct Node {
    std::atomic<Node*> next{nullptr};
    PostedTurn turn;
  };
  // Every post completes something that this loop began (device work, a disk write), so that this many at once is a
  // producer gone wild: 1 Mi posts are 100 MB.
  static constexpr std::size_t kMaxQueued = std::size_t{1} << 20;

  alignas(64) std::atomic<Node*> head_;  // producers' end
  std::atomic<std::size_t> queued_{0};
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> closed_{false};
  std::atomic<int> wake_fd_{-1};
  alignas(64) Node* tail_;  // consumer's end: a node whose turn is taken already
};

struct Poster::Inbox final : runtime::Inbox {};

}  // namespace consort::runtime
