// Links of two loops on two threads, and buffers that end elsewhere.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <optional>

#include "link_rig.hpp"

namespace consort::tests {
namespace {

constexpr NodeId kA{11};
constexpr NodeId kB{22};
constexpr Incarnation kFirst{5};

// Each node lives on its own thread; B echoes, A counts.
template <class Rig>
void ping_pong(std::size_t rounds, std::size_t bytes) {
  Rig rig;
  std::atomic<RigNode*> b_ready{nullptr};
  std::atomic<RigNode*> a_ready{nullptr};
  std::atomic<bool> stop{false};
  std::thread echo([&] {
    auto b = rig.make(kB, kFirst);
    b->sink.react = [&](const Received& received) {
      b->sink.frames.clear();
      Frame back = received.frame;
      back.header.source_node = kB;
      (void)b->link->send(received.from, std::move(back));
    };
    b_ready.store(b.get());
    while (a_ready.load() == nullptr && !stop) std::this_thread::yield();
    if (!stop) (void)connect(*b, *a_ready.load());
    while (!stop) {
      if (!b->poll()) std::this_thread::yield();
    }
  });
  while (b_ready.load() == nullptr) std::this_thread::yield();
  {
    auto a = rig.make(kA, kFirst);
    CHECK(connect(*a, *b_ready.load()).ok());
    a_ready.store(a.get());
    std::size_t echoed = 0;
    bool equal = true;
    a->sink.react = [&](const Received& received) {
      equal = equal && same_bytes(received.frame.payload, make_frame(*a, *a, MessageClass::kDecode, echoed, bytes).payload);
      ++echoed;
      a->sink.frames.clear();
    };
    for (std::size_t i = 0; i < rounds; ++i) {
      CHECK(a->link->send(kB, make_frame(*a, *a, MessageClass::kDecode, i, bytes)).ok());
      CHECK(turn_until({a.get()}, [&] { return echoed == i + 1; }));
      if (echoed != i + 1) break;
    }
    CHECK(equal);
    stop = true;
    echo.join();
  }
}

TEST_CASE_TEMPLATE("two threads, one link each", Rig, LoopbackRig, UcxMemoryRig, UcxTcpRig, ZmqRig) {
  ping_pong<Rig>(200, 14336);
  ping_pong<Rig>(5, 1u << 20);
}

TEST_CASE_TEMPLATE("buffers may end on another thread, and after their link", Rig, LoopbackRig, UcxMemoryRig, UcxTcpRig, ZmqRig) {
  Rig rig;
  auto a = rig.make(kA, kFirst);
  auto b = rig.make(kB, kFirst);
  REQUIRE(connect(*a, *b).ok());
  const auto twin = make_frame(*a, *b, MessageClass::kDecode, 3, 14336);
  for (int i = 0; i < 20; ++i) REQUIRE(a->link->send(kB, twin).ok());
  REQUIRE(turn_until({a.get(), b.get()}, [&] { return b->sink.frames.size() == 20; }));
  std::vector<Buffer> kept;
  for (auto& received : b->sink.frames) kept.push_back(received.frame.payload);
  b->sink.frames.clear();
  std::vector<Buffer> later(kept.begin() + 10, kept.end());
  kept.resize(10);
  std::thread([&kept] { kept.clear(); }).join();
  turn_for({a.get(), b.get()}, std::chrono::milliseconds(5));
  b.reset();
  a.reset();
  bool equal = true;
  for (const auto& buffer : later) equal = equal && same_bytes(buffer, twin.payload);
  CHECK(equal);
  std::thread([&later] { later.clear(); }).join();
}

TEST_CASE("the settings in force are told, and those of the environment win") {
  transport::UcxOptions options;
  options.shared_memory = true;
  auto link = transport::UcxLink::open(kA, kFirst, options);
  REQUIRE(link.ok());
  const auto& settings = (*link)->settings();
  CHECK(settings.find("UCX_MM_ERROR_HANDLING=y") != std::string::npos);
  CHECK(settings.find("UCX_RNDV_THRESH=64k") != std::string::npos);
  CHECK(settings.find("in force: UCX_TLS=tcp,sm") != std::string::npos);
  ::setenv("UCX_RNDV_THRESH", "32k", 1);
  auto other = transport::UcxLink::open(kB, kFirst);
  ::unsetenv("UCX_RNDV_THRESH");
  REQUIRE(other.ok());
  CHECK((*other)->settings().find("UCX_RNDV_THRESH=32k (set in the environment)") != std::string::npos);
  ::setenv("UCX_TLS", "nonsense", 1);
  const auto refused = transport::UcxLink::open(kB, kFirst);
  ::unsetenv("UCX_TLS");
  REQUIRE(!refused.ok());
  CHECK(refused.error().kind == runtime::ErrorKind::kInvalid);
}

}  // namespace
}  // namespace consort::tests
