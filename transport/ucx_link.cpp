// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx_link.hpp"

#include <utility>

#include "transport/ucx_worker-inl.hpp"

namespace consort::transport {

using runtime::NodeId;

runtime::Outcome<std::unique_ptr<UcxLink>> UcxLink::open(NodeId node, runtime::Incarnation incarnation, UcxOptions options) {
  auto worker = std::make_shared<Worker>(node, std::move(options));
  worker->set_incarnation(incarnation);
  CONSORT_RETURN_IF_ERROR(worker->start());
  return std::unique_ptr<UcxLink>(new UcxLink(std::move(worker)));
}

UcxLink::UcxLink(std::shared_ptr<Worker> worker) : worker_(std::move(worker)) {}
UcxLink::~UcxLink() { worker_->shut_down(); }

void UcxLink::set_incarnation(runtime::Incarnation incarnation) { worker_->set_incarnation(incarnation); }
const std::string& UcxLink::settings() const { return worker_->settings; }
const LinkCounters& UcxLink::counters() const { return worker_->intake.counters(); }

bool UcxLink::stuck() const { return worker_->stuck(); }
std::size_t UcxLink::unfinished() const { return worker_->unfinished(); }

std::vector<std::string> UcxLink::transports(NodeId peer) const {
  const auto* connection = worker_->find(peer);
  return connection == nullptr ? std::vector<std::string>{} : worker_->transports(*connection);
}

void UcxLink::attach(runtime::LinkSink& sink) { worker_->sink = &sink; }
runtime::LinkAddress UcxLink::address() const { return worker_->address; }
runtime::LinkToken UcxLink::token() const { return worker_->token; }

runtime::Status UcxLink::connect(NodeId peer, runtime::Incarnation incarnation, const runtime::LinkAddress& address,
                                 const runtime::LinkToken& token) {
  return worker_->connect(peer, incarnation, address, token);
}

void UcxLink::disconnect(NodeId peer) { worker_->disconnect(peer); }

bool UcxLink::connected(NodeId peer) const {
  const auto* connection = worker_->find(peer);
  return connection != nullptr && connection->up && !connection->failed;
}

runtime::Status UcxLink::send(NodeId peer, runtime::Frame frame) { return worker_->send(peer, std::move(frame)); }
bool UcxLink::poll() { return worker_->poll(); }
int UcxLink::fd() const { return worker_->event_fd; }
bool UcxLink::arm() { return worker_->arm(); }

}  // namespace consort::transport
