// What an IP header says of its packet made true, or nearly nothing of what a fuzzer makes would come past it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "packet/checksum.h"

namespace penstock::fuzz {

// The lengths, and of IPv4 the checksum, unless `checksum` is false.
inline void mend_header(MutableByteView packet, bool checksum = true) {
  const std::size_t size = packet.size();
  if (size >= 40 && packet[0] >> 4 == 6) store_be16(&packet[4], static_cast<std::uint16_t>(size - 40));
  if (size < 20 || packet[0] >> 4 != 4) return;
  store_be16(&packet[2], static_cast<std::uint16_t>(size));
  const std::size_t header = (packet[0] & 0x0FU) * 4U;
  if (!checksum || header < 20 || header > size) return;
  store_be16(&packet[10], 0);
  store_be16(&packet[10], internet_checksum(packet.first(header)));
}

}  // namespace penstock::fuzz
