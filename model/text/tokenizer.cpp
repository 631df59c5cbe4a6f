#include "model/text/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "model/text/added_tokens.hpp"
#include "model/text/byte_alphabet.hpp"
#include "model/text/byte_pair_merges.hpp"
#include "model/text/pre_tokenizer.hpp"
#include "model/text/tokenizer_file.hpp"
#include "model/text/tokenizer_settings.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::Outcome;
using runtime::Status;

// A book is 1 MB; offsets inside a piece are 32 bits, and a request of this size is an accident.
constexpr std::size_t kMaxTextBytes = 64 * 1024 * 1024;
// The largest known tokenizer.json has 17 MB.
constexpr std::uintmax_t kMaxFileBytes = 256 * 1024 * 1024;
// Natural text repeats its words: a few thousand pieces are nearly all of it. Long pieces are rare and cost much
// memory.
constexpr std::size_t kCachedPieces = 8192;
constexpr std::size_t kCachedPieceBytes = 64;

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <class Value>
using ByText = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

struct Token {
  std::string text;   // the file's spelling
  std::string bytes;  // what it decodes to
  bool exists = false;
  bool special = false;
};

std::string hex(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// Nothing where the file does not exist.
Outcome<std::optional<std::string>> read_file(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::optional<std::string>();
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return runtime::failure(ErrorKind::kInvalid, path.string() + " cannot be read: " + error.message());
  if (bytes > kMaxFileBytes) {
    return runtime::failure(ErrorKind::kInvalid, path.string() + " has " + std::to_string(bytes) + " bytes; at most " +
                                                     std::to_string(kMaxFileBytes) + " are read");
  }
  std::string text(static_cast<std::size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    return runtime::failure(ErrorKind::kInvalid, path.string() + " cannot be read");
  }
  return std::optional<std::string>(std::move(text));
}

}  // namespace

struct Tokenizer::State {
  std::vector<Token> tokens;  // by id
  ByText<std::int32_t> ids;   // of the model's vocabulary
  ByText<std::int32_t> added_ids;
  std::array<std::int32_t, 256> byte_ids{};  // -1 where the vocabulary lacks the byte
  AddedTokens raw_added;                     // "normalized": false, found first
  AddedTokens normalized_added;              // the others, found in what is left
  PreTokenizer pre_tokenizer;
  BytePairMerges merges;
  bool ignore_merges = false;
  std::vector<std::int32_t> prefix, suffix;  // around an encoded text
  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;
  std::string chat_template;

  // Pieces that were merged before. Who does not get the lock at once works without it, so nobody waits; the ids are
  // the same either way.
  mutable std::mutex cache_lock;
  mutable ByText<std::vector<std::int32_t>> cache;

  const Token* find(std::int32_t id) const {
    if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) return nullptr;
    const Token& token = tokens[static_cast<std::size_t>(id)];
    return token.exists ? &token : nullptr;
  }
  Status add_tokens(TokenizerFile& file);
  Status add_special(const TokenizerSettings& settings, const TokenizerFile& file);
  Status merge_piece(std::string_view piece, std::string_view text, std::vector<std::int32_t>& ids_out,
                     BytePairMerges::Scratch& scratch) const;
};

Status Tokenizer::State::add_tokens(TokenizerFile& file) {
  std::size_t id_count = file.vocabulary.size();
  for (const AddedToken& token : file.added_tokens)
    id_count = std::max(id_count, static_cast<std::size_t>(token.id) + 1);
  tokens.resize(id_count);
  for (std::size_t id = 0; id < file.vocabulary.size(); ++id) {
    std::string& text = file.vocabulary[id];
    if (text.empty()) continue;
    // A token with characters outside the byte alphabet stands for its own text, as in the library's decoder.
    tokens[id] = {text, bytes_of_symbols(text).value_or(text), true, false};
    ids.emplace(std::move(text), static_cast<std::int32_t>(id));
  }
  std::vector<AddedTokens::Entry> raw;
  std::vector<AddedTokens::Entry> normalized;
  for (AddedToken& token : file.added_tokens) {
    tokens[static_cast<std::size_t>(token.id)] = {token.text, token.text, true, token.special};
    added_ids.emplace(token.text, token.id);
    (token.normalized ? normalized : raw).push_back({std::move(token.text), token.id});
  }
  raw_added = AddedTokens(std::move(raw));
  normalized_added = AddedTokens(std::move(normalized));
  for (unsigned byte = 0; byte < byte_ids.size(); ++byte) {
    std::string symbol;
    append_utf8(symbol, symbol_of_byte(static_cast<unsigned char>(byte)));
    const auto found = ids.find(symbol);
    byte_ids[byte] = found == ids.end() ? -1 : found->second;
  }
  return runtime::done();
}

