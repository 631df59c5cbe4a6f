#include "cli/http/page.hpp"

#include <sodium.h>

#include <array>

#include "runtime/check.hpp"

namespace consort::cli {

extern const char* const kPageText;  // generated: see cli/CMakeLists.txt
extern const std::size_t kPageBytes;

namespace {

std::string_view between(std::string_view text, std::string_view open, std::string_view close) {
  const auto begin = text.find(open);
  const auto end = text.find(close, begin);
  CONSORT_CHECK(begin != std::string_view::npos && end != std::string_view::npos, open);
  return text.substr(begin + open.size(), end - begin - open.size());
}

std::string source_hash(std::string_view text) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(text.data()), text.size());
  std::array<char, sodium_base64_ENCODED_LEN(crypto_hash_sha256_BYTES, sodium_base64_VARIANT_ORIGINAL)> out{};
  sodium_bin2base64(out.data(), out.size(), hash.data(), hash.size(), sodium_base64_VARIANT_ORIGINAL);
  return "'sha256-" + std::string(out.data()) + "'";
}

}  // namespace

std::string_view page_html() { return {kPageText, kPageBytes}; }

std::string page_policy() {
  static const std::string policy =
      "default-src 'none'; script-src " + source_hash(between(page_html(), "<script>", "</script>")) + "; style-src " +
      source_hash(between(page_html(), "<style>", "</style>")) +
      "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  return policy;
}

}  // namespace consort::cli
