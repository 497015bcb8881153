// A kind of log line that others can cause at will, held to so many a minute, so that nobody fills a disk with it.
//
//   if (gate.lets_through(now)) log::warn("login refused", ...);
//
//   OPEN --kLines lines--> SHUT --kWindow after the first line--> OPEN, and one line says how many were held back
//
// The line that says so has the words the gate was made with and the field `count`. It needs no further event to come.
//
// Threads     lets_through() from any; made and destroyed on `loop`'s, or when that does not run. `loop` outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/event_loop.h"

namespace penstock {

class LogGate {
 public:
  static constexpr std::uint64_t kLines = 20;  // 29 000 a day at most
  static constexpr Duration kWindow = std::chrono::minutes(1);

  // `held_back` is a constant: "more logins refused".
  LogGate(EventLoop& loop, std::string_view held_back) : loop_(&loop), held_back_(held_back), opening_(loop) {}
  ~LogGate() { *alive_ = false; }
  LogGate(const LogGate&) = delete;
  LogGate& operator=(const LogGate&) = delete;

  // Whether the line may be written; where not, it is counted.
  bool lets_through(TimePoint now);

 private:
  void tell();

  EventLoop* loop_;
  std::string_view held_back_;
  Timer opening_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by what was posted

  std::mutex mutex_;  // of all below
  TimePoint opens_at_;
  std::uint64_t written_ = 0;  // since the gate opened
  std::uint64_t counted_ = 0;  // and not written
};

}  // namespace penstock
