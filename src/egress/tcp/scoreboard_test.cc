#include "egress/tcp/scoreboard.h"

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"

namespace penstock::egress {
namespace {

constexpr Sequence kStart = 0xFFFFFF00;  // so that it wraps
constexpr std::uint32_t kSegment = 100;

class ScoreboardTest : public ::testing::Test {
 protected:
  ScoreboardTest() { board_.start(kStart); }
  bool sack(std::uint32_t first, std::uint32_t end) {
    const SackBlock block{kStart + first, kStart + end};
    return board_.sacked({&block, 1}, kStart + una_, kStart + nxt_);
  }
  std::uint32_t in_flight() const { return board_.in_flight(kStart + una_, kStart + nxt_); }

  Scoreboard board_;
  std::uint32_t una_ = 0;
  std::uint32_t nxt_ = 1000;
};

TEST_F(ScoreboardTest, NothingIsLostWhileNothingIsSaid) {
  EXPECT_EQ(board_.next_hole(), std::nullopt);
  EXPECT_EQ(in_flight(), 1000U);
}

TEST_F(ScoreboardTest, WhatIsSackedIsNotOnItsWay) {
  EXPECT_TRUE(sack(200, 300));
  EXPECT_FALSE(sack(200, 300));
  EXPECT_FALSE(sack(220, 280));
  EXPECT_TRUE(sack(250, 400));
  EXPECT_EQ(in_flight(), 800U);
}

TEST_F(ScoreboardTest, BlocksOutsideOfWhatIsUnderWayArePassedOver) {
  una_ = 100;
  board_.acknowledged(kStart + 100);
  EXPECT_FALSE(sack(0, 50));
  EXPECT_FALSE(sack(50, 150));
  EXPECT_FALSE(sack(900, 1100));
  EXPECT_FALSE(sack(400, 400));
  EXPECT_FALSE(sack(500, 400));
  EXPECT_EQ(in_flight(), 900U);
}

// RFC 6675 section 4: more than two segments' worth above, or three ranges.
TEST_F(ScoreboardTest, ThreeSegmentsAboveMakeLostWhatIsBelow) {
  sack(100, 200);
  EXPECT_FALSE(board_.find_lost(kSegment));
  sack(200, 300);
  EXPECT_FALSE(board_.find_lost(kSegment));
  sack(300, 301);
  EXPECT_TRUE(board_.find_lost(kSegment));
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart, kStart + 100}));
  EXPECT_FALSE(board_.find_lost(kSegment));
}

TEST_F(ScoreboardTest, ThreeRangesAreEnoughHoweverSmall) {
  sack(100, 110);
  sack(200, 210);
  EXPECT_FALSE(board_.find_lost(kSegment));
  sack(300, 310);
  EXPECT_TRUE(board_.find_lost(kSegment));
  EXPECT_EQ(board_.lost_end(), kStart + 100);
}

TEST_F(ScoreboardTest, HolesComeInOrderAndOnce) {
  sack(100, 200);
  sack(300, 400);
  sack(500, 800);
  board_.find_lost(kSegment);
  EXPECT_EQ(in_flight(), 200U);  // 800..1000
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart, kStart + 100}));
  board_.sent_again(kStart + 60);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart + 60, kStart + 100}));
  board_.sent_again(kStart + 100);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart + 200, kStart + 300}));
  board_.sent_again(kStart + 300);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart + 400, kStart + 500}));
  board_.sent_again(kStart + 500);
  EXPECT_EQ(board_.next_hole(), std::nullopt);
  EXPECT_EQ(in_flight(), 500U);
}

TEST_F(ScoreboardTest, ATimeoutLosesAllButWhatIsSackedAndASecondThatToo) {
  sack(200, 300);
  board_.lose_all(kStart, kStart + nxt_, false);
  EXPECT_EQ(in_flight(), 0U);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart, kStart + 200}));
  board_.sent_again(kStart + 200);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart + 300, kStart + 1000}));
  board_.lose_all(kStart, kStart + nxt_, true);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart, kStart + 1000}));
}

TEST_F(ScoreboardTest, WithoutSackTheSegmentAtTheFrontIsLost) {
  board_.lose_first(kStart, kSegment, kStart + nxt_);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart, kStart + 100}));
  board_.sent_again(kStart + 100);
  una_ = 100;
  board_.acknowledged(kStart + 100);
  EXPECT_EQ(board_.next_hole(), std::nullopt);
  board_.lose_first(kStart + 100, kSegment, kStart + nxt_);
  EXPECT_EQ(board_.next_hole(), (SackBlock{kStart + 100, kStart + 200}));
}

TEST_F(ScoreboardTest, AnAcknowledgementTakesAwayWhatItCovers) {
  sack(100, 200);
  sack(300, 600);
  board_.find_lost(kSegment);
  una_ = 400;
  board_.acknowledged(kStart + 400);
  EXPECT_EQ(in_flight(), 400U);
  EXPECT_EQ(board_.next_hole(), std::nullopt);
  una_ = 1000;
  board_.acknowledged(kStart + 1000);
  EXPECT_EQ(in_flight(), 0U);
  EXPECT_FALSE(board_.any_sacked());
  EXPECT_EQ(board_.memory(), 0U);
}

// Against a byte at a time.
TEST(Scoreboard, CountsAsASetOfBytesDoes) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SeededRandom random(seed);
    Scoreboard board;
    board.start(kStart);
    std::set<std::uint32_t> sacked;
    std::uint32_t una = 0;
    std::uint32_t lost = 0;
    std::uint32_t again = 0;
    const std::uint32_t nxt = 600;
    for (int step = 0; step < 60; ++step) {
      switch (random.next32() % 4) {
        case 0: {
          una += random.next32() % 30;
          una = std::min(una, nxt);
          board.acknowledged(kStart + una);
          sacked.erase(sacked.begin(), sacked.lower_bound(una));
          lost = std::max(lost, una);
          again = std::max(again, una);
          break;
        }
        case 1: {
          const std::uint32_t first = una + random.next32() % 200;
          const std::uint32_t end = first + 1 + random.next32() % 40;
          const SackBlock block{kStart + first, kStart + end};
          const std::size_t before = sacked.size();
          const bool news = board.sacked({&block, 1}, kStart + una, kStart + nxt);
          if (end <= nxt)
            for (std::uint32_t i = first; i < end; ++i) sacked.insert(i);
          ASSERT_EQ(news, sacked.size() > before) << seed;
          break;
        }
        case 2:
          board.lose_first(kStart + una, 50, kStart + nxt);
          lost = std::max(lost, std::min(una + 50, nxt));
          break;
        default:
          if (const auto hole = board.next_hole()) {
            const std::uint32_t first = hole->first - kStart;
            const std::uint32_t end = hole->end - kStart;
            std::uint32_t expected = again;
            while (expected < lost && sacked.contains(expected)) ++expected;
            ASSERT_EQ(first, expected) << seed;
            for (std::uint32_t i = first; i < end; ++i) ASSERT_FALSE(sacked.contains(i)) << seed;
            ASSERT_TRUE(end == lost || sacked.contains(end)) << seed;
            again = first + 1 + random.next32() % (end - first);
            board.sent_again(kStart + again);
          }
      }
      std::uint32_t flight = 0;
      for (std::uint32_t i = una; i < nxt; ++i) flight += !sacked.contains(i) && (i >= lost || i < again) ? 1U : 0U;
      ASSERT_EQ(board.in_flight(kStart + una, kStart + nxt), flight) << seed << " " << step;
    }
  }
}

}  // namespace
}  // namespace penstock::egress
