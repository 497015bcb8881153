#include "net/asio_loop.h"

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/timer_queue.h"

namespace penstock::net {
namespace asio = boost::asio;
namespace {

using ErrorCode = boost::system::error_code;

// How many generations of tasks run before timers and descriptors have their turn. Looking at those is a system call;
// but a link posts itself after each burst, and packets should not wait in a device for many of them.
constexpr int kTaskRounds = 2;

// What a Watch shares with the waits it has under way. A wait holds on to it past the Watch's end, finds nothing to
// run, and lets go.
struct WatchState {
  explicit WatchState(asio::io_context& io) : descriptor(io) {}

  struct Direction {
    Task task;
    bool waiting = false;
  };

  asio::posix::stream_descriptor descriptor;
  Direction readable;
  Direction writable;
  bool watched = true;
};

class AsioWatch final : public Watch {
 public:
  AsioWatch(asio::io_context& io, NativeHandle handle) : state_(std::make_shared<WatchState>(io)) {
    ErrorCode error;
    error = state_->descriptor.assign(handle, error);
    if (error) log::error("cannot watch a file descriptor", {{"fd", handle}, {"reason", error.message()}});
    PENSTOCK_ASSERT(!error);
  }

  ~AsioWatch() override {
    state_->watched = false;
    // Gives the descriptor back to its owner, open, and ends the waits. Should a wait already have ended, it is queued
    // and will find `watched` false.
    state_->descriptor.release();
    const Task readable = std::exchange(state_->readable.task, {});
    const Task writable = std::exchange(state_->writable.task, {});
  }

  AsioWatch(const AsioWatch&) = delete;
  AsioWatch& operator=(const AsioWatch&) = delete;

  void when_readable(Task task) override {
    arm(&WatchState::readable, asio::posix::descriptor_base::wait_read, std::move(task));
  }
  void when_writable(Task task) override {
    arm(&WatchState::writable, asio::posix::descriptor_base::wait_write, std::move(task));
  }

 private:
  void arm(WatchState::Direction WatchState::* which, asio::posix::descriptor_base::wait_type kind, Task task) {
    WatchState::Direction& direction = (*state_).*which;
    direction.task.swap(task);
    if (std::exchange(direction.waiting, true)) return;
    // Whatever the wait ends with is readiness: the read or write that follows will meet the error itself.
    state_->descriptor.async_wait(kind, [state = state_, which](const ErrorCode&) {
      WatchState::Direction& ready = (*state).*which;
      ready.waiting = false;
      if (!state->watched) return;
      if (Task run = std::exchange(ready.task, {})) run();
    });
  }

  std::shared_ptr<WatchState> state_;
};

struct SignalWait {
  SignalWait(asio::io_context& io, std::move_only_function<void(int)> handle)
      : signals(io), handler(std::move(handle)) {}

  void wait() {
    signals.async_wait([this](const ErrorCode& error, int number) {
      if (error) return;
      wait();
      handler(number);
    });
  }

  asio::signal_set signals;
  std::move_only_function<void(int)> handler;
};

}  // namespace

struct AsioLoop::Impl {
  // One thread runs the context; only post() from other threads needs its lock.
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};

  std::atomic<std::thread::id> runner;  // the thread inside run()
  std::atomic<bool> stopping{false};

  std::vector<Task> ready;    // the runner's
  std::vector<Task> running;  // the turn's tasks; kept for its memory
  std::size_t ran = 0;        // of `running`

  std::mutex mutex;
  std::vector<Task> inbox;                // from other threads; guarded by mutex
  std::atomic<bool> inbox_filled{false};  // spares the runner the lock when there is nothing

  TimerQueue timers;
  asio::steady_timer alarm{io};
  TimePoint alarm_at = TimePoint::max();  // what `alarm` waits for; max: nothing

  std::list<SignalWait> signal_waits;

  ~Impl() {
    // Destroying a task may post, start timers and release watches: all of that still works here.
    for (bool more = true; more;) {
      take_inbox();
      more = !ready.empty() || !running.empty() || !timers.empty();
      std::exchange(ready, {}).clear();
      std::exchange(running, {}).clear();
      timers.clear();
    }
    signal_waits.clear();
  }

