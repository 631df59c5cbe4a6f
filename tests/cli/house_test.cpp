// The house's small parts: state folders, process lists, fault plans.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "cli/house/process_list.hpp"
#include "cli/house/state_folder.hpp"
#include "cli/simulate/fault_plan.hpp"
#include "support/test.hpp"

using namespace consort;

namespace {

const char* const kTwoNodes = R"(
[cluster]
name = "lab"
model = "m"
[[node]]
name = "desk"
host = "127.0.0.1"
roles = ["coordinator", "batcher", "trunk", "experts"]
[[node]]
name = "attic"
host = "127.0.0.2"
roles = ["experts"]
)";

cluster::ClusterConfig config_of(const std::string& text) {
  return cluster::parse_cluster_config(text, "lab.toml", [](const std::string&) { return true; }).value();
}

struct StateHome {
  StateHome() {
    char path[] = "/tmp/consort-state-XXXXXX";
    folder = ::mkdtemp(path);
    ::setenv("XDG_STATE_HOME", folder.c_str(), 1);
  }
  ~StateHome() {
    ::unsetenv("XDG_STATE_HOME");
    std::filesystem::remove_all(folder);
  }
  std::string folder;
};

}  // namespace

TEST_CASE("a cluster's state folder can be read by its owner alone") {
  const StateHome home;
  const auto folder = cli::StateFolder::of_cluster("lab");
  REQUIRE(folder.ok());
  CHECK(folder->path() == home.folder + "/consort/lab");
  REQUIRE(folder->create().ok());
  REQUIRE(cli::StateFolder::write(folder->address_file("desk"), "tcp://127.0.0.1:1 key").ok());
  struct stat info {};
  REQUIRE(::stat(folder->address_file("desk").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  REQUIRE(::stat(folder->path().c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  CHECK(cli::StateFolder::read(folder->address_file("desk")).value() == "tcp://127.0.0.1:1 key");
}

TEST_CASE("a cluster name cannot leave the state folder") {
  const StateHome home;
  for (const char* name : {"", "..", ".hidden", "a/b", "A", "with space", "x\n"}) {
    CAPTURE(name);
    CHECK_FALSE(cli::StateFolder::of_cluster(name).ok());
  }
}

TEST_CASE("a pid file of a process that is not ours names no living process") {
  const StateHome home;
  const auto folder = cli::StateFolder::of_cluster("lab");
  REQUIRE(folder->create().ok());
  REQUIRE(cli::StateFolder::write(folder->pid_file("desk"), std::to_string(::getpid())).ok());
  CHECK_FALSE(folder->living_process("desk").has_value());  // this test lives, but is no process of a cluster
  CHECK_FALSE(folder->living_process("attic").has_value());
}

TEST_CASE("a cluster file stands for a coordinator, an agent per host and a worker per node") {
  const auto list = cli::ProcessList::of(config_of(kTwoNodes));
  REQUIRE(list.ok());
  CHECK(list->coordinator.host == "127.0.0.1");
  REQUIRE(list->agents.size() == 2);
  CHECK(list->agent_of("127.0.0.2").name == "agent-1");
  REQUIRE(list->workers.size() == 2);
  CHECK(list->workers[1].node == runtime::NodeId{2});
  CHECK(list->all().size() == 5);
}

TEST_CASE("a gateway is started with the others, and nobody connects to it") {
  std::string text = kTwoNodes;
  text.replace(text.rfind("\"experts\""), 9, "\"experts\", \"gateway\"");
  const auto list = cli::ProcessList::of(config_of(text));
  REQUIRE(list.ok());
  CHECK(list->all().size() == 5);
  REQUIRE(list->started().size() == 6);
  CHECK(list->started().back().name == "gateway");
  CHECK(list->started().back().host == "127.0.0.2");
  CHECK_FALSE(cli::ProcessList::of(config_of(kTwoNodes))->gateway.has_value());
}

TEST_CASE("a node cannot have the name of another process") {
  std::string text = kTwoNodes;
  text.replace(text.find("attic"), 5, "coordinator");
  const auto list = cli::ProcessList::of(config_of(text));
  REQUIRE_FALSE(list.ok());
  CHECK(list.error().text.find("'coordinator'") != std::string::npos);
}

TEST_CASE("a fault plan reads what it describes") {
  const auto list = cli::ProcessList::of(config_of(kTwoNodes)).value();
  const std::string text =
      "crash attic at 1200; pause desk 1000ms at 5; part desk attic 250ms at 7; corrupt attic desk at 9";
  const auto plan = cli::FaultPlan::parse(text, list);
  REQUIRE(plan.ok());
  CHECK(plan->describe() == text);
}

TEST_CASE("a fault plan that means nothing is refused in words") {
  const auto list = cli::ProcessList::of(config_of(kTwoNodes)).value();
  for (const char* text :
       {"melt attic at 5", "crash cellar at 5", "crash attic", "pause attic soon at 5", "crash attic at x"}) {
    CAPTURE(text);
    const auto plan = cli::FaultPlan::parse(text, list);
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.error().text.find("for example") != std::string::npos);
  }
}

TEST_CASE("random fault plans come from their seed and stay within the events") {
  const auto list = cli::ProcessList::of(config_of(kTwoNodes)).value();
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto plan = cli::FaultPlan::random(seed, list, 1000);
    CHECK(plan.describe() == cli::FaultPlan::random(seed, list, 1000).describe());
    REQUIRE(plan.faults.size() >= 1);
    REQUIRE(plan.faults.size() <= 3);
    for (const auto& fault : plan.faults) {
      CHECK(fault.event < 1000);
      CHECK(fault.process != fault.other);
    }
  }
}
