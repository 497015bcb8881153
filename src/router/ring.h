// A bounded queue from one event loop to another: how packets cross shards without a lock.
//
// One thread pushes, one thread pops; what is pushed is owned by the ring until it is popped. A full ring refuses and
// leaves the value with the pusher, who counts a drop or keeps it.
//
// Waking the popper
// -----------------
// Loops sleep, so whoever pushes must know when to post a wake-up, and must neither miss one nor post one a packet:
//
//   producer                                  consumer (runs when woken)
//     while (...) ring.try_push(...);           do {
//     if (ring.wake_needed()) post(consumer);     while (ring.try_pop(packet)) ...;
//                                               } while (!ring.park());
//
// parked_ is written only by atomic exchanges, which have one order. If wake_needed() comes after park() in it, it
// reads true and the producer posts. If it comes before, then park() has read a value that wake_needed() (or a later
// one) wrote, so everything pushed before is visible to the look at tail_ that park() takes next, and the consumer goes
// on. A wake-up too many is possible and harmless. A new ring is parked.
//
// Threads   try_push and wake_needed: the producer's. try_pop and park: the consumer's. Destroy it when both are done.
// Limits    the capacity is a power of two, fixed at creation.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <utility>

#include "base/result.h"

namespace penstock::router {

template <typename T>
class Ring {  // NOLINT(clang-analyzer-optin.performance.Padding): the padding is what keeps the two threads apart
 public:
  explicit Ring(std::size_t capacity) : slots_(std::make_unique<T[]>(capacity)), mask_(capacity - 1) {
    PENSTOCK_ASSERT(std::has_single_bit(capacity));
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  std::size_t capacity() const { return mask_ + 1; }

  // False when full; `value` is untouched then.
  bool try_push(T&& value) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == capacity()) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == capacity()) return false;
    }
    slots_[tail & mask_] = std::move(value);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  // After a run of pushes: whether the consumer is parked. Then it must be woken, by the caller of this and only once.
  bool wake_needed() { return parked_.exchange(false, std::memory_order_acq_rel); }

  // False when empty; `out` is untouched then.
  bool try_pop(T& out) {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    // The slot must not keep anything alive until it is used again.
    out = std::exchange(slots_[head & mask_], T{});
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  // Before the consumer sleeps. True: it will be woken by the next push. False: something came in, pop again.
  bool park() {
    parked_.exchange(true, std::memory_order_acq_rel);
    tail_seen_ = tail_.load(std::memory_order_acquire);
    if (tail_seen_ == head_.load(std::memory_order_relaxed)) return true;
    parked_.exchange(false, std::memory_order_acq_rel);
    return false;
  }

 private:
  // Two cache lines on x86-64, whose prefetcher fetches them in pairs.
  static constexpr std::size_t kApart = 128;

  const std::unique_ptr<T[]> slots_;
  const std::size_t mask_;

  // Both indices only grow (and wrap as unsigned numbers do); each side keeps the last it saw of the other's, so that
  // it reads the other's cache line only when the ring looks full or empty.
  alignas(kApart) std::atomic<std::size_t> tail_{0};
  std::size_t head_seen_ = 0;  // the producer's
  alignas(kApart) std::atomic<std::size_t> head_{0};
  std::size_t tail_seen_ = 0;  // the consumer's
  alignas(kApart) std::atomic<bool> parked_{true};
};

}  // namespace penstock::router
