#include "packet/checksum.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace penstock {
namespace {

// RFC 1071 section 4.1, word by word.
std::uint16_t naive_checksum(ByteView bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += load_be16(&bytes[i]);
  if (bytes.size() % 2 != 0) sum += static_cast<std::uint32_t>(bytes.back()) << 8;
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

std::vector<std::uint8_t> random_bytes(Random& random, std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  random.fill(bytes);
  return bytes;
}

TEST(Checksum, TheExampleOfRfc1071) {
  const std::vector<std::uint8_t> bytes{0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7};
  EXPECT_EQ(checksum_add(bytes), 0xDDF2U);
  EXPECT_EQ(internet_checksum(bytes), 0x220D);
}

TEST(Checksum, EveryLengthAndAlignmentAgreesWithTheNaiveSum) {
  SeededRandom random(1);
  const auto bytes = random_bytes(random, 300);
  for (std::size_t begin = 0; begin < 16; ++begin) {
    for (std::size_t size = 0; size <= bytes.size() - begin; ++size) {
      const ByteView part = ByteView(bytes).subspan(begin, size);
      ASSERT_EQ(internet_checksum(part), naive_checksum(part)) << begin << " " << size;
    }
  }
}

// Long ones are summed by other instructions, where the processor has them.
TEST(Checksum, LongOnesAgreeWithTheNaiveSumToo) {
  SeededRandom random(4);
  const auto bytes = random_bytes(random, 3000);
  for (std::size_t size = 0; size < 2900; size += 1 + random.next32() % 7) {
    const ByteView part = ByteView(bytes).subspan(random.next32() % 64, size);
    ASSERT_EQ(internet_checksum(part), naive_checksum(part)) << size;
  }
}

TEST(Checksum, ACopyIsSummedOnTheWay) {
  SeededRandom random(5);
  const auto bytes = random_bytes(random, 1600);
  for (std::size_t size = 0; size < 1500; ++size) {
    const ByteView from = ByteView(bytes).subspan(size % 33, size);
    std::vector<std::uint8_t> to(size + 9, 0xEE);
    ASSERT_EQ(checksum_copy(to.data() + 1, from, 0x1234), checksum_add(from, 0x1234)) << size;
    ASSERT_TRUE(std::equal(from.begin(), from.end(), to.begin() + 1)) << size;
    ASSERT_EQ(to[0], 0xEE);
    for (std::size_t i = size + 1; i < to.size(); ++i) ASSERT_EQ(to[i], 0xEE) << "nothing behind it";
  }
}

TEST(Checksum, CarriesSurviveALongRunOfOnes) {
  const std::vector<std::uint8_t> bytes(65535, 0xFF);
  EXPECT_EQ(internet_checksum(bytes), naive_checksum(bytes));
}

TEST(Checksum, PartsOfEvenSizeAddUp) {
  SeededRandom random(2);
  const auto bytes = random_bytes(random, 1001);
  for (std::size_t cut = 0; cut <= bytes.size(); cut += 2) {
    const ByteView view(bytes);
    ASSERT_EQ(checksum_add(view.subspan(cut), checksum_add(view.first(cut))), checksum_add(view)) << cut;
  }
}

TEST(Checksum, PseudoHeadersAreSummedAsIfTheyStoodThere) {
  const auto source4 = *IpAddress::parse("10.100.0.2");
  const auto destination4 = *IpAddress::parse("192.0.2.255");
  const std::vector<std::uint8_t> header4{10, 100, 0, 2, 192, 0, 2, 255, 0, 17, 0x12, 0x34};
  EXPECT_EQ(pseudo_header_sum(source4, destination4, 17, 0x1234), checksum_add(header4));

  const auto source6 = *IpAddress::parse("fd00::2");
  const auto destination6 = *IpAddress::parse("2001:db8::ffff");
  std::vector<std::uint8_t> header6;
  for (const auto& address : {source6, destination6}) {
    header6.insert(header6.end(), address.bytes().begin(), address.bytes().end());
  }
  for (const int byte : {0, 1, 0x23, 0x45, 0, 0, 0, 17}) header6.push_back(static_cast<std::uint8_t>(byte));
  EXPECT_EQ(pseudo_header_sum(source6, destination6, 17, 0x12345), checksum_add(header6));
}

// RFC 1624 section 4: the case in which the older equation gives 0xFFFF.
TEST(Checksum, TheExampleOfRfc1624) { EXPECT_EQ(checksum_update(0xDD2F, 0x5555, 0x3285), 0x0000); }

TEST(Checksum, AnUpdateEqualsANewSum) {
  SeededRandom random(3);
  for (int round = 0; round < 2000; ++round) {
    auto bytes = random_bytes(random, 40);
    const std::uint16_t before = internet_checksum(bytes);
    const std::uint16_t old_word = load_be16(&bytes[10]);
    const auto new_word = static_cast<std::uint16_t>(random.next32());
    store_be16(&bytes[10], new_word);
    ASSERT_EQ(checksum_update(before, old_word, new_word), internet_checksum(bytes));

    const std::uint16_t middle = internet_checksum(bytes);
    for (const std::size_t width : {4U, 16U}) {
      auto changed = bytes;
      const auto address = random_bytes(random, width);
      std::copy(address.begin(), address.end(), changed.begin() + 12);
      ASSERT_EQ(checksum_update(middle, IpAddress::from_bytes(ByteView(bytes).subspan(12, width)),
                                IpAddress::from_bytes(address)),
                internet_checksum(changed));
    }
  }
}

}  // namespace
}  // namespace penstock
