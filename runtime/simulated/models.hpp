// How simulated hardware behaves when nothing is wrong, all in virtual time. Faults come on top (world.hpp,
// sim_network.hpp). SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "runtime/time.hpp"

namespace consort::runtime {

struct SimLinkModel {
  Duration latency = std::chrono::microseconds(20);  // one way; UCX over TCP on a LAN
  Duration jitter = std::chrono::microseconds(10);   // up to this much more, drawn per frame; order per class is kept
  double bytes_per_second = 1.25e9;                  // 10 Gbit/s; each class has a lane of its own
  std::size_t queue_frames = 4096;                   // under way per peer and class; beyond it send() says kExhausted
  std::size_t queue_bytes = std::size_t{64} << 20;   // the same in bytes; one frame always fits an empty lane
  // A peer whose process ended is noticed after a time drawn from this range, or never (silent_loss is a probability):
  // UCX takes 0.7 ms (TCP reset) to 0.3 s (keepalive) for a killed process.
  Duration first_loss_notice = std::chrono::milliseconds(1);
  Duration last_loss_notice = std::chrono::milliseconds(300);
  double silent_loss = 0;
  // The control wire is as ZeroMQ: an address means whatever process of the node answers there, an absent one is tried
  // again, a token of zeros will do (keys prove who is who), and clients are answered over their own connection.
  // The data wire is as UCX: none of these.
  bool like_zmq = false;
  std::uint32_t first_client_node = 0xF0000000;  // as cluster/roles.hpp: node ids from this on are clients
};

// work takes fixed + weight_bytes / bytes_per_second + rows * per_row, times the process' slowness.
struct SimDeviceModel {
  Duration fixed = std::chrono::microseconds(20);
  double bytes_per_second = 20e9;  // weights read: one socket's memory
  Duration per_row = std::chrono::microseconds(1);
};

struct SimDiskModel {
  Duration first_sync =
      std::chrono::microseconds(200);  // a sync takes a time drawn from this range: NVMe to a busy SSD
  Duration last_sync = std::chrono::milliseconds(2);
  std::size_t capacity_bytes = std::size_t{1} << 30;  // per host; beyond it appends fail with kExhausted
};

struct WorldModel {
  SimLinkModel control = {
      .latency = std::chrono::microseconds(60), .jitter = std::chrono::microseconds(40), .like_zmq = true};
  SimLinkModel data;
  SimDeviceModel device;
  SimDiskModel disk;
  Duration turn_cost = std::chrono::microseconds(1);      // a handler turn keeps its loop busy so long, and up to as
                                                          // much again by chance
  Duration start_delay = std::chrono::milliseconds(5);    // fork and exec, and up to as much again
  Duration exit_notice = std::chrono::microseconds(200);  // from the end of a child to its parent's callback
  Duration reconnect = std::chrono::milliseconds(100);    // a control link tries an absent peer again
  std::size_t max_processes = 1u << 16;                   // started in one world, ended ones included
};

}  // namespace consort::runtime
