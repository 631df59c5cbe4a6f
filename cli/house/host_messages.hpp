// What `consort up`, `down` and `doctor` say to this program on another machine over ssh, and what it says back: one
// JSON object each way. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::cli {

// "host-report": looks at the machine, changes nothing.
struct HostQuestion {
  std::string cluster;  // its name
  std::string state;    // folder; empty: where `up` would put it there
  std::string model;
  std::string address;  // whose ports are wanted
  std::uint32_t ports = 0;
};
struct HostReport {
  std::string build;               // "consort 0.1.0"
  std::string processor_kind;      // "x86_64"
  std::string program_digest;      // of its file: equal ones are the same build
  std::string machine;             // in words
  std::string cpu_trouble;         // why this CPU cannot be used; empty: it can
  std::string state;               // the folder
  std::vector<std::string> alive;  // processes of the cluster that live there
  std::string model_manifest;      // empty with a trouble
  std::string model_trouble;
  std::vector<std::uint32_t> ports;  // free ones
  std::string ports_trouble;
  std::uint64_t memory_bytes = 0;
  std::uint64_t available_bytes = 0;
  std::uint64_t open_files = 0;  // ulimit -n
  std::int64_t unix_milliseconds = 0;
};

// "host-start": writes the files into the state folder, 0600, and starts the agent. Keys are among them, so this goes
// over standard input only.
struct HostStart {
  std::string state;
  std::string agent;
  std::map<std::string, std::string> files;  // path in the folder -> what it holds
};
struct HostStarted {
  std::int64_t pid = 0;
};

// "host-look" and "host-end": of what lives there; host-end kills it first.
struct HostLook {
  std::string state;
};
struct HostSeen {
  std::vector<std::string> alive;
  std::vector<std::string> killed;
  std::string gateway_url;
  std::string logs;  // the last lines of each process
};

std::string to_json(const HostQuestion& message);
std::string to_json(const HostReport& message);
std::string to_json(const HostStart& message);
std::string to_json(const HostStarted& message);
std::string to_json(const HostLook& message);
std::string to_json(const HostSeen& message);
// Of the last line that is not empty: a shell's start-up files may have said something before. kMalformed in words.
template <class Message>
runtime::Outcome<Message> from_json(std::string_view text);

}  // namespace consort::cli
