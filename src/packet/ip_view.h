// Reads the headers of one inner IP packet: enough to route it, check its source and name its flow.
//
// Pure functions over bytes they do not keep. A packet comes from somebody who may be hostile, so parse_ip() says yes
// only where the length that the header claims is the length that arrived (REQUIREMENTS RT-10, RT-11): whoever holds an
// IpView may read header_size bytes without asking again. What lies behind the IP header is checked by the functions
// that read it. Header checksums are the kernel's business, not checked here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/ip.h"

namespace penstock {

// IANA protocol numbers, which IPv6 calls next headers.
inline constexpr std::uint8_t kProtocolIcmp = 1;
inline constexpr std::uint8_t kProtocolTcp = 6;
inline constexpr std::uint8_t kProtocolUdp = 17;
inline constexpr std::uint8_t kProtocolIcmp6 = 58;

// The fixed header of a packet, by value: it does not refer to the packet's bytes.
struct IpView {
  Family family = Family::ipv4;
  IpAddress source;
  IpAddress destination;
  // IPv4 protocol; for IPv6 the next header of the fixed header, which may be an extension header: upper_layer()
  // looks behind those.
  std::uint8_t protocol = 0;
  std::size_t header_size = 0;  // IPv4 with options: 20..60; IPv6: 40, without extension headers
  std::size_t total_size = 0;   // of the whole packet
  std::uint8_t ttl = 0;         // IPv6: hop limit
  // Any fragment, the first one too. For IPv6 only where the fragment header comes first.
  bool fragment = false;
};

enum class ParseFailure : std::uint8_t {
  too_short,    // not even a fixed header
  bad_version,  // neither 4 nor 6
  bad_length,   // the header's own lengths disagree with each other or with the packet's size
};
std::string_view to_string(ParseFailure failure);

// RFC 791 section 3.1, RFC 8200 section 3. Jumbograms (RFC 2675) are a bad_length.
std::expected<IpView, ParseFailure> parse_ip(ByteView packet);

// What an IP packet carries, found behind the IPv6 extension headers (RFC 8200 section 4.1).
struct UpperLayer {
  std::uint8_t protocol = 0;
  std::size_t offset = 0;           // from the start of the packet, at most its size
  bool fragment = false;            // a fragment header was found, or the IPv4 fields say so
  std::size_t fragment_offset = 0;  // bytes; other than 0: `offset` points into the middle of the upper layer
};

// Nothing where an extension header is cut short, or where there are more of them than honest packets have.
std::optional<UpperLayer> upper_layer(ByteView packet, const IpView& view);

struct Ports {
  std::uint16_t source = 0;
  std::uint16_t destination = 0;
  friend constexpr bool operator==(const Ports&, const Ports&) = default;
};

// The ports of TCP and UDP, in host order; nothing for other protocols, later fragments and cut headers.
std::optional<Ports> ports_of(ByteView packet, const IpView& view);

}  // namespace penstock
