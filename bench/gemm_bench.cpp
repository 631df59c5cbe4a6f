// How fast is gemm on one thread: for 24 and 384 rows beside OpenBLAS, for one row beside a plain read of the weights?
// Usage: gemm_bench [rounds]. The contenders take turns within every round; ratios are medians over the rounds' own
// ratios.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#if __has_include(<cblas.h>)
#include <cblas.h>
#define CONSORT_BENCH_OPENBLAS 1
#endif

#include "kernels/gemm.hpp"
#include "kernels/instruction_set.hpp"
#include "runtime/workers.hpp"

namespace {

using consort::kernels::WeightMatrix;
using consort::runtime::ConstTensorView;
using consort::runtime::Dtype;
using consort::runtime::TensorView;

// DeepSeek-V3's hidden size, and enough output columns that a matrix (117 MB in BF16) cannot hide in a third-level
// cache.
constexpr std::int64_t kDepth = 7168;
constexpr std::int64_t kLongCols = 8192;
constexpr std::int64_t kCols = 2048;  // moe_intermediate_size of DeepSeek-V3: what 24 and 384 rows are run with

struct Samples {
  std::string name;
  std::vector<double> seconds;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 != 0 ? v[v.size() / 2] : 0.5 * (v[v.size() / 2 - 1] + v[v.size() / 2]);
}

// Processor time of this thread, so that waiting for a busy core does not count (a busy cache still does).
double timed(const std::function<void()>& body) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  body();
  return now() - start;
}

std::uint32_t next_random() {
  static std::uint64_t state = 7;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<std::uint32_t>(state >> 33);
}

float random_value() { return static_cast<float>(next_random()) * 0x1p-30f - 1.0f; }

// Reads every byte once, as four streams side by side that ask ahead: a single plain loop gets a third less here.
std::uint64_t read_stream(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t kStreams = 4;
  constexpr std::size_t kAhead = 1024;
  const std::size_t length = bytes / kStreams;
  using Vector = std::uint64_t __attribute__((vector_size(16)));
  Vector sums[4] = {};
  for (std::size_t i = 0; i + 64 <= length; i += 64) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::byte* line = data + s * length + i;
      __builtin_prefetch(line + kAhead);
      Vector words[4];
      std::memcpy(words, line, 64);
      sums[0] += words[0];
      sums[1] += words[1];
      sums[2] += words[2];
      sums[3] += words[3];
    }
  }
  const Vector total = sums[0] + sums[1] + sums[2] + sums[3];
  return total[0] + total[1];
}

struct Weights {
  std::vector<float> f32;
  std::vector<std::uint16_t> bf16;
  std::vector<float> of_bf16;  // the BF16 values expanded, for OpenBLAS
};

Weights make_weights() {
  Weights w;
  const auto count = static_cast<std::size_t>(kLongCols * kDepth);
  w.f32.resize(count);
  w.bf16.resize(count);
  w.of_bf16.resize(static_cast<std::size_t>(kCols * kDepth));
  for (std::size_t i = 0; i < count; ++i) {
    w.f32[i] = random_value();
    w.bf16[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(w.f32[i]) >> 16);
    if (i < w.of_bf16.size()) w.of_bf16[i] = std::bit_cast<float>(static_cast<std::uint32_t>(w.bf16[i]) << 16);
  }
  return w;
}

WeightMatrix matrix(const Weights& w, Dtype dtype, std::int64_t cols) {
  const auto* data = dtype == Dtype::kF32 ? reinterpret_cast<const std::byte*>(w.f32.data())
                                          : reinterpret_cast<const std::byte*>(w.bf16.data());
  return {data, dtype, cols, kDepth, kDepth};
}

void run_gemm(std::vector<float>& out, const std::vector<float>& x, std::int64_t rows, const WeightMatrix& w) {
  consort::runtime::InlineWorkers workers;
  consort::kernels::gemm(TensorView(reinterpret_cast<std::byte*>(out.data()), Dtype::kF32, {rows, w.rows}),
                         ConstTensorView(reinterpret_cast<const std::byte*>(x.data()), Dtype::kF32, {rows, kDepth}), w,
                         workers);
}

// Some elements of each row against a sum in double. 452 steps of 2^-24 on magnitudes below 1 bound the error.
bool correct(const std::vector<float>& out, const std::vector<float>& x, std::int64_t rows, const Weights& w,
             Dtype dtype, std::int64_t cols) {
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t o = t % 7; o < cols; o += 509) {
      double exact = 0.0;
      double magnitude = 0.0;
      for (std::int64_t i = 0; i < kDepth; ++i) {
        const auto at = static_cast<std::size_t>(o * kDepth + i);
        const float weight =
            dtype == Dtype::kF32 ? w.f32[at] : std::bit_cast<float>(static_cast<std::uint32_t>(w.bf16[at]) << 16);
        const double product = double{weight} * double{x[static_cast<std::size_t>(t * kDepth + i)]};
        exact += product;
        magnitude += std::abs(product);
      }
      const double error = std::abs(exact - double{out[static_cast<std::size_t>(t * cols + o)]});
      if (!(error <= (kDepth / 16 + 4) * 0x1p-24 * magnitude)) {
        std::printf("WRONG: row %lld, column %lld is off by %g\n", static_cast<long long>(t), static_cast<long long>(o),
                    error);
        return false;
      }
    }
  }
  return true;
}

