// `gateway-process`: the HTTP service over the Gateway, started by its host's agent.
// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <chrono>
#include <cstdio>

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

runtime::Status serve(const ClusterState& state) {
  CONSORT_RETURN_IF_ERROR(check_keys(state));
  CONSORT_TRY(const auto process, GatewayProcess::open(state));
  HttpOptions options;
  options.host = state.config.gateway.host;
  options.port = state.config.gateway.port;
  options.keys_file = state.folder.api_keys_file();
  options.model = served_name(state.config);
  options.created = created_at(state.config.model);
  options.context_tokens = process->context_tokens();
  options.version = build_name();
  options.has_thinking_switch = process->has_thinking_switch();
  options.watch = process->watch();
  const std::string model = options.model;
  CONSORT_TRY(const auto server,
              HttpServer::open(std::move(options), process->port(), [raw = process.get()] { return raw->metrics(); }));
  const std::string url = "http://" + in_url(state.config.gateway.host) + ":" + std::to_string(server->port());
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
