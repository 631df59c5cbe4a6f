#include <algorithm>

#include "cli/http/api_tools-inl.hpp"
#include "model/json_text.hpp"

namespace consort::cli {

void ToolTurns::begin(std::vector<std::string> ids) {
  ids_ = std::move(ids);
  answered_.clear();
}

bool ToolTurns::answer(const std::string& id) {
  const auto found = std::ranges::find(ids_, id);
  if (found == ids_.end()) return false;
  const auto place = static_cast<std::size_t>(found - ids_.begin());
  if (std::ranges::find(answered_, place) != answered_.end()) return false;
  answered_.push_back(place);
  return true;
}

std::string ToolTurns::first_unanswered() const {
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    if (std::ranges::find(answered_, i) == answered_.end()) return ids_[i];
  }
  return {};
}

void ToolTurns::put_in_order(std::vector<model::ChatMessage>& messages) const {
  if (!is_answered()) return;
  const std::size_t first = messages.size() - ids_.size();
  std::vector<model::ChatMessage> ordered(ids_.size());
  for (std::size_t i = 0; i < ids_.size(); ++i) ordered[answered_[i]] = std::move(messages[first + i]);
  std::ranges::move(ordered, messages.begin() + static_cast<std::ptrdiff_t>(first));
}

namespace {

bool is_tool_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxToolNameBytes && std::ranges::all_of(name, fits);
}

// {"type": "function", "function": {...}}: what is in it, or null where it was refused.
const json::object* function_of(Fields& fields) {
  std::string type;
  if (fields.need("type") != nullptr) fields.read("type", type);
  if (fields.refusal()) return nullptr;
  if (type != "function") {
    fields.refuse("type", "must be \"function\": there are no other tools", "unsupported_parameter");
    return nullptr;
  }
  const json::value* function = fields.need("function");
  if (function == nullptr) return nullptr;
  if (!function->is_object()) {
    fields.refuse("function", "must be an object");
    return nullptr;
  }
  return &function->get_object();
}

std::string name_of(Fields& function) {
  std::string name;
  if (function.need("name") != nullptr) function.read("name", name);
  if (!is_tool_name(name))
    function.refuse("name", "must be 1 to " + std::to_string(kMaxToolNameBytes) + " letters, digits, '_' and '-'");
  return name;
}

void read_tool(Fields& fields, model::ToolDescription& tool) {
  const json::object* object = function_of(fields);
  if (object == nullptr) return;
  Fields function(*object, fields.path() + "function.", fields.refusal());
  tool.name = name_of(function);
  function.read("description", tool.description);
  // Arguments of a forced call always follow the schema; those of a call that the model chooses are as it writes them.
  bool strict = false;
  function.read("strict", strict);
  if (const json::value* parameters = function.find("parameters")) {
    if (!parameters->is_object()) return function.refuse("parameters", "must be a JSON Schema");
    tool.parameters = json::serialize(*parameters);
  }
  function.finish();
  fields.finish();
}

template <class Read>
void each_of(Fields& fields, std::string_view key, const json::value& list, std::size_t most, Read read) {
  if (!list.is_array() || list.get_array().empty() || list.get_array().size() > most)
    return fields.refuse(key, "must be a list of 1 to " + std::to_string(most));
  std::size_t index = 0;
  for (const json::value& one : list.get_array()) {
    const std::string path = fields.path() + std::string(key) + "[" + std::to_string(index++) + "]";
    if (!one.is_object()) return fields.refuse(key, "must hold objects");
    Fields inner(one.get_object(), path + ".", fields.refusal());
    read(inner);
    if (fields.refusal()) return;
  }
}

// The names in {"type": "allowed_tools", "allowed_tools": {"mode": ..., "tools": [...]}}.
void read_allowed(Fields& choice, actors::ToolUse& use) {
  const json::value* allowed = choice.need("allowed_tools");
  if (allowed == nullptr) return;
  if (!allowed->is_object()) return choice.refuse("allowed_tools", "must be an object");
  Fields inner(allowed->get_object(), choice.path() + "allowed_tools.", choice.refusal());
  std::string mode = "auto";
  inner.read("mode", mode);
  if (mode != "auto" && mode != "required") return inner.refuse("mode", "must be \"auto\" or \"required\"");
  use.is_forced = mode == "required";
  std::set<std::string, std::less<>> names;
  if (const json::value* tools = inner.need("tools")) {
    each_of(inner, "tools", *tools, kMaxTools, [&](Fields& one) {
      const json::object* object = function_of(one);
      if (object == nullptr) return;
      Fields function(*object, one.path() + "function.", one.refusal());
      const std::string name = name_of(function);
      if (!use.names.contains(name)) function.refuse("name", "is not one of 'tools'");
      names.insert(name);
      function.finish();
      one.finish();
    });
  }
  inner.finish();
  use.names = std::move(names);
}

