// An event loop whose time moves only when the test says so.
//
//   ManualLoop loop;
//   loop.run_until_idle();                    // everything that can happen now
//   loop.advance(std::chrono::seconds(30));   // and what happens in the next half minute, each timer at its own time
//
// Always true  tasks run in the order they were posted, timers in the order of their times (then of their starting),
//              and both before descriptors are looked at. The same test runs the same way every time.
// Livelock     work that makes new work without time passing is a failed assertion after kMostSteps.
// Threads      one.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/timer_queue.h"
#include "test/support/fifo.h"
#include "test/support/readiness.h"

namespace penstock::test {

class ManualLoop final : public EventLoop {
 public:
  static constexpr std::size_t kMostSteps = 1'000'000;

  ManualLoop() = default;
  ManualLoop(const ManualLoop&) = delete;
  ManualLoop& operator=(const ManualLoop&) = delete;
  ~ManualLoop() override { discard(); }

  // Forgets all tasks and timers, as when the process that they belong to dies.
  void discard() {
    // As AsioLoop: what was queued goes while the loop still works, for a task may own Timers.
    while (!tasks_.empty() || !timers_.empty()) {
      std::exchange(tasks_, {}).clear();
      timers_.clear();
    }
  }

  TimePoint now() const override { return clock_.now(); }
  WallTime wall_now() const override { return clock_.wall_now(); }
  void post(Task task) override { tasks_.push_back(std::move(task)); }
  TimerId start_timer(TimePoint at, Task task) override { return timers_.start(at, std::move(task)); }
  void cancel_timer(TimerId id) override { timers_.cancel(id); }
  std::unique_ptr<Watch> watch(NativeHandle handle) override { return std::make_unique<PolledWatch>(*this, handle); }

  // Runs tasks, due timers and ready descriptors until there are none. Returns how many ran: 0 if it was idle.
  std::size_t run_until_idle() {
    std::size_t steps = 0;
    while (run_one()) PENSTOCK_ASSERT(++steps < kMostSteps);
    return steps;
  }

  // Runs one task, timer or descriptor; false when there is none.
  bool run_one_step() { return run_one(); }

  // Lets `by` pass, stopping at each timer on the way.
  void advance(Duration by) {
    const TimePoint until = now() + by;
    run_until_idle();
    for (auto next = timers_.next(); next && *next <= until; next = timers_.next()) {
      if (*next > now()) clock_.advance(*next - now());
      run_until_idle();
    }
    clock_.advance(until - now());
    run_until_idle();
  }

  std::size_t timers() const { return timers_.size(); }
  // When the first timer is due, for tests of schedules.
  std::optional<TimePoint> next_timer() const { return timers_.next(); }

 private:
  class PolledWatch final : public Watch {
   public:
    PolledWatch(ManualLoop& loop, NativeHandle handle) : loop_(loop), handle_(handle) {
      loop_.watches_.push_back(this);
    }
    ~PolledWatch() override { std::erase(loop_.watches_, this); }
    PolledWatch(const PolledWatch&) = delete;
    PolledWatch& operator=(const PolledWatch&) = delete;
    void when_readable(Task task) override { readable_.swap(task); }
    void when_writable(Task task) override { writable_.swap(task); }

    bool run_if_ready() {
      if (!readable_ && !writable_) return false;
      const Readiness ready = readiness_of(handle_);
      Task task;
      if (readable_ && ready.readable) {
        task.swap(readable_);
      } else if (writable_ && ready.writable) {
        task.swap(writable_);
      } else {
        return false;
      }
      task();  // may destroy this watch
      return true;
    }

   private:
    ManualLoop& loop_;
    NativeHandle handle_;
    Task readable_;
    Task writable_;
  };

  bool run_one() {
    if (!tasks_.empty()) {
      Task task = tasks_.pop_front();
      task();
      return true;
    }
    if (Task task = timers_.pop_due(now())) {
      task();
      return true;
    }
    // The one that ran goes to the back: a busy descriptor must not hide the others.
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      PolledWatch* const watch = watches_[i];
      if (watch->run_if_ready()) {
        const auto found = std::find(watches_.begin(), watches_.end(), watch);
        if (found != watches_.end()) std::rotate(found, found + 1, watches_.end());
        return true;
      }
    }
    return false;
  }

  ManualClock clock_;
  Fifo<Task> tasks_;
  TimerQueue timers_;
  std::vector<PolledWatch*> watches_;
};

}  // namespace penstock::test
