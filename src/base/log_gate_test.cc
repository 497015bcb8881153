#include "base/log_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/log.h"
#include "test/support/manual_loop.h"

namespace penstock {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class LogGateTest : public testing::Test {
 protected:
  std::uint64_t written(std::uint64_t asked) {
    std::uint64_t through = 0;
    for (std::uint64_t i = 0; i < asked; ++i) through += gate.lets_through(loop.now()) ? 1 : 0;
    loop.run_until_idle();
    return through;
  }

  test::ManualLoop loop;
  log::Capture logs;
  LogGate gate{loop, "more of them"};
};

TEST_F(LogGateTest, SoManyLinesAMinuteAndThenOneThatSaysHowManyMoreThereWere) {
  EXPECT_EQ(written(1000), LogGate::kLines);
  loop.advance(LogGate::kWindow - seconds(1));
  EXPECT_EQ(written(5), 0U);
  EXPECT_EQ(logs.text(), "") << "one line, when it opens again";
  loop.advance(seconds(1));
  EXPECT_THAT(logs.text(),
              HasSubstr("level=warn msg=\"more of them\" count=" + std::to_string(1005 - LogGate::kLines)));
  EXPECT_EQ(written(1000), LogGate::kLines) << "the next minute's";
}

TEST_F(LogGateTest, WhereNothingWasHeldBackNothingIsSaid) {
  EXPECT_EQ(written(LogGate::kLines), LogGate::kLines);
  loop.advance(LogGate::kWindow);
  EXPECT_EQ(written(LogGate::kLines), LogGate::kLines);
  loop.advance(LogGate::kWindow * 2);
  EXPECT_EQ(logs.text(), "");
}

TEST_F(LogGateTest, OneThatIsGoneSaysNothing) {
  {
    LogGate other(loop, "nobody's");
    for (std::uint64_t i = 0; i <= LogGate::kLines; ++i) other.lets_through(loop.now());
  }
  loop.advance(LogGate::kWindow);
  EXPECT_THAT(logs.text(), Not(HasSubstr("nobody's")));
}

TEST_F(LogGateTest, ManyThreadsShareOneGate) {
  std::atomic<std::uint64_t> through{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) through += gate.lets_through(loop.now()) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(through, LogGate::kLines);
  loop.advance(LogGate::kWindow);
  EXPECT_THAT(logs.text(), HasSubstr("count=" + std::to_string(4000 - LogGate::kLines)));
}

}  // namespace
}  // namespace penstock
