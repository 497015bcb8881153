// Reads and writes TCP segments (RFC 9293 section 3.1), for whoever ends connections and does not only carry them.
//
//   packet --parse_tcp()--> TcpView                        TcpHeader --write_tcp_headers()--> headers of a packet
//   packet that belongs to no connection --tcp_reset_for()--> the RST that its sender is owed
//
// Options    those of RFC 9293 (MSS), 7323 (window scale, timestamps) and 2018 (SACK) are read and written; others are
//            passed over, and so is one with another length than its kind has, or that stands where it has no meaning:
//            MSS (and one of 0), window scale and "SACK permitted" without SYN, SACK blocks with it. Of two of a kind
//            the last holds. A length that makes no sense ends the list (below 2, or beyond the header); what stood
//            before it holds. So whatever is read fits where it is written again.
// Checksums  are not looked at here: super_packet.h has has_good_checksums(). What is written has a partial one
//            (Offload::needs_checksum), which whoever sends it on finishes or leaves to a kernel.
// Threads    pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpSyn = 0x02;
inline constexpr std::uint8_t kTcpRst = 0x04;
inline constexpr std::uint8_t kTcpPsh = 0x08;
inline constexpr std::uint8_t kTcpAck = 0x10;
inline constexpr std::uint8_t kTcpUrg = 0x20;

// Sequence numbers [first, end) that have arrived (RFC 2018 section 3).
struct SackBlock {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
  friend constexpr bool operator==(const SackBlock&, const SackBlock&) = default;
};

struct TcpTimestamps {
  std::uint32_t value = 0;
  std::uint32_t echo = 0;  // means something with ACK alone
  friend constexpr bool operator==(const TcpTimestamps&, const TcpTimestamps&) = default;
};

struct TcpOptions {
  static constexpr std::size_t kMostSacks = 4;

  std::optional<std::uint16_t> mss;          // of a SYN
  std::optional<std::uint8_t> window_scale;  // of a SYN, as it was sent: more than 14 counts as 14
  bool sack_permitted = false;               // of a SYN
  std::optional<TcpTimestamps> timestamps;
  std::array<SackBlock, kMostSacks> sacks{};  // as they were sent, whatever they say; beyond sack_count zero
  std::uint8_t sack_count = 0;
  friend constexpr bool operator==(const TcpOptions&, const TcpOptions&) = default;
};

struct TcpView {
  std::uint16_t source = 0;  // ports
  std::uint16_t destination = 0;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint8_t flags = 0;    // all eight, those of RFC 3168 too
  std::uint16_t window = 0;  // as it was sent, not scaled
  TcpOptions options{};
  std::size_t payload = 0;  // where it begins, from the start of the packet
  std::size_t payload_size = 0;
};

// Of a packet that parse_ip() believed as `view`, a super-packet too. Nothing where it is no TCP or a fragment, where
// IPv6 extension headers stand before it, and where the header is cut short or claims more than there is.
std::optional<TcpView> parse_tcp(ByteView packet, const IpView& view);

// What is to be written in front of a payload.
struct TcpHeader {
  Endpoint from{};  // both of one family
  Endpoint to{};
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;
  TcpOptions options{};  // at most 40 bytes: four SACK blocks go alone, three with timestamps
};

// Bytes of the IP and TCP headers together. Each option, or pair of them, is padded to four in front.
std::size_t tcp_headers_size(const TcpHeader& header);

// Writes them at the front of `packet`, behind which its payload stands, and sets its Offload: a partial checksum, and
// where the payload is larger than `segment_size`, a super-packet of that (which must not have SYN, RST or URG). What
// else is known about the packet stays. The hop limit is 64, IPv4 may not be fragmented (RFC 1191) and has
// identification 0 (RFC 6864), the IPv6 flow label is 0. Nothing of it is urgent.
void write_tcp_headers(Packet& packet, const TcpHeader& header, std::size_t segment_size);

// A packet without payload.
Packet tcp_packet(const TcpHeader& header);

// The RST for a segment that belongs to no connection (RFC 9293 section 3.10.7.1), from where it was sent to. One for
// all of a super-packet. Nothing about a RST, what parse_tcp() does not read, what has bad checksums, and what comes
// from or went to more than one host, or none (section 3.9.2.3).
std::optional<Packet> tcp_reset_for(const Packet& packet, const IpView& view);

}  // namespace penstock