Status Tokenizer::State::add_special(const TokenizerSettings& settings, const TokenizerFile& file) {
  const auto id_of = [&](const std::string& text) -> std::optional<std::int32_t> {
    if (const auto added = added_ids.find(text); added != added_ids.end()) return added->second;
    if (const auto ordinary = ids.find(text); ordinary != ids.end()) return ordinary->second;
    return std::nullopt;
  };
  if (!settings.bos_token.empty()) bos_id = id_of(settings.bos_token);
  if (!bos_id) bos_id = settings.bos_token_id;
  eos_ids = settings.eos_token_ids;
  const auto eos = settings.eos_token.empty() ? std::nullopt : id_of(settings.eos_token);
  if (eos_ids.empty() && eos) eos_ids.push_back(*eos);
  prefix = file.prefix;
  suffix = file.suffix;
  if (!settings.add_bos_token) return runtime::done();
  prefix.clear();
  suffix.clear();
  if (*settings.add_bos_token) {
    if (!bos_id || find(*bos_id) == nullptr) {
      return runtime::failure(ErrorKind::kInvalid, "tokenizer_config.json: add_bos_token is true, but bos_token \"" +
                                                       settings.bos_token + "\" is not in tokenizer.json");
    }
    prefix.push_back(*bos_id);
  }
  if (settings.add_eos_token) {
    if (!eos) {
      return runtime::failure(ErrorKind::kInvalid, "tokenizer_config.json: add_eos_token is true, but eos_token \"" +
                                                       settings.eos_token + "\" is not in tokenizer.json");
    }
    suffix.push_back(*eos);
  }
  return runtime::done();
}

// The ids of one piece. `text` is all that is being encoded, for the error.
Status Tokenizer::State::merge_piece(std::string_view piece, std::string_view text, std::vector<std::int32_t>& ids_out,
                                     BytePairMerges::Scratch& scratch) const {
  ids_out.clear();
  if (ignore_merges) {
    if (const auto whole = ids.find(symbols_of_bytes(piece)); whole != ids.end()) {
      ids_out.push_back(whole->second);
      return runtime::done();
    }
  }
  for (std::size_t i = 0; i < piece.size(); ++i) {
    const auto byte = static_cast<unsigned char>(piece[i]);
    if (byte_ids[byte] < 0) {
      const auto offset = static_cast<std::size_t>(piece.data() - text.data()) + i;
      return runtime::failure(ErrorKind::kInvalid, "the vocabulary has no token for byte " + hex(byte) + " (offset " +
                                                       std::to_string(offset) + ", in \"" +
                                                       std::string(piece.substr(0, 40)) + "\")");
    }
    ids_out.push_back(byte_ids[byte]);
  }
  merges.apply(ids_out, scratch);
  return runtime::done();
}

Outcome<Tokenizer> Tokenizer::build(TokenizerFile file, TokenizerSettings settings) {
  auto state = std::make_shared<State>();
  CONSORT_TRY(state->pre_tokenizer, PreTokenizer::build(file.splits));
  state->merges = BytePairMerges(file.merges);
  state->ignore_merges = file.ignore_merges;
  CONSORT_RETURN_IF_ERROR(state->add_tokens(file));
  CONSORT_RETURN_IF_ERROR(state->add_special(settings, file));
  state->chat_template = std::move(settings.chat_template);
  return Tokenizer(std::move(state));
}

Outcome<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json) {
  CONSORT_TRY(TokenizerFile file, parse_tokenizer_json(tokenizer_json));
  return build(std::move(file), TokenizerSettings{});
}

Outcome<Tokenizer> Tokenizer::from_directory(const std::filesystem::path& directory) {
  const auto in_directory = [&](runtime::Error error) {
    return runtime::failure(error.kind, directory.string() + ": " + error.text);
  };
  CONSORT_TRY(const auto tokenizer_json, read_file(directory / "tokenizer.json"));
  if (!tokenizer_json) {
    return runtime::failure(ErrorKind::kInvalid, directory.string() +
                                                     " has no tokenizer.json; copy it from the model's "
                                                     "repository");
  }
  auto file = parse_tokenizer_json(*tokenizer_json);
  if (!file.ok()) return in_directory(std::move(file).error());
  TokenizerSettings settings;
  CONSORT_TRY(const auto config, read_file(directory / "tokenizer_config.json"));
  if (config) {
    auto status = read_tokenizer_config(*config, settings);
    if (!status.ok()) return in_directory(std::move(status).error());
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    CONSORT_TRY(const auto text, read_file(directory / name));
    if (!text) continue;
    auto status = read_special_ids(*text, name, settings);
    if (!status.ok()) return in_directory(std::move(status).error());
  }
  // Newer repositories keep the template in a file of its own, which then is the one in force.
  CONSORT_TRY(auto chat_template, read_file(directory / "chat_template.jinja"));
  if (chat_template) settings.chat_template = std::move(*chat_template);
  auto tokenizer = build(std::move(file).value(), std::move(settings));
  if (!tokenizer.ok()) return in_directory(std::move(tokenizer).error());
  return tokenizer;
}

