#include "egress/tcp/arrivals.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

#include "base/random.h"

namespace penstock::egress {
namespace {

constexpr Sequence kStart = 0xFFFFFFF0;  // so that it wraps

std::uint8_t byte_at(std::uint32_t place) { return static_cast<std::uint8_t>(place * 7 + place / 251); }

class ArrivalsTest : public ::testing::Test {
 protected:
  ArrivalsTest() { arrivals_.start(kStart); }

  // The bytes [first, end) of the stream, `at` bytes into a packet.
  bool put(std::uint32_t first, std::uint32_t end, std::size_t at = 40) {
    Packet packet = Packet::with_size(at + (end - first));
    for (std::uint32_t i = first; i < end; ++i) packet.mutable_bytes()[at + i - first] = byte_at(i);
    return arrivals_.put(kStart + first, std::move(packet), at, end - first);
  }
  std::uint32_t next() const { return arrivals_.next() - kStart; }
  // Takes up to `most` bytes away and looks whether they are the ones that follow.
  void take(std::size_t most) {
    std::array<ByteView, 8> parts;
    const std::size_t count = arrivals_.front(parts);
    std::size_t taken = 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (const std::uint8_t byte : parts[i]) {
        if (taken == most) break;
        ASSERT_EQ(byte, byte_at(read_ + static_cast<std::uint32_t>(taken)));
        ++taken;
      }
    }
    arrivals_.written(taken);
    read_ += static_cast<std::uint32_t>(taken);
  }
  std::vector<SackBlock> sacks(std::size_t most = 4) const {
    std::vector<SackBlock> blocks(most);
    blocks.resize(arrivals_.sacks(blocks));
    for (SackBlock& block : blocks) block = {block.first - kStart, block.end - kStart};
    return blocks;
  }

  Arrivals arrivals_;
  std::uint32_t read_ = 0;
};

TEST_F(ArrivalsTest, WhatComesInOrderIsThereAtOnce) {
  EXPECT_TRUE(put(0, 100));
  EXPECT_TRUE(put(100, 150));
  EXPECT_EQ(next(), 150U);
  EXPECT_EQ(arrivals_.waiting(), 150U);
  take(150);
  EXPECT_EQ(arrivals_.waiting(), 0U);
  EXPECT_EQ(arrivals_.footprint(), 0U);
}

TEST_F(ArrivalsTest, WhatComesBehindAGapWaitsForIt) {
  put(100, 200);
  EXPECT_EQ(next(), 0U);
  EXPECT_EQ(arrivals_.waiting(), 0U);
  EXPECT_TRUE(arrivals_.has_gaps());
  put(0, 100);
  EXPECT_EQ(next(), 200U);
  EXPECT_FALSE(arrivals_.has_gaps());
  take(200);
}

TEST_F(ArrivalsTest, WhatIsThereAlreadyIsNotTakenTwice) {
  put(0, 100);
  put(50, 120);
  put(0, 30);
  EXPECT_EQ(next(), 120U);
  EXPECT_EQ(arrivals_.waiting(), 120U);
  take(120);
}

// RFC 2018 section 4: the block that came last is the first that is told.
TEST_F(ArrivalsTest, TheBlockThatCameLastIsToldFirst) {
  put(100, 200);
  put(300, 400);
  put(500, 600);
  EXPECT_EQ(sacks(), (std::vector<SackBlock>{{500, 600}, {100, 200}, {300, 400}}));
  put(200, 220);
  EXPECT_EQ(sacks(2), (std::vector<SackBlock>{{100, 220}, {300, 400}}));
}

TEST_F(ArrivalsTest, WhoSendsAByteAPacketHoldsNoBufferForEach) {
  for (std::uint32_t i = 0; i < 4000; ++i) put(i, i + 1);
  EXPECT_EQ(arrivals_.waiting(), 4000U);
  EXPECT_LT(arrivals_.footprint(), 100'000U);
  while (arrivals_.waiting() != 0) take(977);
  EXPECT_EQ(arrivals_.footprint(), 0U);
}

TEST_F(ArrivalsTest, TooManyGapsAreRefused) {
  std::uint32_t taken = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) taken += put(10 + i * 20, 20 + i * 20) ? 1U : 0U;
  EXPECT_EQ(taken, Arrivals::kMostGaps);
  put(0, 10);
  EXPECT_EQ(next(), 20U);
}

TEST_F(ArrivalsTest, EveryByteComesOnceWhateverTheOrderAndTheOverlaps) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SeededRandom random(seed);
    arrivals_ = Arrivals();
    arrivals_.start(kStart);
    read_ = 0;
    const std::uint32_t size = 1 + random.next32() % 8000;
    std::uint32_t rounds = 0;
    while (read_ < size) {
      ASSERT_LT(++rounds, 100'000U) << seed;
      const std::uint32_t first = next() + random.next32() % 400 - std::min(next(), random.next32() % 100);
      const std::uint32_t end = std::min(size, first + 1 + random.next32() % 300);
      if (first < end) put(first, end, random.next32() % 80);
      if (random.next32() % 4 == 0) put(next(), std::min(size, next() + 1 + random.next32() % 50));
      if (random.next32() % 2 == 0) take(random.next32() % 500);
      for (const SackBlock& block : sacks()) {
        ASSERT_GT(block.first, next()) << seed;
        ASSERT_LT(block.first, block.end) << seed;
      }
      ASSERT_EQ(arrivals_.waiting(), next() - read_) << seed;
    }
    EXPECT_FALSE(arrivals_.has_gaps());
    EXPECT_EQ(arrivals_.footprint(), 0U);
  }
}

}  // namespace
}  // namespace penstock::egress
