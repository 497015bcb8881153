// Cuts an IPv4 packet that may be cut into fragments (RFC 791 section 3.2): what a router does where a packet is larger
// than what the next machine takes and its sender did not forbid it. IPv6 has no such thing (RFC 8200 section 5).
//
//   [ header | payload 2000 ] --fragment(1420)--> [ header | 0..1400 | MF ] [ header | 1400..2000 ]
//
// Each fragment has the header of the whole, with its own length, offset and checksum; of the IP options those that are
// marked to be copied, and no-operations in place of the others, behind the first. All that is known about the packet
// is known about each; nothing is left undone in them.
//
// Threads   pure functions.
#pragma once

#include <cstddef>

#include "base/bytes.h"
#include "packet/packet.h"

namespace penstock {

// Whether a packet that parse_ip() believed is IPv4 without "don't fragment". A fragment may be cut once more.
inline bool may_be_fragmented(ByteView packet) { return packet[0] >> 4 == 4 && (packet[6] & 0x40) == 0; }

// Appends `packet`, which may_be_fragmented() and is no super-packet, to `out` in fragments of at most `mtu` bytes; as
// it is, with its checksum finished, where it is no larger. False, with `out` unchanged, where that cannot be done: the
// mtu leaves no room for 8 bytes of payload, or the packet is a fragment that ends behind the largest packet there is.
bool fragment(Packet&& packet, std::size_t mtu, PacketBatch& out);

}  // namespace penstock
