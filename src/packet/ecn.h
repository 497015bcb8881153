// Explicit congestion notification in the IP header (RFC 3168 section 5): the two bits that say whether a packet's
// sender understands a mark, and that it met congestion.
#pragma once

#include "base/bytes.h"
#include "packet/checksum.h"

namespace penstock {

// Marks `packet` as having met congestion (CE), with its IPv4 header checksum kept right. False, and untouched, where
// its sender would not understand (not-ECT), or it is no IP packet. One that is marked already stays so.
inline bool mark_congestion(MutableByteView packet) {
  if (packet.size() < 20) return false;
  switch (packet[0] >> 4) {
    case 4: {
      if ((packet[1] & 0x03U) == 0) return false;
      const std::uint16_t before = load_be16(packet.data());
      packet[1] |= 0x03;
      store_be16(&packet[10], checksum_update(load_be16(&packet[10]), before, load_be16(packet.data())));
      return true;
    }
    // The traffic class lies across the first two bytes (RFC 8200 section 3).
    case 6:
      if ((packet[1] & 0x30U) == 0) return false;
      packet[1] |= 0x30;
      return true;
    default: return false;
  }
}

}  // namespace penstock
