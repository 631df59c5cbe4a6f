// The API's pure parts: bodies to requests, events to JSON and SSE, HTTP text, keys, metrics.
#include <boost/json.hpp>
#include <set>

#include "cli/http/api_answer.hpp"
#include "cli/http/api_request.hpp"
#include "cli/http/http_text.hpp"
#include "cli/http/prometheus.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;
namespace json = boost::json;

namespace {

const char* const kHi = R"("messages":[{"role":"user","content":"Hi"}])";

std::string chat(const std::string& more) {
  return std::string(R"({"model":"m",)") + kHi + (more.empty() ? "" : "," + more) + "}";
}

AnswerCall good_chat(const std::string& more) {
  auto decoded = decode_chat(chat(more));
  const auto* refused = std::get_if<Refusal>(&decoded);
  REQUIRE_MESSAGE(refused == nullptr, (refused == nullptr ? "" : refused->message));
  return std::get<AnswerCall>(std::move(decoded));
}

template <class Call>
Refusal refused(const OrRefusal<Call>& decoded) {
  const auto* refusal = std::get_if<Refusal>(&decoded);
  REQUIRE(refusal != nullptr);
  CHECK(refusal->status == 400);
  CHECK(refusal->type == "invalid_request_error");
  return *refusal;
}

const actors::ChatPrompt& chat_of(const AnswerCall& call) {
  return std::get<actors::ChatPrompt>(call.request.prompts.at(0));
}

// The JSON of every "data:" event of a stream, and whether it ended with [DONE].
struct Events {
  std::vector<json::object> chunks;
  bool done = false;
};
Events events_of(std::string_view text) {
  Events events;
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    REQUIRE(end != std::string_view::npos);
    const std::string_view event = text.substr(0, end);
    REQUIRE(event.starts_with("data: "));
    if (event == "data: [DONE]") {
      events.done = true;
    } else {
      events.chunks.push_back(json::parse(json::string_view(event.data() + 6, event.size() - 6)).as_object());
    }
    text.remove_prefix(end + 2);
  }
  return events;
}

actors::AnswerPiece said(std::uint32_t choice, std::string content) {
  return {choice, "", std::move(content), false, {}};
}

}  // namespace

TEST_CASE("a chat request's fields are read") {
  const AnswerCall call = good_chat(
      R"("max_tokens":7,"temperature":0.5,"top_p":0.25,"top_k":5,"min_p":0.125,"seed":-3,"n":2,"stop":["a","b"],
         "stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":3,"user":"u",
         "presence_penalty":0,"frequency_penalty":0.0,"logit_bias":{},"response_format":{"type":"text"},"tools":[],
         "max_completion_tokens":7,"metadata":null)");
  CHECK(call.model == "m");
  CHECK(call.stream);
  CHECK(call.include_usage);
  const actors::AnswerRequest& r = call.request;
  CHECK(r.max_tokens == 7);
  CHECK(r.sampling.temperature == 0.5F);
  CHECK(r.sampling.top_p == 0.25F);
  CHECK(r.sampling.top_k == 5);
  CHECK(r.sampling.min_p == 0.125F);
  CHECK(r.sampling.top_logprobs == 3);
  CHECK(r.seed == static_cast<std::uint64_t>(-3));
  CHECK(r.choices == 2);
  CHECK(r.stops == std::vector<std::string>{"a", "b"});
  CHECK(r.wants_logprobs);
  CHECK(r.splits_thoughts);
  CHECK(chat_of(call).messages.at(0).content == "Hi");
}

TEST_CASE("penalties, biases, priority and salt are read within their ranges") {
  const actors::AnswerRequest r = good_chat(R"("presence_penalty":-2,"frequency_penalty":1.5,"repetition_penalty":1.25,
    "logit_bias":{"5":-100,"17":0.5},"priority":-7,"cache_salt":"s")")
                                      .request;
  CHECK(r.penalties == model::PenaltyParams{1.5F, -2.0F, 1.25F, {{5, -100.0F}, {17, 0.5F}}});
  CHECK(r.priority == -7);
  CHECK(r.cache_salt == "s");
  CHECK(good_chat(R"("repetition_penalty":0.01)").request.penalties.repetition_penalty >=
        model::kLeastRepetitionPenalty);
  CHECK(good_chat(R"("stop":null)").request.penalties == model::PenaltyParams{});
}

