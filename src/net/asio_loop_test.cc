#include "net/asio_loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A loop that fails the test rather than hang.
class AsioLoopTest : public testing::Test {
 protected:
  AsioLoopTest() {
    deadline_.start(seconds(20), [this] {
      ADD_FAILURE() << "the loop was still running after 20 s";
      loop_.stop();
    });
  }
  void run() { loop_.run(); }

  AsioLoop loop_;
  Timer deadline_{loop_};
};

FileDescriptor event(unsigned value) { return FileDescriptor(::eventfd(value, EFD_NONBLOCK | EFD_CLOEXEC)); }

TEST_F(AsioLoopTest, TasksRunInOrderWhetherPostedBeforeRunOrInIt) {
  std::string ran;
  loop_.post([&] {
    ran += 'a';
    loop_.post([&] { ran += 'c'; });
    loop_.post([&] {
      ran += 'd';
      loop_.stop();
    });
  });
  loop_.post([&] { ran += 'b'; });
  EXPECT_EQ(ran, "");
  run();
  EXPECT_EQ(ran, "abcd");
}

TEST_F(AsioLoopTest, WhatStopLeftQueuedRunsNextTimeInItsOrder) {
  std::string ran;
  loop_.post([&] {
    ran += 'a';
    loop_.post([&] { ran += 'c'; });
    loop_.stop();
  });
  loop_.post([&] { ran += 'b'; });
  run();
  EXPECT_EQ(ran, "a");
  loop_.post([&] {
    ran += 'd';
    loop_.stop();
  });
  run();
  EXPECT_EQ(ran, "abcd");
}

TEST_F(AsioLoopTest, TimersRunInTheOrderOfTheirTimesThenOfTheirStarting) {
  std::string ran;
  const TimePoint now = loop_.now();
  Timer a(loop_), b(loop_), c(loop_), d(loop_), cancelled(loop_);
  a.start_at(now + milliseconds(3), [&] {
    ran += 'a';
    EXPECT_GE(loop_.now(), now + milliseconds(3));
    loop_.stop();
  });
  b.start_at(now + milliseconds(1), [&] { ran += 'b'; });
  c.start_at(now + milliseconds(2), [&] { ran += 'c'; });
  d.start_at(now + milliseconds(1), [&] {
    ran += 'd';
    cancelled.cancel();
  });
  cancelled.start_at(now + milliseconds(2), [&] { ran += 'x'; });
  run();
  EXPECT_EQ(ran, "bdca");
}

TEST_F(AsioLoopTest, ATimerStartedForSoonerThanTheOneWaitedForIsNotLate) {
  Timer far(loop_), near(loop_);
  far.start(std::chrono::hours(1), [] {});
  const TimePoint begun = loop_.now();
  loop_.post([&] { near.start(milliseconds(5), [&] { loop_.stop(); }); });
  run();
  EXPECT_LT(loop_.now() - begun, seconds(5));
}

TEST_F(AsioLoopTest, PostsFromOtherThreadsWakeTheLoopAndKeepTheirOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  std::vector<std::vector<int>> arrived(kThreads);
  int left = kThreads * kPosts;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        loop_.post([&, t, i] {
          arrived[t].push_back(i);
          if (--left == 0) loop_.stop();
        });
      }
    });
  }
  run();
  for (std::thread& thread : threads) thread.join();
  for (const auto& order : arrived) {
    ASSERT_EQ(order.size(), std::size_t{kPosts});
    EXPECT_TRUE(std::ranges::is_sorted(order));
  }
}

TEST_F(AsioLoopTest, StopFromAnotherThreadEndsAnIdleLoop) {
  std::thread stopper([&] { loop_.stop(); });
  run();
  stopper.join();
}