std::string text_of(const char* path, const char* key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (key == nullptr) return line;
    if (line.rfind(key, 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

// One line for each contender, in `unit` of `work` per second, and the first one's ratio to the second.
void report(const std::vector<Samples>& contenders, double work, const char* unit, double target) {
  for (const Samples& s : contenders) {
    const auto [least, most] = std::minmax_element(s.seconds.begin(), s.seconds.end());
    std::printf("  %-28s %7.1f %s  (%.1f .. %.1f)\n", s.name.c_str(), work / median(s.seconds) * 1e-9, unit,
                work / *most * 1e-9, work / *least * 1e-9);
  }
  if (contenders.size() < 2) return;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < contenders[0].seconds.size(); ++i) {
    ratios.push_back(contenders[1].seconds[i] / contenders[0].seconds[i]);
  }
  const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
  std::printf("  ratio %.2f (%.2f .. %.2f), target %.2f: %s\n", median(ratios), *least, *most, target,
              median(ratios) >= target ? "met" : "MISSED");
}

bool compare_with_openblas(const Weights& w, Dtype dtype, std::int64_t rows, int rounds) {
  std::vector<float> x(static_cast<std::size_t>(rows * kDepth));
  for (float& v : x) v = random_value();
  std::vector<float> out(static_cast<std::size_t>(rows * kCols));
  const WeightMatrix weight = matrix(w, dtype, kCols);
  std::vector<Samples> contenders = {{"gemm", {}}};
  run_gemm(out, x, rows, weight);
  const bool ok = correct(out, x, rows, w, dtype, kCols);
#ifdef CONSORT_BENCH_OPENBLAS
  contenders.push_back({dtype == Dtype::kF32 ? "OpenBLAS sgemm" : "OpenBLAS sgemm on F32 copy", {}});
  const float* expanded = dtype == Dtype::kF32 ? w.f32.data() : w.of_bf16.data();
  std::vector<float> blas_out(out.size());
  const auto blas = [&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows), static_cast<int>(kCols),
                static_cast<int>(kDepth), 1.0f, x.data(), static_cast<int>(kDepth), expanded, static_cast<int>(kDepth),
                0.0f, blas_out.data(), static_cast<int>(kCols));
  };
  blas();
#endif
  for (int i = 0; i < rounds; ++i) {
    contenders[0].seconds.push_back(timed([&] { run_gemm(out, x, rows, weight); }));
#ifdef CONSORT_BENCH_OPENBLAS
    contenders[1].seconds.push_back(timed(blas));
#endif
  }
  std::printf("%lld rows, %s [%lld, %lld]\n", static_cast<long long>(rows),
              std::string(consort::runtime::name(dtype)).c_str(), static_cast<long long>(kCols),
              static_cast<long long>(kDepth));
  report(contenders, 2.0 * static_cast<double>(rows * kCols * kDepth), "GFLOP/s", 0.7);
  return ok;
}

bool compare_with_reading(const Weights& w, Dtype dtype, int rounds) {
  std::vector<float> x(static_cast<std::size_t>(kDepth));
  for (float& v : x) v = random_value();
  std::vector<float> out(static_cast<std::size_t>(kLongCols));
  const WeightMatrix weight = matrix(w, dtype, kLongCols);
  const auto bytes = static_cast<std::size_t>(kLongCols * kDepth * consort::runtime::dtype_bytes(dtype));
  std::vector<Samples> contenders = {{"gemm", {}}, {"read stream", {}}};
  run_gemm(out, x, 1, weight);
  const bool ok = correct(out, x, 1, w, dtype, kLongCols);
  volatile std::uint64_t sink = 0;
  for (int i = 0; i < rounds; ++i) {
    contenders[0].seconds.push_back(timed([&] { run_gemm(out, x, 1, weight); }));
    contenders[1].seconds.push_back(timed([&] { sink = read_stream(weight.data, bytes); }));
  }
  std::printf("1 row, %s [%lld, %lld]\n", std::string(consort::runtime::name(dtype)).c_str(),
              static_cast<long long>(kLongCols), static_cast<long long>(kDepth));
  report(contenders, static_cast<double>(bytes), "GB/s", 0.6);
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 11;
  if (const auto status = consort::kernels::check_cpu(); !status.ok()) {
    std::printf("%s\n", status.error().text.c_str());
    return 1;
  }
  std::printf("%s, %s; load %s; %d rounds, median (worst .. best)\n", text_of("/proc/cpuinfo", "model name").c_str(),
              consort::kernels::chosen_instruction_set().c_str(), text_of("/proc/loadavg", nullptr).c_str(), rounds);
#ifdef CONSORT_BENCH_OPENBLAS
  openblas_set_num_threads(1);
  std::printf("OpenBLAS kernels: %s, one thread\n", openblas_get_corename());
#else
  std::printf("OpenBLAS is not installed: nothing to compare 24 and 384 rows with\n");
#endif
  const Weights w = make_weights();
  bool ok = true;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16}) {
    ok = compare_with_reading(w, dtype, rounds) && ok;
    ok = compare_with_openblas(w, dtype, 24, rounds) && ok;
    ok = compare_with_openblas(w, dtype, 384, rounds) && ok;
  }
  return ok ? 0 : 1;
}
