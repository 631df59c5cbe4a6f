// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx_settings.hpp"

#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <span>
#include <sstream>
#include <string_view>

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;

namespace {

struct Setting {
  const char* name;
  const char* value;
  const char* why;
};

// Measured on UCX 1.13.1. TLS is set apart, because rc and ud are only named where there is a verbs device.
constexpr std::array kSettings = {
    Setting{"RNDV_THRESH", "64k", "auto costs a 14 KB row five times its round trip over TCP"},
    Setting{"KEEPALIVE_INTERVAL", "1s", "the default of 20 s hides a dead peer from an active sender"},
    Setting{"ADDRESS_VERSION", "v2", "shorter worker addresses"},
};

// ucp_config_modify accepts these and then ignores them (1.13.1 says "invalid configurations"): only the environment
// reaches the TCP interfaces, which read it when the worker is made.
constexpr std::array kTcpSettings = {
    Setting{"TCP_TX_SEG_SIZE", "256k", "a batch of rows is one segment"},
    Setting{"TCP_RX_SEG_SIZE", "256k", "not below TX"},
    Setting{"TCP_KEEPIDLE", "2s", "an idle peer that lost power is noticed in 5 s"},
    Setting{"TCP_KEEPINTVL", "1s", "as above"},
    Setting{"TCP_KEEPCNT", "3", "as above"},
};

bool has_verbs_device() {
  std::error_code error;
  return std::filesystem::directory_iterator("/sys/class/infiniband", error) != std::filesystem::directory_iterator();
}

// UCX logs to standard output by default, where commands print their answers: to standard error instead.
ucs_log_func_rc_t log_to_stderr(const char*, unsigned, const char*, ucs_log_level_t level,
                                const ucs_log_component_config_t* component, const char* format, va_list arguments) {
  if (component != nullptr && level > component->log_level) return UCS_LOG_FUNC_RC_CONTINUE;
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::fprintf(stderr, "ucx: %s\n", text.data());
  return UCS_LOG_FUNC_RC_STOP;
}

// The value of one setting as UCX holds it now.
std::string value_in_force(const std::string& printed, const std::string& name) {
  const auto key = "UCX_" + name + "=";
  std::istringstream lines(printed);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return line.substr(key.size());
  }
  return {};
}

std::string printed_by(const std::function<void(FILE*)>& print) {
  char* text = nullptr;
  std::size_t size = 0;
  FILE* stream = ::open_memstream(&text, &size);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::string copy(text, size);
  std::free(text);
  return copy;
}

}  // namespace

runtime::Outcome<UcxContext> open_ucx(const std::string& asked, bool shared_memory, const std::string& net_devices) {
  static std::once_flag log_redirected;
  std::call_once(log_redirected, [] {
    if (std::getenv("UCX_LOG_FILE") == nullptr) ucs_log_push_handler(log_to_stderr);
  });
  std::ostringstream settings;
  std::string transports = asked;
  if (transports.empty()) transports = std::string("tcp") + (shared_memory ? ",sm" : "") + (has_verbs_device() ? ",rc,ud" : "");
  const auto may_use = [&](std::initializer_list<const char*> names) {
    const auto named = [&](const char* name) { return transports.find(name) != std::string::npos; };
    return named("all") || std::any_of(names.begin(), names.end(), named);
  };
  // UCX complains aloud about settings of transports that it does not open.
  for (const auto& setting : may_use({"tcp"}) ? std::span<const Setting>(kTcpSettings) : std::span<const Setting>{}) {
    const auto name = std::string("UCX_") + setting.name;
    const char* users = std::getenv(name.c_str());
    const bool ours = users == nullptr || std::string_view(users) == setting.value;
    if (users == nullptr) ::setenv(name.c_str(), setting.value, 0);
    settings << name << '=' << (ours ? setting.value : users) << " (" << (ours ? setting.why : "set in the environment") << ")\n";
  }
  ucp_config_t* config = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return failure(ErrorKind::kInvalid, std::string("UCX does not accept the UCX_* variables of the environment: ") +
                                            ucs_status_string(status));
  }
  std::string refused;
  const auto set = [&](const std::string& name, const std::string& value, const std::string& why) {
    if (const char* users = std::getenv(("UCX_" + name).c_str()); users != nullptr) {
      settings << "UCX_" << name << '=' << users << " (set in the environment)\n";
      return;
    }
    if (ucp_config_modify(config, name.c_str(), value.c_str()) != UCS_OK) refused += " UCX_" + name + "=" + value;
    settings << "UCX_" << name << '=' << value << " (" << why << ")\n";
  };
  if (may_use({"sm", "shm", "posix", "sysv"})) {
    set("MM_ERROR_HANDLING", "y", "peer failure mode keeps shared memory");
    set("MM_FIFO_SIZE", "512", "the windows of ten peers on this host fit");
  }
  for (const auto& setting : kSettings) set(setting.name, setting.value, setting.why);
  set("TLS", transports, asked.empty() ? "ours; self knows no peer failure" : "configured");
  if (!net_devices.empty()) set("NET_DEVICES", net_devices, "configured");
  if (!refused.empty()) {
    ucp_config_release(config);
    return failure(ErrorKind::kInvalid, "UCX refused" + refused + "; set it in the environment to what this version accepts");
  }
  const auto printed = printed_by([&](FILE* stream) { ucp_config_print(config, stream, nullptr, UCS_CONFIG_PRINT_CONFIG); });
  for (const char* name : {"RNDV_THRESH", "TLS", "NET_DEVICES", "KEEPALIVE_INTERVAL"}) {
    settings << "in force: UCX_" << name << '=' << value_in_force(printed, name) << '\n';
  }
  settings << "UCX " << ucp_get_version_string() << '\n';

  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  UcxContext context;
  const auto status = ucp_init(&params, config, &context.handle);
  ucp_config_release(config);
  if (status != UCS_OK) {
    return failure(ErrorKind::kInvalid, std::string("UCX does not start: ") + ucs_status_string(status) +
                                            "; see UCX_TLS and UCX_NET_DEVICES");
  }
  context.settings = settings.str();
  return context;
}

// "#   lane[0]:  5:sysv/memory.0 md[2] -> md[2]/sysv/sysdev[255] am am_bw#0": UCX 1.13 has no other way to ask.
std::vector<std::string> active_message_transports(ucp_ep* endpoint) {
  std::vector<std::string> transports;
  std::istringstream lines(printed_by([&](FILE* stream) { ucp_ep_print_info(endpoint, stream); }));
  for (std::string line; std::getline(lines, line);) {
    const auto lane = line.find("lane[");
    const auto arrow = line.find("->");
    if (lane == std::string::npos || arrow == std::string::npos || line.find(" am", arrow) == std::string::npos) continue;
    const auto colon = line.find(':', line.find(']', lane) + 2);
    const auto slash = line.find('/', colon);
    if (colon == std::string::npos || slash == std::string::npos || slash > arrow) continue;
    transports.push_back(line.substr(colon + 1, slash - colon - 1));
  }
  return transports;
}

bool is_shared_memory(const std::string& transport) {
  for (const char* name : {"sysv", "posix", "xpmem", "cma", "knem", "self"}) {
    if (transport == name) return true;
  }
  return false;
}

unsigned long long host_fingerprint() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot_id;
  std::getline(file, boot_id);
  unsigned long long hash = 0xcbf29ce484222325ull;  // FNV-1a
  for (const char c : boot_id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

}  // namespace consort::transport
