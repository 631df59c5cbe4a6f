#include "model/text/byte_alphabet.hpp"

#include "model/text/utf8.hpp"

namespace consort::model {
namespace {

constexpr char32_t kFirstMoved = 0x100;
constexpr char32_t kSymbolEnd = kFirstMoved + 68;

struct Alphabet {
  std::array<char32_t, 256> symbol{};
  std::array<int, kSymbolEnd> byte{};  // -1 where the code point is no symbol
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int& byte : alphabet.byte) byte = -1;
  char32_t moved = kFirstMoved;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    alphabet.symbol[b] = printable ? b : moved++;
    alphabet.byte[alphabet.symbol[b]] = static_cast<int>(b);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t symbol_of_byte(unsigned char byte) { return kAlphabet.symbol[byte]; }

std::string symbols_of_bytes(std::string_view bytes) {
  std::string symbols;
  for (char c : bytes) append_utf8(symbols, symbol_of_byte(static_cast<unsigned char>(c)));
  return symbols;
}

std::optional<std::string> bytes_of_symbols(std::string_view symbols) {
  std::string bytes;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const auto first = static_cast<unsigned char>(symbols[i]);
    char32_t code_point = first;
    if (first >= 0x80) {  // all symbols above ASCII have two bytes: U+00A1 .. U+0143
      if ((first & 0xE0) != 0xC0 || i + 1 == symbols.size()) return std::nullopt;
      code_point = (char32_t{first & 0x1FU} << 6) | (static_cast<unsigned char>(symbols[++i]) & 0x3FU);
    }
    if (code_point >= kSymbolEnd || kAlphabet.byte[code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[code_point]);
  }
  return bytes;
}

}  // namespace consort::model
