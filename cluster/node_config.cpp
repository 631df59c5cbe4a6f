#include "cluster/node_config.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "cluster/ascii_toml.hpp"
#include "cluster/own_address.hpp"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::size_t kMaxFileBytes = 1 << 20;  // a thousand nodes take 200 KiB
constexpr std::size_t kMaxNodes = 256;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::int64_t kMaxReplicas = 8;
constexpr std::int64_t kMaxColumns = 64;
constexpr std::int64_t kMaxCore = 4095;
constexpr double kMaxSlowdown = 1000;
constexpr std::int64_t kMaxDefaultTokens = 1 << 20;  // no model's context is longer
constexpr std::size_t kMaxModelNameBytes = 128;
constexpr std::int64_t kMaxRunning = 256;  // sequences of one step
constexpr std::int64_t kMaxQueued = 4096;  // each holds its prompt in memory
constexpr std::int64_t kMaxQueuedTokens = std::int64_t{1} << 30;
constexpr std::int64_t kLeastChunk = 8;   // fewer rows read every weight for next to nothing
constexpr std::int64_t kMaxChunk = 2048;  // half of what a step may hold

// One table of the file: takes keys out one by one; what is left over is not known.
class Section {
 public:
  Section(const std::string& path, std::string title, const toml::table& table)
      : path_(path), title_(std::move(title)), table_(table) {}

  runtime::Error wrong(const toml::node& at, std::string_view key, const std::string& what) const {
    return failure(ErrorKind::kInvalid, path_ + ":" + std::to_string(at.source().begin.line) + ": " + title_ +
                                            (key.empty() ? "" : "." + std::string(key)) + ": " + what);
  }
  runtime::Error missing(std::string_view key, const std::string& what) const { return wrong(table_, key, what); }
  const toml::node& node() const { return table_; }