  void wake() {
    asio::post(io, [] {});
  }

  void take_inbox() {
    if (!inbox_filled.load(std::memory_order_acquire)) return;
    std::vector<Task> arrived;
    {
      const std::lock_guard lock(mutex);
      arrived.swap(inbox);
      inbox_filled.store(false, std::memory_order_relaxed);
    }
    if (ready.empty()) {
      ready.swap(arrived);
    } else {
      for (Task& task : arrived) ready.push_back(std::move(task));
    }
  }

  void run_tasks() {
    take_inbox();
    for (int round = 0; round < kTaskRounds; ++round) {
      // What a stop() left over comes first.
      if (running.empty()) running.swap(ready);
      if (running.empty()) return;
      while (ran < running.size()) {
        if (stopping.load(std::memory_order_relaxed)) return;
        Task task = std::move(running[ran++]);
        task();
      }
      running.clear();
      ran = 0;
    }
  }

  void run_timers() {
    if (timers.empty()) return;
    const TimePoint due = std::chrono::steady_clock::now();
    // The limit keeps a timer that starts itself again for a time already past from holding the turn for ever.
    for (std::size_t limit = timers.size(); limit > 0; --limit) {
      if (stopping.load(std::memory_order_relaxed)) return;
      Task task = timers.pop_due(due);
      if (!task) return;
      task();
    }
  }

  // The alarm may go off early (its timer was cancelled since): cheaper than moving it for every cancellation.
  void set_alarm() {
    const auto next = timers.next();
    if (!next || *next >= alarm_at) return;
    alarm_at = *next;
    alarm.expires_at(*next);
    alarm.async_wait([this](const ErrorCode& error) {
      if (!error) alarm_at = TimePoint::max();
    });
  }

  void run() {
    runner.store(std::this_thread::get_id(), std::memory_order_relaxed);
    while (!stopping.exchange(false)) {
      run_tasks();
      run_timers();
      if (stopping.load(std::memory_order_relaxed)) continue;
      const auto next = timers.next();
      if (ready.empty() && (!next || *next > std::chrono::steady_clock::now())) {
        set_alarm();
        io.run_one();
      }
      // Without anything to wait for this takes what is ready; after run_one(), the rest of what that found.
      io.poll();
    }
    runner.store(std::thread::id(), std::memory_order_relaxed);
  }

  void post(Task task) {
    if (runner.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
      ready.push_back(std::move(task));
      return;
    }
    bool first = false;
    {
      const std::lock_guard lock(mutex);
      first = inbox.empty();
      inbox.push_back(std::move(task));
      inbox_filled.store(true, std::memory_order_release);
    }
    if (first) wake();
  }
};

AsioLoop::AsioLoop() : impl_(std::make_unique<Impl>()) {}
AsioLoop::~AsioLoop() = default;

void AsioLoop::run() { impl_->run(); }

void AsioLoop::stop() {
  impl_->stopping.store(true);
  impl_->wake();
}

TimePoint AsioLoop::now() const { return std::chrono::steady_clock::now(); }

WallTime AsioLoop::wall_now() const {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

void AsioLoop::post(Task task) { impl_->post(std::move(task)); }

EventLoop::TimerId AsioLoop::start_timer(TimePoint at, Task task) { return impl_->timers.start(at, std::move(task)); }

void AsioLoop::cancel_timer(TimerId id) { impl_->timers.cancel(id); }

std::unique_ptr<Watch> AsioLoop::watch(NativeHandle handle) { return std::make_unique<AsioWatch>(impl_->io, handle); }

void AsioLoop::on_signal(std::initializer_list<int> signals, std::move_only_function<void(int)> handler) {
  SignalWait& wait = impl_->signal_waits.emplace_back(impl_->io, std::move(handler));
  for (const int number : signals) {
    ErrorCode error;
    error = wait.signals.add(number, error);
    PENSTOCK_ASSERT(!error);  // only a number that is no signal can be refused
  }
  wait.wait();
}

}  // namespace penstock::net
