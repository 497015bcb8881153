#include "egress/tcp/congestion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/random.h"

namespace penstock::egress {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kMss = 1000;
constexpr std::uint32_t kInitial = Congestion::kInitialSegments * kMss;

// Has always as much to send as the window takes, to a peer that loses nothing.
class Sender {
 public:
  explicit Sender(std::uint32_t first = 0) : una_(first) {}

  Congestion* operator->() { return &congestion_; }
  std::uint32_t segments() const { return congestion_.window() / kMss; }
  TimePoint now() const { return now_; }

  void ack(std::uint32_t bytes, Duration round_trip, bool limited = true) {
    const auto next = una_ + congestion_.window();
    una_ += bytes;
    congestion_.acked(bytes, round_trip, limited, una_, next, now_);
  }
  // What is in flight is acknowledged, `bytes` at a time, evenly over a round trip.
  void round(Duration round_trip, std::uint32_t bytes = kMss, bool limited = true) {
    const auto acks = std::max(congestion_.window() / bytes, 1U);
    for (std::uint32_t i = 0; i < acks; ++i) {
      now_ += round_trip / acks;
      ack(std::min(bytes, congestion_.window()), round_trip, limited);
    }
  }
  void rounds_until(TimePoint end, Duration round_trip) {
    while (now_ < end) round(round_trip);
  }
  void pass(Duration time) { now_ += time; }
  void lose() { congestion_.lost(congestion_.window(), now_); }
  // Avoidance at a window of `segments`, after a loss at as many.
  void reach(std::uint32_t segments, Duration round_trip) {
    while (this->segments() < segments) ack(std::min(kMss, segments * kMss - congestion_.window()), round_trip);
    lose();
  }

