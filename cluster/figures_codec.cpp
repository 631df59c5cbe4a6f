// How a node's figures travel.
#include <utility>

#include "cluster/messages.hpp"
#include "cluster/view_codec-inl.hpp"

namespace consort::runtime {

namespace schema = cluster::schema;
namespace wire = cluster::wire;
using Bytes = std::span<const std::byte>;

namespace {

constexpr std::size_t kMaxNumbers = 256;
constexpr std::size_t kMaxEdges = 4096;     // as many as endpoints of a process
constexpr std::size_t kMaxLayers = 1024;    // ten times the deepest model's
constexpr std::size_t kMaxRows = 1u << 20;  // of all layers: seventy times DeepSeek-V3's 58 x 256

}  // namespace

Outcome<WireMessage> Codec<cluster::NodeFiguresRead>::encode(const cluster::NodeFiguresRead& message) {
  const cluster::NodeFigures& figures = message.figures;
  return wire::encode_table<schema::NodeFiguresRead>([&](schema::NodeFiguresRead::Builder out) {
    out.setNode(figures.node.value);
    out.setIncarnation(figures.incarnation.value);
    out.setAtNs(figures.at_ns);
    auto numbers = out.initNumbers(static_cast<unsigned>(figures.numbers.size()));
    for (unsigned i = 0; i < numbers.size(); ++i) {
      numbers[i].setName(figures.numbers[i].first);
      numbers[i].setValue(figures.numbers[i].second);
    }
    auto edges = out.initEdges(static_cast<unsigned>(figures.edges.size()));
    for (unsigned i = 0; i < edges.size(); ++i) {
      const auto& edge = figures.edges[i];
      edges[i].setPeer(edge.peer.value);
      edges[i].setDispatches(edge.dispatches);
      edges[i].setAnswers(edge.answers);
      edges[i].setSentBytes(edge.sent_bytes);
      edges[i].setRoundTripNs(edge.round_trip_ns);
      edges[i].setWaitNs(edge.wait_ns);
    }
    const auto layer_count = static_cast<unsigned>(figures.loads.size());
    auto layers = out.initLayers(layer_count);
    auto counts = out.initRowCounts(layer_count);
    std::size_t all = 0;
    for (unsigned i = 0; i < layer_count; ++i) {
      layers.set(i, figures.loads[i].layer);
      counts.set(i, static_cast<std::uint32_t>(figures.loads[i].rows.size()));
      all += figures.loads[i].rows.size();
    }
    auto rows = out.initRows(static_cast<unsigned>(all));
    unsigned at = 0;
    for (const auto& load : figures.loads) {
      for (const std::uint32_t count : load.rows) rows.set(at++, count);
    }
  });
}

Outcome<cluster::NodeFiguresRead> Codec<cluster::NodeFiguresRead>::decode(Bytes, Buffer payload) {
  return wire::decode<schema::NodeFiguresRead>(
      payload.bytes(), [](schema::NodeFiguresRead::Reader in) -> Outcome<cluster::NodeFiguresRead> {
        cluster::NodeFiguresRead message;
        cluster::NodeFigures& figures = message.figures;
        figures.node = NodeId{in.getNode()};
        figures.incarnation = Incarnation{in.getIncarnation()};
        figures.at_ns = in.getAtNs();
        const auto numbers = in.getNumbers();
        figures.numbers.reserve(wire::list_length(numbers, kMaxNumbers));
        for (const auto number : numbers) figures.numbers.emplace_back(wire::text(number.getName()), number.getValue());
        const auto edges = in.getEdges();
        figures.edges.reserve(wire::list_length(edges, kMaxEdges));
        for (const auto edge : edges) {
          figures.edges.push_back({NodeId{edge.getPeer()}, edge.getDispatches(), edge.getAnswers(), edge.getSentBytes(),
                                   edge.getRoundTripNs(), edge.getWaitNs()});
        }
        const auto layers = in.getLayers();
        const auto counts = in.getRowCounts();
        const auto rows = in.getRows();
        const auto row_count = wire::list_length(rows, kMaxRows);
        figures.loads.reserve(wire::list_length(layers, kMaxLayers));
        KJ_REQUIRE(counts.size() == layers.size(), "figures count the rows of other layers");
        std::size_t first = 0;
        for (unsigned i = 0; i < layers.size(); ++i) {
          const std::size_t count = counts[i];
          KJ_REQUIRE(count <= row_count - first, "figures have fewer rows than announced");
          auto& load = figures.loads.emplace_back();
          load.layer = layers[i];
          load.rows.reserve(count);
          for (std::size_t r = 0; r < count; ++r) load.rows.push_back(rows[static_cast<unsigned>(first + r)]);
          first += count;
        }
        KJ_REQUIRE(first == row_count, "figures have more rows than announced");
        return message;
      });
}

}  // namespace consort::runtime
