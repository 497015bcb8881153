// What the gateway, as a router, says about packets that it did not pass on: to whom, how often, and in whose name.
//
// The words are packet/icmp.h's, which is also silent about what must not be answered. This adds
//   how often      each session may have kRate a second and kBurst at once, what comes from exits kExitRate and
//                  kExitBurst in all (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)). A sender has one allowance
//                  on each shard where its packets come to an end, so in all as many times more as there are shards.
//                  What must not be answered takes none of it.
//   in whose name  to a session, the gateway's inner address of the packet's family; none, no error. To a sender behind
//                  an exit, the address that its packet was for: the gateway's inner address is the kernel's own on
//                  the far side of a TUN device, and a kernel drops what arrives from its own address.
//   what is quoted of a super-packet, the first packet that it stands for.
//
// Threads   those of its Router.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/ip.h"
#include "packet/icmp.h"
#include "packet/packet.h"
#include "router/discovery.h"

namespace penstock::router {

class IcmpErrors {
 public:
  static constexpr std::uint32_t kRate = 10;
  static constexpr std::uint32_t kBurst = 20;
  static constexpr std::uint32_t kExitRate = 100;
  static constexpr std::uint32_t kExitBurst = 200;

  // Silent.
  IcmpErrors() = default;
  IcmpErrors(std::optional<IpAddress> v4, std::optional<IpAddress> v6, const Clock& clock)
      : v4_(v4), v6_(v6), clock_(&clock) {}

  // A packet for the sender of `offending`, which parse_ip() believed; nothing where silence is due.
  std::optional<Packet> time_exceeded(const Packet& offending);
  std::optional<Packet> unreachable(const Packet& offending, Unreachable why);
  std::optional<Packet> too_big(const Packet& offending, std::size_t mtu);

 private:
  template <typename Say>
  std::optional<Packet> about(const Packet& offending, Say say);
  // What a sender may still be told.
  struct Allowance {
    TokenBucket& bucket;
    TimePoint now;
    Duration interval;
    std::uint32_t burst;

    bool left() const { return bucket.has(now, interval, burst); }
    void take() { bucket.take(now, interval, burst); }
  };
  Allowance allowance_of(SessionId sender);

  std::optional<IpAddress> v4_;
  std::optional<IpAddress> v6_;
  const Clock* clock_ = nullptr;
  std::vector<TokenBucket> sessions_;  // by slot, as far as one was needed
  TokenBucket exits_;
};

}  // namespace penstock::router
