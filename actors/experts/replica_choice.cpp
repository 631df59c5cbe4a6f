#include "actors/experts/replica_choice.hpp"

#include <algorithm>
#include <numeric>

#include "runtime/check.hpp"

namespace consort::actors {

namespace {

// What a further destination costs beside its delay: a message each way, its handlers and its copies.
constexpr double kMessageSeconds = 40e-6;

double predicted_end(const ReplicaNode& node, double bytes) {
  const double journey = node.visited || node.delay_seconds == 0 ? 0 : kMessageSeconds;
  return (node.queued_bytes + bytes) / node.bytes_per_second + 2 * node.delay_seconds + journey;
}

}  // namespace

double part_cost_bytes(double weight_bytes, std::size_t rows) {
  return weight_bytes * std::max(1.0, static_cast<double>(rows) / kRowsPerRead);
}

std::vector<std::optional<std::size_t>> choose_replicas(std::span<const PartToPlace> parts,
                                                        std::map<runtime::NodeId, ReplicaNode>& nodes) {
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (parts[a].replicas.size() != parts[b].replicas.size())
      return parts[a].replicas.size() < parts[b].replicas.size();
    return parts[a].bytes > parts[b].bytes;
  });
  std::vector<std::optional<std::size_t>> chosen(parts.size());
  for (const std::size_t p : order) {
    const PartToPlace& part = parts[p];
    double best_end = 0;
    for (std::size_t r = 0; r < part.replicas.size(); ++r) {
      const auto node = nodes.find(part.replicas[r]);
      CONSORT_CHECK(node != nodes.end(), part.replicas[r]);
      const double end = predicted_end(node->second, part.bytes);
      if (!chosen[p] || end < best_end) {
        chosen[p] = r;
        best_end = end;
      }
    }
    if (!chosen[p]) continue;
    ReplicaNode& node = nodes.at(part.replicas[*chosen[p]]);
    node.queued_bytes += part.bytes;
    node.visited = true;
  }
  return chosen;
}

}  // namespace consort::actors