  const toml::node* find(std::string_view key) {
    known_.insert(std::string(key));
    return table_.get(key);
  }
  Status read(std::string_view key, std::string& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_string()) return wrong(*node, key, "must be a text in quotes");
    out = node->as_string()->get();
    return runtime::done();
  }
  Status read(std::string_view key, bool& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_boolean()) return wrong(*node, key, "must be true or false");
    out = node->as_boolean()->get();
    return runtime::done();
  }
  template <class Integer>
  Status read_integer(std::string_view key, std::int64_t least, std::int64_t most, std::optional<Integer>& out) {
    if (find(key) == nullptr) return runtime::done();
    return read_integer(key, least, most, out.emplace());
  }
  template <class Integer>
  Status read_integer(std::string_view key, std::int64_t least, std::int64_t most, Integer& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    CONSORT_TRY(const std::int64_t value, integer(*node, key, least, most));
    out = static_cast<Integer>(value);
    return runtime::done();
  }
  Outcome<std::int64_t> integer(const toml::node& node, std::string_view key, std::int64_t least,
                                std::int64_t most) const {
    if (!node.is_integer() || node.as_integer()->get() < least || node.as_integer()->get() > most) {
      return wrong(node, key, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return node.as_integer()->get();
  }
  // A text with a unit.
  template <class T>
  Status read_quantity(std::string_view key, Outcome<T> (*parse)(std::string_view), T& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return runtime::done();
    if (!node->is_string()) return wrong(*node, key, "must be a text with a unit, in quotes");
    auto value = parse(node->as_string()->get());
    if (!value.ok()) return wrong(*node, key, value.error().text);
    out = *value;
    return runtime::done();
  }
  // Names become file names and log lines.
  Status read_name(std::string_view key, std::string& out) {
    CONSORT_RETURN_IF_ERROR(read(key, out));
    const toml::node* node = find(key);
    if (node == nullptr) return missing(key, "is missing");
    const bool good = !out.empty() && out.size() <= kMaxNameBytes && out.front() != '.' && out.front() != '-' &&
                      out.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
    if (!good) {
      return wrong(*node, key,
                   "\"" + out + "\" must be 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit");
    }
    return runtime::done();
  }
  Status finish() const {
    for (const auto& [key, node] : table_) {
      if (known_.count(std::string(key.str())) != 0) continue;
      std::string names;
      for (const auto& known : known_) names += (names.empty() ? "" : ", ") + known;
      return wrong(node, key.str(), "is not known here; known are " + names);
    }
    return runtime::done();
  }

 private:
  const std::string& path_;
  std::string title_;
  const toml::table& table_;
  std::set<std::string> known_;
};

Status read_columns(Section& section, ColumnMode& out) {
  const toml::node* node = section.find("columns");
  if (node == nullptr) return runtime::done();
  if (const auto* text = node->as_string()) {
    if (text->get() == "auto") return out = {ColumnMode::Kind::kAuto, 1}, runtime::done();
    if (text->get() == "never") return out = {ColumnMode::Kind::kNever, 1}, runtime::done();
  } else if (node->is_integer()) {
    CONSORT_TRY(const std::int64_t count, section.integer(*node, "columns", 1, kMaxColumns));
    return out = {ColumnMode::Kind::kFixed, static_cast<std::uint32_t>(count)}, runtime::done();
  }
  return section.wrong(*node, "columns", "must be \"auto\", \"never\", or into how many parts each expert is cut");
}

Status read_cluster(const toml::table& table, ClusterConfig& config) {
  Section section(config.path, "cluster", table);
  CONSORT_RETURN_IF_ERROR(section.read_name("name", config.name));
  CONSORT_RETURN_IF_ERROR(section.read("model", config.model));
  CONSORT_RETURN_IF_ERROR(section.read_integer("replicas", 1, kMaxReplicas, config.replicas));
  CONSORT_RETURN_IF_ERROR(read_columns(section, config.columns));
  std::string placement = "spread";
  CONSORT_RETURN_IF_ERROR(section.read("placement", placement));
  if (placement != "spread") {
    return section.wrong(*section.find("placement"), "placement", "must be \"spread\"; nothing else is there for now");
  }
  CONSORT_RETURN_IF_ERROR(section.read("trust_network", config.trust_network));
  CONSORT_RETURN_IF_ERROR(section.read("shared_memory", config.shared_memory));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("heartbeat_every", parse_duration, config.heartbeat_every));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("suspect_after", parse_duration, config.suspect_after));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("dead_after", parse_duration, config.dead_after));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("request_deadline", parse_duration, config.request_deadline));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (config.heartbeat_every < std::chrono::milliseconds(10)) {
    return section.missing("heartbeat_every", "must be 10ms or more");
  }
  if (config.suspect_after < 2 * config.heartbeat_every) {
    return section.missing("suspect_after", "must be twice heartbeat_every or more, else every node is suspected");
  }
  if (config.dead_after <= config.suspect_after) {
    return section.missing("dead_after", "must be longer than suspect_after");
  }
  if (config.request_deadline <= config.dead_after) {
    return section.missing("request_deadline", "must be longer than dead_after");
  }
  return runtime::done();
}

bool is_loopback_address(const std::string& host) { return host.starts_with("127.") || host == "::1"; }

Status read_gateway(const toml::table& table, IsOwnAddress own, ClusterConfig& config) {
  Section section(config.path, "gateway", table);
  GatewayConfig& gateway = config.gateway;
  CONSORT_RETURN_IF_ERROR(section.read("host", gateway.host));
  CONSORT_RETURN_IF_ERROR(section.read_integer("port", 0, 65535, gateway.port));
  CONSORT_RETURN_IF_ERROR(section.read("insecure", gateway.insecure));
  CONSORT_RETURN_IF_ERROR(section.read("model_name", gateway.model_name));
  CONSORT_RETURN_IF_ERROR(section.read_integer("default_max_tokens", 1, kMaxDefaultTokens, gateway.default_max_tokens));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("request_deadline", parse_duration, gateway.request_deadline));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (!config.gateway_index()) {
    return section.missing("", "no node has the role gateway: add it to the roles of the node that is to serve");
  }
  if (gateway.host != "0.0.0.0" && gateway.host != "::" && !own(gateway.host)) {
    return section.missing("host", "\"" + gateway.host + "\" is no address of this machine; 127.0.0.1 always is");
  }
  if (!is_loopback_address(gateway.host) && !gateway.insecure) {
    return section.missing("host",
                           "\"" + gateway.host +
                               "\" can be reached from outside, and there is no TLS yet: keep 127.0.0.1 and put "
                               "a TLS proxy before it, or set gateway.insecure = true on a network that you trust");
  }
  const bool good_name =
      gateway.model_name.size() <= kMaxModelNameBytes &&
      gateway.model_name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:@") ==
          std::string::npos;
  if (!good_name) return section.missing("model_name", "must be up to 128 of A-Z, a-z, 0-9, '.', '_', '-', ':', '@'");
  if (gateway.request_deadline < std::chrono::seconds(1))
    return section.missing("request_deadline", "must be 1s or more");
  return runtime::done();
}

