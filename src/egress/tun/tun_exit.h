// The exit to the gateway's own network stack: a TUN device as a port of the router.
//
//   router --send()--> TunExit --write--> kernel       (the gateway's own address; later forwarding to elsewhere)
//   router <--from_exit-- TunExit <--read-- kernel
//
// Super-packets pass whole in both directions as far as the kernel goes along; what sessions sent in small packets is
// put together for it, since it is the number of packets that costs.
//
// A write runs the kernel's receive path at once and never waits, so packets go at once and credit is always there.
// Only what is hundreds of writes waits for turns of its own, and what comes meanwhile with it (packet/paced_writes.h).
//
// Ownership   borrows the device and the shard; removes itself from the router when destroyed.
// Threads     its shard's loop.
// Not here    making and configuring the interface (tun/).
#pragma once

#include <memory>

#include "packet/coalesce.h"
#include "packet/flow_hash.h"
#include "packet/paced_writes.h"
#include "router/shard.h"
#include "tun/device.h"

namespace penstock::egress {

class TunExit final : public router::Port, private PacedWrites::Device {
 public:
  // Packets and bytes read in one turn, so that a busy kernel does not starve the sockets.
  static constexpr std::size_t kBatch = 256;
  static constexpr std::size_t kBatchBytes = 256 * 1024;
  static constexpr std::size_t kCredit = 1024 * 1024;

  // `lost` is called once, from the loop, when the device is gone.
  TunExit(router::Shard& shard, tun::Device& device, std::move_only_function<void(Error)> lost, const FlowHashKey& key);
  ~TunExit() override;

  router::PortId id() const { return id_; }
  // Begins to read.
  void start();

  void send(PacketBatch& batch) override;
  // The gateway's machine is on the LAN like everybody else; what it said itself has no session as its source.
  void flood(std::span<const Packet> packets) override;
  std::size_t credit() const override { return kCredit; }

 private:
  void read_turn();
  void write_now(Packet& packet) override;
  void lost_waiting(const FlowQueue::Losses& losses) override;

  router::Shard* shard_;
  tun::Device* device_;
  std::move_only_function<void(Error)> lost_;
  router::PortId id_;
  std::unique_ptr<Watch> watch_;
  PacketBatch read_;
  Coalescer coalescer_;
  PacedWrites writes_;
};

}  // namespace penstock::egress
