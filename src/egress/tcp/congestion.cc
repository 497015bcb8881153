#include "egress/tcp/congestion.h"

#include <algorithm>
#include <cmath>

#include "base/result.h"

namespace penstock::egress {
namespace {

// RFC 9438 sections 4.1, 4.6 and 4.3: C, beta, and what makes an additive increase with this beta as fast as Reno's.
constexpr double kScale = 0.4;
constexpr std::uint32_t kKeptTenths = 7;
constexpr double kReno = 3 * (1 - 0.7) / (1 + 0.7);

// RFC 9406 section 4.3.
constexpr std::uint32_t kLeastGrowth = 4'000;
constexpr std::uint32_t kMostGrowth = 16'000;
constexpr std::uint32_t kGrowthDivisor = 8;
constexpr std::uint8_t kSamples = 8;
constexpr std::uint32_t kConservativeDivisor = 4;
constexpr std::uint8_t kConservativeRounds = 5;

std::uint32_t initial_window(std::uint32_t mss) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::uint64_t{mss} * Congestion::kInitialSegments, Congestion::kLargest));
}

constexpr Duration kLongestRoundTrip = std::chrono::seconds(60);

std::uint32_t microseconds(Duration duration) {
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

// Sequence numbers wrap: `a` is at or after `b` where the distance is less than half of all.
bool at_or_after(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) >= 0; }

}  // namespace

Congestion::Congestion(std::uint32_t mss) : mss_(mss), window_(initial_window(mss)) {
  PENSTOCK_ASSERT(mss > 0 && mss <= kLargest / 2);
}

void Congestion::set_mss(std::uint32_t mss) {
  PENSTOCK_ASSERT(mss > 0 && mss <= kLargest / 2);
  if (mss == mss_) return;
  mss_ = mss;
  window_ = untouched_ ? initial_window(mss) : std::max(window_, mss);
  on_curve_ = false;
}

void Congestion::acked(std::uint32_t acked, Duration round_trip, bool limited, std::uint32_t una, std::uint32_t next,
                       TimePoint now) {
  untouched_ = false;
  if (round_trip > Duration::zero()) {
    round_trip = std::min(round_trip, kLongestRoundTrip);
    const float seconds = static_cast<float>(round_trip.count()) * 1e-9F;
    round_trip_ = round_trip_ == 0 ? seconds : round_trip_ + (seconds - round_trip_) / 8;
  }

  if (in_slow_start()) {
    acked = slow_start(acked, limited);
    if (watch_ != Watch::kNone) watch_round_trip(round_trip, una, next);
    if (acked == 0 || in_slow_start()) return;
  }
  if (limited) {
    avoid(acked, now);
  } else {
    on_curve_ = false;
  }
}

// What of `acked` is left when the threshold is reached.
std::uint32_t Congestion::slow_start(std::uint32_t acked, bool limited) {
  if (!limited) return 0;
  if (watch_ == Watch::kConservative) acked /= kConservativeDivisor;
  const auto bound = std::min(threshold_, kLargest);
  const auto growth = std::min(acked, bound - std::min(window_, bound));
  window_ += growth;
  return acked - growth;
}

void Congestion::avoid(std::uint32_t acked, TimePoint now) {
  if (!on_curve_) begin_curve(now);
  const double mss = mss_;
  const double window = window_ + static_cast<double>(fraction_);

  // Where the curve will be in a round trip, and the part of the way there that these bytes are (sections 4.2, 4.4).
  const double late = static_cast<double>((now - epoch_).count()) * 1e-9 + (round_trip_ - until_most_);
  const double target = std::clamp(most_ + kScale * mss * late * late * late, window, 1.5 * window);
  const double share = std::min(acked / window, 1.0);
  const double cubic = window + (target - window) * share;

  // Where Reno would be (section 4.3): from where there was loss on, at its own pace.
  estimate_ += (estimate_ < prior_window_ ? kReno : 1.0) * mss * share;
  const double grown = std::min<double>(std::max(cubic, estimate_), kLargest);
  window_ = static_cast<std::uint32_t>(grown);
  fraction_ = static_cast<float>(grown - window_);
}

void Congestion::begin_curve(TimePoint now) {
  if (flat_) {
    // After a slow start that met no loss, or came after a timeout (sections 4.8 and 4.10).
    most_ = window_;
    estimate_ = window_;
    fraction_ = 0;
    flat_ = false;
  }
  const double below = most_ - (window_ + static_cast<double>(fraction_));
  until_most_ = static_cast<float>(std::cbrt(below / (kScale * mss_)));
  epoch_ = now;
  on_curve_ = true;
}

