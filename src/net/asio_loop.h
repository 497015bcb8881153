// The event loop of a running gateway or client: one thread's tasks, timers, descriptors and signals, over Boost.Asio.
//
// A turn of the loop
// ------------------
//   1. the tasks that were posted, oldest first, then those that they posted
//   2. the timers that are due, in the order of their times
//   3. the descriptors that are ready; if there is nothing else to do, waiting for one
//
// So a task that posts itself for ever starves neither timers nor sockets. A post from the loop's own thread is a push
// to a vector: no lock, no system call. One from another thread takes a lock, and wakes the loop only if nobody has
// since it last looked.
//
// Always true  tasks posted by one thread run in their order; nothing runs outside run().
// Ownership    destroying the loop destroys what was still queued without running it, while post(), timers and
//              watches still work, so that a task may own sockets and Timers. Watches outside of tasks must be gone.
// Threads      post(), stop(), now() and wall_now(): any. The rest: the thread inside run(), or the one
//              that will call it.
// Limits       a descriptor has one Watch at a time in a loop.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>

#include "base/event_loop.h"

namespace penstock::net {

class AsioLoop final : public EventLoop {
 public:
  AsioLoop();
  ~AsioLoop() override;
  AsioLoop(const AsioLoop&) = delete;
  AsioLoop& operator=(const AsioLoop&) = delete;

  // Runs until stop(). May be called again afterwards: what was queued is still there.
  void run();
  // Makes run() return, at the latest when this turn ends; before run(), makes the next run() return at once.
  void stop();

  TimePoint now() const override;
  WallTime wall_now() const override;
  void post(Task task) override;
  TimerId start_timer(TimePoint at, Task task) override;
  void cancel_timer(TimerId id) override;
  std::unique_ptr<Watch> watch(NativeHandle handle) override;

  // Calls `handler` with the signal's number each time one of `signals` arrives, until the loop is destroyed. The
  // signals lose their default action; several that arrive at once may be one call.
  void on_signal(std::initializer_list<int> signals, std::move_only_function<void(int)> handler);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::net
