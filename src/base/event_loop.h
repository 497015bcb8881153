// One event loop: the thread that owns a shard's sessions, its timers and its file descriptors.
//
// Everything above this seam is written as callbacks of a loop it is given, so that whole gateways and clients run in
// memory on a ManualLoop (test/support/manual_loop.h) whose time only moves when the test says so. The real one is
// net/asio_loop.h.
//
// Threads     post() may be called from any thread. All the rest belongs to the thread that runs the loop, and every
//             task and callback runs there, one at a time, never inside the call that registered it.
// Ownership   A Timer or Watch cancels itself when it is destroyed: its callback never runs afterwards. The loop must
//             outlive both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "base/clock.h"

namespace penstock {

#ifdef _WIN32
using NativeHandle = std::uintptr_t;
#else
using NativeHandle = int;
#endif

using Task = std::move_only_function<void()>;

// Readiness of one descriptor. Each call arms one callback for the next time the descriptor is (or already is) ready;
// arming again before it ran replaces the callback. Does not own the descriptor, and must be destroyed before it is
// closed.
class Watch {
 public:
  virtual ~Watch() = default;
  virtual void when_readable(Task task) = 0;
  virtual void when_writable(Task task) = 0;
};

class EventLoop : public Clock {
 public:
  using TimerId = std::uint64_t;  // never 0 for a running timer

  // Runs `task` on the loop's thread, after what is running now. Tasks posted by one thread keep their order.
  virtual void post(Task task) = 0;
  // Runs `task` once, not before `at`. Use Timer rather than this.
  virtual TimerId start_timer(TimePoint at, Task task) = 0;
  virtual void cancel_timer(TimerId id) = 0;
  virtual std::unique_ptr<Watch> watch(NativeHandle handle) = 0;
};

// A one-shot timer that is cancelled when destroyed or started again.
class Timer {
 public:
  explicit Timer(EventLoop& loop) : loop_(&loop) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void start(Duration after, Task task) { start_at(loop_->now() + after, std::move(task)); }
  void start_at(TimePoint at, Task task) {
    cancel();
    // Kept here and not with the loop: a Task around a Task would need memory of its own.
    task_ = std::move(task);
    id_ = loop_->start_timer(at, [this] {
      id_ = 0;
      // The task may start this timer again or destroy it: it must not live in the timer while it runs.
      auto run = std::exchange(task_, {});
      run();
    });
  }
  void cancel() {
    if (id_ != 0) loop_->cancel_timer(std::exchange(id_, 0));
    // Last, for what it holds may own this timer.
    const Task dropped = std::exchange(task_, {});
  }
  bool running() const { return id_ != 0; }

 private:
  EventLoop* loop_;
  EventLoop::TimerId id_ = 0;
  Task task_;  // while it is running
};

}  // namespace penstock
