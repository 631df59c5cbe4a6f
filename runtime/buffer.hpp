// Buffer: a shared handle to bytes from a pool; BufferPool: bounded, in size classes, registered for the wire.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "runtime/outcome.hpp"

namespace consort::runtime {

class BufferPool;

// A counted reference to a range of a block. Copies share the bytes; the block returns to its pool with the last one.
// Whoever fills a buffer does so before the first copy is handed out; after that the bytes are read only.
class Buffer {
 public:
  Buffer() = default;
  // Memory of its own, outside any pool (control messages, tests).
  static Buffer allocate(std::size_t bytes);
  static Buffer copy_of(std::span<const std::byte> bytes);
  // Bytes that somebody else owns (a UCX receive descriptor); release runs once, with the last handle, on any thread.
  static Buffer adopt(std::span<std::byte> bytes, std::function<void()> release);

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::span<std::byte> mutable_bytes() { return {data_, size_}; }
  // A part of the same block: [first, first + bytes).
  Buffer slice(std::size_t first, std::size_t bytes) const;
  // What the transport noted for the block when it was registered (a UCX memory handle), or null.
  void* registration() const;

  struct Block;

 private:
  friend class BufferPool;
  std::shared_ptr<Block> block_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Blocks are 64-byte aligned and rounded up to a power of two from 4 KiB. take() fails with kExhausted beyond the
// limit. Thread safe. Outlives its buffers.
class BufferPool {
 public:
  explicit BufferPool(std::size_t limit_bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  Outcome<Buffer> take(std::size_t bytes);
  std::size_t outstanding_bytes() const;  // 0 at quiescence: the simulator checks it

  // Called for every new block and before a block is freed; set by the transport before the first take().
  struct Registrar {
    std::function<void*(std::span<std::byte>)> enrol;
    std::function<void(void*)> withdraw;
  };
  void set_registrar(Registrar registrar);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace consort::runtime
