// The gateway's own inner address when there is no TUN device: it answers pings, hands packets to the service that is
// there, if one is, ends TCP for services that speak in streams, and says that nothing else is.
//
// Errors ("port unreachable") are limited to kErrorsPerSecond, as RFC 1812 section 4.3.2.8 asks; what is not answered
// is counted as not_answered. A super-packet gets one error, about the first packet that it stands for.
//
// Ownership   borrows the shard; removes itself from the router when destroyed.
// Threads     its shard's loop.
// Not here    the service itself (dns/service/).
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/random.h"
#include "egress/tcp/local_streams.h"
#include "egress/tcp/tcp_terminator.h"
#include "router/shard.h"

namespace penstock::egress {

class LocalHost final : public router::Port, private TcpTerminator::Clients {
 public:
  static constexpr std::uint32_t kErrorsPerSecond = 100;
  static constexpr std::size_t kCredit = 1024 * 1024;
  static constexpr std::size_t kMostStreams = 1024;

  explicit LocalHost(router::Shard& shard);
  ~LocalHost() override;

  router::PortId id() const { return id_; }
  // Asked first, of each packet: true where it is the service's, which answers by itself.
  void set_service(std::function<bool(const Packet&)> service) { service_ = std::move(service); }

  // Connections to any of its ports go to `serve`, until stop_streams(). Refusal: exhausted, no descriptor.
  Result<void> serve_streams(Random& random, LocalStreams::Serve serve);
  void stop_streams() {
    terminator_.reset();
    streams_.reset();
  }
  // Null where no streams are served.
  const TcpTerminator* tcp() const { return terminator_.get(); }

  void send(PacketBatch& batch) override;
  std::size_t credit() const override { return kCredit; }

 private:
  bool may_send_error();
  void to_clients(PacketBatch& batch) override { shard_->router().from_exit(id_, batch); }
  // What services say is little: a full queue drops it.
  std::size_t credit(const Endpoint&) override { return SIZE_MAX; }
  router::PortId wait_for_credit(const Endpoint&, router::CreditWaiter&) override { return {}; }
  void cancel_wait(router::PortId, router::CreditWaiter&) override {}
  void closed(const TcpEnds&) override {}

  router::Shard* shard_;
  router::PortId id_;
  std::function<bool(const Packet&)> service_;
  std::unique_ptr<LocalStreams> streams_;
  std::unique_ptr<TcpTerminator> terminator_;  // before streams_ in destruction
  TimePoint window_;
  std::uint32_t errors_ = 0;  // in the second that began at window_
};

}  // namespace penstock::egress