TEST_CASE("a busy service says when to come again") {
  using namespace std::chrono_literals;
  CHECK(refusal_of({actors::WorkFailure::kBusy, "full", 2500ms}).retry_after_seconds == 3);
  CHECK(refusal_of({actors::WorkFailure::kBusy, "full"}).retry_after_seconds == 1);
}

TEST_CASE("absent and null fields give OpenAI's defaults") {
  const AnswerCall call = good_chat(R"("stop":null,"n":null,"temperature":null,"max_tokens":null)");
  CHECK(call.request.choices == 1);
  CHECK(call.request.sampling.temperature == 1.0F);
  CHECK_FALSE(call.request.max_tokens.has_value());
  CHECK_FALSE(call.request.seed.has_value());
  CHECK_FALSE(call.stream);
  CHECK(good_chat(R"("stop":"x")").request.stops == std::vector<std::string>{"x"});
}

TEST_CASE("messages come as texts or text parts, a developer is the system, earlier thoughts are dropped") {
  auto decoded = decode_chat(R"({"model":"m","messages":[{"role":"developer","content":"be brief"},
    {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
    {"role":"assistant","content":"c","reasoning_content":"why","refusal":null,"tool_calls":null},
    {"role":"assistant"},{"role":"user","content":""}]})");
  const auto& messages = chat_of(std::get<AnswerCall>(decoded)).messages;
  REQUIRE(messages.size() == 5);
  CHECK(messages[0].role == model::ChatRole::kSystem);
  CHECK(messages[1].content == "ab");
  CHECK(messages[2].content == "c");
  CHECK(messages[3].content.empty());
}

TEST_CASE("what is wrong or not supported is refused by the field's name") {
  struct Case {
    const char* field;
    const char* param;
    const char* code;
  };
  const Case cases[] = {
      {R"("temperature":2.5)", "temperature", ""},
      {R"("temperature":"1")", "temperature", ""},
      {R"("temperature":1e999)", "temperature", ""},
      {R"("top_p":0)", "top_p", ""},
      {R"("top_k":-2)", "top_k", ""},
      {R"("min_p":-0.1)", "min_p", ""},
      {R"("n":0)", "n", ""},
      {R"("n":17)", "n", ""},
      {R"("n":1.0)", "n", ""},
      {R"("max_tokens":0)", "max_tokens", ""},
      {R"("max_tokens":-1)", "max_tokens", ""},
      {R"("max_tokens":99999999999999999999)", "max_tokens", ""},
      {R"("max_tokens":3,"max_completion_tokens":4)", "max_tokens", ""},
      {R"("stop":["a","b","c","d","e"])", "stop", ""},
      {R"("stop":[""])", "stop", ""},
      {R"("stop":7)", "stop", ""},
      {R"("seed":0.5)", "seed", ""},
      {R"("stream":1)", "stream", ""},
      {R"("stream_options":{"include_usage":true})", "stream_options", ""},
      {R"("stream":true,"stream_options":{"x":1})", "stream_options.x", "unknown_parameter"},
      {R"("top_logprobs":3)", "top_logprobs", ""},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs", ""},
      {R"("presence_penalty":2.5)", "presence_penalty", ""},
      {R"("frequency_penalty":-3)", "frequency_penalty", ""},
      {R"("frequency_penalty":"1")", "frequency_penalty", ""},
      {R"("repetition_penalty":0)", "repetition_penalty", ""},
      {R"("logit_bias":{"5":101})", "logit_bias", ""},
      {R"("logit_bias":{"five":1})", "logit_bias", ""},
      {R"("logit_bias":{"5":1,"05":2})", "logit_bias", ""},
      {R"("logit_bias":{"5":true})", "logit_bias", ""},
      {R"("logit_bias":[5])", "logit_bias", ""},
      {R"("priority":1.5)", "priority", ""},
      {R"("priority":1000001)", "priority", ""},
      {R"("cache_salt":7)", "cache_salt", ""},
      {R"("reasoning_effort":"huge")", "reasoning_effort", ""},
      {R"("reasoning_effort":"none","thinking":{"type":"enabled"})", "thinking", ""},
      {R"("colour":"red")", "colour", "unknown_parameter"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.field);
    const Refusal refusal = refused(decode_chat(chat(one.field)));
    CHECK(refusal.param == one.param);
    CHECK(refusal.code == one.code);
    CHECK(refusal.message.find(one.param) != std::string::npos);
  }
}

