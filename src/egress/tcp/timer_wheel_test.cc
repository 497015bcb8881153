#include "egress/tcp/timer_wheel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/random.h"

namespace penstock::egress {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Timed : TimerWheel::Member {
  TimePoint due = TimePoint::max();
};

class TimerWheelTest : public ::testing::Test {
 protected:
  const TimePoint start_{seconds(1000)};
  TimerWheel wheel_{start_};
};

TEST_F(TimerWheelTest, WhatIsNeverSetIsNeverDue) {
  EXPECT_EQ(wheel_.next(), std::nullopt);
  EXPECT_EQ(wheel_.take_due(start_ + seconds(100)), nullptr);
}

TEST_F(TimerWheelTest, AMemberComesAtTheFirstTickThatIsNotBeforeItsTime) {
  Timed one;
  wheel_.set(one, start_ + milliseconds(20));
  EXPECT_EQ(wheel_.next(), start_ + 3 * TimerWheel::kTick);
  EXPECT_EQ(wheel_.take_due(start_ + milliseconds(20)), nullptr);
  EXPECT_EQ(wheel_.take_due(start_ + milliseconds(24)), &one);
  EXPECT_FALSE(wheel_.contains(one));
  EXPECT_EQ(wheel_.size(), 0U);
}

TEST_F(TimerWheelTest, WhoMovesToALaterTimeIsAskedAtTheEarlierOneAndWhoMovesToAnEarlierOneComesThen) {
  Timed one;
  wheel_.set(one, start_ + milliseconds(80));
  wheel_.set(one, start_ + seconds(2));
  EXPECT_EQ(wheel_.next(), start_ + milliseconds(80));
  wheel_.set(one, start_ + milliseconds(16));
  EXPECT_EQ(wheel_.next(), start_ + milliseconds(16));
  EXPECT_EQ(wheel_.size(), 1U);
}

TEST_F(TimerWheelTest, ADeadlineBeyondTheWheelComesEarlyAndGoesOn) {
  Timed one;
  wheel_.set(one, start_ + seconds(7200));
  ASSERT_TRUE(wheel_.next());
  EXPECT_LT(*wheel_.next(), start_ + seconds(17));
  TimePoint now = start_;
  int asked = 0;
  while (now < start_ + seconds(7200)) {
    now = *wheel_.next();
    ASSERT_EQ(wheel_.take_due(now), &one);
    ++asked;
    wheel_.set(one, start_ + seconds(7200));
  }
  EXPECT_LT(asked, 500);
}

TEST_F(TimerWheelTest, NobodyComesEarlyOrLateWhateverIsMovedAndTakenAway) {
  SeededRandom random(7);
  std::vector<std::unique_ptr<Timed>> all;
  for (int i = 0; i < 200; ++i) all.push_back(std::make_unique<Timed>());
  TimePoint now = start_;
  for (int round = 0; round < 20'000; ++round) {
    Timed& one = *all[random.next32() % all.size()];
    switch (random.next32() % 4) {
      case 0:
        wheel_.remove(one);
        one.due = TimePoint::max();
        break;
      case 1:
      case 2:
        one.due = now + milliseconds(1 + random.next32() % (random.next32() % 8 == 0 ? 40'000 : 500));
        wheel_.set(one, one.due);
        break;
      default: {
        now += milliseconds(random.next32() % 50);
        while (auto* member = wheel_.take_due(now)) {
          auto& due = static_cast<Timed&>(*member);
          if (due.due > now) {
            wheel_.set(due, due.due);
          } else {
            due.due = TimePoint::max();
          }
        }
        for (const auto& each : all) {
          if (each->due == TimePoint::max()) continue;
          ASSERT_TRUE(wheel_.contains(*each));
          ASSERT_GT(each->due + TimerWheel::kTick, now);
        }
      }
    }
    std::size_t waiting = 0;
    for (const auto& each : all) waiting += each->due != TimePoint::max() ? 1U : 0U;
    ASSERT_EQ(wheel_.size(), waiting);
  }
}

}  // namespace
}  // namespace penstock::egress
