// Other machines: what ssh is given and what comes back, what a host writes when it is asked to.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "cli/house/host_messages.hpp"
#include "cli/house/host_work.hpp"
#include "cli/house/ssh.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;

namespace {

// A program named ssh at the head of PATH, while it lives.
class FakeSsh {
 public:
  explicit FakeSsh(const std::string& script) : before_(std::getenv("PATH")) {
    const std::string folder = std::string(CONSORT_BINARY_DIR) + "/fake-ssh";
    ::mkdir(folder.c_str(), 0700);
    std::ofstream(folder + "/ssh") << "#!/bin/sh\n" << script << "\n";
    ::chmod((folder + "/ssh").c_str(), 0700);
    ::setenv("PATH", (folder + ":" + before_).c_str(), 1);
  }
  ~FakeSsh() { ::setenv("PATH", before_.c_str(), 1); }

 private:
  const std::string before_;
};

}  // namespace

TEST_CASE("a command comes through ssh and its shell as it was, with its input") {
  const FakeSsh ssh("shift $(($# - 1)); exec sh -c \"$1\"");  // ssh gives its last word to a shell there
  const std::string big(300'000, 'x');
  const auto said = run_ssh("me@there", {"printf", "%s|", "a b", "it's $HOME", "", "\"`"}, big);
  REQUIRE(said.ok());
  CHECK(*said == "a b|it's $HOME||\"`|");
  const auto back = run_ssh("me@there", {"cat"}, big);
  REQUIRE(back.ok());
  CHECK(*back == big);
}

TEST_CASE("what ssh is told keeps it from asking, and from taking the destination for an option") {
  const FakeSsh ssh("for word in \"$@\"; do printf '%s\\n' \"$word\"; done");
  const auto said = run_ssh("me@there", {"true"}, "");
  REQUIRE(said.ok());
  CHECK(*said == "-T\n-o\nBatchMode=yes\n-o\nConnectTimeout=10\n--\nme@there\n'true'\n");
}

TEST_CASE("a machine that does not answer ends at the deadline, in words") {
  const FakeSsh ssh("exec sleep 60");
  const auto said = run_ssh("me@there", {"true"}, "", std::chrono::milliseconds(300));
  REQUIRE(!said.ok());
  CHECK(said.error().kind == runtime::ErrorKind::kTimedOut);
  CHECK(said.error().text.find("try: ssh -o BatchMode=yes me@there true") != std::string::npos);
}

TEST_CASE("a machine that says far too much is cut off") {
  const FakeSsh ssh("exec yes");
  CHECK(!run_ssh("me@there", {"true"}, "").ok());
}

TEST_CASE("an answer is the last line, whatever a shell's start-up files say before it") {
  HostSeen seen;
  seen.alive = {"agent-1"};
  seen.logs = "line\nline";
  const auto back = from_json<HostSeen>("Welcome!\n{}\n" + to_json(seen) + "\n");
  REQUIRE(back.ok());
  CHECK(back->alive == seen.alive);
  CHECK(back->logs == seen.logs);
  for (const std::string text : {"", "Welcome!", "{}", "[]", R"({"alive":3,"killed":[],"gateway_url":"","logs":""})"}) {
    CHECK_MESSAGE(!from_json<HostSeen>(text).ok(), text);
  }
}

TEST_CASE("a host writes nothing outside of the state folder it is given") {
  const std::string folder = std::string(CONSORT_BINARY_DIR) + "/host-state";
  for (const std::string file : {"../x", "run/../../x", "/etc/x", "keys/.x", "run/", "log/x", "decisions.log", "x"}) {
    CAPTURE(file);
    CHECK(!start_host({folder, "agent-0", {{file, "text"}}}).ok());
  }
  CHECK(!start_host({"relative", "agent-0", {}}).ok());
}
