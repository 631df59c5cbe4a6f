#include "model/json_text.hpp"

#include <boost/json/basic_parser_impl.hpp>

#include <string>
#include <unordered_set>
#include <vector>

namespace consort::model {
namespace {

// Sees every key as it is parsed; keeps the keys of the objects that are still open.
struct KeyWatcher {
  using error_code = boost::json::error_code;
  using string_view = boost::json::string_view;
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);

  std::vector<std::unordered_set<std::string>> open;
  std::string partial;
  std::string twice;

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    open.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t, error_code&) {
    open.pop_back();
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(std::size_t, error_code&) { return true; }
  bool on_key_part(string_view part, std::size_t, error_code&) {
    partial.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, std::size_t, error_code& code) {
    partial.append(part.data(), part.size());
    if (!open.back().insert(partial).second) {
      twice = partial;
      code = boost::json::make_error_code(boost::json::error::syntax);
      return false;
    }
    partial.clear();
    return true;
  }
  bool on_string_part(string_view, std::size_t, error_code&) { return true; }
  bool on_string(string_view, std::size_t, error_code&) { return true; }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(std::int64_t, string_view, error_code&) { return true; }
  bool on_uint64(std::uint64_t, string_view, error_code&) { return true; }
  bool on_double(double, string_view, error_code&) { return true; }
  bool on_bool(bool, error_code&) { return true; }
  bool on_null(error_code&) { return true; }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

}  // namespace

runtime::Status check_json(std::string_view text, std::string_view where, std::size_t max_depth) {
  boost::json::parse_options options;
  options.max_depth = max_depth;
  boost::json::basic_parser<KeyWatcher> parser(options);
  boost::json::error_code code;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), code);
  const auto bad = [&](std::string what) {
    return runtime::failure(runtime::ErrorKind::kInvalid, std::string(where) + ": " + std::move(what));
  };
  if (!parser.handler().twice.empty()) return bad("the key '" + parser.handler().twice + "' appears twice");
  if (code) return bad("not JSON at byte " + std::to_string(used) + ": " + code.message());
  if (text.find_first_not_of(" \t\r\n", used) != std::string_view::npos)
    return bad("there is text after the JSON value, at byte " + std::to_string(used));
  return runtime::done();
}

runtime::Outcome<std::string> spaced_json(std::string_view text) {
  constexpr std::size_t kMaxDepth = 96;
  CONSORT_RETURN_IF_ERROR(check_json(text, "the JSON", kMaxDepth));
  std::string out;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      out += c;
      if (c == '\\') out += text[++i];
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
      out += c;
    } else if (c == ',' || c == ':') {
      out += {c, ' '};
    } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      out += c;
    }
  }
  return out;
}

}  // namespace consort::model
