#include <boost/json.hpp>

#include "cli/http/api_answer.hpp"
#include "cli/http/api_request.hpp"
#include "support/test.hpp"

namespace consort::cli {
namespace {

namespace json = boost::json;

const std::string kTools =
    R"("tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}},)"
    R"({"type":"function","function":{"name":"g"}}])";

OrRefusal<AnswerCall> decode(const std::string& more,
                             const std::string& messages = R"([{"role":"user","content":"Hi"}])") {
  return decode_chat(R"({"model":"m","messages":)" + messages + (more.empty() ? "" : "," + more) + "}");
}
AnswerCall good(const std::string& more, const std::string& messages = R"([{"role":"user","content":"Hi"}])") {
  auto decoded = decode(more, messages);
  const auto* refused = std::get_if<Refusal>(&decoded);
  REQUIRE_MESSAGE(refused == nullptr, (refused == nullptr ? "" : refused->message));
  return std::get<AnswerCall>(std::move(decoded));
}
std::string param(const OrRefusal<AnswerCall>& decoded) {
  const auto* refusal = std::get_if<Refusal>(&decoded);
  REQUIRE(refusal != nullptr);
  CHECK(refusal->status == 400);
  CHECK(refusal->message.find(refusal->param) != std::string::npos);
  return refusal->param;
}
const std::vector<model::ToolDescription>& tools_of(const AnswerCall& call) {
  return std::get<actors::ChatPrompt>(call.request.prompts.at(0)).tools;
}

std::string message(const std::string& role, const std::string& more) {
  return R"({"role":")" + role + "\"," + more + "}";
}
std::string two_calls() {
  return message("assistant",
                 R"("content":null,"tool_calls":[)"
                 R"({"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},)"
                 R"({"id":"b","type":"function","index":1,"function":{"name":"g","arguments":"{\"x\":1}"}}])");
}
std::string output(const std::string& id) {
  return message("tool", R"("tool_call_id":")" + id + R"(","content":"of )" + id + "\"");
}
std::string list(std::initializer_list<std::string> messages) {
  std::string out;
  for (const auto& one : messages) out += (out.empty() ? "" : ",") + one;
  return "[" + out + "]";
}
const std::string kHi = R"({"role":"user","content":"Hi"})";

}  // namespace

TEST_CASE("tools are offered, chosen, required, named or held back") {
  using Names = std::set<std::string, std::less<>>;
  const AnswerCall offered = good(kTools);
  REQUIRE(tools_of(offered).size() == 2);
  CHECK(tools_of(offered)[0].name == "f");
  CHECK(tools_of(offered)[0].description == "d");
  CHECK(tools_of(offered)[0].parameters == R"({"type":"object"})");
  CHECK(offered.request.tool_use.names == Names{"f", "g"});
  CHECK_FALSE(offered.request.tool_use.is_forced);
  CHECK(offered.request.tool_use.is_parallel);

  const AnswerCall none = good(kTools + R"(,"tool_choice":"none")");
  CHECK(tools_of(none).empty());
  CHECK(none.request.tool_use.names.empty());
  CHECK(good(kTools + R"(,"tool_choice":"auto")").request.tool_use.names.size() == 2);
  const AnswerCall required = good(kTools + R"(,"tool_choice":"required","parallel_tool_calls":false)");
  CHECK(required.request.tool_use.is_forced);
  CHECK_FALSE(required.request.tool_use.is_parallel);
  const AnswerCall named = good(kTools + R"(,"tool_choice":{"type":"function","function":{"name":"g"}})");
  CHECK(named.request.tool_use.is_forced);
  CHECK(named.request.tool_use.names == Names{"g"});
  CHECK(tools_of(named).size() == 2);
  const AnswerCall allowed = good(
      kTools +
      R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}})");
  CHECK(allowed.request.tool_use.is_forced);
  CHECK(tools_of(allowed).size() == 1);
  CHECK(good(R"("tools":[],"tool_choice":"none")").request.tool_use.names.empty());
}

