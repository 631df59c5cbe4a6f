#include "cluster/spreader.hpp"

#include <algorithm>
#include <set>
#include <string>

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

class Spreader {
 public:
  Spreader(const std::vector<SizedPart>& parts, const std::vector<SpreadNode>& nodes,
           const std::vector<double>& targets, std::uint32_t replicas)
      : parts_(parts),
        nodes_(nodes),
        replicas_(replicas),
        shares_(nodes.size()),
        held_(nodes.size(), 0),
        room_(nodes.size()),
        on_node_(nodes.size()),
        holders_(parts.size()) {
    double all = 0;
    for (const double target : targets) all += target;
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      shares_[n] = all > 0 ? targets[n] / all : 0;
      room_[n] = nodes[n].room;
    }
  }

  Status place(const PlacementTable& existing) {
    for (std::size_t p = 0; p < parts_.size(); ++p) keep(p, existing);
    double due = 0;  // bytes that all nodes together should hold by now
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      due += static_cast<double>(parts_[p].bytes) * replicas_;
      while (holders_[p].size() < replicas_) {
        const std::size_t n = neediest(p, due);
        if (n != kNone) {
          give(p, n);
        } else if (!make_way(p)) {
          const PartId& id = parts_[p].id;
          return failure(ErrorKind::kInvalid, "no node has " + std::to_string(parts_[p].bytes) +
                                                  " bytes left for expert " + std::to_string(id.index) + " of layer " +
                                                  std::to_string(id.layer));
        }
      }
    }
    return runtime::done();
  }

  // First choices follow speed by themselves, since a node that holds much need not compute as much.
  PlacementTable table() {
    double speeds = 0;
    for (const SpreadNode& node : nodes_) speeds += node.speed;
    std::vector<double> chosen(nodes_.size(), 0);
    PlacementTable table;
    double due = 0;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      due += static_cast<double>(parts_[p].bytes);
      auto& holders = holders_[p];
      std::stable_sort(holders.begin(), holders.end(), [&](std::size_t a, std::size_t b) {
        return due * nodes_[a].speed / speeds - chosen[a] > due * nodes_[b].speed / speeds - chosen[b];
      });
      chosen[holders.front()] += static_cast<double>(parts_[p].bytes);
      auto& out = table[parts_[p].id];
      for (const std::size_t n : holders) out.push_back(nodes_[n].node);
    }
    return table;
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  bool holds(std::size_t n, std::size_t p) const { return on_node_[n].count(p) != 0; }
  void give(std::size_t p, std::size_t n) {
    holders_[p].push_back(n);
    on_node_[n].insert(p);
    held_[n] += static_cast<double>(parts_[p].bytes);
    room_[n] -= parts_[p].bytes;
  }
  void take(std::size_t p, std::size_t n) {
    holders_[p].erase(std::find(holders_[p].begin(), holders_[p].end(), n));
    on_node_[n].erase(p);
    held_[n] -= static_cast<double>(parts_[p].bytes);
    room_[n] += parts_[p].bytes;
  }

  void keep(std::size_t p, const PlacementTable& existing) {
    const auto at = existing.find(parts_[p].id);
    if (at == existing.end()) return;
    for (const auto holder : at->second) {
      for (std::size_t n = 0; n < nodes_.size(); ++n) {
        if (nodes_[n].node != holder || holds(n, p) || room_[n] < parts_[p].bytes) continue;
        if (holders_[p].size() < replicas_) give(p, n);
      }
    }
  }

  // The node that is furthest behind its share of what is due; ties go to the earlier node.
  std::size_t neediest(std::size_t p, double due) const {
    std::size_t best = kNone;
    double most = 0;
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (holds(n, p) || room_[n] < parts_[p].bytes) continue;
      const double behind = shares_[n] * due - held_[n];
      if (best == kNone || behind > most) best = n, most = behind;
    }
    return best;
  }

  // Every node with room for p has it already: another node's part moves to one of them, and p takes its place.
  bool make_way(std::size_t p) {
    for (std::size_t from = 0; from < nodes_.size(); ++from) {
      if (holds(from, p)) continue;
      for (std::size_t to = 0; to < nodes_.size(); ++to) {
        if (to == from) continue;
        for (const std::size_t q : on_node_[from]) {
          if (holds(to, q) || room_[to] < parts_[q].bytes) continue;
          if (room_[from] + parts_[q].bytes < parts_[p].bytes) continue;
          take(q, from);
          give(q, to);
          give(p, from);
          return true;
        }
      }
    }
    return false;
  }

  const std::vector<SizedPart>& parts_;
  const std::vector<SpreadNode>& nodes_;
  const std::uint32_t replicas_;
  std::vector<double> shares_;  // of all bytes held
  std::vector<double> held_;
  std::vector<std::uint64_t> room_;
  std::vector<std::set<std::size_t>> on_node_;  // parts by index; ordered, so that runs repeat
  std::vector<std::vector<std::size_t>> holders_;
};

}  // namespace

std::vector<double> level_targets(const std::vector<SpreadNode>& nodes, std::uint64_t once, std::uint32_t replicas) {
  std::vector<double> targets(nodes.size(), 0);
  std::vector<bool> full(nodes.size(), false);
  double left = static_cast<double>(once) * replicas;
  // Water rises in vessels as wide as their speed; one that is full drops out and the rest share what is left.
  for (std::size_t round = 0; round < nodes.size(); ++round) {
    double speeds = 0;
    for (std::size_t n = 0; n < nodes.size(); ++n) speeds += full[n] ? 0 : nodes[n].speed;
    bool spilled = false;
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (full[n]) continue;
      const double most = static_cast<double>(std::min(nodes[n].room, once));
      targets[n] = left * nodes[n].speed / speeds;
      if (targets[n] < most) continue;
      targets[n] = most;
      full[n] = spilled = true;
    }
    if (!spilled) break;
    left = static_cast<double>(once) * replicas;
    for (std::size_t n = 0; n < nodes.size(); ++n) left -= full[n] ? targets[n] : 0;
  }
  return targets;
}

Outcome<PlacementTable> spread(const std::vector<SizedPart>& parts, const std::vector<SpreadNode>& nodes,
                               const std::vector<double>& targets, std::uint32_t replicas,
                               const PlacementTable& existing) {
  Spreader spreader(parts, nodes, targets, replicas);
  CONSORT_RETURN_IF_ERROR(spreader.place(existing));
  return spreader.table();
}

}  // namespace consort::cluster
