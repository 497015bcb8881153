#include "base/mask.h"

#include <array>
#include <bit>

namespace penstock {
namespace {

// The key's four bytes, as they fall on bytes that stand `offset` into the payload, eight times over.
std::array<std::uint8_t, 32> repeated_key(std::uint32_t mask_key, std::size_t offset) {
  std::array<std::uint8_t, 32> key;
  const std::uint32_t turned = std::rotl(mask_key, static_cast<int>(offset % 4 * 8));
  for (std::size_t i = 0; i < key.size(); i += 4) store_be32(&key[i], turned);
  return key;
}

// A vector as GCC and Clang know it: one register or two, as the caller is compiled for.
using Block [[gnu::vector_size(32)]] = std::uint64_t;

[[gnu::always_inline]] inline void mask_blocks(std::uint8_t* to, const std::uint8_t* from, std::size_t size,
                                               const std::array<std::uint8_t, 32>& key) {
  Block wide;
  std::memcpy(&wide, key.data(), sizeof wide);
  std::size_t at = 0;
  for (; at + 2 * sizeof(Block) <= size; at += 2 * sizeof(Block)) {
    Block first;
    Block second;
    std::memcpy(&first, from + at, sizeof first);
    std::memcpy(&second, from + at + sizeof first, sizeof second);
    first ^= wide;
    second ^= wide;
    std::memcpy(to + at, &first, sizeof first);
    std::memcpy(to + at + sizeof first, &second, sizeof second);
  }
  for (; at < size; ++at) to[at] = from[at] ^ key[at % 32];
}

void mask_anywhere(std::uint8_t* to, const std::uint8_t* from, std::size_t size,
                   const std::array<std::uint8_t, 32>& key) {
  mask_blocks(to, from, size, key);
}

#if defined(__x86_64__) && !defined(_WIN32)
[[gnu::target("avx2")]] void mask_avx2(std::uint8_t* to, const std::uint8_t* from, std::size_t size,
                                       const std::array<std::uint8_t, 32>& key) {
  mask_blocks(to, from, size, key);
}
const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
#else
constexpr bool has_avx2 = false;
constexpr auto mask_avx2 = mask_anywhere;
#endif

void mask(std::uint8_t* to, const std::uint8_t* from, std::size_t size, std::uint32_t mask_key, std::size_t offset) {
  const auto key = repeated_key(mask_key, offset);
  if (has_avx2 && size >= 256) return mask_avx2(to, from, size, key);
  mask_anywhere(to, from, size, key);
}

}  // namespace

void apply_mask(MutableByteView bytes, std::uint32_t mask_key, std::size_t offset) {
  if (mask_key != 0) mask(bytes.data(), bytes.data(), bytes.size(), mask_key, offset);
}

void copy_masked(std::uint8_t* to, ByteView bytes, std::uint32_t mask_key, std::size_t offset) {
  mask(to, bytes.data(), bytes.size(), mask_key, offset);
}

}  // namespace penstock
