// The cluster's values between structs and Cap'n Proto; shared by the messages and the decision log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cluster/messages.capnp.h"
#include "cluster/view.hpp"
#include "cluster/wire_codec-inl.hpp"

namespace consort::cluster::wire {

inline constexpr std::size_t kMaxAddressBytes = 3072;  // UCX worker addresses take some hundred bytes per device
inline constexpr std::size_t kMaxMembers = 4096;
inline constexpr std::size_t kMaxParts = 1u << 20;  // 59,392 = DeepSeek-V3 with experts cut in four
inline constexpr std::size_t kMaxHolders = 1u << 22;
inline constexpr std::size_t kMaxCuts = 1024;

inline capnp::Data::Reader data(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}
runtime::LinkAddress read_address(capnp::Data::Reader reader);
capnp::Data::Reader data(const runtime::LinkToken& token);
runtime::LinkToken read_token(capnp::Data::Reader reader);

void write(schema::Profile::Builder out, const NodeProfile& profile);
NodeProfile read(schema::Profile::Reader in);
void write(schema::NumericPlan::Builder out, const NumericPlan& plan);
NumericPlan read(schema::NumericPlan::Reader in);
void write(schema::Placement::Builder out, const PlacementTable& placement);
PlacementTable read(schema::Placement::Reader in);
void write(schema::View::Builder out, const ClusterView& view);
ClusterView read(schema::View::Reader in);

}  // namespace consort::cluster::wire
