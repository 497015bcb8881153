#include "egress/tcp/round_trip.h"

#include <algorithm>

namespace penstock::egress {
namespace {

// kLeast, doubled this often, is above kLongest.
constexpr std::uint8_t kMostBackOff = 9;
static_assert(RoundTrip::kLeast * (1 << kMostBackOff) > RoundTrip::kLongest);

}  // namespace

void RoundTrip::sample(Duration sample, std::uint32_t samples_a_round) {
  sample = std::clamp<Duration>(sample, std::chrono::microseconds(1), kLongest);
  backed_off_ = 0;
  if (smoothed_ == Duration::zero()) {
    // Section 2.2.
    smoothed_ = sample;
    variation_ = sample / 2;
    least_ = sample;
    return;
  }
  // Section 2.3: the variation first, by what was expected until now.
  const auto samples = static_cast<std::int64_t>(std::max(samples_a_round, 1U));
  const auto error = sample - smoothed_;
  variation_ += (std::chrono::abs(error) - variation_) / (4 * samples);
  smoothed_ += error / (8 * samples);
  least_ = std::min(least_, sample);
}

void RoundTrip::back_off() { backed_off_ = std::min<std::uint8_t>(backed_off_ + 1U, kMostBackOff); }

void RoundTrip::settle() {
  if (smoothed_ == Duration::zero() && backed_off_ > 0) lost_syn_ = true;
  backed_off_ = 0;
}

Duration RoundTrip::timeout() const {
  auto timeout = lost_syn_ ? kAfterLostSyn : kFirst;
  if (smoothed_ != Duration::zero()) timeout = smoothed_ + std::max<Duration>(kLeast, 4 * variation_);
  return std::min<Duration>(timeout * (std::int64_t{1} << backed_off_), kLongest);
}

}  // namespace penstock::egress
