#include "runtime/buffer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace consort::runtime {
namespace {

constexpr std::size_t kBlockAlignment = 64;   // a cache line: rows of tensors start on one
constexpr std::size_t kSmallestBlock = 4096;  // a page: what registration with a NIC works in anyway
constexpr std::size_t kClassCount = 48;       // power-of-two classes from 4 KiB up; beyond any machine's memory

std::byte* allocate_aligned(std::size_t bytes) {
  return static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kBlockAlignment)));
}
void free_aligned(std::byte* data) { ::operator delete(data, std::align_val_t(kBlockAlignment)); }

std::size_t class_of(std::size_t bytes) {
  return static_cast<std::size_t>(std::bit_width(std::max(bytes, kSmallestBlock) - 1)) - 12;
}
std::size_t class_bytes(std::size_t size_class) { return kSmallestBlock << size_class; }

// Memory of the pool, idle in a free list or lent to a Buffer::Block.
struct Chunk {
  std::byte* data = nullptr;
  std::size_t size_class = 0;
  void* registration = nullptr;
  bool registered = false;
};

}  // namespace

struct BufferPool::State {
  explicit State(std::size_t limit) : limit_bytes(limit) {}
  ~State() {
    for (auto& list : idle) {
      for (const Chunk* chunk : list) free_chunk(chunk);
    }
  }

  void withdraw(Chunk& chunk) {
    if (!chunk.registered) return;
    chunk.registered = false;
    if (registrar.withdraw) registrar.withdraw(chunk.registration);
    chunk.registration = nullptr;
  }
  static void free_chunk(const Chunk* chunk) {
    free_aligned(chunk->data);
    delete chunk;
  }
  // Gives idle chunks, the largest first, back to the system until `bytes` more fit under the limit.
  bool make_room(std::size_t bytes) {
    for (std::size_t k = kClassCount; k-- > 0 && held_bytes + bytes > limit_bytes;) {
      while (!idle[k].empty() && held_bytes + bytes > limit_bytes) {
        Chunk* chunk = idle[k].back();
        idle[k].pop_back();
        forget(chunk);
      }
    }
    return held_bytes + bytes <= limit_bytes;
  }
  void forget(Chunk* chunk) {
    withdraw(*chunk);
    held_bytes -= class_bytes(chunk->size_class);
    all.erase(std::find(all.begin(), all.end(), chunk));
    free_chunk(chunk);
  }
  void give_back(Chunk* chunk) {
    const std::lock_guard lock(mutex);
    lent_bytes -= class_bytes(chunk->size_class);
    if (closed) {
      forget(chunk);
    } else {
      idle[chunk->size_class].push_back(chunk);
    }
  }

  const std::size_t limit_bytes;
  mutable std::mutex mutex;
  Registrar registrar;
  std::array<std::vector<Chunk*>, kClassCount> idle;
  std::vector<Chunk*> all;
  std::size_t held_bytes = 0;  // idle and lent
  std::size_t lent_bytes = 0;
  bool closed = false;
};

// Whose bytes a buffer refers to: the heap, somebody else (release), or a pool.
struct Buffer::Block {
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    if (owned != nullptr) free_aligned(owned);
    if (release) release();
  }
  std::byte* owned = nullptr;
  void* registration = nullptr;
  std::function<void()> release;
};

Buffer Buffer::allocate(std::size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  buffer.block_ = std::make_shared<Block>();
  buffer.block_->owned = allocate_aligned(bytes);
  buffer.data_ = buffer.block_->owned;
  buffer.size_ = bytes;
  return buffer;
}

Buffer Buffer::copy_of(std::span<const std::byte> bytes) {
  Buffer buffer = allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data_, bytes.data(), bytes.size());
  return buffer;
}

Buffer Buffer::adopt(std::span<std::byte> bytes, std::function<void()> release) {
  Buffer buffer;
  buffer.block_ = std::make_shared<Block>();
  buffer.block_->release = std::move(release);
  buffer.data_ = bytes.data();
  buffer.size_ = bytes.size();
  return buffer;
}

Buffer Buffer::slice(std::size_t first, std::size_t bytes) const {
  CONSORT_CHECK(first <= size_ && bytes <= size_ - first, first, bytes, size_);
  Buffer part;
  if (bytes == 0) return part;
  part.block_ = block_;
  part.data_ = data_ + first;
  part.size_ = bytes;
  return part;
}

void* Buffer::registration() const { return block_ == nullptr ? nullptr : block_->registration; }

BufferPool::BufferPool(std::size_t limit_bytes) : state_(std::make_shared<State>(limit_bytes)) {}

// Registrations end here even for blocks that are still lent: the wire that made them is about to go.
BufferPool::~BufferPool() {
  const std::lock_guard lock(state_->mutex);
  state_->closed = true;
  for (Chunk* chunk : state_->all) state_->withdraw(*chunk);
}

Outcome<Buffer> BufferPool::take(std::size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  if (bytes > state_->limit_bytes) {
    return failure(ErrorKind::kExhausted, "a buffer of " + std::to_string(bytes) + " bytes was asked of a pool of " +
                                              std::to_string(state_->limit_bytes) + "; raise the node's memory");
  }
  const std::size_t size_class = class_of(bytes);
  Chunk* chunk = nullptr;
  {
    const std::lock_guard lock(state_->mutex);
    auto& idle = state_->idle[size_class];
    if (!idle.empty()) {
      chunk = idle.back();
      idle.pop_back();
    } else if (state_->make_room(class_bytes(size_class))) {
      chunk = new Chunk{allocate_aligned(class_bytes(size_class)), size_class};
      if (state_->registrar.enrol) {
        chunk->registration = state_->registrar.enrol({chunk->data, class_bytes(size_class)});
        chunk->registered = true;
      }
      state_->all.push_back(chunk);
      state_->held_bytes += class_bytes(size_class);
    } else {
      return failure(ErrorKind::kExhausted, "the buffer pool has " + std::to_string(state_->lent_bytes) + " of its " +
                                                std::to_string(state_->limit_bytes) + " bytes in use and cannot give " +
                                                std::to_string(class_bytes(size_class)) + " more");
    }
    state_->lent_bytes += class_bytes(size_class);
  }
  buffer.block_ = std::make_shared<Buffer::Block>();
  buffer.block_->registration = chunk->registration;
  buffer.block_->release = [state = state_, chunk] { state->give_back(chunk); };
  buffer.data_ = chunk->data;
  buffer.size_ = bytes;
  return buffer;
}

std::size_t BufferPool::outstanding_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->lent_bytes;
}

void BufferPool::set_registrar(Registrar registrar) {
  const std::lock_guard lock(state_->mutex);
  CONSORT_CHECK(state_->all.empty(), state_->all.size());
  state_->registrar = std::move(registrar);
}

}  // namespace consort::runtime
