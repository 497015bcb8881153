#include "router/meter.h"

#include <gtest/gtest.h>

namespace penstock::router {
namespace {

TEST(Meter, CountsEachDirectionOfItsOwn) {
  const ManualClock clock;
  Meter meter;
  meter.count_up(100);
  meter.count_up(60);
  meter.count_down(64000, 45);
  const MeterSnapshot snapshot = meter.snapshot(clock.now());
  EXPECT_EQ(snapshot.up, (Traffic{.packets = 2, .bytes = 160}));
  EXPECT_EQ(snapshot.down, (Traffic{.packets = 45, .bytes = 64000}));
}

TEST(Meter, ARateIsTheMeanBetweenTwoSnapshots) {
  ManualClock clock;
  Meter meter;
  meter.count_up(5000);
  const MeterSnapshot earlier = meter.snapshot(clock.now());
  meter.count_up(1000);
  meter.count_down(250);
  clock.advance(std::chrono::milliseconds(500));
  const TrafficRate rate = rate_between(earlier, meter.snapshot(clock.now()));
  EXPECT_DOUBLE_EQ(rate.up, 16000);
  EXPECT_DOUBLE_EQ(rate.down, 4000);
}

TEST(Meter, WithoutTimeBetweenThereIsNoRate) {
  const ManualClock clock;
  Meter meter;
  const MeterSnapshot earlier = meter.snapshot(clock.now());
  meter.count_up(1000);
  EXPECT_EQ(rate_between(earlier, meter.snapshot(clock.now())).up, 0);
}

}  // namespace
}  // namespace penstock::router
