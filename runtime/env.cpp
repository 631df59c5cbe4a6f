#include "runtime/env.hpp"

#include "runtime/check.hpp"

namespace consort::runtime {

std::uint64_t Rng::next() {
  state_ += 0x9E3779B97F4A7C15u;
  std::uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return mixed ^ (mixed >> 31);
}

std::uint64_t Rng::below(std::uint64_t bound) {
  CONSORT_CHECK(bound > 0);
  // Draws under 2^64 mod bound are thrown away, so that every remainder has equally many draws.
  const std::uint64_t unfair = (0 - bound) % bound;
  std::uint64_t draw = next();
  while (draw < unfair) draw = next();
  return draw % bound;
}

double Rng::unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

}  // namespace consort::runtime
