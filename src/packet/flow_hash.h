// Sorts packets into flows: a keyed hash of addresses, protocol and ports.
//
// Packets of one conversation have one hash; fragments (which beyond the first have no ports), ICMP and whatever else
// has no ports go by addresses and protocol. IPv6 extension headers are not looked behind: such a packet goes by
// addresses and the first of them. What cannot be read as an IP packet is all one flow.
//
// The hash is multilinear (Lemire and Kaser, "Strongly universal string hashing is fast", 2013), folded, and multiplied
// once more, so that flows whose ports count up do not meet in rows. Whichever two flows somebody picks who does not
// know the key, they meet in one of n = 2^k buckets (the upper k bits) with a probability of at most 2/n
// (Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem", 1997) and a little. A packet
// costs a multiplication for each 32-bit word: 4 of IPv4, 10 of IPv6. It is no MAC: its values must not be shown to
// anybody.
//
// Threads     immutable once made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/random.h"
#include "packet/ip_view.h"

namespace penstock {

// Random words, a secret of the process.
struct FlowHashKey {
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  static FlowHashKey drawn_from(Random& random) { return {.first = random.next64(), .second = random.next64()}; }
};

class FlowHash {
 public:
  explicit FlowHash(const FlowHashKey& key);
  // 32 bits, the upper ones of which are as good as all.
  std::uint32_t operator()(ByteView packet) const;

 private:
  static std::uint32_t load_native(const std::uint8_t* at) {
    std::uint32_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
  }
  // Both ports as they stand in the packet; 0 where there are none.
  static std::uint32_t ports_at(ByteView packet, std::size_t offset, std::uint8_t protocol) {
    const bool has_ports = protocol == kProtocolTcp || protocol == kProtocolUdp;
    return has_ports && packet.size() >= offset + 4 ? load_native(&packet[offset]) : 0;
  }
  std::uint32_t finish(std::uint64_t sum) const {
    return static_cast<std::uint32_t>((sum ^ sum >> 32) * last_multiplier_ >> 32);
  }
  std::uint32_t of_other_than_4(ByteView packet) const;

  // One to begin with and one for each word: protocol, ports, two addresses of up to four words.
  std::array<std::uint64_t, 11> multipliers_;
  std::uint64_t last_multiplier_;  // odd
};

inline std::uint32_t FlowHash::operator()(ByteView packet) const {
  if (packet.size() < 20 || packet[0] >> 4 != 4) return of_other_than_4(packet);
  const std::uint8_t protocol = packet[9];
  const bool fragment = (load_be16(&packet[6]) & 0x3FFF) != 0;
  const std::uint32_t ports = fragment ? 0 : ports_at(packet, (packet[0] & 0x0FU) * 4, protocol);
  const std::uint64_t sum = multipliers_[0] + multipliers_[1] * (4U << 8 | protocol) + multipliers_[2] * ports +
                            multipliers_[3] * load_native(&packet[12]) + multipliers_[4] * load_native(&packet[16]);
  return finish(sum);
}

}  // namespace penstock
