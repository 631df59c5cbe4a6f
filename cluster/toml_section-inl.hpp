// TomlSection: one table of a file that people write. Takes keys out one by one; what is left over is not known. Every
// refusal names file, line and key. For sources that read such files. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace consort::cluster {

inline constexpr std::size_t kMaxTomlNameBytes = 64;  // names become file names and columns of tables

class TomlSection {
 public:
  TomlSection(const std::string& path, std::string title, const toml::table& table)
      : path_(path), title_(std::move(title)), table_(table) {}

  runtime::Error wrong(const toml::node& at, std::string_view key, const std::string& what) const {
    return runtime::failure(runtime::ErrorKind::kInvalid, path_ + ":" + std::to_string(at.source().begin.line) + ": " +
                                                              title_ + (key.empty() ? "" : "." + std::string(key)) +
                                                              ": " + what);
  }
  runtime::Error missing(std::string_view key, const std::string& what) const { return wrong(table_, key, what); }
  const toml::node& node() const { return table_; }

  const toml::node* find(std::string_view key) {
    known_.insert(std::string(key));
    return table_.get(key);
  }
  runtime::Status read(std::string_view key, std::string& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_string()) return wrong(*node, key, "must be a text in quotes");
    out = node->as_string()->get();
    return runtime::done();
  }
  runtime::Status read(std::string_view key, bool& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_boolean()) return wrong(*node, key, "must be true or false");
    out = node->as_boolean()->get();
    return runtime::done();
  }
  template <class Integer>
  runtime::Status read_integer(std::string_view key, std::int64_t least, std::int64_t most, Integer& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    CONSORT_TRY(const std::int64_t value, integer(*node, key, least, most));
    out = static_cast<Integer>(value);
    return runtime::done();
  }
  runtime::Outcome<std::int64_t> integer(const toml::node& node, std::string_view key, std::int64_t least,
                                         std::int64_t most) const {
    if (!node.is_integer() || node.as_integer()->get() < least || node.as_integer()->get() > most) {
      return wrong(node, key, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return node.as_integer()->get();
  }
  // A text with a unit.
  template <class T>
  runtime::Status read_quantity(std::string_view key, runtime::Outcome<T> (*parse)(std::string_view), T& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_string()) return wrong(*node, key, "must be a text with a unit, in quotes");
    auto value = parse(node->as_string()->get());
    if (!value.ok()) return wrong(*node, key, value.error().text);
    out = *value;
    return runtime::done();
  }
  // Names become file names and log lines.
  runtime::Status read_name(std::string_view key, std::string& out) {
    CONSORT_RETURN_IF_ERROR(read(key, out));
    const toml::node* node = find(key);
    if (node == nullptr) return missing(key, "is missing");
    const bool good = !out.empty() && out.size() <= kMaxTomlNameBytes && out.front() != '.' && out.front() != '-' &&
                      out.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
    if (!good) {
      return wrong(*node, key,
                   "\"" + out + "\" must be 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit");
    }
    return runtime::done();
  }
  runtime::Status finish() const {
    for (const auto& [key, node] : table_) {
      if (known_.count(std::string(key.str())) != 0) continue;
      std::string names;
      for (const auto& known : known_) names += (names.empty() ? "" : ", ") + known;
      return wrong(node, key.str(), "is not known here; known are " + names);
    }
    return runtime::done();
  }

 private:
  const std::string& path_;
  std::string title_;
  const toml::table& table_;
  std::set<std::string> known_;
};

}  // namespace consort::cluster