TEST_CASE("what is wrong with tools is refused by its place") {
  const auto tool = [](const std::string& function) {
    return R"("tools":[{"type":"function","function":)" + function + "}]";
  };
  CHECK(param(decode(R"("tools":7)")) == "tools");
  CHECK(param(decode(R"("tools":[7])")) == "tools");
  CHECK(param(decode(R"("tools":[{"type":"retrieval"}])")) == "tools[0].type");
  CHECK(param(decode(R"("tools":[{"type":"function"}])")) == "tools[0].function");
  CHECK(param(decode(tool(R"({"name":"a b"})"))) == "tools[0].function.name");
  CHECK(param(decode(tool(R"({"name":"f","parameters":[]})"))) == "tools[0].function.parameters");
  CHECK(param(decode(tool(R"({"name":"f","colour":1})"))) == "tools[0].function.colour");
  CHECK(param(decode(
            R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])")) ==
        "tools[1].function.name");
  CHECK(param(decode(R"("tool_choice":"required")")) == "tool_choice");
  CHECK(param(decode(kTools + R"(,"tool_choice":"maybe")")) == "tool_choice");
  CHECK(param(decode(kTools + R"(,"tool_choice":{"type":"function","function":{"name":"h"}})")) ==
        "tool_choice.function.name");
  CHECK(
      param(decode(kTools + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"some","tools":[]}})")) ==
      "tool_choice.allowed_tools.mode");
  CHECK(param(decode(kTools + R"(,"tool_choice":"required","ignore_eos":true)")) == "ignore_eos");
  CHECK(param(decode(kTools + R"(,"parallel_tool_calls":1)")) == "parallel_tool_calls");
}

TEST_CASE("answers of tools are put in the order of the calls") {
  const AnswerCall call = good("", list({kHi, two_calls(), output("b"), output("a"), kHi}));
  const auto& messages = std::get<actors::ChatPrompt>(call.request.prompts.at(0)).messages;
  REQUIRE(messages.size() == 5);
  REQUIRE(messages[1].tool_calls.size() == 2);
  CHECK(messages[1].tool_calls[1].name == "g");
  CHECK(messages[1].tool_calls[1].arguments == "{\"x\":1}");
  CHECK(messages[2].role == model::ChatRole::kTool);
  CHECK(messages[2].content == "of a");
  CHECK(messages[3].content == "of b");
}

TEST_CASE("an answer of a tool without its call, or a call without its answer, is refused") {
  CHECK(param(decode("", list({kHi, output("a")}))) == "messages[1].tool_call_id");
  CHECK(param(decode("", list({kHi, two_calls(), output("c")}))) == "messages[2].tool_call_id");
  CHECK(param(decode("", list({kHi, two_calls(), output("a"), output("a")}))) == "messages[3].tool_call_id");
  CHECK(param(decode("", list({kHi, two_calls(), output("a"), kHi}))) == "messages[3].role");
  CHECK(param(decode("", list({kHi, two_calls(), output("a"), output("b"), output("b")}))) ==
        "messages[4].tool_call_id");
  const std::string twice =
      message("assistant", R"("tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":""}},)"
                           R"({"id":"a","type":"function","function":{"name":"f","arguments":""}}])");
  CHECK(param(decode("", list({kHi, twice}))) == "messages[1].tool_calls[1].id");
  CHECK(param(decode("", list({kHi, message("tool", R"("content":"x")")}))) == "messages[1].tool_call_id");
}

