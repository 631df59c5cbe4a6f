// Fuzzes the API's request bodies. What is accepted keeps its limits; what is refused says why.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "cli/http/api_answer.hpp"
#include "cli/http/api_request.hpp"
#include "cli/http/http_text.hpp"
#include "model/sampler.hpp"
#include "runtime/check.hpp"

using namespace consort;
using namespace consort::cli;

namespace {

template <class Call>
const Call* accepted(const OrRefusal<Call>& decoded) {
  if (const auto* refusal = std::get_if<Refusal>(&decoded)) {
    CONSORT_CHECK(refusal->status == 400 && !refusal->message.empty());
    (void)error_json(*refusal);
    return nullptr;
  }
  return &std::get<Call>(decoded);
}

void check_answer(const OrRefusal<AnswerCall>& decoded) {
  const AnswerCall* call = accepted(decoded);
  if (call == nullptr) return;
  const actors::AnswerRequest& request = call->request;
  CONSORT_CHECK(model::check(request.sampling).ok());
  CONSORT_CHECK(request.choices >= 1 && request.choices <= static_cast<std::uint32_t>(kMaxChoices));
  CONSORT_CHECK(!request.prompts.empty() && request.prompts.size() <= kMaxPrompts);
  CONSORT_CHECK(request.stops.size() <= kMaxStops);
  for (const auto& stop : request.stops) CONSORT_CHECK(!stop.empty() && stop.size() <= kMaxStopBytes);
  CONSORT_CHECK(!request.max_tokens || *request.max_tokens >= 1);
  AnswerWriter writer(*call, {"1", 2, call->model});
  (void)writer.stream(actors::AnswerStarted{1});
  (void)writer.body();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  check_answer(decode_chat(body));
  check_answer(decode_completion(body));
  (void)accepted(decode_encode(body));
  (void)accepted(decode_decode(body));
  CONSORT_CHECK(bearer_of(body).size() <= body.size());
  (void)is_own_host(body, "10.0.0.1");
  return 0;
}