Status read_batcher(const toml::table& table, ClusterConfig& config) {
  Section section(config.path, "batcher", table);
  BatcherConfig& batcher = config.batcher;
  CONSORT_RETURN_IF_ERROR(section.read_integer("max_running", 1, kMaxRunning, batcher.max_running));
  CONSORT_RETURN_IF_ERROR(section.read_integer("max_queued", 1, kMaxQueued, batcher.max_queued));
  CONSORT_RETURN_IF_ERROR(section.read_integer("max_queued_tokens", 1, kMaxQueuedTokens, batcher.max_queued_tokens));
  CONSORT_RETURN_IF_ERROR(section.read_integer("chunk_tokens", kLeastChunk, kMaxChunk, batcher.chunk_tokens));
  bool prefix_cache = true;
  CONSORT_RETURN_IF_ERROR(section.read("prefix_cache", prefix_cache));
  if (section.find("prefix_cache") != nullptr) batcher.prefix_cache = prefix_cache;
  return section.finish();
}

Status read_roles(Section& section, NodeRoles& roles) {
  const toml::node* node = section.find("roles");
  if (node == nullptr) return section.missing("roles", "is missing; like [\"trunk\", \"experts\"]");
  const toml::array* list = node->as_array();
  if (list == nullptr || list->empty()) return section.wrong(*node, "roles", "must be a list of roles, not empty");
  for (const auto& entry : *list) {
    const auto* text = entry.as_string();
    if (text == nullptr) return section.wrong(entry, "roles", "must hold texts in quotes");
    bool* role = text->get() == "coordinator" ? &roles.coordinator
                 : text->get() == "batcher"   ? &roles.batcher
                 : text->get() == "trunk"     ? &roles.trunk
                 : text->get() == "experts"   ? &roles.experts
                 : text->get() == "gateway"   ? &roles.gateway
                                              : nullptr;
    if (role == nullptr) {
      return section.wrong(
          entry, "roles",
          "\"" + text->get() + "\" is no role; there are coordinator, batcher, trunk, experts, gateway");
    }
    if (*role) return section.wrong(entry, "roles", "\"" + text->get() + "\" is there twice");
    *role = true;
  }
  return runtime::done();
}

Status read_cores(Section& section, std::vector<int>& cores) {
  const toml::node* node = section.find("cores");
  if (node == nullptr) return runtime::done();
  const toml::array* list = node->as_array();
  if (list == nullptr) return section.wrong(*node, "cores", "must be a list of core numbers, like [0, 1]");
  for (const auto& entry : *list) {
    CONSORT_TRY(const std::int64_t core, section.integer(entry, "cores", 0, kMaxCore));
    if (std::find(cores.begin(), cores.end(), core) != cores.end()) {
      return section.wrong(entry, "cores", "core " + std::to_string(core) + " is there twice");
    }
    cores.push_back(static_cast<int>(core));
  }
  return runtime::done();
}

