#include "cli/house/sha256.hpp"

#include <sodium.h>

#include <array>
#include <fstream>
#include <vector>

#include "runtime/check.hpp"

namespace consort::cli {

struct Sha256::State {
  crypto_hash_sha256_state sodium{};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  CONSORT_CHECK(sodium_init() >= 0, "libsodium does not start");
  crypto_hash_sha256_init(&state_->sodium);
}

Sha256::~Sha256() = default;

void Sha256::add(std::string_view bytes) {
  crypto_hash_sha256_update(&state_->sodium, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

std::string Sha256::finish() {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256_final(&state_->sodium, hash.data());
  std::array<char, 2 * hash.size() + 1> hex{};
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  return hex.data();
}

runtime::Outcome<std::string> sha256_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return runtime::failure(runtime::ErrorKind::kInvalid, path + " cannot be opened");
  Sha256 digest;
  std::vector<char> block(std::size_t{1} << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())), file.gcount() > 0) {
    digest.add({block.data(), static_cast<std::size_t>(file.gcount())});
  }
  if (file.bad()) return runtime::failure(runtime::ErrorKind::kInvalid, path + " cannot be read to its end");
  return digest.finish();
}

}  // namespace consort::cli
