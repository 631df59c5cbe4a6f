#include "cli/house/host_messages.hpp"

#include <boost/json.hpp>

namespace consort::cli {

namespace json = boost::json;
using runtime::Outcome;

namespace {

// Each message lists its fields once; a writer and a reader visit them.
template <class Visitor>
void fields(Visitor& v, HostQuestion& m) {
  v("cluster", m.cluster), v("state", m.state), v("model", m.model), v("address", m.address), v("ports", m.ports);
}
template <class Visitor>
void fields(Visitor& v, HostReport& m) {
  v("build", m.build), v("processor_kind", m.processor_kind), v("program_digest", m.program_digest);
  v("machine", m.machine), v("cpu_trouble", m.cpu_trouble), v("state", m.state), v("alive", m.alive);
  v("model_manifest", m.model_manifest), v("model_trouble", m.model_trouble), v("ports", m.ports);
  v("ports_trouble", m.ports_trouble), v("memory_bytes", m.memory_bytes), v("available_bytes", m.available_bytes);
  v("open_files", m.open_files), v("unix_milliseconds", m.unix_milliseconds);
}
template <class Visitor>
void fields(Visitor& v, HostStart& m) {
  v("state", m.state), v("agent", m.agent), v("files", m.files);
}
template <class Visitor>
void fields(Visitor& v, HostStarted& m) {
  v("pid", m.pid);
}
template <class Visitor>
void fields(Visitor& v, HostLook& m) {
  v("state", m.state);
}
template <class Visitor>
void fields(Visitor& v, HostSeen& m) {
  v("alive", m.alive), v("killed", m.killed), v("gateway_url", m.gateway_url), v("logs", m.logs);
}

struct Writer {
  json::object object;
  template <class T>
  void operator()(const char* key, const T& value) {
    object[key] = json::value_from(value);
  }
};

struct Reader {
  const json::object& object;
  std::string wrong;  // the first field that is missing or of another kind
  template <class T>
  void operator()(const char* key, T& out) {
    if (!wrong.empty()) return;
    const json::value* value = object.if_contains(key);
    auto converted = value == nullptr ? json::result<T>(json::error::unknown_name) : json::try_value_to<T>(*value);
    if (!converted) {
      wrong = key;
    } else {
      out = std::move(*converted);
    }
  }
};

template <class Message>
std::string written(Message message) {
  Writer writer;
  fields(writer, message);
  return json::serialize(writer.object) + "\n";
}

std::string_view last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of("\r\n \t");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const std::size_t begin = text.rfind('\n');
  return begin == std::string_view::npos ? text : text.substr(begin + 1);
}

}  // namespace

std::string to_json(const HostQuestion& message) { return written(message); }
std::string to_json(const HostReport& message) { return written(message); }
std::string to_json(const HostStart& message) { return written(message); }
std::string to_json(const HostStarted& message) { return written(message); }
std::string to_json(const HostLook& message) { return written(message); }
std::string to_json(const HostSeen& message) { return written(message); }

template <class Message>
Outcome<Message> from_json(std::string_view text) {
  const auto wrong = [](const std::string& what) {
    return runtime::failure(runtime::ErrorKind::kMalformed,
                            what + ": is another build of this program at the other end? Both must be the same");
  };
  json::error_code code;
  const json::value value = json::parse(last_line(text), code);
  if (code || !value.is_object()) return wrong("no JSON object was said");
  Message message;
  Reader reader{value.as_object(), {}};
  fields(reader, message);
  if (!reader.wrong.empty()) return wrong("'" + reader.wrong + "' is missing or wrong");
  return message;
}

template Outcome<HostQuestion> from_json(std::string_view text);
template Outcome<HostReport> from_json(std::string_view text);
template Outcome<HostStart> from_json(std::string_view text);
template Outcome<HostStarted> from_json(std::string_view text);
template Outcome<HostLook> from_json(std::string_view text);
template Outcome<HostSeen> from_json(std::string_view text);

}  // namespace consort::cli
