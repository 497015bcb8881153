#include "packet/flow_hash.h"

namespace penstock {

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): `first` is its state,
// `second` its increment.
FlowHash::FlowHash(const FlowHashKey& key) : multipliers_{} {
  std::uint64_t state = key.first;
  const auto next = [&] {
    state += key.second | 1;
    std::uint64_t mixed = state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
  };
  for (std::uint64_t& multiplier : multipliers_) multiplier = next();
  last_multiplier_ = next() | 1;
}

std::uint32_t FlowHash::of_other_than_4(ByteView packet) const {
  constexpr std::size_t kHeader = 40;
  if (packet.size() < kHeader || packet[0] >> 4 != 6) return 0;
  const std::uint8_t protocol = packet[6];
  std::uint64_t sum =
      multipliers_[0] + multipliers_[1] * (6U << 8 | protocol) + multipliers_[2] * ports_at(packet, kHeader, protocol);
  for (std::size_t word = 0; word < 8; ++word) sum += multipliers_[3 + word] * load_native(&packet[8 + 4 * word]);
  return finish(sum);
}

}  // namespace penstock
