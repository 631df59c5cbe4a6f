// Batcher: which Decoders are here, and one ledger of pages for each.
#include <utility>

#include "actors/serving/batcher_records.hpp"

namespace consort::actors {

using cluster::NodeState;
using runtime::NodeId;
using runtime::Outcome;

bool Batcher::is_suspected(const DecoderPeer& peer) const { return suspected_.contains({peer.node, peer.incarnation}); }

void Batcher::on(cluster::ViewChanged message) {
  view_ = std::move(message.view);
  follow_view();
  retry_now();
  schedule();
}

void Batcher::on(cluster::PeerSuspected message) {
  const Life life{message.node, message.incarnation};
  if (message.suspected) {
    suspected_.insert(life);
  } else {
    suspected_.erase(life);
    retry_now();
  }
  schedule();
}

void Batcher::on(cluster::PeerLost message) {
  const Life life{message.node, message.incarnation};
  suspected_.erase(life);
  lost_.insert(life);
  const auto peer = decoders_.find(message.node);
  if (peer != decoders_.end() && peer->second->incarnation == message.incarnation) lose_decoder(message.node);
  schedule();
}

void Batcher::follow_view() {
  if (view_ == nullptr) return;
  const auto is_over = [&](const Life& life) {
    const cluster::Member* member = view_->find(life.first);
    return member == nullptr || member->incarnation != life.second;
  };
  std::erase_if(suspected_, is_over);
  std::erase_if(lost_, is_over);
  std::vector<NodeId> gone;
  for (const auto& [node, peer] : decoders_) {
    const cluster::Member* member = view_->find(node);
    const bool stays = member != nullptr && member->incarnation == peer->incarnation && member->roles.trunk &&
                       member->state != NodeState::kAbsent;
    if (!stays) gone.push_back(node);
  }
  for (const NodeId node : gone) lose_decoder(node);
  for (const cluster::Member& member : view_->members) {
    if (!member.roles.trunk || member.state != NodeState::kReady || member.incarnation.value == 0) continue;
    if (decoders_.contains(member.node) || lost_.contains({member.node, member.incarnation})) continue;
    auto peer = std::make_unique<DecoderPeer>();
    peer->node = member.node;
    peer->incarnation = member.incarnation;
    decoders_.emplace(member.node, std::move(peer));
    open_ledger(member.node);
  }
}

void Batcher::open_ledger(NodeId node) {
  DecoderPeer& peer = *decoders_.at(node);
  peer.ledger_name = next_name_++;
  ask(peer.ref(), OpenLedger{peer.ledger_name}, kLedgerPatience)
      .then([this, node, name = peer.ledger_name](Outcome<LedgerOpened> outcome) {
        const auto found = decoders_.find(node);
        if (found == decoders_.end() || found->second->ledger_name != name) return;
        if (!outcome.ok()) {
          decoders_.erase(found);
          after(kReopenAfter, [this] { follow_view(); });
          return;
        }
        found->second->limits = outcome.value();
        found->second->ledger = std::make_shared<PageLedger>(outcome->page_count);
        found->second->is_open = true;
        ledgers_.push_back(found->second->ledger);
        schedule();
      });
}

// Its requests begin again elsewhere from their committed tokens. Where the view still has it, a new ledger is tried.
void Batcher::lose_decoder(NodeId node) {
  const std::set<Turn> running = decoders_.at(node)->running;
  for (const Turn& turn : running) move_elsewhere(*requests_.at(turn.second));
  decoders_.erase(node);
  after(kReopenAfter, [this] {
    follow_view();
    schedule();
  });
}

}  // namespace consort::actors
