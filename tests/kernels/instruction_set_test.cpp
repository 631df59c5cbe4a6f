// Every instruction set gives the same bits: checksums of all kernels on fixed inputs, recorded once, held everywhere.
#include "kernels/instruction_set.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "kernels/attention.hpp"
#include "kernels/gemm.hpp"
#include "kernels/scalar_math.hpp"
#include "kernels/vector.hpp"
#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

// Restores the instruction set that the other tests run with.
struct Restore {
  std::string name = kernels::chosen_instruction_set();
  ~Restore() { static_cast<void>(kernels::force_instruction_set(name)); }
};

std::uint32_t gemm_crc(Dtype dtype) {
  Random random(101);
  runtime::InlineWorkers workers;
  std::uint32_t crc = 0;
  for (const std::int64_t rows : {1, 2, 5, 24, 100}) {
    for (const std::int64_t depth : {37, 576, 1300}) {
      const auto w = random_weight(random, dtype, 53, depth, 0, 16, 48);
      const auto x = random.values(rows * depth);
      std::vector<float> out(static_cast<std::size_t>(rows * 53));
      kernels::gemm(view(out, rows, 53), view(x, rows, depth), w.matrix, workers);
      crc = crc_of(out, crc);
    }
  }
  return crc;
}

std::uint32_t vector_crc() {
  Random random(102);
  std::uint32_t crc = 0;
  for (const std::int64_t n : {5, 64, 1023}) {
    auto x = random.values(2 * n, 20.0f);
    const auto y = random.values(2 * n);
    const auto weight = random.values(n);
    std::vector<float> out(x.size());
    kernels::rms_norm(view(out, 2, n), view(x, 2, n), weight, 1e-6f);
    crc = crc_of(out, crc);
    kernels::silu_mul(view(out, 2, n), view(x, 2, n), view(y, 2, n));
    crc = crc_of(out, crc);
    kernels::add_scaled(out, 0.7f, x);
    kernels::add(view(out, 2, n), view(y, 2, n));
    crc = crc_of(out, crc);
    kernels::rotate_pairs(out, std::span(y).first(static_cast<std::size_t>(n)), weight);
    crc = crc_of(out, crc);
    out = x;
    kernels::softmax(out);
    crc = crc_of(out, crc);
    kernels::sigmoid(x);
    crc = crc_of(x, crc);
    const float product = kernels::dot(x, y);
    crc = crc_of(std::span(&product, 1), crc);
  }
  return crc;
}

std::uint32_t attention_crc() {
  Random random(103);
  runtime::InlineWorkers workers;
  std::uint32_t crc = 0;
  for (const std::int64_t latent : {44, 512}) {
    const std::int64_t width = latent + 12;
    std::vector<std::vector<float>> memory;
    std::vector<const float*> pages;
    for (int i = 0; i < 3; ++i) memory.push_back(random.values(64 * width));
    for (const auto& page : memory) pages.push_back(page.data());
    for (const std::int64_t position : {0, 70, 191}) {
      const auto query = random.values(19 * width, 3.0f);
      std::vector<float> out(static_cast<std::size_t>(19 * latent));
      const kernels::LatentQuery row{query.data(), out.data(), position, pages};
      kernels::latent_attention(std::span(&row, 1), 19, latent, 12, 0.4f, workers);
      crc = crc_of(out, crc);
    }
  }
  return crc;
}

// Both halves of each double, as bits.
std::uint32_t scalar_crc() {
  Random random(104);
  std::vector<float> halves;
  const auto put = [&](double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    halves.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    halves.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits >> 32)));
  };
  for (int i = 0; i < 2000; ++i) {
    const double x = static_cast<double>(random.bits() >> 11) * 0x1p-53;
    halves.push_back(kernels::exp(static_cast<float>(190.0 * x - 105.0)));
    put(kernels::exp(1400.0 * x - 700.0));
    put(kernels::log(x + 0x1p-60));
    put(kernels::pow(10000.0, -x));
    put(kernels::sin(2e5 * x));
    put(kernels::cos(2e5 * x));
  }
  return crc_of(halves);
}

struct Recorded {
  std::string what;
  std::function<std::uint32_t()> compute;
  std::uint32_t crc;
};

// Recorded on x86-64 with AVX2. A change here is a change of the numeric class: no node may mix it with the old one.
const std::vector<Recorded>& recorded() {
  static const std::vector<Recorded> all = {
      {"gemm F32", [] { return gemm_crc(Dtype::kF32); }, 0x7bbcdb52},
      {"gemm F16", [] { return gemm_crc(Dtype::kF16); }, 0xe49c8437},
      {"gemm BF16", [] { return gemm_crc(Dtype::kBf16); }, 0x2eafca03},
      {"gemm F8_E4M3", [] { return gemm_crc(Dtype::kF8E4m3); }, 0x7f2ad0eb},
      {"vector", vector_crc, 0x7dd8809c},
      {"attention", attention_crc, 0x5b672ec8},
      {"scalar math", scalar_crc, 0x97d4e0db},
  };
  return all;
}

void check_recorded(const char* set) {
  const auto available = kernels::available_instruction_sets();
  if (std::find(available.begin(), available.end(), set) == available.end()) {
    SKIP(std::string("this CPU has no ") + set);
  }
  const Restore restore;
  REQUIRE(kernels::force_instruction_set(set).ok());
  CHECK(kernels::chosen_instruction_set() == set);
  for (const auto& entry : recorded()) {
    const std::uint32_t crc = entry.compute();
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", crc);
    CHECK_MESSAGE(crc == entry.crc, entry.what << " gives " << std::string(text));
  }
}

}  // namespace

TEST_CASE("AVX2 gives the recorded bits") { check_recorded("avx2"); }
TEST_CASE("AVX-512 gives the recorded bits") { check_recorded("avx512"); }
TEST_CASE("NEON gives the recorded bits") { check_recorded("neon"); }

TEST_CASE("an instruction set that this CPU lacks is refused in words") {
  const Restore restore;
  const auto status = kernels::force_instruction_set("mmx");
  REQUIRE(!status.ok());
  CHECK(status.error().kind == runtime::ErrorKind::kInvalid);
  CHECK(status.error().text.find("mmx") != std::string::npos);
  CHECK(kernels::chosen_instruction_set() == restore.name);
  CHECK(kernels::check_cpu().ok());
}

}  // namespace consort::tests
