// PreTokenizer: cuts text into the pieces that byte-pair merges never cross.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/text/regex.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// One stage: matches become pieces of their own, and so do the gaps ("Isolated" in tokenizer.json).
struct SplitRule {
  std::string field;  // where the file says so, for errors: "pre_tokenizer.pretokenizers[2]"
  std::string pattern;
  bool literal = false;
};

class PreTokenizer {
 public:
  struct Scratch {
    RegexScratch regex;
    std::vector<std::string_view> next;
  };

  PreTokenizer() = default;
  static runtime::Outcome<PreTokenizer> build(const std::vector<SplitRule>& rules);

  // Replaces `pieces` by the pieces of text. Each stage works inside each piece of the stage before, and sees no more.
  runtime::Status split(std::string_view text, std::vector<std::string_view>& pieces, Scratch& scratch) const;

 private:
  struct Stage {
    std::string field;
    Regex regex;
  };
  std::vector<Stage> stages_;
};

}  // namespace consort::model
