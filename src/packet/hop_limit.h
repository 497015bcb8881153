// The TTL of IPv4 and the hop limit of IPv6: how many routers a packet may still pass (RFC 791 section 3.2, RFC 8200
// section 3).
//
// It ends what runs in circles, where two clients each have a route to the other for a third's addresses, and it is
// what traceroute asks by.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace penstock {

// One router fewer. False, with nothing changed, where it was the last (RFC 1812 section 5.3.1): the packet goes no
// further. `packet` is one that parse_ip() believed.
inline bool decrement_hop_limit(MutableByteView packet) {
  const bool v4 = packet[0] >> 4 == 4;
  std::uint8_t& hops = packet[v4 ? 8 : 7];
  if (hops <= 1) return false;
  --hops;
  if (v4) {
    // RFC 1624 section 3 for the one word it stands in, whose upper half it is: 0x0100 less there is 0x0100 more here.
    const std::uint32_t sum = std::uint32_t{load_be16(&packet[10])} + 0x0100;
    store_be16(&packet[10], static_cast<std::uint16_t>(sum + (sum >= 0xFFFF ? 1 : 0)));
  }
  return true;
}

}  // namespace penstock
