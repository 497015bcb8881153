// Whether a session may send from a source address: the check behind "no client can speak as another".
//
// A session owns prefixes: its host addresses, and the subnets behind it. Whatever else it sends is dropped and counted
// (BCP 38). The one IPv4 and the one IPv6 address that nearly every session has are compared first and without a loop.
//
// Threads   the loop of the session.
#pragma once

#include <vector>

#include "base/ip.h"
#include "router/address_bits.h"

namespace penstock::router {

class SourceGuard {
 public:
  // From now on every address of `prefix` may be sent from. The first single address of each family is the session's
  // own, unless it is added as a site.
  void add(const Prefix& prefix);
  void add_site(const Prefix& prefix);
  bool allows(const IpAddress& address) const {
    const AddressBits bits = AddressBits::of(address);
    const Host& host = address.is_v4() ? host4_ : host6_;
    return (host.known && host.bits == bits) || (!blocks_.empty() && allows_block(address.family(), bits));
  }
  // Whether `address` is the session's own and not one of a subnet behind it.
  bool is_host(const IpAddress& address) const {
    const Host& host = address.is_v4() ? host4_ : host6_;
    return host.known && host.bits == AddressBits::of(address);
  }

 private:
  struct Host {
    AddressBits bits;
    bool known = false;
  };
  struct Block {
    Family family;
    AddressBits bits;
    AddressBits mask;
  };
  bool allows_block(Family family, const AddressBits& bits) const;

  Host host4_;
  Host host6_;
  std::vector<Block> blocks_;  // all but the first host of each family
};

}  // namespace penstock::router
