// Hands each session one inner IPv4 address, and with it the IPv6 address of the same number.
//
// Theory of operation
// -------------------
// A pool covers one subnet. Each leasable address is in exactly one state:
//
//   RESTED --lease()--> LEASED --release()--> RESTING --kRest--> RESTED
//
// RESTING exists because packets for the old holder may still sit in a queue or a NAT mapping; to reuse the address at
// once would deliver them to a stranger. The old holder itself may have it back at any time. A reserved address belongs
// to one holder, whatever its state: nobody else gets it, and when released it need not rest.
//
// The network, the broadcast address and the gateway's own are never leased.
//
// Nothing is stored of an address that was never leased, so that a /8 costs no more than the sessions it has: those
// from mark_ on are RESTED unless a map says otherwise, those below only if rested_ says so.
//
// Always true    no two leases of one address at a time; lease() answers the lowest rested address
//                (ItBehavesLikeANaivePoolThroughManyChanges).
// Ownership      the session registry: it releases what it leased, once. The clock outlives the pool.
// Threads        one loop; there are no locks here.
// Cost           O(log n) of the addresses touched. An address rests until the next call that could lease it.
// Not here       which holder has which reservation (auth/credential.h), source checks (source_guard.h), grace times of
//                sessions without a link (session registry): for the pool they are leased.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock::router {

class AddressPool {
 public:
  static constexpr std::chrono::seconds kRest{30};

  // Refusals, all invalid_argument: a subnet that is not an IPv4 prefix of /8 to /30, a server_ip that is no host in
  // it, a subnet6 that is not IPv6 or too small to have a partner for every address of the subnet.
  static Result<AddressPool> create(const Prefix& subnet, const IpAddress& server_ip,
                                    const std::optional<Prefix>& subnet6, const Clock& clock);

  // The lowest rested address; if none has rested, the longest resting; exhausted if there is neither. `holder` is the
  // name by which the address may be had back while it rests (a credential's).
  Result<IpAddress> lease(std::string_view holder);
  // Exactly `want`: for fixed addresses and reconnects. address_in_use while it is leased, rests from another holder or
  // is reserved for another; invalid_argument where the pool could never lease it.
  Result<void> lease_exactly(const IpAddress& want, std::string_view holder);
  // Ends the lease of `address`, which must be leased.
  void release(const IpAddress& address);

  // From now on only `holder` gets `address`; a lease that somebody else has runs on. address_in_use where it is
  // reserved for another, invalid_argument where the pool could never lease it.
  Result<void> reserve(const IpAddress& address, std::string_view holder);
  // Ends a reservation, if there is one; the address then rests as if released now, or goes on being leased.
  void unreserve(const IpAddress& address);

  const Prefix& subnet() const { return subnet_; }
  const std::optional<Prefix>& subnet6() const { return subnet6_; }
  const IpAddress& server() const { return server_; }
  std::optional<IpAddress> server6() const { return partner(server_); }
  // The IPv6 address with the host number of `address` (10.100.0.5 <-> fd00::5), which must be in the subnet; none
  // where the pool has no IPv6.
  std::optional<IpAddress> partner(const IpAddress& address) const;

  // Whether `address`, of either family, lies in the subnets.
  bool contains(const IpAddress& address) const;
  bool is_leased(const IpAddress& address) const;
  std::size_t leased() const { return leased_.size(); }
  // How many addresses can be leased at most, reserved ones included.
  std::size_t capacity() const { return static_cast<std::size_t>(last_ - 1); }

 private:
  using Host = std::uint32_t;  // an address as its distance from the subnet's own

  struct Rest {
    TimePoint since;
    std::string holder;
  };

  AddressPool(const Prefix& subnet, const IpAddress& server, const std::optional<Prefix>& subnet6, const Clock& clock);

  Host host_of(const IpAddress& address) const { return static_cast<Host>(address.distance_from(subnet_.address())); }
  IpAddress address_of(Host host) const { return subnet_.address().plus(host); }
  Result<Host> leasable(const IpAddress& address) const;
  bool taken(Host host) const;
  void settle();
  void make_rested(Host host);
  void start_resting(Host host, std::string holder);
  void stop_resting(std::map<Host, Rest>::iterator rest);
  std::unexpected<Error> exhausted() const;

  const Clock* clock_;
  Prefix subnet_;
  std::optional<Prefix> subnet6_;
  IpAddress server_;
  Host server_host_;
  Host last_;  // the highest host: the one below the broadcast address

  std::map<Host, std::string> leased_;               // with the holder
  std::map<Host, std::string> reserved_;             // with the only holder there may be
  std::map<Host, Rest> resting_;                     // no reserved ones
  std::set<std::pair<TimePoint, Host>> rest_queue_;  // resting_, longest first
  std::set<Host> rested_;                            // rested and not reserved, all below mark_
  Host mark_ = 1;                                    // from here on everything not in a map is rested
};

}  // namespace penstock::router