// Whether one function is named: the others are offered, too, as they were before.
bool read_choice(Fields& fields, actors::ToolUse& use) {
  const json::value* choice = fields.find("tool_choice");
  if (choice == nullptr) return false;
  if (is_text(*choice, {"none"})) use.names.clear();
  if (is_text(*choice, {"none", "auto"})) return false;
  const auto refuse = [&](const std::string& what) {
    fields.refuse("tool_choice", what);
    return false;
  };
  if (use.names.empty()) return refuse("asks for a call, and there are no 'tools'");
  if (is_text(*choice, {"required"})) {
    use.is_forced = true;
    return false;
  }
  if (!choice->is_object()) return refuse("must be \"none\", \"auto\", \"required\" or an object");
  Fields inner(choice->get_object(), "tool_choice.", fields.refusal());
  bool is_named = false;
  const json::value* type = inner.find("type");
  if (type != nullptr && is_text(*type, {"allowed_tools"})) {
    read_allowed(inner, use);
  } else if (const json::object* object = function_of(inner)) {
    Fields function(*object, "tool_choice.function.", fields.refusal());
    const std::string name = name_of(function);
    if (!use.names.contains(name)) function.refuse("name", "is not one of 'tools'");
    function.finish();
    use.names = {name};
    use.is_forced = true;
    is_named = true;
  }
  inner.finish();
  return is_named;
}

}  // namespace

void read_tool_calls(Fields& message, model::ChatMessage& out, ToolTurns& turns) {
  const json::value* calls = message.find("tool_calls");
  if (calls == nullptr || is_empty(*calls)) return;
  std::vector<std::string> ids;
  each_of(message, "tool_calls", *calls, kMaxCallsOfTurn, [&](Fields& call) {
    std::string id;
    if (call.need("id") != nullptr) call.read("id", id);
    if (std::ranges::find(ids, id) != ids.end()) call.refuse("id", "is another call's, too");
    ids.push_back(id);
    call.ignore("index");  // clients send back what they joined of a stream
    const json::object* object = function_of(call);
    if (object == nullptr) return;
    Fields function(*object, call.path() + "function.", call.refusal());
    model::ToolCall read;
    read.name = name_of(function);
    if (function.need("arguments") != nullptr) function.read("arguments", read.arguments);
    function.finish();
    call.finish();
    out.tool_calls.push_back(std::move(read));
  });
  turns.begin(std::move(ids));
}

void read_tool_answer(Fields& message, ToolTurns& turns) {
  std::string id;
  if (message.need("tool_call_id") != nullptr) message.read("tool_call_id", id);
  if (!message.refusal() && !turns.answer(id))
    message.refuse("tool_call_id", "is not that of a call before it without an answer");
}

void read_tools(Fields& fields, actors::ChatPrompt& chat, actors::ToolUse& use) {
  if (const json::value* tools = fields.find("tools"); tools != nullptr && !is_empty(*tools)) {
    each_of(fields, "tools", *tools, kMaxTools, [&](Fields& one) {
      model::ToolDescription tool;
      read_tool(one, tool);
      if (!one.refusal() && !use.names.insert(tool.name).second) one.refuse("function.name", "is another tool's, too");
      chat.tools.push_back(std::move(tool));
    });
  }
  if (fields.refusal()) return;
  const bool is_named = read_choice(fields, use);
  fields.read("parallel_tool_calls", use.is_parallel);
  // What may not be called is not spoken of.
  if (!is_named) std::erase_if(chat.tools, [&](const auto& tool) { return !use.names.contains(tool.name); });
  if (use.names.empty()) chat.tools.clear();
}

void read_response_format(Fields& fields, actors::AnswerRequest& request) {
  const bool forces_call = request.tool_use.is_forced;
  if (forces_call && request.ignore_eos) fields.refuse("ignore_eos", "cannot go with a call that is required");
  const json::value* format = fields.find("response_format");
  if (format == nullptr) return;
  if (!format->is_object()) return fields.refuse("response_format", "must be an object");
  Fields inner(format->get_object(), "response_format.", fields.refusal());
  std::string type;
  if (inner.need("type") != nullptr) inner.read("type", type);
  if (fields.refusal()) return;
  if (type == "json_schema") {
    const json::value* given = inner.need("json_schema");
    if (given == nullptr) return;
    if (!given->is_object()) return inner.refuse("json_schema", "must be an object");
    Fields schema(given->get_object(), "response_format.json_schema.", fields.refusal());
    std::string ignored;
    bool strict = true;  // it is enforced in any case
    if (schema.need("name") != nullptr) schema.read("name", ignored);
    schema.read("description", ignored);
    schema.read("strict", strict);
    const json::value* text = schema.need("schema");
    if (text != nullptr && !text->is_object() && !text->is_bool()) schema.refuse("schema", "must be a JSON Schema");
    schema.finish();
    if (fields.refusal()) return;
    request.constraint = {model::ConstraintKind::kJsonSchema, json::serialize(*text), false};
  } else if (type == "json_object") {
    request.constraint = {model::ConstraintKind::kJsonObject, "", false};
  } else if (type != "text") {
    return inner.refuse("type", "must be \"text\", \"json_object\" or \"json_schema\"", "unsupported_parameter");
  }
  inner.finish();
  if (type == "text") return;
  if (!request.tool_use.names.empty())
    return fields.refuse("response_format", "other than text cannot go with tools that may be called",
                         "unsupported_parameter");
  if (request.ignore_eos) fields.refuse("ignore_eos", "cannot go with an answer that has a format");
}

}  // namespace consort::cli
