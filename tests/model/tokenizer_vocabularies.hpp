// Where the tokenizer tests find real vocabularies and recorded references.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace consort::tests {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

inline std::string reference(const std::string& name) {
  return read_text(std::filesystem::path(CONSORT_SOURCE_DIR) / "tests" / "reference" / name);
}

// A folder beside the checkout, or the one that CONSORT_SHARED names; empty where there is none.
inline std::filesystem::path shared_folder() {
  const char* named = std::getenv("CONSORT_SHARED");
  const std::filesystem::path folder = named != nullptr
                                           ? std::filesystem::path(named)
                                           : std::filesystem::path(CONSORT_SOURCE_DIR).parent_path() / "shared";
  return std::filesystem::exists(folder) ? folder : std::filesystem::path();
}

// The small trained model that comes with the project.
inline std::filesystem::path adder_folder() {
  return std::filesystem::path(CONSORT_SOURCE_DIR) / "examples" / "models" / "adder";
}

// The directory of a real vocabulary, "deepseek-v3" or "deepseek-v2"; empty where none is to be had.
inline std::filesystem::path vocabulary_folder(const std::string& name) {
  std::filesystem::path roots[3];
  roots[0] = shared_folder() / "data" / "tokenizers";
  if (const char* named = std::getenv("CONSORT_TOKENIZERS")) roots[1] = named;
  roots[2] = std::filesystem::path(CONSORT_SOURCE_DIR) / "build" / "tokenizers";
  for (const auto& root : roots) {
    if (!root.empty() && std::filesystem::exists(root / name / "tokenizer.json")) return root / name;
  }
  return {};
}

inline constexpr const char* kNoVocabulary =
    "no real vocabulary: run tools/fetch_tokenizers.py, or name its folder in CONSORT_TOKENIZERS";

}  // namespace consort::tests
