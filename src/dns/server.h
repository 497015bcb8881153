// What is remembered of one upstream server, so that the next question is asked in the way that works.
//
//   keeps the case?   no for kForgetAfter, once kCaseMisses replies in a row came back in another case than was asked
//   knows EDNS?       no for kForgetAfter, once it said so
//   ailing?           for kAilingTime, once kSilences queries in a row had no reply in time: asked last
//
// Threads   one.
#pragma once

#include <chrono>

#include "base/clock.h"
#include "base/ip.h"

namespace penstock::dns {

class Server {
 public:
  static constexpr int kCaseMisses = 3;
  static constexpr int kSilences = 2;
  static constexpr Duration kForgetAfter = std::chrono::hours(1);
  static constexpr Duration kAilingTime = std::chrono::seconds(10);

  explicit Server(const Endpoint& endpoint) : endpoint_(endpoint) {}

  const Endpoint& endpoint() const { return endpoint_; }
  bool keeps_case(TimePoint now) const { return now >= case_lost_until_; }
  bool knows_edns(TimePoint now) const { return now >= no_edns_until_; }
  bool ailing(TimePoint now) const { return now < ailing_until_; }

  void note_reply() {
    silences_ = 0;
    ailing_until_ = {};
  }
  void note_case_kept() { case_misses_ = 0; }
  void note_case_lost(TimePoint now) {
    if (++case_misses_ < kCaseMisses) return;
    case_misses_ = 0;
    case_lost_until_ = now + kForgetAfter;
  }
  void note_edns_lost(TimePoint now) { no_edns_until_ = now + kForgetAfter; }
  void note_silence(TimePoint now) {
    if (++silences_ >= kSilences) ailing_until_ = now + kAilingTime;
  }

 private:
  Endpoint endpoint_;
  int case_misses_ = 0;
  int silences_ = 0;
  TimePoint case_lost_until_;
  TimePoint no_edns_until_;
  TimePoint ailing_until_;
};

}  // namespace penstock::dns