 private:
  Congestion congestion_{kMss};
  std::uint32_t una_;
  TimePoint now_{1000h};
};

TEST(Congestion, TheInitialWindowFollowsTheSegmentUntilSomethingIsAcknowledged) {
  Sender sender;
  EXPECT_EQ(sender->window(), kInitial);
  sender->set_mss(500);
  EXPECT_EQ(sender->window(), kInitial / 2);
  sender->set_mss(kMss);
  EXPECT_EQ(sender->window(), kInitial);
  sender.ack(kMss, 20ms);
  sender->set_mss(500);
  EXPECT_EQ(sender->window(), kInitial + kMss) << "these bytes are known to fit";
}

TEST(Congestion, AWindowIsNeverLessThanTheSegmentThatGrew) {
  Sender sender;
  sender->timed_out(kInitial, false, sender.now());
  EXPECT_EQ(sender->window(), kMss);
  sender->set_mss(9000);
  EXPECT_EQ(sender->window(), 9000U);
}

TEST(Congestion, SlowStartDoublesInARound) {
  for (const std::uint32_t bytes : {100U, kMss, 2 * kMss, 16 * kMss}) {
    Sender sender;
    auto window = sender->window();
    for (int round = 0; round < 6; ++round) {
      ASSERT_TRUE(sender->in_slow_start());
      sender.round(20ms, bytes);
      window *= 2;
      EXPECT_EQ(sender->window(), window) << "acknowledged in pieces of " << bytes;
    }
  }
}

TEST(Congestion, DoesNotGrowWhileSomethingElseHoldsTheSenderBack) {
  Sender sender;
  for (int i = 0; i < 10; ++i) sender.round(20ms, kMss, false);
  EXPECT_EQ(sender->window(), kInitial);
  sender.reach(100, 20ms);
  const auto reduced = sender->window();
  for (int i = 0; i < 1000; ++i) sender.round(20ms, kMss, false);
  EXPECT_EQ(sender->window(), reduced);
}

TEST(Congestion, NeverExceedsTheLargestWindow) {
  Sender sender;
  for (int i = 0; i < 12; ++i) sender.round(20ms, 16 * kMss);
  EXPECT_EQ(sender->window(), Congestion::kLargest);
  sender.lose();
  for (int i = 0; i < 3000; ++i) sender.round(50ms, 1'000'000);
  EXPECT_EQ(sender->window(), Congestion::kLargest);
  sender.lose();
  sender->undo();
  sender.round(50ms, 1'000'000);
  EXPECT_EQ(sender->window(), Congestion::kLargest);
}

// --- the end of slow start ---

// What the first acknowledgements of a round set free is sent while the last of the round before are under way, so a
// round has two samples from before, and a step is seen a round later.
TEST(Congestion, SlowStartEndsFiveRoundsAfterTheRoundTripGrew) {
  Sender sender;
  sender.round(20ms);
  sender.round(20ms);
  sender.round(25ms);
  EXPECT_EQ(sender.segments(), 256U);
  // Seen by the 8th sample; the rest of the round counts by a quarter.
  sender.round(25ms);
  EXPECT_NEAR(sender.segments(), 256 + 8 + 248 / 4.0, 6) << "a few were counted in the round before";
  for (int round = 2; round <= 5; ++round) {
    EXPECT_TRUE(sender->in_slow_start());
    const auto before = sender->window();
    sender.round(25ms);
    EXPECT_NEAR(sender->window(), before * 1.25, before * 0.02) << round;
  }
  EXPECT_FALSE(sender->in_slow_start());
  EXPECT_NEAR(sender->threshold(), sender->window(), kMss);
}

TEST(Congestion, TheRoundTripHasToGrowByAnEighthButBetween4And16Milliseconds) {
  struct Case {
    Duration before;
    Duration after;
    bool grew;
  };
  for (const auto& [before, after, grew] :
       {Case{1ms, 4999us, false}, Case{1ms, 5ms, true}, Case{80ms, 89ms, false}, Case{80ms, 90ms, true},
        Case{400ms, 415ms, false}, Case{400ms, 416ms, true}}) {
    Sender sender;
    sender.round(before);
    sender.round(before);
    sender.round(after);
    const auto window = sender->window();
    sender.round(after);
    EXPECT_EQ(sender->window() < 2 * window, grew) << before.count() << " ns to " << after.count();
  }
}

TEST(Congestion, ANoisySampleDoesNotEndSlowStart) {
  Sender sender;
  SeededRandom random(3);
  auto window = sender->window();
  for (int round = 0; round < 6; ++round) {
    const auto acks = sender.segments();
    const auto quick = random.next32() % 8;
    for (std::uint32_t i = 0; i < acks; ++i) {
      sender.pass(20ms / acks);
      // All but one of each eight are late.
      sender.ack(kMss, i % 8 == quick ? 20ms : 20ms + std::chrono::milliseconds(random.next32() % 300));
    }
    window *= 2;
    ASSERT_EQ(sender->window(), window) << round;
  }
}

TEST(Congestion, GrowthThatWasNoiseIsTakenBack) {
  Sender sender;
  sender.round(20ms);
  sender.round(20ms);
  sender.round(30ms);
  sender.round(30ms);
  const auto slowed = sender->window();
  EXPECT_LT(slowed, 400 * kMss);
  sender.round(20ms);
  EXPECT_GT(sender->window(), 2 * slowed - 10 * kMss) << "from the 8th sample on as before";
  const auto resumed = sender->window();
  sender.round(20ms);
  EXPECT_NEAR(sender->window(), 2 * resumed, kMss);
}

TEST(Congestion, FewSamplesAreNotJudged) {
  Sender sender;
  auto window = sender->window();
  for (int round = 0; round < 5; ++round) {
    sender.round(20ms + round * 50ms, window / 4);
    window *= 2;
    EXPECT_EQ(sender->window(), window);
  }
  // Nor those that are none.
  Sender unmeasured;
  for (int round = 0; round < 5; ++round) unmeasured.round(0ms);
  EXPECT_EQ(unmeasured->window(), 32 * kInitial);
}

TEST(Congestion, ALossEndsSlowStart) {
  Sender sender;
  sender.round(20ms);
  sender.lose();
  EXPECT_FALSE(sender->in_slow_start());
  EXPECT_EQ(sender->window(), 64 * kMss * 7 / 10);
  EXPECT_EQ(sender->threshold(), sender->window());
}

// --- avoidance ---

double cubic(double seconds, double most, double begin) {
  const double k = std::cbrt((most - begin) / 0.4);
  return 0.4 * std::pow(seconds - k, 3) + most;
}

TEST(Congestion, TheWindowFollowsTheCubicBackToWhereItLost) {
  Sender sender;
  sender.reach(1000, 100ms);
  EXPECT_EQ(sender.segments(), 700U);
  const auto begin = sender.now();
  const double k = std::cbrt(300 / 0.4);
  for (double t = 0.5; t < 2 * k; t += 0.5) {
    sender.rounds_until(begin + Duration(std::llround(t * 1e9)), 100ms);
    const double seconds = std::chrono::duration<double>(sender.now() - begin).count();
    EXPECT_NEAR(sender->window() / double{kMss}, cubic(seconds, 1000, 700), 7) << "after " << seconds;
  }
  EXPECT_GT(sender.segments(), 1250U) << "and beyond";
}

TEST(Congestion, TheWindowIsFlatWhereItLost) {
  Sender sender;
  sender.reach(1000, 100ms);
  const auto begin = sender.now();
  sender.rounds_until(begin + 9086ms, 100ms);
  EXPECT_NEAR(sender.segments(), 1000, 3);
  const auto at_k = sender->window();
  sender.rounds_until(begin + 10s, 100ms);
  EXPECT_LT(sender->window() - at_k, 3 * kMss);
}

TEST(Congestion, TimeThatWasNotLimitedByTheWindowDoesNotCount) {
  Sender busy;
  Sender pausing;
  for (auto* sender : {&busy, &pausing}) {
    sender->reach(1000, 100ms);
    sender->rounds_until(sender->now() + 3s, 100ms);
  }
  pausing.round(100ms, kMss, false);
  pausing.pass(1h);
  pausing.round(100ms, kMss, false);
  for (auto* sender : {&busy, &pausing}) sender->rounds_until(sender->now() + 3s, 100ms);
  EXPECT_NEAR(pausing.segments(), busy.segments(), 5);
}

TEST(Congestion, AFlickeringLimitDoesNotHoldTheWindowAtItsFlatPart) {
  Sender sender;
  sender.reach(1000, 100ms);
  for (int round = 0; round < 400; ++round) {
    const auto acks = sender.segments();
    for (std::uint32_t i = 0; i < acks; ++i) {
      sender.pass(100ms / acks);
      sender.ack(kMss, 100ms, i % 2 == 0);
    }
  }
  EXPECT_GT(sender.segments(), 1200U) << "20 s of being limited";
}

// RFC 9438 section 4.3.
TEST(Congestion, IsNeverSlowerThanReno) {
  Sender sender;
  sender.reach(100, 5ms);
  const double alpha = 3 * 0.3 / 1.7;
  double reno = 70;
  for (int round = 1; round <= 120; ++round) {
    sender.round(5ms);
    reno += reno < 100 ? alpha : 1;
    // In a round as many segments are acknowledged as were in the window when it began: a bit less than there are now.
    ASSERT_NEAR(sender->window() / double{kMss}, reno, 2) << round;
  }
  EXPECT_GT(sender.segments(), 155U) << "one segment a round once it has back what it had";
}

TEST(Congestion, WhoLosesBeforeHavingBackWhatHeHadMakesRoom) {
  Sender sender;
  sender.reach(1000, 100ms);
  sender.rounds_until(sender.now() + 4s, 100ms);
  const double second = sender->window() / double{kMss};
  ASSERT_LT(second, 990);
  sender.lose();
  const double begin_window = sender->window() / double{kMss};
  EXPECT_NEAR(begin_window, 0.7 * second, 0.01);

  const double most = 0.85 * second;
  const double k = std::cbrt((most - begin_window) / 0.4);
  const auto begin = sender.now();
  sender.rounds_until(begin + Duration(std::llround(k * 1e9)), 100ms);
  EXPECT_NEAR(sender.segments(), most, 3) << "flat earlier than where it lost";
}

TEST(Congestion, WhatIsInFlightIsReducedNotWhatMightBe) {
  Sender sender;
  sender.round(20ms);
  sender.round(20ms);
  sender->lost(40 * kMss, sender.now());
  EXPECT_EQ(sender->window(), 28 * kMss);
  sender->lost(400 * kMss, sender.now());
  EXPECT_EQ(sender->window(), 28 * kMss * 7 / 10) << "more than the window counts as the window";
}

TEST(Congestion, TwoSegmentsAreLeftAfterLosses) {
  Sender sender;
  for (int i = 0; i < 20; ++i) sender.lose();
  EXPECT_EQ(sender->window(), 2 * kMss);
  sender->lost(0, sender.now());
  EXPECT_EQ(sender->window(), 2 * kMss);
  sender.round(20ms);
  sender.round(20ms);
  EXPECT_GT(sender->window(), 2 * kMss) << "and it grows again";
}

// --- timeouts ---

TEST(Congestion, ATimeoutLeavesOneSegmentAndSlowStartToWhatIsKnown) {
  Sender sender;
  sender.round(20ms);
  sender.round(20ms);
  sender->timed_out(sender->window(), false, sender.now());
  EXPECT_EQ(sender->window(), kMss);
  EXPECT_EQ(sender->threshold(), 128 * kMss * 7 / 10);
  for (int round = 0; round < 6; ++round) sender.round(20ms + round * 50ms);
  EXPECT_EQ(sender.segments(), 64U) << "round trips are watched in the first slow start alone";
  while (sender->in_slow_start()) sender.ack(16 * kMss, 20ms);
  EXPECT_NEAR(sender->window(), sender->threshold(), kMss);
}

TEST(Congestion, TheThresholdIsReducedOnceHoweverOftenTheSameTimesOut) {
  Sender sender;
  sender.round(20ms);
  const auto in_flight = sender->window();
  sender->timed_out(in_flight, false, sender.now());
  for (int i = 0; i < 5; ++i) sender->timed_out(kMss, true, sender.now());
  EXPECT_EQ(sender->threshold(), in_flight * 7 / 10);
  EXPECT_EQ(sender->window(), kMss);
}

// RFC 9438 section 4.8.
TEST(Congestion, TheCurveAfterATimeoutBeginsFlat) {
  Sender sender;
  sender.reach(1000, 200ms);
  sender->timed_out(sender->window(), false, sender.now());
  while (sender->in_slow_start()) sender.ack(kMss, 200ms);
  const auto begin = sender.now();
  const double first = sender->window() / double{kMss};
  EXPECT_NEAR(first, 490, 1);
  sender.rounds_until(begin + 5s, 200ms);
  const double seconds = std::chrono::duration<double>(sender.now() - begin).count();
  EXPECT_NEAR(sender->window() / double{kMss}, first + 0.4 * std::pow(seconds, 3), 5);
}

TEST(Congestion, ALossThatWasNoneIsTakenBack) {
  Sender sender;
  Sender twin;
  for (auto* each : {&sender, &twin}) {
    each->reach(1000, 100ms);
    each->rounds_until(each->now() + 3s, 100ms);
  }
  const auto window = sender->window();
  const auto threshold = sender->threshold();
  sender.lose();
  sender->undo();
  EXPECT_EQ(sender->window(), window);
  EXPECT_EQ(sender->threshold(), threshold);
  for (auto* each : {&sender, &twin}) each->rounds_until(each->now() + 10s, 100ms);
  EXPECT_NEAR(sender.segments(), twin.segments(), 5) << "the curve goes on where it was";

  const auto later = sender->window();
  sender->undo();
  EXPECT_EQ(sender->window(), later) << "there is nothing left to take back";
}

TEST(Congestion, TimeoutsInARowAreTakenBackTogether) {
  Sender sender;
  sender.round(20ms);
  const auto window = sender->window();
  sender->timed_out(window, false, sender.now());
  sender->timed_out(kMss, true, sender.now());
  sender->timed_out(kMss, true, sender.now());
  sender->undo();
  EXPECT_EQ(sender->window(), window);
  sender.round(20ms);
  EXPECT_EQ(sender->window(), 2 * window) << "slow start goes on";
  sender.round(40ms);
  sender.round(40ms);
  EXPECT_LT(sender->window(), 6 * window) << "and is watched again";
}

TEST(Congestion, ATimeoutThatWasNoneLeavesTheCurveAsItWas) {
  Sender sender;
  Sender twin;
  for (auto* each : {&sender, &twin}) each->reach(1000, 100ms);
  sender->timed_out(sender->window(), false, sender.now());
  sender->undo();
  EXPECT_FALSE(sender->in_slow_start());
  for (auto* each : {&sender, &twin}) each->rounds_until(each->now() + 5s, 100ms);
  EXPECT_NEAR(sender.segments(), twin.segments(), 5);
}

TEST(Congestion, WhatHasGrownAgainIsNotTakenBack) {
  Sender sender;
  sender.reach(100, 5ms);
  for (int round = 0; round < 100; ++round) sender.round(5ms);
  const auto window = sender->window();
  const auto threshold = sender->threshold();
  ASSERT_GT(window, 100 * kMss);
  sender->undo();
  EXPECT_EQ(sender->window(), window);
  EXPECT_EQ(sender->threshold(), threshold);
}

// --- silence ---

TEST(Congestion, ASilenceHalvesTheWindowForEachTimeoutDownToTheInitialOne) {
  Sender sender;
  for (int round = 0; round < 3; ++round) sender.round(20ms);
  sender.lose();
  const auto window = sender->window();
  sender->restart_after(219ms, 220ms);
  EXPECT_EQ(sender->window(), window);
  sender->restart_after(220ms, 220ms);
  EXPECT_EQ(sender->window(), window / 2);
  EXPECT_EQ(sender->threshold(), window) << "slow start leads back";
  sender->restart_after(1000h, 220ms);
  EXPECT_EQ(sender->window(), kInitial);
}

TEST(Congestion, AfterASilenceTheWindowNeverJumpsBack) {
  Sender sender;
  sender.reach(200, 5ms);
  for (int round = 0; round < 200; ++round) sender.round(5ms);
  sender.pass(10s);
  sender->restart_after(10s, 210ms);
  auto before = sender->window();
  for (int i = 0; i < 2000; ++i) {
    sender.pass(100us);
    sender.ack(kMss, 5ms);
    ASSERT_LE(sender->window() - before, kMss);
    before = sender->window();
  }
}

TEST(Congestion, ASilenceDoesNotEnlargeASmallWindow) {
  Sender sender;
  for (int i = 0; i < 20; ++i) sender.lose();
  sender->restart_after(1h, 200ms);
  EXPECT_EQ(sender->window(), 2 * kMss);
}

// --- whatever comes ---

TEST(Congestion, SequenceNumbersThatWrapChangeNothing) {
  const auto windows = [](std::uint32_t first) {
    Sender sender(first);
    std::vector<std::uint32_t> seen;
    for (int round = 0; round < 40; ++round) {
      sender.round(round < 4 ? 20ms : 30ms);
      if (round == 20) sender.lose();
      if (round == 30) sender->timed_out(sender->window(), false, sender.now());
      seen.push_back(sender->window());
    }
    return seen;
  };
  const auto plain = windows(0);
  for (const std::uint32_t first : {0xFFFFFFFFU, 0xFFFF0000U, 0xFFFE8000U, 0x7FFFFFFFU, 0x7FFF0000U, 0x80000000U}) {
    EXPECT_EQ(windows(first), plain) << first;
  }
}

TEST(Congestion, HoldsItsBoundsWhateverIsSaidToIt) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SeededRandom random(seed);
    const auto some = [&](std::uint32_t bound) { return random.next32() % bound; };
    std::uint32_t mss = 1 + some(seed % 2 == 0 ? 1460 : 65'535);
    Congestion congestion(mss);
    TimePoint now{1000h};
    for (int i = 0; i < 2000; ++i) {
      now += std::chrono::microseconds(some(i % 100 == 0 ? 100'000'000 : 10'000));
      const auto before = congestion.window();
      switch (some(40)) {
        case 0: congestion.lost(random.next32(), now); break;
        case 1: congestion.timed_out(some(1 << 24), some(2) == 0, now); break;
        case 2: congestion.undo(); break;
        case 3:
          congestion.restart_after(std::chrono::milliseconds(some(10'000)), std::chrono::milliseconds(some(1000)));
          break;
        case 4:
          mss = 1 + some(65'535);
          congestion.set_mss(mss);
          break;
        default: {
          const auto acked = some(3) == 0 ? random.next32() : some(200'000);
          congestion.acked(acked, Duration(static_cast<std::int64_t>(random.next64() >> some(40))), some(4) != 0,
                           random.next32(), random.next32(), now);
          ASSERT_GE(congestion.window(), before);
          ASSERT_LE(congestion.window() - before, acked);
        }
      }
      ASSERT_GE(congestion.window(), mss);
      ASSERT_LE(congestion.window(), Congestion::kLargest);
      ASSERT_GE(congestion.threshold(), mss > 1 ? 2U : 1U);
    }
  }
}

}  // namespace
}  // namespace penstock::egress
