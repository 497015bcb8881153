#include "base/mask.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/random.h"

namespace penstock {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint32_t kKey = 0x1A2B3C4D;
constexpr std::array<std::uint8_t, 4> kKeyBytes{0x1A, 0x2B, 0x3C, 0x4D};

Bytes random_bytes(std::size_t size) {
  SeededRandom random(2);
  Bytes bytes(size);
  random.fill(bytes);
  return bytes;
}

Bytes naively_masked(Bytes bytes, std::size_t offset = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] ^= kKeyBytes[(i + offset) % 4];
  return bytes;
}

Bytes copied(const MaskedView& view) {
  Bytes bytes(view.size());
  view.copy_to(bytes.data());
  return bytes;
}

TEST(Mask, AgreesWithTheNaiveOneAtEveryLengthAndOffset) {
  for (std::size_t size = 0; size < 330; ++size) {
    const Bytes bytes = random_bytes(size);
    for (std::size_t offset = 0; offset < 9; ++offset) {
      Bytes masked = bytes;
      apply_mask(masked, kKey, offset);
      ASSERT_EQ(masked, naively_masked(bytes, offset)) << size << " " << offset;
      Bytes copy(size);
      copy_masked(copy.data(), bytes, kKey, offset);
      ASSERT_EQ(copy, masked) << size << " " << offset;
    }
  }
}

TEST(MaskedView, ACopyIsUnmasked) {
  const Bytes bytes = random_bytes(1000);
  const Bytes masked = naively_masked(bytes);
  EXPECT_EQ(copied({masked, kKey}), bytes);
  EXPECT_EQ(copied(MaskedView(bytes)), bytes);
}

TEST(MaskedView, APartOfItGoesOnWhereTheKeyIs) {
  const Bytes bytes = random_bytes(50);
  const Bytes masked = naively_masked(bytes);
  for (std::size_t from = 0; from <= bytes.size(); ++from) {
    for (std::size_t size = 0; size <= bytes.size() - from; ++size) {
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(from);
      const Bytes expected(begin, begin + static_cast<std::ptrdiff_t>(size));
      const MaskedView view(masked, kKey);
      ASSERT_EQ(copied(view.subspan(from, size)), expected) << from << " " << size;
      ASSERT_EQ(copied(view.subspan(from / 2).subspan(from - from / 2, size)), expected) << "a part of a part";
    }
  }
}

}  // namespace
}  // namespace penstock