Status read_shape(const std::string& path, Section& section, LinkShape& shape) {
  const toml::node* node = section.find("shape");
  if (node == nullptr) return runtime::done();
  if (!node->is_table()) return section.wrong(*node, "shape", "must be like { delay = \"500us\", rate = \"1Gbit\" }");
  Section inner(path, "node.shape", *node->as_table());
  CONSORT_RETURN_IF_ERROR(inner.read_quantity("delay", parse_duration, shape.delay));
  CONSORT_RETURN_IF_ERROR(inner.read_quantity("rate", parse_rate, shape.bytes_per_second));
  if (inner.find("rate") != nullptr && shape.bytes_per_second == 0) return inner.missing("rate", "must not be zero");
  return inner.finish();
}

Status read_host(Section& section, const ClusterConfig& config, IsOwnAddress own, NodeConfig& out) {
  CONSORT_RETURN_IF_ERROR(section.read("host", out.host));
  const toml::node* node = section.find("host");
  if (node == nullptr || out.host.empty()) return section.missing("host", "is missing; \"127.0.0.1\" is this machine");
  if (!own(out.host)) {
    return section.wrong(*node, "host",
                         "\"" + out.host +
                             "\" is another machine; for now all nodes must run on this one, "
                             "so give 127.0.0.1 or one of its addresses");
  }
  if (!is_private_address(out.host) && !config.trust_network) {
    return section.wrong(*node, "host",
                         "\"" + out.host +
                             "\" may be reached from outside, and the data plane is not encrypted; "
                             "use a private address, or set cluster.trust_network = true");
  }
  return runtime::done();
}

Status read_node(const toml::table& table, const ClusterConfig& config, IsOwnAddress own, NodeConfig& out) {
  Section section(config.path, "node", table);
  CONSORT_RETURN_IF_ERROR(section.read_name("name", out.name));
  if (config.find(out.name) != nullptr) {
    return section.wrong(*section.find("name"), "name", "\"" + out.name + "\" is the name of two nodes");
  }
  CONSORT_RETURN_IF_ERROR(read_host(section, config, own, out));
  CONSORT_RETURN_IF_ERROR(read_roles(section, out.roles));
  CONSORT_RETURN_IF_ERROR(read_cores(section, out.cores));
  int threads = 0;
  CONSORT_RETURN_IF_ERROR(section.read_integer("threads", 1, kMaxCore, threads));
  if (threads > 0) out.threads = threads;
  std::uint64_t memory = 0;
  CONSORT_RETURN_IF_ERROR(section.read_quantity("memory", parse_bytes, memory));
  if (const toml::node* node = section.find("memory")) {
    if (memory == 0) return section.wrong(*node, "memory", "must not be zero");
    out.memory_bytes = memory;
  }
  if (const toml::node* node = section.find("slowdown")) {
    const auto value = node->value<double>();
    if (!value || !(*value >= 1.0) || *value > kMaxSlowdown) {
      return section.wrong(*node, "slowdown", "must be a number from 1 to 1000");
    }
    out.slowdown = *value;
  }
  CONSORT_RETURN_IF_ERROR(read_shape(config.path, section, out.shape));
  return section.finish();
}

// What only the nodes together can get wrong.
Status check_roles(const toml::node& at, const ClusterConfig& config) {
  const auto count = [&](bool NodeRoles::*role) {
    return std::count_if(config.nodes.begin(), config.nodes.end(),
                         [&](const NodeConfig& node) { return node.roles.*role; });
  };
  const auto wrong = [&](const std::string& what) {
    return failure(ErrorKind::kInvalid,
                   config.path + ":" + std::to_string(at.source().begin.line) + ": node.roles: " + what);
  };
  if (const auto n = count(&NodeRoles::coordinator); n != 1) {
    return wrong("exactly one node must have the role coordinator, " + std::to_string(n) + " have it");
  }
  if (const auto n = count(&NodeRoles::batcher); n != 1) {
    return wrong("exactly one node must have the role batcher, " + std::to_string(n) + " have it");
  }
  if (const auto n = count(&NodeRoles::gateway); n > 1) {
    return wrong("one node at most may have the role gateway, " + std::to_string(n) + " have it");
  }
  if (count(&NodeRoles::trunk) == 0) return wrong("at least one node must have the role trunk");
  const auto experts = count(&NodeRoles::experts);
  if (experts == 0) return wrong("at least one node must have the role experts");
  if (config.replicas > experts) {
    return failure(ErrorKind::kInvalid, config.path + ":" + std::to_string(at.source().begin.line) +
                                            ": cluster.replicas: " + std::to_string(config.replicas) +
                                            " replicas need as many nodes with the role experts, there are " +
                                            std::to_string(experts));
  }
  return runtime::done();
}

}  // namespace

