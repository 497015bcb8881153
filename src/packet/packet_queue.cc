#include "packet/packet_queue.h"

#include <utility>

namespace penstock {
namespace {

constexpr std::size_t kFirstSlots = 4;
// A ring of this many slots (8 KiB) is kept until clear(); a larger one shrinks while it drains.
constexpr std::size_t kKeptSlots = 256;

}  // namespace

bool PacketQueue::push(Packet&& packet) {
  const std::size_t cost = cost_of(packet);
  if (count_ >= max_packets_ || bytes_ > max_bytes_ || cost > max_bytes_ - bytes_) return false;
  if (count_ == slots_) resize_ring(slots_ == 0 ? kFirstSlots : slots_ * 2);
  ring_[(head_ + count_) & (slots_ - 1)] = std::move(packet);
  ++count_;
  bytes_ += cost;
  return true;
}

std::size_t PacketQueue::room() const {
  const std::size_t bytes = bytes_ < max_bytes_ ? max_bytes_ - bytes_ : 0;
  const std::size_t packets = max_packets_ - count_;
  const std::size_t smallest = Packet::footprint_of(0);
  return packets < bytes / smallest ? packets * smallest : bytes;
}

std::optional<Packet> PacketQueue::pop() {
  if (count_ == 0) return std::nullopt;
  return take_front();
}

std::size_t PacketQueue::pop_into(PacketBatch& out, std::size_t max_bytes) {
  std::size_t taken = 0;
  while (count_ != 0) {
    const std::size_t size = ring_[head_].size();
    if (taken != 0 && (taken > max_bytes || size > max_bytes - taken)) break;
    taken += size;
    out.push_back(take_front());
  }
  return taken;
}

void PacketQueue::release_idle_memory() {
  if (count_ == 0 && slots_ > kFirstSlots) clear();
}

void PacketQueue::clear() {
  ring_.reset();
  slots_ = head_ = count_ = bytes_ = 0;
}

Packet PacketQueue::take_front() {
  Packet packet = std::move(ring_[head_]);
  head_ = (head_ + 1) & (slots_ - 1);
  --count_;
  bytes_ -= cost_of(packet);
  // An eighth full before it is halved: between a shrink and the next growth lie many packets.
  if (slots_ > kKeptSlots && count_ * 8 <= slots_) resize_ring(slots_ / 2);
  return packet;
}

void PacketQueue::resize_ring(std::size_t slots) {
  auto ring = std::make_unique<Packet[]>(slots);
  for (std::size_t i = 0; i < count_; ++i) ring[i] = std::move(ring_[(head_ + i) & (slots_ - 1)]);
  ring_ = std::move(ring);
  slots_ = slots;
  head_ = 0;
}

}  // namespace penstock
