// What a session has sent (up) and received (down): packets and bytes.
//
// Bytes are those of inner IP packets, as if segmented: they do not depend on what a peer can take in one piece. Up is
// counted after the source guard, down when a packet leaves the session's queue.
//
// Threads   one thread counts (the session's loop), any thread takes snapshots. Each number in a snapshot was true at
//           some moment; together they may be a packet apart.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace penstock::router {

struct Traffic {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  friend constexpr bool operator==(const Traffic&, const Traffic&) = default;
};

struct MeterSnapshot {
  TimePoint taken;
  Traffic up;
  Traffic down;
};

// Bits per second of inner packets.
struct TrafficRate {
  double up = 0;
  double down = 0;
};

class Meter {
 public:
  void count_up(std::uint64_t bytes, std::uint64_t packets = 1) { up_.add(packets, bytes); }
  void count_down(std::uint64_t bytes, std::uint64_t packets = 1) { down_.add(packets, bytes); }
  MeterSnapshot snapshot(TimePoint now) const { return {now, up_.read(), down_.read()}; }

 private:
  struct Counters {
    // Load and store, not fetch_add: there is one writer, and a locked instruction a packet is worth avoiding.
    static void grow(std::atomic<std::uint64_t>& counter, std::uint64_t by) {
      counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }
    void add(std::uint64_t more_packets, std::uint64_t more_bytes) {
      grow(packets, more_packets);
      grow(bytes, more_bytes);
    }
    Traffic read() const { return {packets.load(std::memory_order_relaxed), bytes.load(std::memory_order_relaxed)}; }
    std::atomic<std::uint64_t> packets{0};
    std::atomic<std::uint64_t> bytes{0};
  };
  Counters up_;
  Counters down_;
};

// The mean between two snapshots of one meter; zero where no time lies between them.
inline TrafficRate rate_between(const MeterSnapshot& earlier, const MeterSnapshot& later) {
  const double seconds = std::chrono::duration<double>(later.taken - earlier.taken).count();
  if (seconds <= 0) return {};
  const auto rate = [seconds](const Traffic& from, const Traffic& to) {
    return static_cast<double>(to.bytes - from.bytes) * 8 / seconds;
  };
  return {rate(earlier.up, later.up), rate(earlier.down, later.down)};
}

}  // namespace penstock::router