const NodeConfig* ClusterConfig::find(std::string_view node) const {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [&](const NodeConfig& n) { return n.name == node; });
  return at == nodes.end() ? nullptr : &*at;
}
std::size_t ClusterConfig::coordinator_index() const {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [](const NodeConfig& n) { return n.roles.coordinator; });
  return static_cast<std::size_t>(at - nodes.begin());
}
std::size_t ClusterConfig::batcher_index() const {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [](const NodeConfig& n) { return n.roles.batcher; });
  return static_cast<std::size_t>(at - nodes.begin());
}

std::optional<std::size_t> ClusterConfig::gateway_index() const {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [](const NodeConfig& n) { return n.roles.gateway; });
  if (at == nodes.end()) return std::nullopt;
  return static_cast<std::size_t>(at - nodes.begin());
}

Outcome<ClusterConfig> parse_cluster_config(std::string_view text, const std::string& path, IsOwnAddress own) {
  CONSORT_TRY(const std::string ascii, ascii_toml(text, path));
  const toml::parse_result parsed = toml::parse(ascii, path);
  if (!parsed) {
    const auto& error = parsed.error();
    return failure(ErrorKind::kInvalid,
                   path + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  }
  const toml::table& root = parsed.table();
  ClusterConfig config;
  config.path = path;
  Section top(config.path, "file", root);
  const toml::node* cluster = top.find("cluster");
  const toml::node* nodes = top.find("node");
  const toml::node* gateway = top.find("gateway");
  const toml::node* batcher = top.find("batcher");
  CONSORT_RETURN_IF_ERROR(top.finish());
  if (cluster == nullptr || !cluster->is_table()) return top.missing("cluster", "a section [cluster] is missing");
  if (nodes == nullptr || !nodes->is_array_of_tables()) {
    return top.missing("node", "there must be one section [[node]] for every node");
  }
  CONSORT_RETURN_IF_ERROR(read_cluster(*cluster->as_table(), config));
  if (nodes->as_array()->size() > kMaxNodes) {
    return top.wrong(*nodes, "node", "there are more than " + std::to_string(kMaxNodes) + " nodes");
  }
  for (const auto& node : *nodes->as_array()) {
    NodeConfig one;
    CONSORT_RETURN_IF_ERROR(read_node(*node.as_table(), config, own, one));
    config.nodes.push_back(std::move(one));
  }
  CONSORT_RETURN_IF_ERROR(check_roles(*nodes, config));
  if (gateway != nullptr) {
    if (!gateway->is_table()) return top.wrong(*gateway, "gateway", "must be one section [gateway]");
    CONSORT_RETURN_IF_ERROR(read_gateway(*gateway->as_table(), own, config));
  }
  if (batcher != nullptr) {
    if (!batcher->is_table()) return top.wrong(*batcher, "batcher", "must be one section [batcher]");
    CONSORT_RETURN_IF_ERROR(read_batcher(*batcher->as_table(), config));
  }
  if (!config.model.empty()) {
    const std::filesystem::path model(config.model);
    if (model.is_relative()) {
      config.model = (std::filesystem::path(path).parent_path() / model).lexically_normal().string();
    }
  }
  return config;
}

Outcome<ClusterConfig> read_cluster_config(const std::string& path, IsOwnAddress own) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return failure(ErrorKind::kInvalid, path + ": cannot be opened; give the path of a cluster file");
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) return failure(ErrorKind::kInvalid, path + ": is larger than 1 MiB");
  return parse_cluster_config(text, path, own);
}

}  // namespace consort::cluster
