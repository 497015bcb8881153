// The exit to the gateway's own network stack: a TUN device as a port of the router.
//
//   router --send()--> TunExit --write--> kernel       (the gateway's own address; later forwarding to elsewhere)
//   router <--from_exit-- TunExit <--read-- kernel
//
// Super-packets pass whole in both directions as far as the kernel goes along; what sessions sent in small packets is
// put together for it, since it is the number of packets that costs.
//
// A write runs the kernel's receive path at once and never waits, so there is no queue here and credit is always there.
//
// Ownership   borrows the device and the shard; removes itself from the router when destroyed.
// Threads     its shard's loop.
// Not here    making and configuring the interface (tun/).
#pragma once

#include <memory>

#include "packet/coalesce.h"
#include "router/shard.h"
#include "tun/device.h"

namespace penstock::egress {

class TunExit final : public router::Port {
 public:
  // Packets and bytes read in one turn, so that a busy kernel does not starve the sockets.
  static constexpr std::size_t kBatch = 256;
  static constexpr std::size_t kBatchBytes = 256 * 1024;
  static constexpr std::size_t kCredit = 1024 * 1024;

  // `lost` is called once, from the loop, when the device is gone.
  TunExit(router::Shard& shard, tun::Device& device, std::move_only_function<void(Error)> lost);
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
  void write(Packet& packet);

  router::Shard* shard_;
  tun::Device* device_;
  std::move_only_function<void(Error)> lost_;
  router::PortId id_;
  std::unique_ptr<Watch> watch_;
  PacketBatch read_;
  Coalescer coalescer_;
};

}  // namespace penstock::egress