TEST_CASE("wrong messages are refused by their place") {
  const auto param = [](const std::string& messages) {
    return refused(decode_chat(R"({"model":"m","messages":)" + messages + "}")).param;
  };
  CHECK(param("[]") == "messages");
  CHECK(param("7") == "messages");
  CHECK(param("[7]") == "messages[0]");
  CHECK(param(R"([{"content":"x"}])") == "messages[0].role");
  CHECK(param(R"([{"role":"user"}])") == "messages[0].content");
  CHECK(param(R"([{"role":"user","content":"x"},{"role":"tool","content":"x","tool_call_id":"1"}])") ==
        "messages[1].tool_call_id");
  CHECK(param(R"([{"role":"king","content":"x"}])") == "messages[0].role");
  CHECK(param(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])") == "messages[0].content[0].type");
  CHECK(param(R"([{"role":"user","content":"x","name":"ann"}])") == "messages[0].name");
  CHECK(refused(decode_chat(R"({"model":"m"})")).param == "messages");
  CHECK(refused(decode_chat(std::string("{") + kHi + "}")).param == "model");
}

TEST_CASE("bodies that are no strict JSON object are refused") {
  std::string deep = "1";
  for (int i = 0; i < 100; ++i) deep = "[" + deep + "]";
  for (const std::string& body :
       {std::string(), std::string("[]"), std::string("{"), std::string("{}x"),
        std::string(R"({"model":"a","model":"b"})"), std::string("{\"model\":\"\xff\xfe\"}"),
        std::string("{\"model\":\"\xed\xa0\x80\"}"), R"({"model":)" + deep + "}", std::string(R"({"model":NaN})"),
        std::string(R"({'model':1})"), std::string("{\"a\":1,}")}) {
    CAPTURE(body);
    CHECK(refused(decode_chat(body)).code == "invalid_json");
  }
}

TEST_CASE("completions take texts and token ids, one or several") {
  const auto prompts = [](const std::string& prompt) {
    auto decoded = decode_completion(R"({"model":"m","prompt":)" + prompt + "}");
    const auto* refusal = std::get_if<Refusal>(&decoded);
    REQUIRE_MESSAGE(refusal == nullptr, (refusal == nullptr ? "" : refusal->message));
    return std::get<AnswerCall>(decoded).request.prompts;
  };
  CHECK(std::get<actors::TextPrompt>(prompts(R"("hi")").at(0)).text == "hi");
  CHECK(prompts(R"(["a","b"])").size() == 2);
  CHECK(std::get<actors::IdsPrompt>(prompts("[1,2]").at(0)).ids == std::vector<std::int32_t>{1, 2});
  CHECK(prompts("[[1],[2,3]]").size() == 2);
  for (const char* bad : {"7", "[]", "[[]]", "[-1]", "[1.5]", R"([1,"a"])", R"([["a"]])", "{}"}) {
    CAPTURE(bad);
    CHECK(refused(decode_completion(R"({"model":"m","prompt":)" + std::string(bad) + "}")).param == "prompt");
  }
  const auto call =
      std::get<AnswerCall>(decode_completion(R"({"model":"m","prompt":"x","logprobs":2,"echo":false,"best_of":1})"));
  CHECK(call.request.max_tokens == 16);
  CHECK(call.request.sampling.top_logprobs == 2);
  CHECK_FALSE(call.request.splits_thoughts);
  CHECK(refused(decode_completion(R"({"model":"m","prompt":"x","echo":true})")).param == "echo");
}

TEST_CASE("a streamed chat has the role once, one id, a finish per choice, usage where asked, and the end") {
  AnswerCall call = good_chat(R"("n":2,"stream":true,"stream_options":{"include_usage":true})");
  AnswerWriter writer(call, {"7", 12, "m"});
  std::string text = writer.stream(actors::AnswerStarted{3});
  text += writer.stream(actors::AnswerPiece{0, "why", "", true, {}});
  text += writer.stream(said(1, "x\n\"y\""));
  text += writer.stream(actors::ChoiceEnded{1, actors::Finish::kStop});
  text += writer.stream(actors::ChoiceEnded{0, actors::Finish::kLength});
  text += writer.stream(actors::AnswerEnded{{3, 5, 2}});
  const Events events = events_of(text);
  CHECK(events.done);
  REQUIRE(events.chunks.size() == 7);
  for (const auto& chunk : events.chunks) {
    CHECK(chunk.at("id").as_string() == "chatcmpl-7");
    CHECK(chunk.at("object").as_string() == "chat.completion.chunk");
  }
  const auto delta = [&](std::size_t i) { return events.chunks[i].at("choices").at(0).at("delta").as_object(); };
  CHECK(delta(0) == json::object{{"role", "assistant"}, {"content", ""}});
  CHECK(events.chunks[1].at("choices").at(0).at("index") == 1);
  CHECK(delta(2) == json::object{{"reasoning_content", "why"}});
  CHECK(delta(3) == json::object{{"content", "x\n\"y\""}});
  CHECK(delta(4).empty());
  CHECK(events.chunks[4].at("choices").at(0).at("finish_reason") == "stop");
  CHECK(events.chunks[5].at("choices").at(0).at("finish_reason") == "length");
  CHECK(events.chunks[5].at("usage").is_null());
  CHECK(events.chunks[6].at("choices").as_array().empty());
  CHECK(events.chunks[6].at("usage").at("total_tokens") == 8);
  CHECK(events.chunks[6].at("usage").at("completion_tokens_details").at("reasoning_tokens") == 2);
}

