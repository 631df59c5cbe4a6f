// SPDX-License-Identifier: Apache-2.0
#include "cluster/node_config.hpp"

#include "support/test.hpp"

namespace {

using namespace consort::cluster;
using namespace std::chrono_literals;

bool everything_is_ours(const std::string&) { return true; }
bool only_loopback(const std::string& address) { return address == "127.0.0.1" || address == "localhost"; }

const std::string kCluster = "[cluster]\nname = \"lab\"\n";
const std::string kNode =
    "[[node]]\nname = \"desk\"\nhost = \"127.0.0.1\"\nroles = [\"coordinator\", \"batcher\", \"trunk\", \"experts\"]\n";

std::string error_of(const std::string& text, IsOwnAddress own = only_loopback) {
  const auto config = parse_cluster_config(text, "lab.toml", own);
  return config.ok() ? "" : config.error().text;
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("the example of three nodes reads as written") {
  const auto config = read_cluster_config(CONSORT_SOURCE_DIR "/examples/clusters/three-nodes.toml");
  REQUIRE(config.ok());
  CHECK(config->name == "lab");
  CHECK(config->model == CONSORT_SOURCE_DIR "/examples/models/adder");
  CHECK(config->replicas == 2);
  CHECK(config->columns == ColumnMode{ColumnMode::Kind::kAuto, 1});
  REQUIRE(config->nodes.size() == 3);
  CHECK(config->nodes[0].roles == NodeRoles{true, true, true, true});
  CHECK(config->nodes[0].cores == std::vector<int>{0});
  CHECK(config->nodes[0].memory_bytes == std::uint64_t{2} << 30);
  CHECK(config->nodes[1].slowdown == 3.0);
  CHECK(config->nodes[2].shape.delay == 500us);
  CHECK(config->nodes[2].shape.bytes_per_second == 125'000'000);
  CHECK(config->nodes[2].roles == NodeRoles{false, false, false, true});
  CHECK(config->coordinator_index() == 0);
  CHECK(ClusterConfig::node_id(2).value == 3);
}

TEST_CASE("everything but names, hosts and roles has a default") {
  const auto config = parse_cluster_config(kCluster + kNode, "lab.toml", only_loopback);
  REQUIRE(config.ok());
  CHECK(config->replicas == 1);
  CHECK(config->suspect_after == 500ms);
  CHECK(config->dead_after == 2s);
  CHECK(config->request_deadline == 60s);
  CHECK(config->nodes[0].slowdown == 1.0);
  CHECK_FALSE(config->nodes[0].memory_bytes.has_value());
  CHECK_FALSE(config->nodes[0].threads.has_value());
}

TEST_CASE("an error names file, line and key") {
  CHECK(contains(error_of(kCluster + "replicas = \"two\"\n" + kNode), "lab.toml:3: cluster.replicas: must be a whole"));
  CHECK(
      contains(error_of(kCluster + kNode + "memory = \"2 Gigs\"\n"), "lab.toml:7: node.memory: \"2 Gigs\" has a unit"));
  CHECK(contains(error_of(kCluster + kNode + "memory = 7\n"), "lab.toml:7: node.memory: must be a text"));
  CHECK(contains(error_of("[cluster]\nname = \n"), "lab.toml:2:"));
}

TEST_CASE("unknown keys are refused with the known ones") {
  const auto error = error_of(kCluster + kNode + "colour = \"red\"\n");
  CHECK(contains(error, "lab.toml:7: node.colour: is not known here"));
  CHECK(contains(error, "slowdown"));
  CHECK(contains(error_of("extra = 1\n" + kCluster + kNode), "lab.toml:1: file.extra"));
  CHECK(contains(error_of(kCluster + kNode + "shape = { delay = \"1ms\", loss = 3 }\n"), "node.shape.loss"));
}

TEST_CASE("a gateway listens here alone, unless the file says that it knows what that means") {
  std::string node = kNode;
  node.replace(node.find("\"experts\""), 9, "\"experts\", \"gateway\"");
  const auto with = [&](const std::string& lines) { return kCluster + "[gateway]\n" + lines + node; };
  const auto plain = parse_cluster_config(kCluster + node, "lab.toml", only_loopback);
  REQUIRE(plain.ok());
  CHECK(plain->gateway_index() == 0);
  CHECK(plain->gateway.host == "127.0.0.1");
  CHECK(plain->gateway.port == 8080);
  const auto set =
      parse_cluster_config(with("port = 0\nmodel_name = \"r1\"\ndefault_max_tokens = 9\nrequest_deadline = \"5s\"\n"),
                           "lab.toml", only_loopback);
  REQUIRE(set.ok());
  CHECK(set->gateway.port == 0);
  CHECK(set->gateway.model_name == "r1");
  CHECK(set->gateway.default_max_tokens == 9);
  CHECK(set->gateway.request_deadline == 5s);
  CHECK(contains(error_of(with("host = \"0.0.0.0\"\n")), "no TLS yet"));
  CHECK(error_of(with("host = \"0.0.0.0\"\ninsecure = true\n")).empty());
  CHECK(contains(error_of(with("host = \"10.1.1.1\"\ninsecure = true\n")), "no address of this machine"));
  CHECK(contains(error_of(with("port = 70000\n")), "lab.toml:4: gateway.port"));
  CHECK(contains(error_of(with("model_name = \"a/b\"\n")), "gateway.model_name"));
  CHECK(contains(error_of(with("tls = true\n")), "gateway.tls: is not known here"));
  CHECK(contains(error_of(kCluster + "[gateway]\n" + kNode), "no node has the role gateway"));
  std::string second = node;
  second.replace(second.find("desk"), 4, "two");
  CHECK(contains(error_of(kCluster + node + second), "have it"));
}

TEST_CASE("the Batcher's limits are numbers in a range, and none has to be given") {
  const auto with = [](const std::string& lines) { return kCluster + "[batcher]\n" + lines + kNode; };
  const auto plain = parse_cluster_config(kCluster + kNode, "lab.toml", only_loopback);
  REQUIRE(plain.ok());
  CHECK_FALSE(plain->batcher.max_running.has_value());
  CHECK_FALSE(plain->batcher.prefix_cache.has_value());
  const auto set = parse_cluster_config(with("max_running = 3\nmax_queued = 7\nmax_queued_tokens = 90000\n"
                                             "chunk_tokens = 32\nprefix_cache = false\n"),
                                        "lab.toml", only_loopback);
  REQUIRE(set.ok());
  CHECK(set->batcher.max_running == 3u);
  CHECK(set->batcher.max_queued == 7u);
  CHECK(set->batcher.max_queued_tokens == 90'000u);
  CHECK(set->batcher.chunk_tokens == 32u);
  CHECK(set->batcher.prefix_cache == false);
  CHECK(
      contains(error_of(with("max_running = 0\n")), "lab.toml:4: batcher.max_running: must be a whole number from 1"));
  CHECK(contains(error_of(with("max_running = 257\n")), "batcher.max_running"));
  CHECK(contains(error_of(with("chunk_tokens = 7\n")), "batcher.chunk_tokens: must be a whole number from 8 to 2048"));
  CHECK(contains(error_of(with("max_queued = \"many\"\n")), "batcher.max_queued"));
  CHECK(contains(error_of(with("prefix_cache = 1\n")), "batcher.prefix_cache: must be true or false"));
  CHECK(contains(error_of(with("prefix_cash = true\n")), "batcher.prefix_cash: is not known here"));
}

TEST_CASE("duplicates are refused") {
  CHECK(contains(error_of(kCluster + kNode + "[[node]]\nname = \"desk\"\nhost = \"127.0.0.1\"\nroles = [\"trunk\"]\n"),
                 "lab.toml:8: node.name: \"desk\" is the name of two nodes"));
  CHECK_FALSE(error_of(kCluster + "name = \"again\"\n" + kNode).empty());
  CHECK(contains(error_of(kCluster + kNode + "cores = [0, 0]\n"), "core 0 is there twice"));
}

TEST_CASE("another machine is refused for now") {
  auto text = kCluster + kNode + "[[node]]\nname = \"far\"\nhost = \"192.168.7.7\"\nroles = [\"trunk\"]\n";
  CHECK(contains(error_of(text), "lab.toml:9: node.host: \"192.168.7.7\" is another machine; for now"));
  CHECK(error_of(text, everything_is_ours).empty());
}

TEST_CASE("a public address needs trust_network") {
  const auto node = std::string("[[node]]\nname = \"a\"\nhost = \"8.8.4.4\"\nroles = [\"trunk\"]\n");
  CHECK(contains(error_of(kCluster + kNode + node, everything_is_ours), "trust_network"));
  CHECK(error_of(kCluster + "trust_network = true\n" + kNode + node, everything_is_ours).empty());
  const auto v6 = std::string("[[node]]\nname = \"a\"\nhost = \"2001:db8::1\"\nroles = [\"trunk\"]\n");
  CHECK(contains(error_of(kCluster + kNode + v6, everything_is_ours), "trust_network"));
}

TEST_CASE("shared memory is off unless it is asked for") {
  const auto config = [](const std::string& more) {
    return parse_cluster_config(kCluster + more + kNode, "lab.toml", only_loopback);
  };
  CHECK_FALSE(config("")->shared_memory);
  CHECK(config("shared_memory = true\n")->shared_memory);
  CHECK(contains(error_of(kCluster + "shared_memory = \"yes\"\n" + kNode),
                 "lab.toml:3: cluster.shared_memory: must be true"));
}

TEST_CASE("roles are counted") {
  const auto node = [](std::string name, std::string roles) {
    return "[[node]]\nname = \"" + name + "\"\nhost = \"localhost\"\nroles = [" + roles + "]\n";
  };
  CHECK(contains(error_of(kCluster + node("a", "\"trunk\", \"experts\", \"batcher\"")),
                 "exactly one node must have the role coordinator, 0"));
  CHECK(contains(error_of(kCluster + kNode + node("b", "\"batcher\"")), "role batcher, 2 have it"));
  CHECK(contains(error_of(kCluster + node("a", "\"coordinator\", \"batcher\", \"experts\"")), "role trunk"));
  CHECK(contains(error_of(kCluster + node("a", "\"coordinator\", \"batcher\", \"trunk\"")), "role experts"));
  CHECK(contains(error_of(kCluster + node("a", "\"cook\"")), "\"cook\" is no role"));
  CHECK(contains(error_of(kCluster + "replicas = 2\n" + kNode), "2 replicas need as many nodes"));
}

TEST_CASE("times that contradict each other are refused") {
  CHECK(contains(error_of(kCluster + "suspect_after = \"3s\"\n" + kNode), "cluster.dead_after"));
  CHECK(contains(error_of(kCluster + "suspect_after = \"150ms\"\n" + kNode), "cluster.suspect_after"));
  CHECK(contains(error_of(kCluster + "request_deadline = \"1s\"\n" + kNode), "cluster.request_deadline"));
}

TEST_CASE("columns are auto, never or a number") {
  for (const auto& [text, mode] :
       std::vector<std::pair<std::string, ColumnMode>>{{"\"auto\"", {ColumnMode::Kind::kAuto, 1}},
                                                       {"\"never\"", {ColumnMode::Kind::kNever, 1}},
                                                       {"4", {ColumnMode::Kind::kFixed, 4}}}) {
    const auto config = parse_cluster_config(kCluster + "columns = " + text + "\n" + kNode, "lab.toml", only_loopback);
    REQUIRE(config.ok());
    CHECK(config->columns == mode);
  }
  CHECK(contains(error_of(kCluster + "columns = \"often\"\n" + kNode), "cluster.columns"));
  CHECK(contains(error_of(kCluster + "columns = 0\n" + kNode), "cluster.columns"));
}

TEST_CASE("characters beyond ASCII are free in quotes and comments") {
  const auto model = [](const std::string& spelled) {
    const auto config = parse_cluster_config(kCluster + "model = " + spelled + "\n" + kNode, "lab.toml", only_loopback);
    return config.ok() ? config->model : config.error().text;
  };
  const std::string path = "/mod\xC3\xA8les/\xE6\xA8\xA1\xE5\x9E\x8B/\xF0\x9F\xA6\x86";  // two, three and four bytes
  CHECK(model("\"" + path + "\"") == path);
  CHECK(model("'" + path + "'") == path);
  CHECK(model("\"\"\"" + path + "\"\"\"") == path);
  CHECK(model("'''" + path + "'''") == path);
  CHECK(model("\"/mod\\u00E8les\"") == "/mod\xC3\xA8les");
  CHECK(model("\"/\xC3\xA8 # 1\\\\\xC3\xA8\\\"\"  # \xC3\xA8") == "/\xC3\xA8 # 1\\\xC3\xA8\"");
  CHECK(model("'/\xC3\xA8\\n\"'  # \xC3\xA8") == "/\xC3\xA8\\n\"");  // single quotes escape nothing
  CHECK(model("'''/\xC3\xA8'''''  # \xC3\xA8") == "/\xC3\xA8''");
  CHECK(model("\"\"\"/\xC3\xA8\"\"\"\"  # \xC3\xA8") == "/\xC3\xA8\"");
  CHECK(error_of("# caf\xC3\xA9 \xE2\x9A\x99\xEF\xB8\x8F, and Latin-1: \xE9\n" + kCluster + kNode).empty());
  CHECK(error_of("\xEF\xBB\xBF" + kCluster + kNode).empty());
}

TEST_CASE("a character that a cluster file cannot hold is named with its line") {
  const auto wrong = [](const std::string& line) { return error_of(kCluster + line + "\n" + kNode); };
  CHECK(contains(wrong("model = mod\xC3\xA8le"), "lab.toml:3: holds a character that is not ASCII outside of quotes"));
  // White space and letters that toml++ 3.3 asks about in undefined ways.
  CHECK(contains(wrong("model = \"a\"\xEF\xBB\x9F"), "lab.toml:3: holds a character that is not ASCII outside"));
  CHECK(contains(wrong("model\xC2\xA0= \"a\""), "lab.toml:3: holds a character that is not ASCII outside"));
  CHECK(contains(wrong("model = \"a\\\xC3\xA8\""), "lab.toml:3: a backslash stands before"));
  for (const char* bytes : {"\xE8", "\xC3", "\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
    CHECK(contains(wrong("model = \"mod" + std::string(bytes) + "le\""), "lab.toml:3: holds bytes that are not UTF-8"));
    CHECK(contains(wrong("model = '''\n\nmod" + std::string(bytes) + "'''"), "lab.toml:5: holds bytes that are not"));
  }
  // What was respelled leaves every later line where it was.
  CHECK(contains(wrong("model = '''\n\xC3\xA8\n'''\nreplicas = \"two\""), "lab.toml:6: cluster.replicas"));
  CHECK(contains(wrong("model = '\xC3\xA8"), "lab.toml:3:"));
}

TEST_CASE("quantities have units") {
  CHECK(*parse_bytes("1.5GiB") == 1610612736);
  CHECK(*parse_bytes("512 MiB") == 536870912);
  CHECK(*parse_bytes("42") == 42);
  CHECK_FALSE(parse_bytes("-1GiB").ok());
  CHECK_FALSE(parse_bytes("99999999TiB").ok());
  CHECK_FALSE(parse_bytes("nanGiB").ok());
  CHECK_FALSE(parse_bytes("").ok());
  CHECK(*parse_duration("500us") == 500us);
  CHECK(*parse_duration("2s") == 2s);
  CHECK_FALSE(parse_duration("2").ok());
  CHECK(*parse_rate("1Gbit") == 125'000'000);
  CHECK(*parse_rate("100MB") == 100'000'000);
}

TEST_CASE("loopback is an own address") {
  CHECK(is_own_address("127.0.0.1"));
  CHECK(is_own_address("127.0.0.9"));
  CHECK(is_own_address("::1"));
  CHECK(is_own_address("localhost"));
  CHECK_FALSE(is_own_address("203.0.113.7"));
}

}  // namespace
