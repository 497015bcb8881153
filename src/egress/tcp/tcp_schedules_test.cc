// A terminator under schedules that dice have made: in any weather, with clients and servers of any habit, no byte is
// lost, doubled or made up, and nothing is left when all is over.
//
//   PENSTOCK_DEEP=1   400 000 schedules, not some thousands
//   PENSTOCK_SEED=n   that one alone, packet by packet to standard error
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "egress/tcp/tcp_schedule_testing.h"

namespace penstock::egress::testing {
namespace {

constexpr std::uint64_t kShards = 8;

std::uint64_t schedules() { return std::getenv("PENSTOCK_DEEP") != nullptr ? 400'000 : 4'000; }

::testing::AssertionResult plays_well(std::uint64_t seed, bool trace, ScheduledWorld::Totals& totals) {
  ScheduledWorld world(seed, trace);
  const std::vector<std::string> wrong = world.play();
  totals.up += world.totals().up;
  totals.down += world.totals().down;
  totals.conversations += world.totals().conversations;
  totals.orderly += world.totals().orderly;
  totals.retransmitted += world.totals().retransmitted;
  totals.lost += world.totals().lost;
  totals.ghosts += world.totals().ghosts;
  if (wrong.empty()) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure();
  failure << "PENSTOCK_SEED=" << seed << " shows it:";
  for (const std::string& each : wrong) failure << "\n  " << each;
  failure << '\n' << world.describe();
  return failure;
}

class TcpSchedules : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Shards, TcpSchedules, ::testing::Range<std::uint64_t>(0, kShards));

TEST_P(TcpSchedules, NoByteIsLostAndNothingIsLeft) {
  ScheduledWorld::Totals totals;
  if (const char* only = std::getenv("PENSTOCK_SEED")) {
    if (GetParam() != 0) GTEST_SKIP() << "one seed alone";
    EXPECT_TRUE(plays_well(std::strtoull(only, nullptr, 10), true, totals));
    return;
  }
  const std::uint64_t count = schedules() / kShards;
  unsigned failed = 0;
  for (std::uint64_t seed = GetParam() * count; seed < (GetParam() + 1) * count && failed < 5; ++seed) {
    const auto result = plays_well(seed, false, totals);
    EXPECT_TRUE(result);
    if (!result) ++failed;
  }
  // Or it would show nothing.
  if (failed == 0) {
    EXPECT_GT(totals.orderly, count / 2);
    EXPECT_GT(totals.up, count * 500);
    EXPECT_GT(totals.down, count * 500);
    EXPECT_GT(totals.retransmitted, count / 10);
    EXPECT_GT(totals.lost, count / 10);
    EXPECT_LT(totals.ghosts, count);
  }
}

}  // namespace
}  // namespace penstock::egress::testing
