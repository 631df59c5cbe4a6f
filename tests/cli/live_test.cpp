#include <boost/json.hpp>
#include <memory>
#include <string>

#include "cli/http/http_routes.hpp"
#include "cli/http/live_json.hpp"
#include "cli/http/page.hpp"
#include "cli/http/prometheus.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;
namespace figure = consort::cluster::figure;

namespace {

cluster::ClusterPicture some_picture() {
  auto view = std::make_shared<cluster::ClusterView>();
  view->epoch = runtime::Epoch{7};
  cluster::Member desk;
  desk.node = runtime::NodeId{1};
  desk.name = "de\"sk";
  desk.incarnation = runtime::Incarnation{2};
  desk.state = cluster::NodeState::kReady;
  desk.roles.trunk = true;
  desk.part_bytes = 100;
  cluster::Member attic;
  attic.node = runtime::NodeId{2};
  attic.name = "attic";
  view->members = {desk, attic};
  cluster::ClusterPicture picture;
  picture.report.view = view;
  cluster::NodeFigures figures;
  figures.node = desk.node;
  figures.incarnation = desk.incarnation;
  figures.set(figure::kSteps, 4);
  figures.set(figure::kStepNs, 2'000'000'000);
  figures.set(figure::kAttentionNs, 500'000'000);
  figures.set(figure::kPagesTotal, 8);
  figures.set(figure::kPagesUsed, 2);
  figures.edges = {{attic.node, 3, 2, 1000, 30, 1'500'000'000}};
  figures.loads = {{3, {0, 5}}};
  picture.nodes[desk.node] = figures;
  return picture;
}

bool has(const std::string& text, const std::string& line) { return text.find(line + "\n") != std::string::npos; }

}  // namespace

TEST_CASE("a look at the cluster comes out in Prometheus' format, per node, edge and expert") {
  const std::string text = prometheus_text(some_picture(), "m");
  CHECK(has(text, "# TYPE consort:node_up gauge"));
  CHECK(has(text, R"(consort:node_up{node="de\"sk"} 1)"));
  CHECK(has(text, R"(consort:node_up{node="attic"} 0)"));
  CHECK(has(text, R"(vllm:kv_cache_usage_perc{model_name="m"} 0.25)"));
  CHECK(has(text, R"(consort:step_phase_seconds_total{node="de\"sk",phase="attention"} 0.5)"));
  CHECK(has(text, R"(consort:edge_wait_seconds_total{node="de\"sk",peer="attic"} 1.5)"));
  CHECK(has(text, R"(consort:expert_rows_total{layer="3",expert="1"} 5)"));
  CHECK(has(text, "consort:coordinator_up 1"));
  CHECK(text.find(R"(expert="0")") == std::string::npos);  // an expert without rows has no series
  CHECK(text.find("prefix_cache") == std::string::npos);   // nobody tells of one
  CHECK(text.find("expert_busy_seconds") == std::string::npos);
}

TEST_CASE("the page is told of every node, and of a life's figures only under that life") {
  auto picture = some_picture();
  const runtime::MetricsSnapshot own{{}, {{"vllm:num_requests_running", 3}}, {}};
  auto told = boost::json::parse(live_json(picture, own)).as_object();
  CHECK(told["epoch"].as_int64() == 7);
  CHECK(told["service"].at("vllm:num_requests_running").as_int64() == 3);
  const auto& nodes = told["nodes"].as_array();
  REQUIRE(nodes.size() == 2);
  CHECK(nodes[0].at("figures").at("numbers").at("steps").as_int64() == 4);
  CHECK(nodes[0].at("figures").at("loads").at(0).at("rows").as_array().size() == 2);
  CHECK(nodes[1].at("figures").is_null());
  picture.nodes[runtime::NodeId{1}].incarnation = runtime::Incarnation{1};
  told = boost::json::parse(live_json(picture, own)).as_object();
  CHECK(told["nodes"].as_array()[0].at("figures").is_null());
}

TEST_CASE("the page's policy names its own script and style, and nothing that is unsafe") {
  const std::string policy = page_policy();
  CHECK(policy.find("script-src 'sha256-") != std::string::npos);
  CHECK(policy.find("style-src 'sha256-") != std::string::npos);
  CHECK(policy.find("unsafe") == std::string::npos);
  CHECK(page_html().find("/* scripts */") == std::string_view::npos);
  CHECK(page_html().ends_with("</html>\n"));
}

TEST_CASE("what is open to all is what tells nothing of requests or nodes") {
  for (const char* path : {"/", "/about", "/health", "/version"}) CHECK(is_open_to_all(place_of(path).route));
  for (const char* path : {"/live", "/drain", "/metrics", "/v1/models", "/v1/chat/completions", "/x"})
    CHECK_FALSE(is_open_to_all(place_of(path).route));
  CHECK(place_of("/drain").is_post);
}
