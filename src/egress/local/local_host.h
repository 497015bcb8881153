// The gateway's own inner address when there is no TUN device: it answers pings, hands packets to the service that is
// there, if one is, and says that nothing else is.
//
// Errors ("port unreachable") are limited to kErrorsPerSecond, as RFC 1812 section 4.3.2.8 asks; what is not answered
// is counted as not_answered. A super-packet gets one error, about the first packet that it stands for.
//
// Ownership   borrows the shard; removes itself from the router when destroyed.
// Threads     its shard's loop.
// Not here    the service itself (dns/service/).
#pragma once

#include <functional>
#include <utility>

#include "router/shard.h"

namespace penstock::egress {

class LocalHost final : public router::Port {
 public:
  static constexpr std::uint32_t kErrorsPerSecond = 100;
  static constexpr std::size_t kCredit = 1024 * 1024;

  explicit LocalHost(router::Shard& shard);
  ~LocalHost() override;

  router::PortId id() const { return id_; }
  // Asked first, of each packet: true where it is the service's, which answers by itself.
  void set_service(std::function<bool(const Packet&)> service) { service_ = std::move(service); }

  void send(PacketBatch& batch) override;
  std::size_t credit() const override { return kCredit; }

 private:
  bool may_send_error();

  router::Shard* shard_;
  router::PortId id_;
  std::function<bool(const Packet&)> service_;
  TimePoint window_;
  std::uint32_t errors_ = 0;  // in the second that began at window_
};

}  // namespace penstock::egress
