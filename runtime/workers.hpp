// Workers: the threads that one piece of device work may use. Owned by a Device, lent to the work while it runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace consort::runtime {

class Workers {
 public:
  virtual ~Workers() = default;
  virtual int count() const = 0;
  // Calls body(i) once for every i in [0, n), on any of the workers, and returns when all are done. Which worker runs
  // which i is not defined, so a body writes only what belongs to its i.
  virtual void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& body) = 0;
};

// The calling thread alone.
class InlineWorkers final : public Workers {
 public:
  int count() const override { return 1; }
  void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& body) override {
    for (std::int64_t i = 0; i < n; ++i) body(i);
  }
};

}  // namespace consort::runtime
