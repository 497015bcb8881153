#include "client/core/backoff.h"

#include <gtest/gtest.h>

namespace penstock::client {
namespace {

using std::chrono::seconds;

TEST(Backoff, DoublesFromTheFirstDelayToTheCapAndStartsOverAfterSuccess) {
  SeededRandom random(1);
  Backoff backoff(seconds(1), seconds(60), random);
  for (const int most : {1, 2, 4, 8, 16, 32, 60, 60, 60}) {
    EXPECT_EQ(backoff.ceiling(), seconds(most));
    const Duration delay = backoff.next();
    EXPECT_LE(delay, seconds(most));
    EXPECT_GE(delay, seconds(most) / 2);
  }
  backoff.reset();
  EXPECT_EQ(backoff.ceiling(), seconds(1));
}

TEST(Backoff, TwoClientsDoNotComeBackInOneInstant) {
  SeededRandom one(1);
  SeededRandom two(2);
  EXPECT_NE(Backoff(seconds(1), seconds(60), one).next(), Backoff(seconds(1), seconds(60), two).next());
}

}  // namespace
}  // namespace penstock::client
