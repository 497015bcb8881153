// What the gateway itself says in ICMP: echo replies and errors about packets it cannot deliver.
//
// Pure: each function returns a new packet, or nothing where silence is the answer that the RFCs ask for. Errors are
// not rate-limited here (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)): that is the caller's, who has a clock.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

// The answer to an echo request (RFC 792, RFC 4443 section 4.2), from the address that was asked, with the same
// identifier, sequence and data. Nothing unless `request` is a whole, unfragmented echo request with a good checksum
// from and to a unicast address. IPv4 options and IPv6 extension headers are not returned.
std::optional<Packet> echo_reply(const Packet& request, const IpView& view);

// Why a packet cannot be delivered, for both families.
enum class Unreachable : std::uint8_t {
  network,     // there is no route
  host,        // the address is ours to know and nobody has it
  port,        // nobody listens
  prohibited,  // policy forbids it
};

// "Destination unreachable" about `offending`, sent by `from` (RFC 792 type 3, RFC 4443 section 3.1 type 1): as much of
// the packet as fits into 576 or 1280 bytes is quoted. Nothing about what must not be answered (RFC 1122 section
// 3.2.2, RFC 4443 section 2.4 (e)): an ICMP error or redirect, a fragment other than the first, a packet from an
// address that names no single host (unspecified, loopback, multicast, broadcast, reserved) or to a group. A subnet's
// broadcast address cannot be told apart here: the caller does not ask about those. Nothing also where `from` is of
// the other family.
std::optional<Packet> unreachable(const IpView& view, ByteView offending, const IpAddress& from, Unreachable code);

// "Time exceeded in transit" (RFC 792 type 11, RFC 4443 section 3.3), under the rules of unreachable(): the hop limit
// (hop_limit.h) was used up at `from`, which is what traceroute shows.
std::optional<Packet> time_exceeded(const IpView& view, ByteView offending, const IpAddress& from);

// "Fragmentation needed" (RFC 1191, type 3 code 4) or "packet too big" (RFC 4443 section 3.2), under the same rules,
// except that RFC 4443 wants it about IPv6 packets to a group too. `mtu` is the largest packet that would pass.
std::optional<Packet> too_big(const IpView& view, ByteView offending, const IpAddress& from, std::uint32_t mtu);

}  // namespace penstock