void Congestion::watch_round_trip(Duration round_trip, std::uint32_t una, std::uint32_t next) {
  if (!in_round_) {
    round_end_ = next;
    in_round_ = true;
  }
  if (round_trip > Duration::zero()) {
    least_now_ = std::min(least_now_, microseconds(round_trip));
    if (samples_ < kSamples) ++samples_;
    if (samples_ == kSamples) {
      if (watch_ == Watch::kRising && least_before_ != kNone &&
          least_now_ >= least_before_ + std::clamp(least_before_ / kGrowthDivisor, kLeastGrowth, kMostGrowth)) {
        watch_ = Watch::kConservative;
        conservative_rounds_ = 0;
        baseline_ = least_now_;
      } else if (watch_ == Watch::kConservative && least_now_ < baseline_) {
        watch_ = Watch::kRising;
      }
    }
  }
  if (!at_or_after(una, round_end_)) return;

  // The round in which it began counts (section 4.2).
  if (watch_ == Watch::kConservative && ++conservative_rounds_ == kConservativeRounds) {
    threshold_ = window_;
    watch_ = Watch::kNone;
    return;
  }
  least_before_ = least_now_;
  least_now_ = kNone;
  samples_ = 0;
  round_end_ = next;
}

void Congestion::forget_rounds() {
  in_round_ = false;
  least_before_ = kNone;
  least_now_ = kNone;
  samples_ = 0;
  if (watch_ == Watch::kConservative) watch_ = Watch::kRising;
}

void Congestion::remember() {
  prior_window_ = window_;
  prior_threshold_ = threshold_;
  prior_most_ = most_;
  // At kLargest it goes on growing.
  prior_estimate_ = static_cast<std::uint32_t>(std::min<double>(estimate_, window_));
  prior_flat_ = flat_;
  prior_watching_ = watch_ != Watch::kNone;
  may_undo_ = true;
}

// Of what was in flight, since the window may be more than was ever tried (sections 4.6, 4.8).
std::uint32_t Congestion::reduced(std::uint32_t in_flight) const {
  const auto tried = std::min(in_flight, window_);
  const auto kept = static_cast<std::uint32_t>(std::uint64_t{tried} * kKeptTenths / 10);
  return std::max(kept, 2 * mss_);
}

void Congestion::lost(std::uint32_t in_flight, TimePoint /*now*/) {
  remember();
  untouched_ = false;
  // Fast convergence: who lost before having back what he had makes room for another (section 4.7).
  most_ = window_ < most_ ? static_cast<std::uint32_t>(std::uint64_t{window_} * (10 + kKeptTenths) / 20) : window_;
  threshold_ = reduced(in_flight);
  window_ = threshold_;
  most_ = std::max(most_, window_);
  estimate_ = window_;
  fraction_ = 0;
  flat_ = false;
  on_curve_ = false;
  watch_ = Watch::kNone;
}

void Congestion::timed_out(std::uint32_t in_flight, bool again, TimePoint /*now*/) {
  untouched_ = false;
  if (!again) {
    remember();
    threshold_ = reduced(in_flight);
  }
  window_ = mss_;
  fraction_ = 0;
  flat_ = true;
  on_curve_ = false;
  watch_ = Watch::kNone;
}

void Congestion::undo() {
  if (!may_undo_) return;
  may_undo_ = false;
  if (window_ >= prior_window_) return;
  window_ = prior_window_;
  threshold_ = prior_threshold_;
  most_ = prior_most_;
  estimate_ = prior_estimate_;
  fraction_ = 0;
  flat_ = prior_flat_;
  on_curve_ = false;
  if (prior_watching_) {
    watch_ = Watch::kRising;
    forget_rounds();
  }
}

void Congestion::restart_after(Duration idle, Duration timeout) {
  on_curve_ = false;
  if (timeout <= Duration::zero() || idle < timeout) return;
  may_undo_ = false;
  threshold_ = std::max(threshold_, window_ - window_ / 4);
  const auto least = std::min(initial_window(mss_), window_);
  for (; idle >= timeout && window_ > least; idle -= timeout) window_ = std::max(window_ / 2, least);
  estimate_ = std::min<double>(estimate_, threshold_);
  fraction_ = 0;
  forget_rounds();
}

}  // namespace penstock::egress
