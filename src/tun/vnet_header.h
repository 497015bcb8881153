// The header that a TUN device with IFF_VNET_HDR puts in front of each packet, and wants in front of each: what the
// kernel left undone in it, or what is left for the kernel to do.
//
//   from the kernel   [header | packet]  --take_vnet_header()-->  Packet::offload, or not believed
//   to the kernel     [header] [packet]  <--make_vnet_header()--  Offload and the packet's own headers
//
// It is the virtio_net_hdr of linux/virtio_net.h (virtio 1.3 section 5.1.6), without num_buffers:
//
//   0 flags   1 gso_type   2 hdr_len   4 gso_size   6 csum_start   8 csum_offset
//
// Byte order     little-endian on every machine: device_linux.cc asks for it (TUNSETVNETLE). Unasked, TUN has
//                the legacy order of virtio, the machine's own (tun_legacy_is_little_endian() in drivers/net/tun.c).
// Not copied     what is written is built from the headers that were parsed; of what is read, hdr_len is not looked at
//                (the kernel gives the size of its first memory fragment), and the rest only where check_offload()
//                (packet/super_packet.h) agrees.
// Threads        pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "packet/packet.h"

namespace penstock::tun {

inline constexpr std::size_t kVnetHeaderSize = 10;

// What `header` (kVnetHeaderSize bytes) says of `packet`. A checksum that is not left where TCP and UDP have theirs
// (another protocol, behind extension headers, in a tunnel) is finished here, so that none goes on half done.
// Nothing: it is a super-packet of a kind we do not know or that does not agree with its headers, or a checksum outside
// the packet; the packet is to be dropped.
std::optional<Offload> take_vnet_header(ByteView header, MutableByteView packet);

// What the kernel is to be told of `packet`; check_offload() has said yes to both.
using VnetHeader = std::array<std::uint8_t, kVnetHeaderSize>;
VnetHeader make_vnet_header(ByteView packet, const Offload& offload);

}  // namespace penstock::tun
