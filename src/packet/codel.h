// CoDel, controlled delay (RFC 8289): when a queue shall tell its senders that they are too fast.
//
//   BELOW --a packet waited for `target` or longer--> ABOVE --and all did for `interval`--> DROPPING --one did not--+
//     ^                                                 |                                                           |
//     +------------------- one did not -----------------+------------------------------<----------------------------+
//
// A queue that is emptied now and then is a good queue, however long it becomes in between; one in which every packet
// waits does nobody any good. So what is looked at is the least wait in an interval of about a round trip. While
// DROPPING the distance between drops shrinks with the square root of their number, since TCP's rate grows with the
// inverse square root of its losses (section 3.3).
//
// This is the pseudo-code of section 5.5 with the names it has there, for any queue that offers:
//
//   bool too_long()   has its head waited for `target` or longer, with more than a largest packet behind it (section
//                     4.2)? False of an empty queue.
//   bool mark()       marks the head as having met congestion, in place of dropping it, if its sender understands that
//                     (RFC 3168; RFC 8290 section 5.2.6)
//   void drop()       drops the head
//
// After a stall drop() is called for each drop that was due meanwhile: thousands of times after some ten seconds, so it
// has to be cheap.
//
// Threads     those of the queue.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/clock.h"

namespace penstock {

class Codel {
 public:
  // The wait that is put up with (section 4.4), and about the longest usual round trip (section 4.3).
  struct Settings {
    Duration target = std::chrono::milliseconds(5);
    Duration interval = std::chrono::milliseconds(100);
  };

  // Before a packet leaves: afterwards the head of `queue`, if there is one, is what leaves.
  template <typename Queue>
  void before_leaving(Queue& queue, const Settings& settings, TimePoint now);

  // The same where too_long() is known to be false and it is not dropping(): for what is fresh.
  void fresh_head() { first_above_time_ = {}; }
  // What comes now finds nothing before it, however it went.
  void was_empty() {
    first_above_time_ = {};
    dropping_ = false;
  }
  bool dropping() const { return dropping_; }

  // Whether what happened before would still be heeded.
  bool has_history(const Settings& settings, TimePoint now) const {
    return count_ != 0 && now - drop_next_ < 16 * settings.interval;
  }

 private:
  static TimePoint control_law(TimePoint t, const Settings& settings, std::uint32_t count) {
    return t + Duration(static_cast<Duration::rep>(static_cast<double>(settings.interval.count()) / std::sqrt(count)));
  }
  bool ok_to_drop(bool too_long, const Settings& settings, TimePoint now);

  TimePoint first_above_time_;  // zero: BELOW
  TimePoint drop_next_;
  std::uint32_t count_ = 0;  // signals since DROPPING was entered
  std::uint32_t lastcount_ = 0;
  bool dropping_ = false;
};

inline bool Codel::ok_to_drop(bool too_long, const Settings& settings, TimePoint now) {
  if (!too_long) {
    first_above_time_ = {};
  } else if (first_above_time_ == TimePoint()) {
    first_above_time_ = now + settings.interval;
  } else {
    return now >= first_above_time_;
  }
  return false;
}

template <typename Queue>
void Codel::before_leaving(Queue& queue, const Settings& settings, TimePoint now) {
  const bool ok = ok_to_drop(queue.too_long(), settings, now);
  if (dropping_) {
    dropping_ = ok;
    while (dropping_ && now >= drop_next_) {
      ++count_;
      if (queue.mark()) {
        drop_next_ = control_law(drop_next_, settings, count_);
        return;
      }
      queue.drop();
      dropping_ = ok_to_drop(queue.too_long(), settings, now);
      if (dropping_) drop_next_ = control_law(drop_next_, settings, count_);
    }
  } else if (ok) {
    if (!queue.mark()) {
      queue.drop();
      ok_to_drop(queue.too_long(), settings, now);
    }
    dropping_ = true;
    // Back so soon: the rate that was right the last time is where to go on.
    const std::uint32_t delta = count_ - lastcount_;
    count_ = delta > 1 && now - drop_next_ < 16 * settings.interval ? delta : 1;
    drop_next_ = control_law(now, settings, count_);
    lastcount_ = count_;
  }
}

}  // namespace penstock