TEST_F(AsioLoopTest, AWatchRunsOncePerArmingAndArmingReplaces) {
  const FileDescriptor fd = event(1);
  const auto watch = loop_.watch(fd.get());
  std::string ran;
  watch->when_readable([&] { ran += "old"; });
  watch->when_readable([&] {
    ran += "new";
    // Still readable, and armed again: it runs again.
    watch->when_readable([&] {
      ran += "+again";
      watch->when_writable([&] {
        ran += "+writable";
        loop_.stop();
      });
    });
  });
  run();
  EXPECT_EQ(ran, "new+again+writable");
}

TEST_F(AsioLoopTest, ADestroyedWatchIsSilentAlsoWhenItsCallbackWasAlreadyDue) {
  const FileDescriptor first = event(1);
  const FileDescriptor second = event(1);
  auto a = loop_.watch(first.get());
  auto b = loop_.watch(second.get());
  int ran = 0;
  const auto whoever_runs_first = [&] {
    ++ran;
    a.reset();
    b.reset();
    // Both became ready in one wait, so the other is queued: give it every chance.
    loop_.post([&] { loop_.post([&] { loop_.post([&] { loop_.stop(); }); }); });
  };
  a->when_readable(whoever_runs_first);
  b->when_readable(whoever_runs_first);
  run();
  EXPECT_EQ(ran, 1);
}

TEST_F(AsioLoopTest, AWatchLeavesItsDescriptorOpenAndFreeForTheNext) {
  const FileDescriptor fd = event(0);
  loop_.watch(fd.get())->when_readable([] { FAIL(); });
  const auto again = loop_.watch(fd.get());
  again->when_readable([&] { loop_.stop(); });
  loop_.post([&] {
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(fd.get(), &one, sizeof one), ssize_t{sizeof one});
  });
  run();
}

TEST_F(AsioLoopTest, WhatIsStillQueuedMayOwnTimersAndWatchesWhenTheLoopGoes) {
  const FileDescriptor fd = event(1);
  bool ran = false;
  auto counted = std::make_shared<int>(0);
  {
    AsioLoop loop;
    auto timer = std::make_unique<Timer>(loop);
    timer->start(seconds(0), [&ran, counted] { ran = true; });
    auto watch = loop.watch(fd.get());
    watch->when_readable([&ran, counted] { ran = true; });
    struct PostsWhenDestroyed {
      AsioLoop& to;
      std::shared_ptr<int> held;
      ~PostsWhenDestroyed() {
        to.post([h = held] {});
      }
    };
    auto last = std::make_unique<PostsWhenDestroyed>(loop, counted);
    loop.post([t = std::move(timer), w = std::move(watch), l = std::move(last)] {});
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(counted.use_count(), 1) << "nothing was leaked";
}

TEST_F(AsioLoopTest, SignalsArriveAsCalls) {
  std::vector<int> arrived;
  loop_.on_signal({SIGUSR1, SIGUSR2}, [&](int number) {
    arrived.push_back(number);
    if (number == SIGUSR1) {
      std::raise(SIGUSR2);
    } else {
      loop_.stop();
    }
  });
  loop_.post([] { std::raise(SIGUSR1); });
  run();
  EXPECT_EQ(arrived, (std::vector{SIGUSR1, SIGUSR2}));
}

TEST_F(AsioLoopTest, ATaskThatAlwaysPostsItselfStarvesNeitherTimersNorDescriptors) {
  const FileDescriptor fd = event(1);
  const auto watch = loop_.watch(fd.get());
  Timer timer(loop_);
  bool timer_ran = false;
  bool watch_ran = false;
  std::function<void()> again = [&] {
    if (timer_ran && watch_ran) return loop_.stop();
    loop_.post([&] { again(); });
  };
  loop_.post([&] { again(); });
  timer.start(milliseconds(1), [&] { timer_ran = true; });
  watch->when_readable([&] { watch_ran = true; });
  run();
  EXPECT_TRUE(timer_ran && watch_ran);
}

}  // namespace
}  // namespace penstock::net