Outcome<std::vector<std::int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const State& state = *state_;
  if (text.size() > kMaxTextBytes) {
    return runtime::failure(ErrorKind::kInvalid, "the text has " + std::to_string(text.size()) + " bytes; at most " +
                                                     std::to_string(kMaxTextBytes) + " are encoded at once");
  }
  if (const std::size_t bad = first_invalid_utf8(text); bad != std::string_view::npos) {
    return runtime::failure(ErrorKind::kInvalid, "the text is not UTF-8 at byte " + std::to_string(bad));
  }
  std::vector<TextSegment> segments;
  if (!options.match_added_tokens) {
    if (!text.empty()) segments.push_back({text, -1});
  } else {
    std::vector<TextSegment> raw;
    state.raw_added.split(text, raw);
    for (const TextSegment& segment : raw) {
      if (segment.id >= 0)
        segments.push_back(segment);
      else
        state.normalized_added.split(segment.text, segments);
    }
  }
  std::vector<std::int32_t> out;
  if (options.add_special_tokens) out = state.prefix;
  std::unique_lock<std::mutex> cache_lock(state.cache_lock, std::try_to_lock);
  PreTokenizer::Scratch split_scratch;
  BytePairMerges::Scratch merge_scratch;
  std::vector<std::string_view> pieces;
  std::vector<std::int32_t> piece_ids;
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      out.push_back(segment.id);
      continue;
    }
    CONSORT_RETURN_IF_ERROR(state.pre_tokenizer.split(segment.text, pieces, split_scratch));
    for (std::string_view piece : pieces) {
      const bool cacheable = cache_lock.owns_lock() && piece.size() <= kCachedPieceBytes;
      if (cacheable) {
        if (const auto known = state.cache.find(piece); known != state.cache.end()) {
          out.insert(out.end(), known->second.begin(), known->second.end());
          continue;
        }
      }
      CONSORT_RETURN_IF_ERROR(state.merge_piece(piece, text, piece_ids, merge_scratch));
      out.insert(out.end(), piece_ids.begin(), piece_ids.end());
      if (cacheable) {
        if (state.cache.size() >= kCachedPieces) state.cache.clear();
        state.cache.emplace(piece, piece_ids);
      }
    }
  }
  if (options.add_special_tokens) out.insert(out.end(), state.suffix.begin(), state.suffix.end());
  return out;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.add(id);
  return text + decoder.finish();
}

std::optional<std::string_view> Tokenizer::token_bytes(std::int32_t id) const {
  const Token* token = state_->find(id);
  return token == nullptr ? std::nullopt : std::optional<std::string_view>(token->bytes);
}

std::optional<std::string_view> Tokenizer::token_text(std::int32_t id) const {
  const Token* token = state_->find(id);
  return token == nullptr ? std::nullopt : std::optional<std::string_view>(token->text);
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view text) const {
  if (const auto added = added_token_id(text)) return added;
  const auto found = state_->ids.find(text);
  return found == state_->ids.end() ? std::nullopt : std::optional<std::int32_t>(found->second);
}

std::optional<std::int32_t> Tokenizer::added_token_id(std::string_view text) const {
  const auto found = state_->added_ids.find(text);
  return found == state_->added_ids.end() ? std::nullopt : std::optional<std::int32_t>(found->second);
}

bool Tokenizer::is_special(std::int32_t id) const {
  const Token* token = state_->find(id);
  return token != nullptr && token->special;
}

std::int32_t Tokenizer::vocab_size() const { return static_cast<std::int32_t>(state_->tokens.size()); }
std::optional<std::int32_t> Tokenizer::bos_id() const { return state_->bos_id; }
std::span<const std::int32_t> Tokenizer::eos_ids() const { return state_->eos_ids; }
bool Tokenizer::is_eos(std::int32_t id) const {
  return std::find(state_->eos_ids.begin(), state_->eos_ids.end(), id) != state_->eos_ids.end();
}
std::string_view Tokenizer::chat_template() const { return state_->chat_template; }

std::string StreamDecoder::add(std::int32_t id) {
  std::string text;
  const auto bytes = tokenizer_.token_bytes(id);
  if (bytes && skip_special_ && tokenizer_.is_special(id)) return text;
  repair_.add(bytes.value_or(kReplacementCharacter), text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  repair_.finish(text);
  return text;
}

}  // namespace consort::model
