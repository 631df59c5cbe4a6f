#include "runtime/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace consort::runtime {

void check_failed(const char* file, int line, const char* expression, const std::string& values) {
  std::fprintf(stderr, "%s:%d: check failed: %s%s\n", file, line, expression, values.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace consort::runtime
