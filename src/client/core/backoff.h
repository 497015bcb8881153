// How long to wait before the next attempt: doubling from a first delay to a cap, with jitter, reset by success.
//
//   1st failure: min, then 2 min, 4 min, ... max, max, ...      each times a random factor from 0.5 to 1
//
// The jitter keeps a thousand clients of a gateway that restarts from coming back in one instant.
#pragma once

#include <algorithm>

#include "base/clock.h"
#include "base/random.h"

namespace penstock::client {

class Backoff {
 public:
  // 0 < min <= max.
  Backoff(Duration min, Duration max, Random& random) : min_(min), max_(max), next_(min), random_(&random) {}

  // The delay after one more failure.
  Duration next() {
    const Duration base = next_;
    next_ = std::min(max_, next_ * 2);
    return jittered(base);
  }
  // A delay of about the cap, for when hurrying makes no sense.
  Duration longest() { return jittered(max_); }
  void reset() { next_ = min_; }
  // What the next delay is at most.
  Duration ceiling() const { return next_; }

 private:
  Duration jittered(Duration base) const {
    return Duration(
        static_cast<Duration::rep>(static_cast<double>(base.count()) * (0.5 + random_->next_fraction() / 2)));
  }

  Duration min_;
  Duration max_;
  Duration next_;
  Random* random_;
};

}  // namespace penstock::client
