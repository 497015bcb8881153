// A first-in first-out queue of packets, bounded in bytes and in number: what stands between a sender and a link that
// is slower.
//
// Always true    size_bytes() <= max_bytes(), packets() <= max_packets(); packets leave in the order in which they
//                came.
// Memory         a packet counts with the memory that it holds (Packet::footprint), so no mixture of sizes makes the
//                queue hold more than its bound. A ring that doubles while it grows and is halved while it drains: a
//                queue that stays busy allocates nothing, one that stood empty holds next to nothing.
// Ownership      push() takes the packet, or leaves it untouched with the caller where it returns false.
// Threads        one.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <optional>

#include "packet/packet.h"

namespace penstock {

class PacketQueue {
 public:
  // What `packet` counts against the bound.
  static std::size_t cost_of(const Packet& packet) { return packet.footprint(); }

  explicit PacketQueue(std::size_t max_bytes, std::size_t max_packets = std::numeric_limits<std::size_t>::max())
      : max_bytes_(max_bytes), max_packets_(max_packets) {}

  // False: the queue is full and `packet` still holds what it held.
  bool push(Packet&& packet);
  // The oldest packet.
  std::optional<Packet> pop();
  // Appends the oldest packets to `out` while their sizes add up to at most `max_bytes`; the first
  // one goes whatever its size. Returns the sum.
  std::size_t pop_into(PacketBatch& out, std::size_t max_bytes);
  // The oldest packet where it lies, or null; valid until the next call that is not const.
  const Packet* front() const { return count_ == 0 ? nullptr : &ring_[head_]; }

  bool empty() const { return count_ == 0; }
  std::size_t packets() const { return count_; }
  // The cost of all that is queued.
  std::size_t size_bytes() const { return bytes_; }
  std::size_t max_bytes() const { return max_bytes_; }
  std::size_t max_packets() const { return max_packets_; }
  // What packets may cost together that surely fit, whatever their sizes.
  std::size_t room() const;
  // What fits beside it is from now on less or more; what is queued already stays, even above a lowered bound.
  void set_max_bytes(std::size_t max_bytes) { max_bytes_ = max_bytes; }
  // Gives back what it keeps for the packets to come, if it is empty and that is worth it.
  void release_idle_memory();
  // Drops everything and gives the memory back.
  void clear();

  // Slots of the ring, for tests of what the queue holds on to.
  std::size_t slots() const { return slots_; }

 private:
  void resize_ring(std::size_t slots);
  Packet take_front();

  std::unique_ptr<Packet[]> ring_;
  std::size_t slots_ = 0;  // a power of two, or 0
  std::size_t head_ = 0;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  std::size_t max_bytes_;
  std::size_t max_packets_;
};

}  // namespace penstock