TEST_CASE("a format of the answer is read, and refused where it cannot be kept") {
  const auto format = [](const std::string& text) { return good(R"("response_format":)" + text).request.constraint; };
  CHECK(format(R"({"type":"text"})").kind == model::ConstraintKind::kNone);
  CHECK(format(R"({"type":"json_object"})").kind == model::ConstraintKind::kJsonObject);
  const auto schema =
      format(R"({"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"null"}}})");
  CHECK(schema.kind == model::ConstraintKind::kJsonSchema);
  CHECK(schema.text == R"({"type":"null"})");
  const auto bad = [](const std::string& text) { return param(decode(R"("response_format":)" + text)); };
  CHECK(bad("7") == "response_format");
  CHECK(bad("{}") == "response_format.type");
  CHECK(bad(R"({"type":"xml"})") == "response_format.type");
  CHECK(bad(R"({"type":"json_schema"})") == "response_format.json_schema");
  CHECK(bad(R"({"type":"json_schema","json_schema":{"schema":{}}})") == "response_format.json_schema.name");
  CHECK(bad(R"({"type":"json_schema","json_schema":{"name":"n"}})") == "response_format.json_schema.schema");
  CHECK(bad(R"({"type":"json_schema","json_schema":{"name":"n","schema":7}})") == "response_format.json_schema.schema");
  CHECK(param(decode(kTools + R"(,"response_format":{"type":"json_object"})")) == "response_format");
  CHECK(good(kTools + R"(,"tool_choice":"none","response_format":{"type":"json_object"})").request.constraint.kind ==
        model::ConstraintKind::kJsonObject);
  CHECK(param(decode(R"("ignore_eos":true,"response_format":{"type":"json_object"})")) == "ignore_eos");
}

TEST_CASE("calls stream as clients join them, and come whole in a whole answer") {
  const AnswerCall call = good(kTools);
  const std::vector<actors::AnswerPiece> pieces = {
      {0, "", "I look.", false, {}, {{0, "call_1", "f", ""}}},
      {0, "", "", false, {}, {{0, "", "", "{\"a\""}}},
      {0, "", "", false, {}, {{0, "", "", ":1}"}, {1, "call_2", "g", ""}, {1, "", "", "{}"}}}};
  AnswerWriter stream(call, {"7", 12, "m"});
  std::vector<json::object> deltas;
  for (const auto& piece : pieces) {
    const std::string text = stream.stream(piece);
    deltas.push_back(json::parse(text.substr(6)).at("choices").at(0).at("delta").as_object());
  }
  CHECK(deltas[0].at("content") == "I look.");
  CHECK(deltas[0].at("tool_calls") ==
        json::array{
            {{"index", 0}, {"id", "call_1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", ""}}}}});
  CHECK(deltas[1].at("tool_calls") == json::array{{{"index", 0}, {"function", {{"arguments", "{\"a\""}}}}});
  CHECK(deltas[2].at("tool_calls").as_array().size() == 3);
  CHECK(stream.stream(actors::ChoiceEnded{0, actors::Finish::kToolCalls}).find(R"("finish_reason":"tool_calls")") !=
        std::string::npos);

  AnswerWriter whole(call, {"7", 12, "m"});
  for (const auto& piece : pieces) whole.gather(piece);
  whole.gather(actors::ChoiceEnded{0, actors::Finish::kToolCalls});
  const auto choice = json::parse(whole.body()).at("choices").at(0);
  CHECK(choice.at("finish_reason") == "tool_calls");
  CHECK(choice.at("message").at("content") == "I look.");
  CHECK(choice.at("message").at("tool_calls") ==
        json::array{{{"id", "call_1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{\"a\":1}"}}}},
                    {{"id", "call_2"}, {"type", "function"}, {"function", {{"name", "g"}, {"arguments", "{}"}}}}});
  AnswerWriter only(call, {"7", 12, "m"});
  only.gather(pieces[1]);
  CHECK(json::parse(only.body()).at("choices").at(0).at("message").at("content").is_null());
}

TEST_CASE("a refusal of the Gateway keeps its field") {
  const actors::WorkFailed failed{
      actors::WorkFailure::kInvalid, "the schema's /not is not supported", {}, "response_format"};
  CHECK(refusal_of(failed).param == "response_format");
}

}  // namespace consort::cli
