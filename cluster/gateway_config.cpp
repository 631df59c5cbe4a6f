#include <algorithm>
#include <charconv>
#include <filesystem>

#include "cluster/gateway_config-inl.hpp"

namespace consort::cluster {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

namespace {

constexpr std::int64_t kMaxDefaultTokens = 1 << 20;  // no model's context is longer
constexpr std::size_t kMaxModelNameBytes = 128;

}  // namespace

bool is_loopback_address(const std::string& host) { return host.starts_with("127.") || host == "::1"; }

Status read_gateway(const toml::table& table, IsOwnAddress own, ClusterConfig& config) {
  TomlSection section(config.path, "gateway", table);
  GatewayConfig& gateway = config.gateway;
  CONSORT_RETURN_IF_ERROR(section.read("host", gateway.host));
  CONSORT_RETURN_IF_ERROR(section.read_integer("port", 0, 65535, gateway.port));
  CONSORT_RETURN_IF_ERROR(section.read("insecure", gateway.insecure));
  CONSORT_RETURN_IF_ERROR(section.read("tls_certificate", gateway.tls_certificate));
  CONSORT_RETURN_IF_ERROR(section.read("tls_key", gateway.tls_key));
  CONSORT_RETURN_IF_ERROR(section.read("model_name", gateway.model_name));
  CONSORT_RETURN_IF_ERROR(section.read_integer("default_max_tokens", 1, kMaxDefaultTokens, gateway.default_max_tokens));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("request_deadline", parse_duration, gateway.request_deadline));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (!config.gateway_index()) {
    return section.missing("", "no node has the role gateway: add it to the roles of the node that is to serve");
  }
  const bool is_checked_here = !config.is_elsewhere(config.nodes[*config.gateway_index()].host);
  if (is_checked_here && gateway.host != "0.0.0.0" && gateway.host != "::" && !own(gateway.host)) {
    return section.missing("host", "\"" + gateway.host + "\" is no address of this machine; 127.0.0.1 always is");
  }
  if (gateway.tls_certificate.empty() != gateway.tls_key.empty()) {
    return section.missing(gateway.tls_key.empty() ? "tls_key" : "tls_certificate",
                           "is missing: TLS needs a certificate and its key, both PEM files");
  }
  for (std::string* file : {&gateway.tls_certificate, &gateway.tls_key}) {
    if (!file->empty()) *file = beside(config.path, *file);
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

Status check_exposure(const ClusterConfig& config) {
  const GatewayConfig& gateway = config.gateway;
  if (is_loopback_address(gateway.host) || gateway.insecure || !gateway.tls_certificate.empty()) return runtime::done();
  return failure(
      ErrorKind::kInvalid,
      config.path + ": gateway.host: \"" + gateway.host +
          "\" can be reached from outside: give gateway.tls_certificate and gateway.tls_key, or keep "
          "127.0.0.1, or say gateway.insecure = true (or `consort up --insecure`) on a network that you trust");
}

Status read_money(TomlSection& section, std::string_view key, std::optional<Money>& out) {
  const toml::node* node = section.find(key);
  if (node == nullptr) return runtime::done();
  char text[32] = {};
  if (node->is_floating_point()) {  // the shortest decimal that means this number is the one that was written
    std::to_chars(text, text + sizeof text - 1, node->as_floating_point()->get(), std::chars_format::fixed);
  } else if (node->is_integer()) {
    std::to_chars(text, text + sizeof text - 1, node->as_integer()->get());
  } else if (!node->is_string()) {
    return section.wrong(*node, key, "must be a sum in dollars, like 0.55");
  }
  auto sum = parse_money(node->is_string() ? std::string_view(node->as_string()->get()) : std::string_view(text));
  if (!sum.ok()) return section.wrong(*node, key, sum.error().text);
  out = *sum;
  return runtime::done();
}

Status read_price(const toml::table& table, ClusterConfig& config) {
  TomlSection section(config.path, "price", table);
  PriceList price;
  std::optional<Money> prompt, completion;
  CONSORT_RETURN_IF_ERROR(read_money(section, "per_million_prompt", prompt));
  CONSORT_RETURN_IF_ERROR(read_money(section, "per_million_cached", price.per_million_cached));
  CONSORT_RETURN_IF_ERROR(read_money(section, "per_million_completion", completion));
  CONSORT_RETURN_IF_ERROR(read_money(section, "machine_cost_per_hour", price.machine_cost_per_hour));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (prompt.has_value() != completion.has_value()) {
    return section.missing(prompt ? "per_million_completion" : "per_million_prompt", "is missing");
  }
  if (price.per_million_cached && !prompt) return section.missing("per_million_prompt", "is missing");
  price.per_million_prompt = prompt.value_or(Money{});
  price.per_million_completion = completion.value_or(Money{});
  price.bills = prompt.has_value();
  const auto has_cost = [](const NodeConfig& node) { return node.machine_cost_per_hour.has_value(); };
  if (price.machine_cost_per_hour && std::ranges::any_of(config.nodes, has_cost)) {
    return section.missing("machine_cost_per_hour", "is here for the whole cluster and at a node: keep one of them");
  }
  config.price = price;
  return runtime::done();
}

std::optional<Money> machine_cost_per_hour(const ClusterConfig& config) {
  if (config.price.machine_cost_per_hour) return config.price.machine_cost_per_hour;
  std::optional<Money> sum;
  for (const NodeConfig& node : config.nodes) {
    if (node.machine_cost_per_hour) sum = Money{sum.value_or(Money{}).micros + node.machine_cost_per_hour->micros};
  }
  return sum;
}

std::string beside(const std::string& cluster_file, const std::string& path) {
  const std::filesystem::path given(path);
  if (!given.is_relative()) return path;
  return (std::filesystem::path(cluster_file).parent_path() / given).lexically_normal().string();
}

}  // namespace consort::cluster
