// The internet checksum (RFC 1071), in parts: sum what is covered, then finish.
//
//   auto sum = pseudo_header_sum(source, destination, kProtocolUdp, segment.size());
//   store_be16(at, checksum_finish(checksum_add(segment, sum)));      // the checksum field being zero
//
// A sum is a ones' complement sum of big-endian 16-bit words, folded to 0..0xFFFF. To verify, sum everything with the
// checksum in its place: an intact sum is 0xFFFF, so checksum_finish() is 0.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ip.h"

namespace penstock {

// Adds `bytes`; an odd last byte counts as if a zero followed, so only the last part may be odd.
std::uint32_t checksum_add(ByteView bytes, std::uint32_t sum = 0);

// The same, and copies `from` to `to` on the way: one pass over bytes that have to move anyway. Not overlapping.
std::uint32_t checksum_copy(std::uint8_t* to, ByteView from, std::uint32_t sum = 0);

// Folds what became of sums that were added as plain numbers.
inline std::uint32_t checksum_fold(std::uint32_t sum) {
  sum = (sum >> 16) + (sum & 0xFFFF);
  return (sum >> 16) + (sum & 0xFFFF);
}

inline std::uint16_t checksum_finish(std::uint32_t sum) { return static_cast<std::uint16_t>(~sum); }

inline std::uint16_t internet_checksum(ByteView bytes) { return checksum_finish(checksum_add(bytes)); }

// The pseudo header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1). Both addresses of one family;
// `length` is that of the upper layer, header and payload.
std::uint32_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                                std::size_t length);

// The checksum after a covered 16-bit word changed (RFC 1624 equation 3). UDP over IPv4: a checksum of 0 means that
// there is none and must stay 0; that is for the caller to look at.
std::uint16_t checksum_update(std::uint16_t checksum, std::uint16_t old_word, std::uint16_t new_word);
// The same for an address (one family), in a header or a pseudo header.
std::uint16_t checksum_update(std::uint16_t checksum, const IpAddress& old_address, const IpAddress& new_address);

}  // namespace penstock
