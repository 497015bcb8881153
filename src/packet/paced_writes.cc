#include "packet/paced_writes.h"

#include <algorithm>
#include <utility>

#include "packet/super_packet.h"

namespace penstock {

PacedWrites::PacedWrites(EventLoop& loop, const FlowHashKey& key, Device& device)
    : loop_(&loop), device_(&device), queue_(key, kMaxBytes) {}

PacedWrites::~PacedWrites() { *alive_ = false; }

void PacedWrites::write(Packet&& packet) {
  if (!waiting()) {
    const std::size_t work = work_of(packet);
    if (may_go_at_once(work)) {
      if (work != 1) spend(work);
      return device_->write_now(packet);
    }
  }
  queue_.push(std::move(packet), loop_->now());
  tell_losses();
  spend(0);
}

std::size_t PacedWrites::work_of(const Packet& packet) const {
  const Offload::Gso kind = packet.offload.gso;
  if (kind == Offload::Gso::none) return 1;
  const std::size_t segments = segments_of(packet);
  const bool tcp = kind == Offload::Gso::tcp4 || kind == Offload::Gso::tcp6;
  return tcp && kinds_.has(kind) ? (segments + kMaxTcpSegments - 1) / kMaxTcpSegments : segments;
}

// Single writes are not counted: of them there are never more than came in.
bool PacedWrites::may_go_at_once(std::size_t work) const {
  return work == 1 || (work <= kAtOnce && work <= work_left_);
}

// Of what may be done before the next turn, which there has to be then.
void PacedWrites::spend(std::size_t work) {
  work_left_ -= std::min(work, work_left_);
  if (std::exchange(turn_posted_, true)) return;
  loop_->post([this, alive = alive_] {
    if (*alive) turn();
  });
}

void PacedWrites::turn() {
  turn_posted_ = false;
  work_left_ = kWorkPerTurn;
  if (!waiting()) return queue_.release_idle_memory();
  const TimePoint now = loop_->now();
  while (work_left_ != 0 && waiting()) {
    // One at a time: the queue cuts what is much work, and how much the next one is shows only then.
    queue_.take(taken_, 1, 0, now);
    for (Packet& packet : taken_) {
      spend(work_of(packet));
      device_->write_now(packet);
    }
    taken_.clear();
  }
  tell_losses();
  spend(0);
}

void PacedWrites::tell_losses() {
  const FlowQueue::Losses losses = queue_.take_losses();
  if (losses.dropped_full + losses.dropped_aqm != 0) device_->lost_waiting(losses);
}

}  // namespace penstock
