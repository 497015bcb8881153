// What Congestion is for: a link that is slower than its senders is used, and shared.
#include <gtest/gtest.h>

#include <string>

#include "egress/tcp/bottleneck_testing.h"

namespace penstock::egress {
namespace {

using namespace std::chrono_literals;
using Link = Bottleneck::Link;

struct Path {
  std::string name;
  double bits_per_second;
  Duration propagation;
  Duration every;
};

class BottleneckTest : public testing::TestWithParam<Path> {
 protected:
  // A queue of one bandwidth-delay product, or as long as CoDel lets it become.
  static Link link(bool codel) {
    Link link{.bits_per_second = GetParam().bits_per_second,
              .propagation = GetParam().propagation,
              .codel = codel,
              .every = GetParam().every};
    if (!codel) link.queue = link.product();
    return link;
  }
};

TEST_P(BottleneckTest, ALinkThatDropsWhatExceedsItsQueueIsUsedToMoreThanNinetyPercent) {
  Bottleneck bottleneck(link(false));
  const auto& flow = bottleneck.add_flow();
  bottleneck.run(40s);
  EXPECT_GT(bottleneck.share(flow.delivered, 40s), 0.9);
  EXPECT_GT(flow.losses, 0U) << "or nothing was shown";
  EXPECT_EQ(flow.timeouts, 0U);
}

TEST_P(BottleneckTest, ALinkThatDropsByDelayIsUsedToMoreThanEightyPercent) {
  Bottleneck bottleneck(link(true));
  const auto& flow = bottleneck.add_flow();
  bottleneck.run(40s);
  EXPECT_GT(bottleneck.share(flow.delivered, 40s), 0.8);
  EXPECT_GT(flow.losses, 0U);
  EXPECT_EQ(flow.timeouts, 0U);
  EXPECT_LT(flow.round_trip.smoothed(), GetParam().propagation + 30ms) << "no queue stands";
}

TEST_P(BottleneckTest, ALateComerGetsItsShareWithinThirtyPercent) {
  for (const bool codel : {false, true}) {
    Bottleneck bottleneck(link(codel));
    const auto& first = bottleneck.add_flow();
    bottleneck.run(10s);
    const auto& second = bottleneck.add_flow();
    bottleneck.run(40s);
    const auto before_first = first.delivered;
    const auto before_second = second.delivered;
    bottleneck.run(60s);
    const auto one = bottleneck.share(first.delivered - before_first, 60s);
    const auto other = bottleneck.share(second.delivered - before_second, 60s);
    EXPECT_NEAR(one / (one + other), 0.5, 0.5 * 0.3) << (codel ? "CoDel" : "drop-tail");
    EXPECT_GT(one + other, 0.85);
  }
}

// Five conservative rounds treble the window (RFC 9406), of twice the product or more by then. A queue that holds all
// that, and what waits unseen for less than 4 ms, loses nothing to who leaves slow start by the round trip.
TEST_P(BottleneckTest, SlowStartEndsBeforeAnythingIsLost) {
  Link link = this->link(false);
  link.queue = 16 * link.product() + 600;
  Bottleneck bottleneck(link);
  const auto& flow = bottleneck.add_flow();
  auto time = 0ms;
  for (; flow.congestion.in_slow_start() && time < 10s; time += 1ms) bottleneck.run(1ms);
  EXPECT_EQ(flow.losses, 0U);
  EXPECT_LT(time, 10s);
  EXPECT_GT(flow.congestion.window(), link.product() * Bottleneck::kMss) << "not too early";
}

TEST_P(BottleneckTest, ALinkThatWasCutIsUsedAgain) {
  Bottleneck bottleneck(link(true));
  const auto& flow = bottleneck.add_flow();
  bottleneck.run(10s);
  bottleneck.cut(true);
  bottleneck.run(5s);
  EXPECT_GE(flow.timeouts, 2U);
  EXPECT_EQ(flow.congestion.window(), Bottleneck::kMss);
  bottleneck.cut(false);
  // It may be asleep for as long as the link was cut.
  bottleneck.run(7s);
  const auto before = flow.delivered;
  bottleneck.run(20s);
  EXPECT_GT(bottleneck.share(flow.delivered - before, 20s), 0.8);
}

INSTANTIATE_TEST_SUITE_P(Paths, BottleneckTest,
                         testing::Values(Path{"slow", 10e6, 40ms, 1ns}, Path{"medium", 50e6, 20ms, 1ns},
                                         Path{"acknowledged_in_bursts", 50e6, 20ms, 2ms}, Path{"far", 40e6, 150ms, 1ns},
                                         Path{"near", 50e6, 4ms, 1ns}),
                         [](const auto& path) { return path.param.name; });

}  // namespace
}  // namespace penstock::egress
