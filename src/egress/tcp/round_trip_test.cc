#include "egress/tcp/round_trip.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/random.h"

namespace penstock::egress {
namespace {

using namespace std::chrono_literals;

TEST(RoundTrip, WaitsASecondBeforeAnythingWasMeasured) {
  const RoundTrip trip;
  EXPECT_EQ(trip.timeout(), 1s);
  EXPECT_EQ(trip.smoothed(), 0s);
  EXPECT_EQ(trip.least(), 0s);
}

TEST(RoundTrip, TheFirstSampleIsTakenAsItIsAndHalfOfItAsItsVariation) {
  RoundTrip trip;
  trip.sample(300ms);
  EXPECT_EQ(trip.smoothed(), 300ms);
  EXPECT_EQ(trip.timeout(), 300ms + 4 * 150ms);
}

TEST(RoundTrip, ASteadyPathIsGivenTwoHundredMillisecondsMore) {
  RoundTrip trip;
  for (int i = 0; i < 200; ++i) trip.sample(300ms);
  EXPECT_EQ(trip.smoothed(), 300ms);
  EXPECT_EQ(trip.timeout(), 500ms);
}

// RFC 6298 section 2.3, in doubles.
TEST(RoundTrip, FollowsTheFormulas) {
  SeededRandom random(1);
  RoundTrip trip;
  double smoothed = 0;
  double variation = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double sample = 0.1 + 0.4 * random.next_fraction();
    if (i == 0) {
      smoothed = sample;
      variation = sample / 2;
    } else {
      variation = 0.75 * variation + 0.25 * std::abs(smoothed - sample);
      smoothed = 0.875 * smoothed + 0.125 * sample;
    }
    trip.sample(Duration(std::llround(sample * 1e9)));
    const double timeout = smoothed + std::max(0.2, 4 * variation);
    ASSERT_NEAR(static_cast<double>(trip.timeout().count()) * 1e-9, timeout, 1e-6) << i;
  }
}

TEST(RoundTrip, ManySamplesInARoundMoveItAsMuchAsOneWould) {
  RoundTrip one;
  RoundTrip many;
  one.sample(100ms);
  many.sample(100ms);
  for (int round = 0; round < 20; ++round) {
    one.sample(200ms);
    for (int i = 0; i < 50; ++i) many.sample(200ms, 50);
    const auto difference = std::chrono::abs(one.smoothed() - many.smoothed());
    EXPECT_LT(difference, 3ms) << round;
  }
  RoundTrip forgetful;
  forgetful.sample(100ms);
  for (int i = 0; i < 50; ++i) forgetful.sample(200ms);
  EXPECT_GT(forgetful.smoothed(), 199ms) << "what the divisor is for";
}

TEST(RoundTrip, NoExpectedSamplesCountAsOne) {
  RoundTrip none;
  RoundTrip one;
  for (const auto sample : {100ms, 150ms}) {
    none.sample(sample, 0);
    one.sample(sample, 1);
  }
  EXPECT_EQ(none.smoothed(), one.smoothed());
  EXPECT_EQ(none.timeout(), one.timeout());
}

TEST(RoundTrip, BackingOffDoublesUpToAMinuteAndNoFurther) {
  RoundTrip trip;
  for (const auto timeout : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
    EXPECT_EQ(trip.timeout(), timeout);
    trip.back_off();
  }
  for (int i = 0; i < 1000; ++i) trip.back_off();
  EXPECT_EQ(trip.timeout(), 60s);

  RoundTrip quick;
  for (int i = 0; i < 100; ++i) quick.sample(1us);
  for (int i = 0; i < 1000; ++i) quick.back_off();
  EXPECT_EQ(quick.timeout(), 60s) << "also from the least one";
}

TEST(RoundTrip, WhatIsHeardEndsTheBackOff) {
  RoundTrip trip;
  trip.sample(100ms);
  const auto before = trip.timeout();
  trip.back_off();
  trip.back_off();
  EXPECT_EQ(trip.timeout(), 4 * before);
  trip.settle();
  EXPECT_EQ(trip.timeout(), before);

  trip.back_off();
  trip.sample(100ms);
  EXPECT_LE(trip.timeout(), before);
}

// RFC 6298 section 5.7.
TEST(RoundTrip, AHandshakeThatWasRepeatedIsFollowedByThreeSecondsUntilSomethingIsMeasured) {
  RoundTrip trip;
  trip.settle();
  EXPECT_EQ(trip.timeout(), 1s) << "nothing was repeated";
  trip.back_off();
  EXPECT_EQ(trip.timeout(), 2s);
  trip.settle();
  EXPECT_EQ(trip.timeout(), 3s);
  trip.back_off();
  EXPECT_EQ(trip.timeout(), 6s);
  trip.sample(100ms);
  EXPECT_EQ(trip.timeout(), 100ms + 200ms);
}

TEST(RoundTrip, KeepsTheLeastSample) {
  RoundTrip trip;
  for (const auto sample : {30ms, 20ms, 40ms}) trip.sample(sample);
  EXPECT_EQ(trip.least(), 20ms);
}

TEST(RoundTrip, SamplesThatCannotBeAreHeldToWhatCan) {
  SeededRandom random(2);
  RoundTrip trip;
  for (int i = 0; i < 10'000; ++i) {
    trip.sample(Duration(static_cast<std::int64_t>(random.next64())), random.next32());
    if (i % 3 == 0) trip.back_off();
    ASSERT_GE(trip.smoothed(), 1us);
    ASSERT_LE(trip.smoothed(), RoundTrip::kLongest);
    ASSERT_GT(trip.timeout(), RoundTrip::kLeast);
    ASSERT_LE(trip.timeout(), RoundTrip::kLongest);
  }
  trip.sample(-5s);
  EXPECT_EQ(trip.least(), 1us);
}

}  // namespace
}  // namespace penstock::egress