TEST_CASE("a failure in the middle of a stream is an error event without an end") {
  const AnswerCall call = good_chat(R"("stream":true)");
  AnswerWriter writer(call, {"7", 12, "m"});
  const Events events = events_of(writer.stream(actors::WorkFailed{actors::WorkFailure::kDeadline, "too late"}));
  CHECK_FALSE(events.done);
  CHECK(events.chunks.at(0).at("error").at("message") == "too late");
}

TEST_CASE("a whole answer gathers pieces, and token details show half characters as bytes") {
  const AnswerCall call = good_chat(R"("logprobs":true,"top_logprobs":1)");
  AnswerWriter writer(call, {"7", 12, "m"});
  writer.gather(actors::AnswerPiece{0, "why", "", true, actors::TokenDetail{"why", -0.5F, {}}});
  writer.gather(actors::AnswerPiece{0, "", "4", false, actors::TokenDetail{"4", -1.0F, {{"5", -1e30F, {}}}}});
  writer.gather(actors::AnswerPiece{0, "", "", false, actors::TokenDetail{"\xe2\x82", -2.0F, {}}});
  writer.gather(said(0, "6"));
  writer.gather(actors::ChoiceEnded{0, actors::Finish::kStop});
  writer.gather(actors::AnswerEnded{{3, 4, 1}});
  const json::object body = json::parse(writer.body()).as_object();
  CHECK(body.at("object") == "chat.completion");
  const json::object& choice = body.at("choices").at(0).as_object();
  CHECK(choice.at("message").at("content") == "46");
  CHECK(choice.at("message").at("reasoning_content") == "why");
  CHECK(choice.at("finish_reason") == "stop");
  const json::array& content = choice.at("logprobs").at("content").as_array();
  REQUIRE(content.size() == 2);
  CHECK(content[0].at("token") == "4");
  CHECK(content[0].at("top_logprobs").at(0).at("logprob") == -9999.0);
  CHECK(content[1].at("bytes") == json::array{0xe2, 0x82});
  CHECK(choice.at("logprobs").at("reasoning_content").as_array().size() == 1);
}

TEST_CASE("completions have their own shapes, streamed and whole, and the legacy logprobs") {
  auto call = std::get<AnswerCall>(decode_completion(R"({"model":"m","prompt":["a","b"],"logprobs":1,"stream":true})"));
  AnswerWriter writer(call, {"7", 12, "m"});
  const actors::AnswerPiece first{1, "", "ab", false, actors::TokenDetail{"ab", -1.0F, {{"c", -2.0F, {}}}}};
  const actors::AnswerPiece second{1, "", "d", false, actors::TokenDetail{"d", -1.0F, {}}};
  std::string text = writer.stream(actors::AnswerStarted{2});
  for (const actors::PortEvent& event :
       {actors::PortEvent(first), actors::PortEvent(second), actors::PortEvent(actors::AnswerEnded{{2, 2, 0}})}) {
    text += writer.stream(event);
  }
  const Events events = events_of(text);
  REQUIRE(events.chunks.size() == 2);
  CHECK(events.chunks[0].at("object") == "text_completion");
  CHECK(events.chunks[0].at("choices").at(0).at("text") == "ab");
  CHECK(events.chunks[1].at("choices").at(0).at("logprobs").at("text_offset").at(0) == 2);
  writer.gather(first);
  writer.gather(second);
  const json::object body = json::parse(writer.body()).as_object();
  CHECK(body.at("id") == "cmpl-7");
  REQUIRE(body.at("choices").as_array().size() == 2);
  CHECK(body.at("choices").at(1).at("text") == "abd");
  const json::object& logprobs = body.at("choices").at(1).at("logprobs").as_object();
  CHECK(logprobs.at("tokens") == json::array{"ab", "d"});
  CHECK(logprobs.at("text_offset") == json::array{0, 2});
  CHECK(logprobs.at("top_logprobs").at(0).at("c") == -2.0);
}

