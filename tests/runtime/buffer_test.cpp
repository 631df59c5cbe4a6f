#include "runtime/buffer.hpp"

#include <array>
#include <set>
#include <thread>
#include <vector>

#include "support/test.hpp"

namespace consort::runtime {
namespace {

constexpr std::size_t kPage = 4096;

TEST_CASE("a buffer's copies and slices share its bytes") {
  Buffer buffer = Buffer::allocate(100);
  buffer.mutable_bytes()[42] = std::byte{7};
  const Buffer copy = buffer;
  const Buffer part = buffer.slice(40, 10);
  CHECK(copy.bytes().data() == buffer.bytes().data());
  CHECK(part.size() == 10);
  CHECK(part.bytes()[2] == std::byte{7});
  buffer = Buffer();
  CHECK(part.bytes()[2] == std::byte{7});  // a slice keeps the block
  CHECK(part.slice(10, 0).empty());
}

TEST_CASE("adopted bytes are released once, with the last handle") {
  std::array<std::byte, 8> foreign{};
  int releases = 0;
  {
    const Buffer part = Buffer::adopt(foreign, [&] { ++releases; }).slice(1, 3);
    CHECK(releases == 0);
    CHECK(part.bytes().data() == foreign.data() + 1);
  }
  CHECK(releases == 1);
}

TEST_CASE("a pool lends aligned blocks, takes them back and lends them again") {
  BufferPool pool(8 * kPage);
  const std::byte* first = nullptr;
  {
    const Buffer buffer = pool.take(100).value();
    first = buffer.bytes().data();
    CHECK(buffer.size() == 100);
    CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
    CHECK(pool.outstanding_bytes() == kPage);
  }
  CHECK(pool.outstanding_bytes() == 0);
  CHECK(pool.take(kPage).value().bytes().data() == first);
  CHECK(pool.take(0).value().empty());
}

TEST_CASE("a pool refuses what exceeds its limit, in words, and recovers") {
  BufferPool pool(4 * kPage);
  CHECK(pool.take(5 * kPage).error().kind == ErrorKind::kExhausted);
  std::vector<Buffer> lent;
  for (int i = 0; i < 4; ++i) lent.push_back(pool.take(kPage).value());
  const auto refused = pool.take(1);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().kind == ErrorKind::kExhausted);
  CHECK(refused.error().text.find("16384 of its 16384") != std::string::npos);
  lent.clear();
  CHECK(pool.take(4 * kPage).ok());  // idle small blocks make room for one of another class
}

TEST_CASE("every block of a pool is registered once and withdrawn once") {
  std::set<void*> registered;
  int enrolled = 0;
  Buffer survivor;
  {
    BufferPool pool(4 * kPage);
    pool.set_registrar({[&](std::span<std::byte> block) {
                          ++enrolled;
                          registered.insert(block.data());
                          return static_cast<void*>(block.data());
                        },
                        [&](void* handle) { CHECK(registered.erase(handle) == 1); }});
    const Buffer buffer = pool.take(10).value();
    CHECK(buffer.registration() == buffer.bytes().data());
    CHECK(buffer.slice(2, 3).registration() == buffer.registration());
    survivor = pool.take(2 * kPage).value();
    CHECK(enrolled == 2);
  }
  CHECK(registered.empty());
  survivor.mutable_bytes()[0] = std::byte{1};  // memory stays valid though the pool is gone
  CHECK(Buffer::allocate(1).registration() == nullptr);
}

TEST_CASE("threads share a pool") {
  BufferPool pool(64 * kPage);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool] {
      for (int i = 0; i < 2000; ++i) {
        Buffer buffer = pool.take(static_cast<std::size_t>(1 + i % 3) * kPage).value();
        buffer.mutable_bytes()[0] = std::byte{1};
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(pool.outstanding_bytes() == 0);
}

}  // namespace
}  // namespace consort::runtime
