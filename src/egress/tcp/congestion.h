// How much may be on its way to a client that has not been acknowledged (RFC 5681), as CUBIC has it (RFC 9438), with
// HyStart++ for leaving slow start (RFC 9406).
//
//   SLOW START --the round trip grows, or the threshold--> AVOIDANCE --loss--> RECOVERY --all of it acked--> AVOIDANCE
//        ^------------------------------------- timeout ---------------------------------------'
//
// Theory of operation
//
// In front of us   is mostly our own queue, which drops by delay (packet/flow_queue.h), and what the client has behind
//                  it.
// Slow start       grows by all that was acknowledged. RFC 5681 section 3.1 counts at most one segment an
//                  acknowledgement, RFC 9406 eight; a client that receives super-packets acknowledges 45 segments at
//                  once and would be held back for nothing. Who lies about what has arrived harms his own queue.
// Leaving it       for the first time: the least of a round's samples is compared with that of the round before, from
//                  the 8th sample on. If it has grown by an eighth (4 to 16 ms), growth becomes a quarter; if it
//                  shrinks again, that was noise; after five such rounds it is over. Rounds of fewer samples, windows
//                  of less than about eight super-packets, end by loss alone. Later slow starts have a threshold that
//                  is known (RFC 9406 section 4.3).
// Avoidance        moves along a cubic that is flat at the window at which something was lost, never slower than Reno
//                  would. The curve is kept as the time at which it is flat; this is found anew from the window
//                  whenever the clock was stopped, so times in which something else held back the sender do not count
//                  (RFC 9438 section 4.2).
// Recovery         is the caller's: window() is what may be in flight then too, and acked() is for after it.
//
// Always true      mss <= window() <= kLargest. acked() never shrinks it, and adds no more than what was acknowledged.
// Units            bytes and TimePoints; `mss` is the payload of a full segment, 1 to kLargest / 2.
// Cost             about 110 instructions an acknowledgement (20 ns), and a cube root where the sender became limited
//                  again.
// Memory           small: it is in each connection (sizeof at most 80).
// Threads          one.
#pragma once

#include <cstdint>
#include <limits>

#include "base/clock.h"

namespace penstock::egress {

class Congestion {
 public:
  static constexpr std::uint32_t kInitialSegments = 32;
  static constexpr std::uint32_t kLargest = std::uint32_t{16} << 20;

  explicit Congestion(std::uint32_t mss);

  // What may be unacknowledged now.
  std::uint32_t window() const { return window_; }
  std::uint32_t threshold() const { return threshold_; }
  bool in_slow_start() const { return window_ < threshold_; }

  // The largest segment has another size from now on. Before anything was acknowledged the initial window follows it,
  // afterwards the window is the same number of bytes.
  void set_mss(std::uint32_t mss);
  // `acked` bytes have newly arrived (cumulatively or by SACK), outside of recovery. `round_trip` zero: not measured.
  // `limited`: the window was what held the sender back; else it does not grow (RFC 9438 section 5.8, RFC 7661). `una`
  // and `next` are the sequence numbers of the first unacknowledged and of the next new byte: rounds are counted by
  // them.
  void acked(std::uint32_t acked, Duration round_trip, bool limited, std::uint32_t una, std::uint32_t next,
             TimePoint now);
  // Something was lost: once for each recovery. `in_flight` bytes were sent and not acknowledged (RFC 5681 section 2:
  // the lost ones too), before what the acknowledgement that tells of it takes away: it may be of a whole super-packet.
  void lost(std::uint32_t in_flight, TimePoint now);
  // Nothing was heard for a retransmission timeout (RFC 5681 section 3.1): one segment, and slow start anew. Again
  // while the same is still missing: `again`.
  void timed_out(std::uint32_t in_flight, bool again, TimePoint now);
  // The last lost() or timed_out() (the first of several in a row) was none (RFC 5682, RFC 4015): what was before holds
  // again (RFC 9438 section 4.9), unless the window has become as large meanwhile.
  void undo();
  // After a silence of `idle` with nothing under way: what is no longer known to fit is not sent at once. RFC 5681
  // section 4.1 goes back to the initial window after one timeout, RFC 7661 after five minutes; here the window is
  // halved for each timeout (RFC 2861), and slow start leads back to three quarters of it.
  void restart_after(Duration idle, Duration timeout);

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  // What slow start makes of the round trip.
  enum class Watch : std::uint8_t {
    kRising,        // has not grown
    kConservative,  // seems to grow: a quarter of the pace (RFC 9406: CSS)
    kNone,          // is not watched
  };

  std::uint32_t slow_start(std::uint32_t acked, bool limited);
  void avoid(std::uint32_t acked, TimePoint now);
  void begin_curve(TimePoint now);
  void watch_round_trip(Duration round_trip, std::uint32_t una, std::uint32_t next);
  void forget_rounds();
  void remember();
  std::uint32_t reduced(std::uint32_t in_flight) const;

  std::uint32_t mss_;
  std::uint32_t window_;
  std::uint32_t threshold_ = kNone;
  float round_trip_ = 0;  // smoothed, seconds; 0: none

  // Avoidance, with the names of RFC 9438 section 4.1.
  TimePoint epoch_;         // t_epoch
  double estimate_ = 0;     // W_est
  std::uint32_t most_ = 0;  // W_max
  float until_most_ = 0;    // K, seconds after epoch_; negative if the flat part is over
  float fraction_ = 0;      // of a byte, besides window_

  // The round trips of a round, microseconds.
  std::uint32_t round_end_ = 0;
  std::uint32_t least_before_ = kNone;
  std::uint32_t least_now_ = kNone;
  std::uint32_t baseline_ = kNone;

  // What undo() brings back.
  std::uint32_t prior_window_ = 0;  // also cwnd_prior of RFC 9438
  std::uint32_t prior_threshold_ = kNone;
  std::uint32_t prior_most_ = 0;
  std::uint32_t prior_estimate_ = 0;

  std::uint8_t samples_ = 0;
  std::uint8_t conservative_rounds_ = 0;
  Watch watch_ = Watch::kRising;
  bool untouched_ : 1 = true;  // nothing was acknowledged or lost yet
  bool in_round_ : 1 = false;  // round_end_ holds
  bool on_curve_ : 1 = false;  // epoch_ and until_most_ hold
  bool flat_ : 1 = true;       // the next curve begins with its flat part
  bool may_undo_ : 1 = false;  // prior_* hold
  bool prior_flat_ : 1 = false;
  bool prior_watching_ : 1 = false;
};

static_assert(sizeof(Congestion) <= 80);

}  // namespace penstock::egress