TEST_CASE("errors have OpenAI's shape, and only what passes by itself is worth sending again") {
  const json::value error = json::parse(error_json({404, "not_found_error", "model_not_found", "model", "no \"x\""}));
  CHECK(error ==
        json::parse(
            R"({"error":{"message":"no \"x\"","type":"not_found_error","param":"model","code":"model_not_found"}})"));
  CHECK(json::parse(error_json({400, "invalid_request_error", "", "", "x"})).at("error").at("param").is_null());
  CHECK(refusal_of({actors::WorkFailure::kBusy, ""}).status == 429);
  CHECK(is_worth_retrying(refusal_of({actors::WorkFailure::kBusy, ""})));
  CHECK(is_worth_retrying(refusal_of({actors::WorkFailure::kUnavailable, ""})));
  CHECK_FALSE(is_worth_retrying(refusal_of({actors::WorkFailure::kDeadline, ""})));
  CHECK(refusal_of({actors::WorkFailure::kTooLong, ""}).code == "context_length_exceeded");
}

TEST_CASE("HTTP text: heads, chunks, bearers, hosts") {
  const std::string whole = whole_response({429, "application/json", "req_1", false, {{"Retry-After", "1"}}}, "{}");
  CHECK(whole.starts_with("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"));
  CHECK(whole.find("\r\nx-request-id: req_1\r\n") != std::string::npos);
  CHECK(whole.find("\r\nRetry-After: 1\r\n") != std::string::npos);
  CHECK(whole.find("\r\nConnection: close\r\n") != std::string::npos);
  CHECK(whole.ends_with("\r\nContent-Length: 2\r\n\r\n{}"));
  CHECK(whole_response({}, "{}", true).ends_with("Content-Length: 2\r\n\r\n"));
  CHECK(response_head({}, std::nullopt).find("Transfer-Encoding: chunked") != std::string::npos);
  CHECK(response_head({}, std::nullopt, false).find("Transfer-Encoding") == std::string::npos);
  CHECK(chunk("0123456789abcdef!") == "11\r\n0123456789abcdef!\r\n");
  CHECK(bearer_of("Bearer abc") == "abc");
  CHECK(bearer_of("bearer  abc") == "abc");
  CHECK(bearer_of("Basic abc").empty());
  CHECK(bearer_of("Bearer ").empty());
  CHECK(path_of("/v1/models?x=/y") == "/v1/models");
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "10.0.0.7:80"}) {
    CHECK_MESSAGE(is_own_host(host, "10.0.0.7"), host);
  }
  for (const char* host : {"", "evil.example", "127.0.0.1.evil.example", "127.evil.example:80", "[::2]"}) {
    CHECK_MESSAGE(!is_own_host(host, "10.0.0.7"), host);
  }
}

TEST_CASE("metrics come out in Prometheus' text format") {
  tests::ManualNode node;
  runtime::Metrics metrics(node.clock, node.loop);
  metrics.counter("vllm:x_total{finished_reason=\"stop\"}").add(3);
  metrics.gauge("vllm:running").set(2);
  auto& spread = metrics.histogram("vllm:wait_seconds");
  spread.record(std::chrono::milliseconds(500));
  spread.record(std::chrono::seconds(1000));
  metrics.publish();
  const std::string text = prometheus_text(*metrics.snapshot(), "a\"b");
  CHECK(text.find("# TYPE vllm:x_total counter\nvllm:x_total{model_name=\"a\\\"b\",finished_reason=\"stop\"} 3\n") !=
        std::string::npos);
  CHECK(text.find("# TYPE vllm:running gauge\nvllm:running{model_name=\"a\\\"b\"} 2\n") != std::string::npos);
  CHECK(text.find("le=\"0.536870912\"} 1\n") != std::string::npos);
  CHECK(text.find("le=\"0.268435456\"} 0\n") != std::string::npos);
  CHECK(text.find("le=\"+Inf\"} 2\n") != std::string::npos);
  CHECK(text.find("_sum{model_name=\"a\\\"b\"} 1000.5\n") != std::string::npos);
}
