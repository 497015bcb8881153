// Cuts a packet that may be cut into fragments: of IPv4 what a router does where a packet is larger than what the next
// machine takes and its sender did not forbid it (RFC 791 section 3.2), of IPv6 what only its source does (RFC 8200
// section 4.5), which the gateway stands for where it made the packet out of a datagram, or of fragments.
//
//   [ header | payload 2000 ] --fragment(1420)--> [ header | 0..1400 | MF ] [ header | 1400..2000 ]
//
// Each fragment has the header of the whole, with its own length, offset and checksum; of the IP options those that are
// marked to be copied, and no-operations in place of the others, behind the first. All that is known about the packet
// is known about each; nothing is left undone in them.
//
// IPv6      a fragment header is put in, behind the extension headers that routers read (RFC 8200 section 4.5: the
//           per-fragment headers).
// Threads   pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "packet/packet.h"

namespace penstock {

// Whether a packet that parse_ip() believed is IPv4 without "don't fragment", or IPv6 with Packet::may_fragment. A
// fragment of IPv4 may be cut once more.
inline bool may_be_fragmented(const Packet& packet) {
  const ByteView bytes = packet.bytes();
  return bytes[0] >> 4 == 4 ? (bytes[6] & 0x40) == 0 : packet.may_fragment;
}

// Appends `packet`, which may_be_fragmented() and is no super-packet, to `out` in fragments of at most `mtu` bytes; as
// it is, with its checksum finished, where it is no larger. `identification` is for the fragments of IPv6, and another
// for each packet. False, with `out` unchanged, where that cannot be done: the mtu leaves no room for 8 bytes of
// payload, or the packet is a fragment that ends behind the largest packet there is.
bool fragment(Packet&& packet, std::size_t mtu, std::uint32_t identification, PacketBatch& out);

}  // namespace penstock
