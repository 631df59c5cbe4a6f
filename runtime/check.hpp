// CONSORT_CHECK: a broken invariant prints its values and aborts; the node agent restarts the worker.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <string>

namespace consort::runtime {

// Prints "file:line: check failed: expression (values)" to standard error and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* expression, const std::string& values);

template <class... Values>
std::string check_values(const Values&... values) {
  std::ostringstream text;
  ((text << ' ' << values), ...);
  return text.str();
}

}  // namespace consort::runtime

#define CONSORT_CHECK(condition, ...)                                                                                  \
  do {                                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                                     \
      ::consort::runtime::check_failed(__FILE__, __LINE__, #condition, ::consort::runtime::check_values(__VA_ARGS__)); \
  } while (false)
