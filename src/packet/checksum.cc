#include "packet/checksum.h"

#include <array>

#include "base/result.h"

namespace penstock {
namespace {

std::uint64_t load_native(const std::uint8_t* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Ones' complement addition: what overflows comes back in at the bottom.
std::uint64_t add_around(std::uint64_t sum, std::uint64_t word) {
  sum += word;
  return sum + (sum < word ? 1 : 0);
}

std::uint32_t fold(std::uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xFFFFFFFF);
  sum = (sum >> 16) + (sum & 0xFFFF);
  sum = (sum >> 16) + (sum & 0xFFFF);
  sum = (sum >> 16) + (sum & 0xFFFF);
  return static_cast<std::uint32_t>(sum);
}

}  // namespace

std::uint32_t checksum_add(ByteView bytes, std::uint32_t sum) {
  // The sum does not depend on the byte order in which it is made, except that its own bytes are swapped (RFC 1071
  // section 2 (B)), nor on the width of the words (section 2 (C)). Four sums, so that no addition waits for the last.
  std::array<std::uint64_t, 4> sums{};
  const std::uint8_t* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 32; at += 32, left -= 32) {
    sums[0] = add_around(sums[0], load_native(at));
    sums[1] = add_around(sums[1], load_native(at + 8));
    sums[2] = add_around(sums[2], load_native(at + 16));
    sums[3] = add_around(sums[3], load_native(at + 24));
  }
  for (; left >= 8; at += 8, left -= 8) sums[0] = add_around(sums[0], load_native(at));
  if (left != 0) {
    std::array<std::uint8_t, 8> tail{};
    std::memcpy(tail.data(), at, left);
    sums[1] = add_around(sums[1], load_native(tail.data()));
  }
  std::uint32_t folded = fold(add_around(add_around(sums[0], sums[1]), add_around(sums[2], sums[3])));
  if constexpr (std::endian::native == std::endian::little) {
    folded = __builtin_bswap16(static_cast<std::uint16_t>(folded));
  }
  return fold(std::uint64_t{sum} + folded);
}

std::uint32_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                                std::size_t length) {
  PENSTOCK_ASSERT(source.family() == destination.family());
  const std::uint32_t sum = checksum_add(destination.bytes(), checksum_add(source.bytes()));
  return fold(std::uint64_t{sum} + protocol + length);
}

std::uint16_t checksum_update(std::uint16_t checksum, std::uint16_t old_word, std::uint16_t new_word) {
  const std::uint32_t sum = static_cast<std::uint16_t>(~checksum) + static_cast<std::uint16_t>(~old_word) + new_word;
  return checksum_finish(fold(sum));
}

std::uint16_t checksum_update(std::uint16_t checksum, const IpAddress& old_address, const IpAddress& new_address) {
  PENSTOCK_ASSERT(old_address.family() == new_address.family());
  const std::uint32_t removed = static_cast<std::uint16_t>(~checksum_add(old_address.bytes()));
  return checksum_finish(checksum_add(new_address.bytes(), static_cast<std::uint16_t>(~checksum) + removed));
}

}  // namespace penstock
