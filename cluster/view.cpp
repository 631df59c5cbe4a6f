#include "cluster/view.hpp"

#include <algorithm>

namespace consort::cluster {

std::string_view name(NodeState state) {
  switch (state) {
    case NodeState::kAbsent:
      return "absent";
    case NodeState::kJoined:
      return "joined";
    case NodeState::kLoading:
      return "loading";
    case NodeState::kReady:
      return "ready";
  }
  return "unknown";
}

const Member* ClusterView::find(runtime::NodeId node) const {
  const auto at = std::lower_bound(members.begin(), members.end(), node,
                                   [](const Member& member, runtime::NodeId wanted) { return member.node < wanted; });
  return at != members.end() && at->node == node ? &*at : nullptr;
}

bool ClusterView::serves(runtime::NodeId node) const {
  const Member* member = find(node);
  return member != nullptr && member->state == NodeState::kReady;
}

}  // namespace consort::cluster
