#include "cluster/node_config.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cluster/ascii_toml.hpp"
#include "cluster/gateway_config-inl.hpp"
#include "cluster/own_address.hpp"
#include "cluster/toml_section-inl.hpp"

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::size_t kMaxFileBytes = 1 << 20;  // a thousand nodes take 200 KiB
constexpr std::size_t kMaxNodes = 256;
constexpr std::int64_t kMaxReplicas = 8;
constexpr std::int64_t kMaxColumns = 64;
constexpr std::int64_t kMaxCore = 4095;
constexpr double kMaxSlowdown = 1000;
constexpr std::int64_t kMaxRunning = 256;  // sequences of one step
constexpr std::int64_t kMaxQueued = 4096;  // each holds its prompt in memory
constexpr std::int64_t kMaxQueuedTokens = std::int64_t{1} << 30;
constexpr std::int64_t kLeastChunk = 8;   // fewer rows read every weight for next to nothing
constexpr std::int64_t kMaxChunk = 2048;  // half of what a step may hold

Status read_columns(TomlSection& section, ColumnMode& out) {
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
  TomlSection section(config.path, "cluster", table);
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

Status read_batcher(const toml::table& table, ClusterConfig& config) {
  TomlSection section(config.path, "batcher", table);
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

// They go to ssh and to a shell there.
bool is_ssh_destination(const std::string& text) {
  return !text.empty() && text.front() != '-' &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:%/") ==
             std::string::npos;
}

Status read_host_section(const toml::table& table, IsOwnAddress own, ClusterConfig& config) {
  TomlSection section(config.path, "host", table);
  HostConfig host;
  CONSORT_RETURN_IF_ERROR(section.read("address", host.address));
  CONSORT_RETURN_IF_ERROR(section.read("ssh", host.ssh));
  CONSORT_RETURN_IF_ERROR(section.read("program", host.program));
  CONSORT_RETURN_IF_ERROR(section.read("model", host.model));
  CONSORT_RETURN_IF_ERROR(section.read("state", host.state));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (!is_ipv4_address(host.address)) {
    return section.missing("address", "must be an IPv4 address, on which the machine's nodes are reached");
  }
  if (host.ssh.empty()) host.ssh = host.address;
  if (!is_ssh_destination(host.ssh)) {
    return section.missing("ssh", "must be what ssh is given, like \"name\" or \"user@name\"");
  }
  if (host.program.empty()) return section.missing("program", "must not be empty");
  for (const auto& [key, path] : {std::pair("model", host.model), std::pair("state", host.state)}) {
    if (!path.empty() && path.front() != '/') return section.missing(key, "must be an absolute path there");
  }
  if (config.is_elsewhere(host.address)) {
    return section.missing("address", "\"" + host.address + "\" has two sections [[host]]");
  }
  if (!own(host.address)) config.hosts.push_back(std::move(host));
  return runtime::done();
}

// Nodes on several machines must all be reached from each other.
Status check_hosts(const toml::node& at, const ClusterConfig& config) {
  const auto wrong = [&](const std::string& what) {
    return failure(ErrorKind::kInvalid, config.path + ":" + std::to_string(at.source().begin.line) + ": " + what);
  };
  for (const HostConfig& host : config.hosts) {
    const bool has_node =
        std::ranges::any_of(config.nodes, [&](const NodeConfig& n) { return n.host == host.address; });
    if (!has_node) return wrong("host: no node has the host \"" + host.address + "\"");
  }
  if (config.hosts.empty()) return runtime::done();
  for (const NodeConfig& node : config.nodes) {
    if (is_loopback_address(node.host) || node.host == "localhost") {
      return wrong("node.host: node " + node.name + " is at \"" + node.host +
                   "\", where nodes of other machines cannot reach it: give this machine's address in their network");
    }
  }
  return runtime::done();
}

Status read_roles(TomlSection& section, NodeRoles& roles) {
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

Status read_cores(TomlSection& section, std::vector<int>& cores) {
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

Status read_shape(const std::string& path, TomlSection& section, LinkShape& shape) {
  const toml::node* node = section.find("shape");
  if (node == nullptr) return runtime::done();
  if (!node->is_table()) return section.wrong(*node, "shape", "must be like { delay = \"500us\", rate = \"1Gbit\" }");
  TomlSection inner(path, "node.shape", *node->as_table());
  CONSORT_RETURN_IF_ERROR(inner.read_quantity("delay", parse_duration, shape.delay));
  CONSORT_RETURN_IF_ERROR(inner.read_quantity("rate", parse_rate, shape.bytes_per_second));
  if (inner.find("rate") != nullptr && shape.bytes_per_second == 0) return inner.missing("rate", "must not be zero");
  return inner.finish();
}

Status read_host(TomlSection& section, const ClusterConfig& config, IsOwnAddress own, NodeConfig& out) {
  CONSORT_RETURN_IF_ERROR(section.read("host", out.host));
  const toml::node* node = section.find("host");
  if (node == nullptr || out.host.empty()) return section.missing("host", "is missing; \"127.0.0.1\" is this machine");
  if (!own(out.host) && !config.is_elsewhere(out.host)) {
    return section.wrong(*node, "host",
                         "\"" + out.host + "\" is another machine: give it a section [[host]] with address = \"" +
                             out.host + "\", so that `consort up` can start its nodes over ssh");
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
  TomlSection section(config.path, "node", table);
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
  CONSORT_RETURN_IF_ERROR(read_money(section, "machine_cost_per_hour", out.machine_cost_per_hour));
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
const HostConfig* ClusterConfig::find_host(std::string_view address) const {
  const auto at = std::ranges::find(hosts, address, &HostConfig::address);
  return at == hosts.end() ? nullptr : &*at;
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
  TomlSection top(config.path, "file", root);
  const toml::node* cluster = top.find("cluster");
  const toml::node* nodes = top.find("node");
  const toml::node* gateway = top.find("gateway");
  const toml::node* price = top.find("price");
  const toml::node* batcher = top.find("batcher");
  const toml::node* hosts = top.find("host");
  CONSORT_RETURN_IF_ERROR(top.finish());
  if (cluster == nullptr || !cluster->is_table()) return top.missing("cluster", "a section [cluster] is missing");
  if (nodes == nullptr || !nodes->is_array_of_tables()) {
    return top.missing("node", "there must be one section [[node]] for every node");
  }
  CONSORT_RETURN_IF_ERROR(read_cluster(*cluster->as_table(), config));
  if (hosts != nullptr && !hosts->is_array_of_tables()) {
    return top.wrong(*hosts, "host", "must be sections [[host]], one for every other machine");
  }
  if (hosts != nullptr) {
    for (const auto& host : *hosts->as_array()) {
      CONSORT_RETURN_IF_ERROR(read_host_section(*host.as_table(), own, config));
    }
  }
  if (nodes->as_array()->size() > kMaxNodes) {
    return top.wrong(*nodes, "node", "there are more than " + std::to_string(kMaxNodes) + " nodes");
  }
  for (const auto& node : *nodes->as_array()) {
    NodeConfig one;
    CONSORT_RETURN_IF_ERROR(read_node(*node.as_table(), config, own, one));
    config.nodes.push_back(std::move(one));
  }
  CONSORT_RETURN_IF_ERROR(check_roles(*nodes, config));
  CONSORT_RETURN_IF_ERROR(check_hosts(*nodes, config));
  if (gateway != nullptr) {
    if (!gateway->is_table()) return top.wrong(*gateway, "gateway", "must be one section [gateway]");
    CONSORT_RETURN_IF_ERROR(read_gateway(*gateway->as_table(), own, config));
  }
  if (price != nullptr) {
    if (!price->is_table()) return top.wrong(*price, "price", "must be one section [price]");
    CONSORT_RETURN_IF_ERROR(read_price(*price->as_table(), config));
  }
  if (batcher != nullptr) {
    if (!batcher->is_table()) return top.wrong(*batcher, "batcher", "must be one section [batcher]");
    CONSORT_RETURN_IF_ERROR(read_batcher(*batcher->as_table(), config));
  }
  if (!config.model.empty()) config.model = beside(path, config.model);
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
