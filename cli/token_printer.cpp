#include "cli/token_printer.hpp"

#include <boost/json.hpp>
#include <cstdio>

namespace consort::cli {
namespace {

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_line(const boost::json::object& object) { print(boost::json::serialize(object) + "\n"); }

}  // namespace

TokenPrinter::TokenPrinter(std::optional<model::Tokenizer> tokenizer, bool json, std::string_view shown_first)
    : tokenizer_(std::move(tokenizer)), json_(json), start_(std::chrono::steady_clock::now()) {
  if (tokenizer_) decoder_.emplace(*tokenizer_);
  if (!json_) print(shown_first);
}

void TokenPrinter::token(std::int32_t id, float logprob, std::uint32_t logits_crc) {
  if (count_++ == 0) first_ = std::chrono::steady_clock::now();
  const std::string text = decoder_ ? decoder_->add(id) : std::string();
  if (json_) {
    boost::json::object line{{"index", count_ - 1}, {"id", id}, {"logprob", logprob}, {"logits_crc", logits_crc}};
    if (decoder_) line["text"] = text;
    return print_line(line);
  }
  print(decoder_ ? text : (count_ > 1 ? "," : "") + std::to_string(id));
}

void TokenPrinter::end(std::string_view reason, std::string_view text, std::optional<Journey> journey) {
  const std::string rest = decoder_ ? decoder_->finish() : std::string();
  const auto now = std::chrono::steady_clock::now();
  if (json_) {
    boost::json::object line{{"end", reason}, {"tokens", count_}};
    if (!text.empty()) line["why"] = text;
    if (journey) {
      line["decoder_moves"] = journey->decoder_moves;
      line["waits"] = journey->waits;
    }
    if (!rest.empty()) line["text"] = rest;
    return print_line(line);
  }
  print(rest + "\n");
  if (count_ < 2) return;
  const double first_seconds = std::chrono::duration<double>(first_ - start_).count();
  const double rest_seconds = std::chrono::duration<double>(now - first_).count();
  std::fprintf(stderr, "[%d tokens, first after %.0f ms, then %.1f tokens/s]\n", count_, first_seconds * 1000,
               (count_ - 1) / std::max(rest_seconds, 1e-9));
}

}  // namespace consort::cli
