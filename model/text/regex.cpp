#include "model/text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>

#include "model/text/regex_syntax.hpp"
#include "runtime/check.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;

// Enough for a run of a million spaces, which \s*[\r\n]+ walks twice; a pattern that explodes meets it within a second.
constexpr std::uint32_t kMatchSteps = 10'000'000;
constexpr std::uint32_t kMatchHeapKib = 64 * 1024;      // the interpreter's backtracking, same reason
constexpr std::size_t kJitStackStartBytes = 32 * 1024;  // grows on demand
constexpr std::size_t kJitStackLimitBytes = 8 * 1024 * 1024;
constexpr std::uint32_t kPatternLimitBytes = 64 * 1024;  // the longest known is 2 KB

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data() != nullptr ? text.data() : "");
}

}  // namespace

struct RegexScratch::State {
  State()
      : match(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStartBytes, kJitStackLimitBytes, nullptr)) {
    CONSORT_CHECK(match != nullptr && context != nullptr);
    pcre2_set_match_limit(context, kMatchSteps);
    pcre2_set_heap_limit(context, kMatchHeapKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  pcre2_match_data* match;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;  // null where PCRE2 was built without JIT
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

struct Regex::Code {
  explicit Code(pcre2_code* owned) : code(owned) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

runtime::Outcome<Regex> Regex::compile(std::string_view pattern, Syntax syntax) {
  if (pattern.size() > kPatternLimitBytes) {
    return runtime::failure(ErrorKind::kInvalid, "the pattern has " + std::to_string(pattern.size()) +
                                                     " bytes; at most " + std::to_string(kPatternLimitBytes) +
                                                     " are read");
  }
  std::string translated(pattern);
  std::uint32_t options = PCRE2_UTF | PCRE2_LITERAL;
  if (syntax == Syntax::kOniguruma) {
    CONSORT_TRY(translated, pcre2_pattern(pattern));
    options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  }
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  CONSORT_CHECK(context != nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(units(translated), translated.size(), options, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    return runtime::failure(ErrorKind::kInvalid, "the pattern does not compile: " + message_of(error) + " at byte " +
                                                     std::to_string(offset) + " of " + translated);
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter gives the same matches
  return Regex(std::make_shared<const Code>(code));
}

runtime::Status Regex::split(std::string_view text, std::vector<std::string_view>& pieces,
                             RegexScratch& scratch) const {
  RegexScratch::State& state = *scratch.state_;
  const auto match_from = [&](std::size_t from, std::uint32_t options) {
    return pcre2_match(code_->code, units(text), text.size(), from, options | PCRE2_NO_UTF_CHECK, state.match,
                       state.context);
  };
  std::size_t begin = 0;  // of the gap before the next match
  std::size_t from = 0;
  while (from < text.size()) {
    int found = match_from(from, 0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match_from(from, PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return runtime::failure(ErrorKind::kExhausted, "matching a pattern on " + std::to_string(text.size()) +
                                                         " bytes of text was given up: " + message_of(found) +
                                                         "; shorten long runs of one kind of character");
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.match);
    if (bounds[1] <= bounds[0]) {  // empty: go on behind the next character
      from = bounds[0] + 1;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    if (bounds[0] > begin) pieces.push_back(text.substr(begin, bounds[0] - begin));
    pieces.push_back(text.substr(bounds[0], bounds[1] - bounds[0]));
    begin = from = bounds[1];
  }
  if (begin < text.size()) pieces.push_back(text.substr(begin));
  return runtime::done();
}

}  // namespace consort::model
