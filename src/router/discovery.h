// Which broadcasts and multicasts go on to everybody else on the LAN, and how many: how machines find each other.
//
// What goes on: UDP over plain IPv4 or IPv6, whole, from the sender's own host address, to one of
//   255.255.255.255, the subnet's broadcast address   NetBIOS names and browsing, games
//   224.0.0.0/24, ff02::/16, ff12::/16                mDNS, LLMNR, SSDP, WS-Discovery: link-local scope, well-known
//                                                     and transient (RFC 5771 section 4, RFC 4291 section 2.7)
//   239.255.255.250, ff05::c                          SSDP and WS-Discovery
//   239.255.255.253, 224.0.2.60                       SLP, Minecraft
//
// What does not, and why
//   other protocols     IGMP, MLD, neighbour discovery and router advertisements are about a link's own neighbours and
//                       routers, which a LAN of IP packets does not have; OSPF, VRRP and their like would steer it.
//   DHCP, routing       by port (kNeverForwarded): nobody but the gateway hands out addresses and routes here.
//   fragments, IP options, extension headers
//                       a later fragment has no port to look at, and discovery needs none of them.
//   super-packets of more than one segment
//                       one would be a thousand datagrams for the price of one; no kernel makes them of what goes to
//                       everybody.
//   larger than the MTU a thousand copies of one would fill every line; no machine sends them.
//   other groups        streams for many receivers: without group membership they would flood everybody.
// The TTL stays as it is: all members are on one link, which is what RFC 6762 section 11 has it stand for.
//
// How many
//   a sender            `rate` packets a second and twice that at once (its TokenBucket is in its Session).
//   the gateway         kCopiesPerSecond: a packet costs as many copies as there are sessions, so that N senders do not
//                       make rate * N * N. It goes out while the budget is not overdrawn, whatever its own cost: in t
//                       seconds there are at most kCopiesPerSecond * t + kBurstCopies + N copies.
//   what that costs     about 11 us a copy, nearly all of it the TLS record and the write: at most a quarter
//                       of one core, with ten thousand sessions as with fifty. Router::kFloodSlice keeps each turn of
//                       the loop short meanwhile.
//
// Who hears it          each session with a link but the sender's; where the LAN is isolated only those that the sender
//                       may reach (access_gate.h); the gateway's machine, where it has a TUN device.
//
// Threads               a Discovery belongs to one shard's loop; the FloodBudget is shared by all shards of a gateway.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/drop.h"

namespace penstock::router {

// Grants `burst` turns at once and from then on one every `interval`. It is 8 bytes: the time at which it will be full.
class TokenBucket {
 public:
  bool take(TimePoint now, Duration interval, std::uint32_t burst) {
    if (!has(now, interval, burst)) return false;
    full_at_ = after_one(now, interval);
    return true;
  }
  // Whether take() would be granted.
  bool has(TimePoint now, Duration interval, std::uint32_t burst) const {
    return after_one(now, interval) - now <= interval * burst;
  }

 private:
  TimePoint after_one(TimePoint now, Duration interval) const { return (full_at_ > now ? full_at_ : now) + interval; }

  TimePoint full_at_;
};

// How many copies a gateway makes of what goes to everybody. Any thread.
class FloodBudget {
 public:
  static constexpr std::uint32_t kCopiesPerSecond = 20'000;
  static constexpr std::uint32_t kBurstCopies = 5'000;

  void add_receiver() { receivers_.fetch_add(1, std::memory_order_relaxed); }
  void remove_receiver() { receivers_.fetch_sub(1, std::memory_order_relaxed); }
  // A packet for every receiver. False where earlier ones have used up what there was.
  bool spend(TimePoint now);

 private:
  std::atomic<std::uint32_t> receivers_{0};  // sessions, with and without a link
  std::atomic<Duration::rep> full_at_{0};    // as in TokenBucket
};

struct DiscoverySettings {
  bool on = false;
  std::uint32_t rate = 20;                    // packets a second and sender, at least 1
  std::size_t max_size = 1500;                // bytes of a packet: what a LAN's machines could send as one
  std::optional<IpAddress> subnet_broadcast;  // none: a subnet of /31 or /32 has no such address
};

// The broadcast address of `subnet`, where it has one (RFC 919 section 7, RFC 3021 section 2.1).
std::optional<IpAddress> broadcast_of(const Prefix& subnet);

class Discovery {
 public:
  Discovery() = default;  // nothing goes on
  // `clock` is that of the shard's loop.
  Discovery(DiscoverySettings settings, std::shared_ptr<FloodBudget> budget, const Clock& clock)
      : settings_(settings), budget_(std::move(budget)), clock_(&clock) {}

  // Whether a packet to `destination` is a broadcast or multicast: never routed, but judged here.
  bool concerns(const IpAddress& destination) const {
    return destination.is_multicast() || destination == kLimitedBroadcast || destination == settings_.subnet_broadcast;
  }
  // Nothing where the packet goes to everybody, which is then charged to its sender's bucket and to the budget; else
  // why not: multicast (not of a kind that goes on), discovery_off, discovery_rate.
  std::optional<Drop> judge(const Packet& packet, const IpView& view, TokenBucket& sender) const;

 private:
  static constexpr IpAddress kLimitedBroadcast = IpAddress::v4(0xFFFFFFFF);

  DiscoverySettings settings_;
  std::shared_ptr<FloodBudget> budget_;  // with the other shards' Discovery
  const Clock* clock_ = nullptr;
};

// Whether a packet to everybody is of a kind that goes on at all: the list above, but for the sender's address.
bool is_discovery(ByteView packet, const IpView& view);

}  // namespace penstock::router
