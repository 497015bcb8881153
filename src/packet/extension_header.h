// IPv6 extension headers, as whoever steps over them needs to know them (RFC 8200 section 4). For the .cc files of this
// room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace penstock::extension {

// Next headers that another header follows (IANA "IPv6 Extension Header Types").
inline constexpr std::uint8_t kHopByHop = 0;
inline constexpr std::uint8_t kRouting = 43;
inline constexpr std::uint8_t kFragment = 44;
inline constexpr std::uint8_t kAuthentication = 51;
inline constexpr std::uint8_t kDestinationOptions = 60;
inline constexpr std::uint8_t kMobility = 135;
// RFC 8200 section 4.1 has use for seven at most.
inline constexpr int kMost = 8;
inline constexpr std::size_t kFragmentHeader = 8;

// The size of the extension header `next` at the start of `rest`, which may be more than is there, and is at least 8; 0
// where `next` is no extension header.
inline std::size_t size_of(std::uint8_t next, ByteView rest) {
  switch (next) {
    case kFragment: return kFragmentHeader;
    case kAuthentication: return rest.size() < 2 ? 8 : (rest[1] + 2U) * 4;  // RFC 4302 section 2.2
    case kHopByHop:
    case kRouting:
    case kDestinationOptions:
    case kMobility: return rest.size() < 2 ? 8 : (rest[1] + 1U) * 8;
    default: return 0;
  }
}

}  // namespace penstock::extension
