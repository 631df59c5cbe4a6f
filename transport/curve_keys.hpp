// CURVE keys of nodes and operators, their files, and the allow-list that says which key is whom.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::transport {

inline constexpr std::size_t kKeyTextBytes = 40;               // a CURVE key in Z85
inline constexpr std::uint32_t kFirstClientNode = 0xF0000000;  // ids from here on are chosen at random by clients

struct CurveKeys {
  std::string public_key;
  std::string secret_key;  // never printed, never in a message
};
CurveKeys make_curve_keys();

// "public <key>" and "secret <key>", a line each; a line that starts with "# " is a comment.
runtime::Outcome<CurveKeys> parse_keys(std::string_view text);
// Created 0600, never through a link, never over an existing file. kInvalid in words.
runtime::Status write_key_file(const std::string& path, const CurveKeys& keys);
// Refused where it is a link, or readable by others than its owner.
runtime::Outcome<CurveKeys> read_key_file(const std::string& path);

enum class KeyRole : std::uint8_t { kNode, kOperator };
struct AllowedKey {
  std::string name;  // [a-z0-9._-]{1,64}, unique
  KeyRole role = KeyRole::kNode;
  runtime::NodeId node;    // of a node; an operator's clients choose theirs from kFirstClientNode on
  std::string public_key;  // unique
};

// "node <name> <id> <public key>" or "operator <name> <public key>" a line. An error names the line.
runtime::Outcome<std::vector<AllowedKey>> parse_allow_list(std::string_view text);
std::string format_allow_list(const std::vector<AllowedKey>& keys);
// Written 0600 to a temporary file, synced and renamed.
runtime::Status write_allow_list(const std::string& path, const std::vector<AllowedKey>& keys);
runtime::Outcome<std::vector<AllowedKey>> read_allow_list(const std::string& path);

bool is_key_text(std::string_view text);  // 40 characters of Z85 that decode

}  // namespace consort::transport
