// Lowers the largest segment that a TCP connection will use, so that its packets fit where they go through.
//
// Each end of a connection says once, in its SYN, how large a segment it takes (RFC 9293 section 3.7.1). It knows its
// own link and not the other end's; a router between them does, and lowers the number. So no packet of the connection
// is ever too big, even where the ICMP that would say so is lost on the way (RFC 2923 section 2.1).
//
// Left alone   a SYN without the option: the other end then sends 536 bytes (IPv4) or 1220 (IPv6) at most, which fit
//              nearly everywhere, and putting one in would move the packet. Malformed options. Fragments and IPv6
//              extension headers, with which nobody opens connections.
// Threads      pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

// Whether clamp_mss() may have something to do: a SYN or SYN-ACK whose TCP header directly follows the IP header. For
// every packet on the way, which parse_ip() believed.
inline bool is_tcp_syn(ByteView packet) {
  constexpr std::size_t kFlags = 13;
  constexpr std::uint8_t kSyn = 0x02;
  const bool v4 = packet[0] >> 4 == 4;
  if (packet[v4 ? 9 : 6] != kProtocolTcp) return false;
  const std::size_t at = (v4 ? (packet[0] & 0x0FU) * 4U : 40U) + kFlags;
  return at < packet.size() && (packet[at] & kSyn) != 0;
}

// Lowers the MSS option of a SYN to what fits into packets of `mtu` bytes with plain headers, and updates the TCP
// checksum. True where it was above that.
bool clamp_mss(Packet& packet, std::size_t mtu);

}  // namespace penstock
