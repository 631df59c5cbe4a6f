#include <cmath>
#include <cstring>

#include "cluster/view_codec-inl.hpp"

namespace consort::cluster::wire {

runtime::LinkAddress read_address(capnp::Data::Reader reader) {
  KJ_REQUIRE(reader.size() <= kMaxAddressBytes, "an address is too long", reader.size());
  const auto* first = reinterpret_cast<const std::byte*>(reader.begin());
  return {std::vector<std::byte>(first, first + reader.size())};
}

capnp::Data::Reader data(const runtime::LinkToken& token) {
  return {reinterpret_cast<const kj::byte*>(token.data()), token.size()};
}

// An absent token is all zero: views for clients and agents carry none.
runtime::LinkToken read_token(capnp::Data::Reader reader) {
  runtime::LinkToken token{};
  if (reader.size() == 0) return token;
  KJ_REQUIRE(reader.size() == token.size(), "a token has another length", reader.size());
  std::memcpy(token.data(), reader.begin(), token.size());
  return token;
}

void write(schema::Profile::Builder out, const NodeProfile& profile) {
  out.setExpertBytesPerSecond(profile.expert_bytes_per_second);
  out.setMemoryBytes(profile.memory_bytes);
  out.setTrunkBytes(profile.trunk_bytes);
  out.setLinkDelaySeconds(profile.link_delay_seconds);
  out.setLinkBytesPerSecond(profile.link_bytes_per_second);
}

// A speed that is no number would steer the planner anywhere.
static double read_measure(double value) {
  KJ_REQUIRE(std::isfinite(value) && value >= 0, "a measured value is no number");
  return value;
}

NodeProfile read(schema::Profile::Reader in) {
  NodeProfile profile;
  profile.expert_bytes_per_second = read_measure(in.getExpertBytesPerSecond());
  profile.memory_bytes = in.getMemoryBytes();
  profile.trunk_bytes = in.getTrunkBytes();
  profile.link_delay_seconds = read_measure(in.getLinkDelaySeconds());
  profile.link_bytes_per_second = read_measure(in.getLinkBytesPerSecond());
  return profile;
}

void write(schema::NumericPlan::Builder out, const NumericPlan& plan) {
  auto cut = out.initCut(static_cast<unsigned>(plan.cut.size()));
  for (unsigned i = 0; i < cut.size(); ++i) {
    cut[i].setFirst(plan.cut[i].first);
    cut[i].setCount(plan.cut[i].count);
  }
  out.setCombine(plan.combine);
  out.setWire(plan.wire);
  out.setNumericClass(plan.numeric_class);
}

NumericPlan read(schema::NumericPlan::Reader in) {
  NumericPlan plan;
  const auto cut = in.getCut();
  plan.cut.reserve(list_length(cut, kMaxCuts));
  std::uint64_t next = 0;
  for (const auto columns : cut) {
    KJ_REQUIRE(columns.getFirst() == next && columns.getCount() > 0, "the cut has a gap or an overlap");
    next += columns.getCount();
    KJ_REQUIRE(next <= UINT32_MAX, "the cut is too wide");
    plan.cut.push_back({columns.getFirst(), columns.getCount()});
  }
  plan.combine = text(in.getCombine());
  plan.wire = text(in.getWire());
  plan.numeric_class = text(in.getNumericClass());
  return plan;
}

void write(schema::Placement::Builder out, const PlacementTable& placement) {
  const auto count = static_cast<unsigned>(placement.size());
  std::size_t holder_count = 0;
  for (const auto& [part, nodes] : placement) holder_count += nodes.size();
  auto layers = out.initLayers(count);
  auto kinds = out.initKinds(count);
  auto indices = out.initIndices(count);
  auto firsts = out.initFirstColumns(count);
  auto columns = out.initColumnCounts(count);
  auto counts = out.initHolderCounts(count);
  auto holders = out.initHolders(static_cast<unsigned>(holder_count));
  unsigned i = 0;
  unsigned h = 0;
  for (const auto& [part, nodes] : placement) {
    CONSORT_CHECK(nodes.size() <= UINT8_MAX, nodes.size());
    layers.set(i, part.layer);
    kinds.set(i, part.kind);
    indices.set(i, part.index);
    firsts.set(i, part.first_column);
    columns.set(i, part.column_count);
    counts.set(i, static_cast<std::uint8_t>(nodes.size()));
    for (const auto node : nodes) holders.set(h++, node.value);
    ++i;
  }
}

PlacementTable read(schema::Placement::Reader in) {
  const auto layers = in.getLayers();
  const auto kinds = in.getKinds();
  const auto indices = in.getIndices();
  const auto firsts = in.getFirstColumns();
  const auto columns = in.getColumnCounts();
  const auto counts = in.getHolderCounts();
  const auto holders = in.getHolders();
  const auto count = static_cast<unsigned>(list_length(layers, kMaxParts));
  list_length(holders, kMaxHolders);
  KJ_REQUIRE(kinds.size() == count && indices.size() == count && firsts.size() == count && columns.size() == count &&
                 counts.size() == count,
             "the lists of a placement differ in length");
  PlacementTable placement;
  unsigned h = 0;
  for (unsigned i = 0; i < count; ++i) {
    const PartId part{layers[i], kinds[i], indices[i], firsts[i], columns[i]};
    KJ_REQUIRE(holders.size() - h >= counts[i], "a placement names more holders than it lists");
    std::vector<runtime::NodeId> nodes;
    nodes.reserve(counts[i]);
    for (unsigned k = 0; k < counts[i]; ++k) nodes.emplace_back(holders[h++]);
    const auto placed = placement.emplace_hint(placement.end(), part, std::move(nodes));
    KJ_REQUIRE(std::next(placed) == placement.end() && placement.size() == i + 1, "parts are out of order");
  }
  KJ_REQUIRE(h == holders.size(), "a placement lists more holders than it names");
  return placement;
}

static void write(schema::Member::Builder out, const Member& member) {
  out.setNode(member.node.value);
  out.setIncarnation(member.incarnation.value);
  out.setName(member.name);
  out.setCoordinator(member.roles.coordinator);
  out.setBatcher(member.roles.batcher);
  out.setTrunk(member.roles.trunk);
  out.setExperts(member.roles.experts);
  out.setGateway(member.roles.gateway);
  out.setState(static_cast<std::uint8_t>(member.state));
  out.setDataAddress(data(member.data_address.bytes));
  out.setControlAddress(data(member.control_address.bytes));
  if (member.data_token != runtime::LinkToken{}) out.setDataToken(data(member.data_token));
  write(out.initProfile(), member.profile);
  auto held = out.initHeld();
  held.setPartCount(member.part_count);
  held.setPartBytes(member.part_bytes);
  held.setCheckpointBytesRead(member.checkpoint_bytes_read);
}

static Member read(schema::Member::Reader in) {
  Member member;
  member.node = runtime::NodeId{in.getNode()};
  member.incarnation = runtime::Incarnation{in.getIncarnation()};
  member.name = text(in.getName());
  member.roles = {in.getCoordinator(), in.getBatcher(), in.getTrunk(), in.getExperts(), in.getGateway()};
  KJ_REQUIRE(in.getState() <= static_cast<std::uint8_t>(NodeState::kReady), "an unknown state of a node");
  member.state = static_cast<NodeState>(in.getState());
  member.data_address = read_address(in.getDataAddress());
  member.control_address = read_address(in.getControlAddress());
  member.data_token = read_token(in.getDataToken());
  member.profile = read(in.getProfile());
  const auto held = in.getHeld();
  member.part_count = held.getPartCount();
  member.part_bytes = held.getPartBytes();
  member.checkpoint_bytes_read = held.getCheckpointBytesRead();
  return member;
}

void write(schema::View::Builder out, const ClusterView& view) {
  out.setEpoch(view.epoch.value);
  out.setVersion(view.version);
  auto members = out.initMembers(static_cast<unsigned>(view.members.size()));
  for (unsigned i = 0; i < members.size(); ++i) write(members[i], view.members[i]);
  write(out.initNumericPlan(), view.numeric_plan);
  write(out.initPlacement(), view.placement);
}

ClusterView read(schema::View::Reader in) {
  ClusterView view;
  view.epoch = runtime::Epoch{in.getEpoch()};
  view.version = in.getVersion();
  const auto members = in.getMembers();
  view.members.reserve(list_length(members, kMaxMembers));
  for (const auto member : members) {
    view.members.push_back(read(member));
    const auto n = view.members.size();
    KJ_REQUIRE(n < 2 || view.members[n - 2].node < view.members[n - 1].node, "members are out of order");
  }
  view.numeric_plan = read(in.getNumericPlan());
  view.placement = read(in.getPlacement());
  return view;
}

}  // namespace consort::cluster::wire
