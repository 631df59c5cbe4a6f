#include "model/text/pre_tokenizer.hpp"

namespace consort::model {

runtime::Outcome<PreTokenizer> PreTokenizer::build(const std::vector<SplitRule>& rules) {
  PreTokenizer result;
  for (const SplitRule& rule : rules) {
    auto regex = Regex::compile(rule.pattern, rule.literal ? Regex::Syntax::kLiteral : Regex::Syntax::kOniguruma);
    if (!regex.ok()) return runtime::failure(regex.error().kind, rule.field + ": " + regex.error().text);
    result.stages_.push_back({rule.field, std::move(regex).value()});
  }
  return result;
}

runtime::Status PreTokenizer::split(std::string_view text, std::vector<std::string_view>& pieces,
                                    Scratch& scratch) const {
  pieces.clear();
  if (!text.empty()) pieces.push_back(text);
  for (const Stage& stage : stages_) {
    scratch.next.clear();
    for (std::string_view piece : pieces) {
      auto status = stage.regex.split(piece, scratch.next, scratch.regex);
      if (!status.ok()) return runtime::failure(status.error().kind, stage.field + ": " + status.error().text);
    }
    pieces.swap(scratch.next);
  }
  return runtime::done();
}

}  // namespace consort::model
