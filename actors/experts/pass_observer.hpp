// PassObserver: sees what a pass was answered and what it combined. Simulations check passes with it; null elsewhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "actors/experts/route_messages.hpp"

namespace consort::actors {

class PassObserver {
 public:
  virtual ~PassObserver() = default;
  // A Router hands these outputs to its Decoder.
  virtual void on_answered(const RoutePass& pass, const RoutedOutputs& outputs) = 0;
  // A Decoder adds them to the rows of that pass now.
  virtual void on_combined(const DispatchKey& key, const model::PartOutputs& outputs) = 0;
};

}  // namespace consort::actors
