#include "actors/serving/page_name.hpp"

#include <sodium.h>

#include "runtime/check.hpp"

namespace consort::actors {
namespace {

class Hash {
 public:
  Hash() { CONSORT_CHECK(crypto_generichash_init(&state_, nullptr, 0, sizeof(PageName)) == 0); }
  void add(std::span<const std::byte> bytes) {
    crypto_generichash_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  template <class T>
  void add_value(const T& value) {
    add(std::as_bytes(std::span(&value, 1)));
  }
  PageName name() {
    PageName out;
    crypto_generichash_final(&state_, reinterpret_cast<unsigned char*>(out.data()), out.size());
    return out;
  }

 private:
  crypto_generichash_state state_;
};

}  // namespace

PageName root_name(std::uint64_t model, std::uint64_t numeric_plan, std::string_view salt) {
  Hash hash;
  hash.add_value(model);
  hash.add_value(numeric_plan);
  hash.add(std::as_bytes(std::span(salt.data(), salt.size())));
  return hash.name();
}

PageName next_name(const PageName& before, std::span<const std::uint32_t> tokens) {
  Hash hash;
  hash.add(before);
  hash.add(std::as_bytes(tokens));
  return hash.name();
}

}  // namespace consort::actors
