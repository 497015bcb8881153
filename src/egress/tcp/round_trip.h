// How long an answer takes, and how long to wait for one (RFC 6298).
//
//   timeout() = (smoothed + max(200 ms, 4 * variation)) * 2^(timeouts in a row), at most 60 s
//
// The bound is on the part for the variation, as Linux has it: a path of 300 ms that never varies is given 500 ms, not
// the 300 in which an answer may just be coming.
//
// Samples may come many in a round trip; each then counts for less (RFC 7323 appendix G), so that what was learned is
// not forgotten within one.
//
// Always true    kLeast < timeout() <= kLongest. least() <= any sample.
// Units          durations of the loop's clock; its granularity of 1 ms is far below kLeast.
// Hostile        what a client makes up by its timestamps is held between a microsecond and kLongest.
// Threads        one.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace penstock::egress {

class RoundTrip {
 public:
  static constexpr Duration kFirst = std::chrono::seconds(1);         // section 2.1
  static constexpr Duration kAfterLostSyn = std::chrono::seconds(3);  // section 5.7
  static constexpr Duration kLeast = std::chrono::milliseconds(200);  // section 2.4 says 1 s; every system has less
  static constexpr Duration kLongest = std::chrono::seconds(60);      // section 2.5

  // `sample` is no retransmitted segment's (Karn; timestamps tell them apart). `samples_a_round`: how many are expected
  // in a round trip, RFC 7323 appendix G. What was backed off holds no longer (section 5, after 5.7).
  void sample(Duration sample, std::uint32_t samples_a_round = 1);
  // Nothing came in time: wait for twice as long (section 5.5).
  void back_off();
  // Something new was acknowledged, though it tells no round trip: what was backed off holds no longer. If nothing was
  // measured yet, as after a handshake that took more than one try, the first timeout is kAfterLostSyn.
  void settle();

  Duration timeout() const;
  Duration smoothed() const { return smoothed_; }  // 0: none was measured yet
  Duration least() const { return least_; }        // 0: likewise

 private:
  Duration smoothed_{};
  Duration variation_{};
  Duration least_{};
  std::uint8_t backed_off_ = 0;
  bool lost_syn_ = false;
};

static_assert(sizeof(RoundTrip) <= 32);

}  // namespace penstock::egress
