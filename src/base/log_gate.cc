#include "base/log_gate.h"

#include <utility>

#include "base/log.h"

namespace penstock {

bool LogGate::lets_through(TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (now >= opens_at_) {
    opens_at_ = now + kWindow;
    written_ = 0;
  }
  if (written_ < kLines) {
    ++written_;
    return true;
  }
  if (++counted_ == 1) {
    loop_->post([this, alive = alive_, at = opens_at_] {
      if (*alive) opening_.start_at(at, [this] { tell(); });
    });
  }
  return false;
}

void LogGate::tell() {
  std::uint64_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = std::exchange(counted_, 0);
  }
  log::warn(held_back_, {{"count", count}});
}

}  // namespace penstock
