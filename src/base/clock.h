// Time as everything in Penstock sees it: passed in, never asked of the system behind the caller's back.
//
// Two kinds that must not be mixed. TimePoint is monotonic: deadlines, rates, round trips. WallTime is the calendar:
// log lines, certificates, what is written to disk and must mean something after a restart.
#pragma once

#include <chrono>

namespace penstock {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::milliseconds>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  virtual WallTime wall_now() const = 0;
};

// The machine's own clocks. Any thread.
class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  WallTime wall_now() const override {
    return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  }
};

// Stands still until it is told to move: for tests. One thread.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  WallTime wall_now() const override { return wall_now_; }
  void advance(Duration by) {
    now_ += by;
    wall_now_ += std::chrono::duration_cast<std::chrono::milliseconds>(by);
  }

 private:
  // Not zero, so that "long ago" can be subtracted from it.
  TimePoint now_{std::chrono::hours(1000)};
  WallTime wall_now_{std::chrono::hours(24 * 365 * 50)};
};

}  // namespace penstock
