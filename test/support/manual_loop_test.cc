#include "test/support/manual_loop.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

namespace penstock::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ManualLoop, TasksRunInOrderAndNeverInsideThePost) {
  ManualLoop loop;
  std::string ran;
  loop.post([&] {
    ran += 'a';
    loop.post([&] { ran += 'c'; });
  });
  loop.post([&] { ran += 'b'; });
  EXPECT_EQ(ran, "");
  EXPECT_EQ(loop.run_until_idle(), 3U);
  EXPECT_EQ(ran, "abc");
  EXPECT_EQ(loop.run_until_idle(), 0U);
}

TEST(ManualLoop, EachTimerRunsAtItsOwnTimeAndWhatItPostsRunsThen) {
  ManualLoop loop;
  const TimePoint start = loop.now();
  std::vector<std::pair<char, Duration>> ran;
  const auto note = [&](char name) { ran.emplace_back(name, loop.now() - start); };
  Timer late(loop);
  Timer early(loop);
  Timer twin(loop);
  late.start(seconds(3), [&] { note('l'); });
  early.start(seconds(1), [&] {
    note('e');
    loop.post([&] { note('p'); });
    early.start(seconds(1), [&] { note('E'); });
  });
  twin.start(seconds(1), [&] { note('t'); });

  loop.advance(seconds(2));
  const std::vector<std::pair<char, Duration>> expected = {
      {'e', seconds(1)}, {'p', seconds(1)}, {'t', seconds(1)}, {'E', seconds(2)}};
  EXPECT_EQ(ran, expected);
  EXPECT_EQ(loop.timers(), 1U);
  EXPECT_EQ(loop.next_timer(), start + seconds(3));
}

TEST(ManualLoop, ATaskThatOwnsATimerMayBeDestroyedWithTheLoop) {
  bool ran = false;
  {
    ManualLoop loop;
    auto timer = std::make_unique<Timer>(loop);
    timer->start(seconds(1), [&] { ran = true; });
    loop.post([owned = std::move(timer)] {});
  }
  EXPECT_FALSE(ran);
}

// The queue under the loops, against the plainest thing that does the same.
TEST(TimerQueue, AgreesWithASortedSetOverRandomStartsAndCancels) {
  std::mt19937 random(7);
  TimerQueue queue;
  std::set<std::pair<TimePoint, int>> naive;
  std::vector<std::pair<TimerQueue::Id, std::pair<TimePoint, int>>> started;
  std::vector<int> ran;
  TimePoint now{};
  for (int step = 0; step < 20'000; ++step) {
    const auto choice = random() % 10;
    if (choice < 5) {
      const TimePoint at = now + milliseconds(random() % 50);
      started.emplace_back(queue.start(at, [&ran, step] { ran.push_back(step); }), std::pair(at, step));
      naive.insert(started.back().second);
    } else if (choice < 8 && !started.empty()) {
      const auto& [id, entry] = started[random() % started.size()];  // perhaps long gone
      queue.cancel(id);
      naive.erase(entry);
    } else {
      now += milliseconds(random() % 10);
      std::vector<int> expected;
      while (!naive.empty() && naive.begin()->first <= now) {
        expected.push_back(naive.begin()->second);
        naive.erase(naive.begin());
      }
      ran.clear();
      while (Task task = queue.pop_due(now)) task();
      ASSERT_EQ(ran, expected);
    }
    ASSERT_EQ(queue.size(), naive.size());
    ASSERT_EQ(queue.next().has_value(), !naive.empty());
    if (!naive.empty()) {
      ASSERT_EQ(*queue.next(), naive.begin()->first);
    }
  }
}

}  // namespace
}  // namespace penstock::test
