// Fuzzes what a client's bytes meet before any body is read for its meaning: the request reader, the routes, the
// entrance. The bytes come in pieces of a size that the first byte says; pieces must not change what is understood.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/http/entrance.hpp"
#include "cli/http/http_text.hpp"
#include "runtime/check.hpp"

using namespace consort::cli;

namespace {

constexpr std::uint32_t kHeaderBytes = 1024;
constexpr std::uint64_t kBodyBytes = 4096;
constexpr int kMaxRequests = 64;

ApiKeyRing& no_keys() {
  static ApiKeyRing keys("/nonexistent/keys");
  return keys;
}

// What each request on the connection was taken for.
std::vector<std::string> understood(std::string_view bytes, std::size_t piece) {
  RequestReader reader(kHeaderBytes, kBodyBytes);
  std::vector<std::string> requests;
  std::string said;
  while (requests.size() < kMaxRequests) {
    switch (reader.step()) {
      case RequestReader::Step::kNeedsBytes: {
        if (bytes.empty()) return requests;
        const std::size_t taken = std::min(piece, bytes.size());
        reader.add(bytes.substr(0, taken));
        bytes.remove_prefix(taken);
        break;
      }
      case RequestReader::Step::kHeader: {
        const auto& request = reader.request();
        const Place place = place_of(path_of({request.target().data(), request.target().size()}));
        Payer payer;
        const auto refused = Entrance{no_keys(), "127.0.0.1"}.look(request, place, payer);
        CONSORT_CHECK(!refused || (refused->status >= 400 && refused->status < 500 && !refused->message.empty()));
        CONSORT_CHECK(refused || place.route != Route::kNone);
        said = std::string(place.name) + (refused ? " refused " + std::to_string(refused->status) : " taken");
        break;
      }
      case RequestReader::Step::kWhole: {
        const std::string body = reader.take_body();
        CONSORT_CHECK(body.size() <= kBodyBytes);
        requests.push_back(said + " " + body);
        reader.next();
        break;
      }
      case RequestReader::Step::kWrong:
        CONSORT_CHECK(reader.error() && reader.step() == RequestReader::Step::kWrong);
        requests.push_back("wrong");
        return requests;
    }
  }
  return requests;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto pieces = understood(bytes, std::size_t{1} + data[0]);
  const auto whole = understood(bytes, 1 << 16);
  // An end that is wrong may be seen later in pieces, when the bytes that show it have come; what is whole is the same.
  for (std::size_t i = 0; i < std::min(pieces.size(), whole.size()); ++i) {
    CONSORT_CHECK(pieces[i] == whole[i], i);
  }
  return 0;
}
