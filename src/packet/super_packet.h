// Super-packets: several TCP or UDP segments in one IP packet, as a kernel's segmentation offload makes and takes them,
// and checksums that are left for the receiver to finish. What is left undone stands in Packet::offload.
//
//   TUN --> [super-packet] --> router --> [super-packet] --> a receiver that takes them: as it is, one copy of headers
//                                  |----> segment()      --> one that does not: the packets that it stands for
//                                  '----> split_front()  --> a queue that wants less at a time, or drops a segment
//
// A super-packet of n segments stands for n packets: the same headers, each with `segment_size` bytes of the payload,
// the last with what is left, lengths, sequence numbers, identifications and checksums as each would have them. Whoever
// counts, meters or drops counts those.
//
// Partial checksum   with Offload::needs_checksum the checksum field of TCP or UDP holds the sum of the pseudo header,
//                    not complemented (CHECKSUM_PARTIAL of Linux: include/linux/skbuff.h). A super-packet's always
//                    does, with its own whole length in it. So rewriting an address updates it by the uncomplemented
//                    sum.
// Hostile input      what a peer or a kernel says of a packet is believed only after check_offload() said yes; all
//                    other functions here rely on that (and assert it).
// Sources            linux/virtio_net.h; RFC 9293 section 3.1; RFC 768; RFC 3168 section 6.1.2 (CWR); RFC 6864 (IDs).
// Threads            pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

// Where the parts of an unfragmented TCP or UDP packet lie, in bytes from its start.
struct TransportView {
  Family family = Family::ipv4;
  std::uint8_t protocol = 0;    // kProtocolTcp or kProtocolUdp
  std::uint16_t transport = 0;  // of the TCP or UDP header
  std::uint16_t payload = 0;    // behind it
};

// The headers of a whole TCP or UDP packet that directly follow the IP header. Nothing for a fragment, IPv6 extension
// headers, another protocol, or a header that is cut short or claims more than there is.
std::optional<TransportView> transport_of(ByteView packet, const IpView& view);
// The same where nobody needs the addresses; nothing either where parse_ip() would find no packet.
std::optional<TransportView> transport_of(ByteView packet);

// The kind of super-packet that several packets with these headers make.
Offload::Gso gso_of(const TransportView& at);

// What a packet may be, of those that a kernel with offloads makes: more is cut by whoever hands it on, not refused.
inline constexpr std::size_t kMaxUdpSegments = 64;   // UDP_MAX_SEGMENTS of Linux before 6.9
inline constexpr std::size_t kMaxTcpSegments = 512;  // 64 KiB at a segment size of 128

// Whether `offload` can be true of a packet with these headers: no offload at all is always; a partial checksum needs
// TCP or UDP, unfragmented and without extension headers, whole; a super-packet needs besides its own kind, a partial
// checksum, segment_size > 0, some payload, of TCP neither SYN, RST nor URG, and of IPv4 a good header checksum, which
// would be made anew for its segments. A super-packet need not be larger than one segment.
bool check_offload(ByteView packet, const IpView& view, const Offload& offload);

// Makes the headers of a TCP or UDP packet fit its size: lengths, the IPv4 header's checksum, and the sum of the pseudo
// header as a partial checksum (Offload::needs_checksum is the caller's to set).
void write_partial_checksum(MutableByteView packet, const TransportView& at);

// Whether the IPv4 header's checksum and that of TCP or UDP, finished or partial, are exactly those that would be
// written here: the packet may be taken apart and made again without a bad one becoming good. False where UDP has none.
bool has_good_checksums(const Packet& packet, const TransportView& at);

// How many packets `packet` stands for: 1 unless it is a super-packet.
std::size_t segments_of(ByteView packet, const Offload& offload);
inline std::size_t segments_of(const Packet& packet) { return segments_of(packet.bytes(), packet.offload); }
// The same of all of them together.
std::uint64_t segments_of(std::span<const Packet> packets);
// The bytes of those packets together, headers included: packet.size() unless it is a super-packet.
std::size_t segmented_size_of(ByteView packet, const Offload& offload);
inline std::size_t segmented_size_of(const Packet& packet) { return segmented_size_of(packet.bytes(), packet.offload); }
// The size of the largest of them.
std::size_t largest_segment_of(const Packet& packet);
// Bytes of a super-packet in front of its payload, which are those in front of each segment's.
std::size_t headers_of(const Packet& super);

// Finishes a partial checksum of a packet that is no super-packet; nothing to do where it is finished.
void finish_checksum(Packet& packet);

// Appends the packets that `super` stands for to `out`, with finished checksums and all that is known about it; one
// that is no super-packet is appended with its checksum finished. FIN and PSH go to the last, CWR to the first, IPv4
// identifications count up, a UDP checksum of 0 is sent as 0xFFFF.
void segment(Packet&& super, PacketBatch& out);

// A copy of the first packet that `packet` stands for, as segment() would make it: of itself, if it is no super-packet.
Packet first_packet_of(const Packet& packet);

// Takes the first `segments` segments (at least 1, less than segments_of(super)) out of a super-packet, as a packet of
// its own: a super-packet, or for 1 an ordinary one with a partial checksum. `super` keeps the rest, and is no
// super-packet any more where one segment is left.
Packet split_front(Packet& super, std::size_t segments);

}  // namespace penstock
