// Sha256: the digest of a file or of what is read piece by piece, as 64 hexadecimal digits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::cli {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(std::string_view bytes);
  std::string finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

runtime::Outcome<std::string> sha256_of_file(const std::string& path);

}  // namespace consort::cli
