// The client's tunnel on Linux: a TUN device with netlink.
//
// Ownership   owns the interface, which is gone (or as it was found) when this is destroyed. The loop outlives it.
// Threads     the loop's.
#pragma once

#include <memory>

#include "base/log_gate.h"
#include "client/core/tunnel.h"
#include "tun/interface.h"

namespace penstock::client {

class LinuxTunnel final : public Tunnel {
 public:
  static Result<std::unique_ptr<LinuxTunnel>> create(EventLoop& loop, const tun::InterfaceOptions& options);

  Result<void> configure(const TunnelSettings& settings) override;
  int mtu() const override { return interface_->mtu(); }
  Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) override {
    return interface_->device().read(into, max_packets, max_bytes);
  }
  bool write(Packet& packet) override { return interface_->device().write(packet); }
  bool write_as_it_lies(ByteView packet, const Offload& offload) override {
    return interface_->device().write_as_it_lies(packet, offload);
  }
  GsoKinds takes() const override { return interface_->device().takes(); }
  void when_readable(Task task) override { watch_->when_readable(std::move(task)); }

 private:
  LinuxTunnel(EventLoop& loop, std::unique_ptr<tun::Interface> interface);
  bool may_warn() { return warnings_.lets_through(loop_->now()); }
  void warn_unless_forwarding(const std::vector<Prefix>& sites);

  EventLoop* loop_;
  LogGate warnings_;  // a gateway may change its settings all the time
  bool warned_of_forwarding_ = false;
  std::unique_ptr<tun::Interface> interface_;
  std::unique_ptr<Watch> watch_;  // destroyed before the interface
};

}  // namespace penstock::client
