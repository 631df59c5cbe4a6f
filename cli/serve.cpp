// `gateway-process`: the HTTP service over the Gateway, started by its host's agent.
// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.hpp"
#include "cli/house/child_process.hpp"
#include "cli/house/gateway_process.hpp"
#include "cli/house/worker.hpp"
#include "cli/http/http_server.hpp"
#include "cli/http/api_keys.hpp"

namespace consort::cli {

namespace {

// When the model came here, in unix seconds: its config's time.
std::int64_t created_at(const std::string& model_dir) {
  struct stat info {};
  return ::stat((model_dir + "/config.json").c_str(), &info) == 0 ? info.st_mtim.tv_sec : 0;
}

// Where others can reach the service, everybody needs a key.
runtime::Status check_keys(const ClusterState& state) {
  CONSORT_TRY(const auto keys, read_api_keys(state.folder.api_keys_file()));
  const std::string& host = state.config.gateway.host;
  if (keys || host.starts_with("127.") || host == "::1") return runtime::done();
  return runtime::failure(runtime::ErrorKind::kInvalid,
                          "gateway.host " + host +
                              " can be reached from outside and there is no API key: make one "
                              "with `consort keys api add " +
                              state.choices.config_path + " NAME`");
}

std::string in_url(const std::string& host) { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }

// A port that was chosen freely is kept over restarts: clients know it from the address that was told.
std::uint16_t port_of(const ClusterState& state) {
  const std::uint16_t wanted = state.config.gateway.port;
  const auto told = StateFolder::read_if_there(state.folder.address_file(kGatewayProcess));
  if (wanted != 0 || !told) return wanted;
  const std::size_t colon = told->rfind(':');
  const int port = colon == std::string::npos ? 0 : std::atoi(told->c_str() + colon + 1);
  return port > 0 && port <= 65535 ? static_cast<std::uint16_t>(port) : wanted;
}

runtime::Status serve(const ClusterState& state) {
  CONSORT_RETURN_IF_ERROR(cluster::check_exposure(state.config));
  CONSORT_RETURN_IF_ERROR(check_keys(state));
  CONSORT_TRY(const auto process, GatewayProcess::open(state));
  HttpOptions options;
  options.host = state.config.gateway.host;
  options.port = port_of(state);
  options.keys_file = state.folder.api_keys_file();
  options.usage_file = state.folder.usage_file();
  options.tls_certificate = state.config.gateway.tls_certificate;
  options.tls_key = state.config.gateway.tls_key;
  const std::string scheme = options.tls_certificate.empty() ? "http://" : "https://";
  options.model = served_name(state.config);
  options.created = created_at(state.config.model);
  options.context_tokens = process->context_tokens();
  options.version = build_name();
  options.has_thinking_switch = process->has_thinking_switch();
  options.watch = process->watch();
  const std::string model = options.model;
  CONSORT_TRY(const auto server,
              HttpServer::open(std::move(options), process->port(), [raw = process.get()] { return raw->metrics(); }));
  const std::string url = scheme + in_url(state.config.gateway.host) + ":" + std::to_string(server->port());
  std::fprintf(stderr, "listening on %s\n", url.c_str());
  // Whoever waits for the address may send a request to it.
  process->run([&] {
    const auto told = StateFolder::write(state.folder.address_file(kGatewayProcess), url + "\n");
    const std::string said = told.ok() ? "serving " + model + " on " + url + "/v1" : told.error().text;
    std::fprintf(stderr, "%s\n", said.c_str());
  });
  return runtime::done();
}

}  // namespace

int run_gateway_process(const ProcessOptions& options) {
  const auto state = ClusterState::of_folder(options.state_dir);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto entered = enter_process(*state, std::string(kGatewayProcess));
  if (!entered.ok()) return wrong_use(entered.error().text);
  const auto ended = serve(*state);
  return ended.ok() ? kExitOk : wrong_use(ended.error().text);
}

}  // namespace consort::cli
