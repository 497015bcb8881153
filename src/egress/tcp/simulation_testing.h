// What simulations of TCP are made of: dice that a seed repeats, streams whose bytes are known at every place, and the
// road between two ends, on which packets are lost, doubled, overtaken, broken, cut apart and put together.
//
// Threads   one loop's.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "packet/coalesce.h"
#include "packet/packet.h"

namespace penstock::egress::testing {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t mixed = state_ += 0x9E3779B97F4A7C15;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    return mixed ^ (mixed >> 31);
  }
  // 0 to `most`, both included.
  std::size_t up_to(std::size_t most) { return next() % (most + 1); }
  std::size_t between(std::size_t least, std::size_t most) { return least + up_to(most - least); }
  Duration up_to(Duration most) { return Duration(up_to(static_cast<std::size_t>(most.count()))); }
  Duration between(Duration least, Duration most) { return least + up_to(most - least); }
  bool one_in(std::size_t many) { return next() % many == 0; }
  bool per_mille(unsigned chance) { return next() % 1000 < chance; }
  // Of every order of magnitude alike, up to `most`.
  std::size_t size(std::size_t most) {
    const std::size_t bits = static_cast<std::size_t>(std::bit_width(most));
    return std::min(most, next() & ((std::uint64_t{1} << up_to(bits)) - 1));
  }
  // Dice of their own for somebody, so that one more throw there changes nothing here.
  Dice fork() { return Dice(next()); }

 private:
  std::uint64_t state_;
};

// Endless bytes, of which each place has its own.
class Pattern {
 public:
  explicit Pattern(std::uint64_t seed) : seed_(seed) {}
  void fill(std::uint64_t from, MutableByteView out) const {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = at(from + i);
  }
  // How many of `bytes` are those that stand at `from`.
  std::size_t matching(std::uint64_t from, ByteView bytes) const {
    std::size_t i = 0;
    while (i < bytes.size() && bytes[i] == at(from + i)) ++i;
    return i;
  }

 private:
  std::uint8_t at(std::uint64_t place) const {
    const std::uint64_t word = (place / 4 + seed_) * 0x9E3779B97F4A7C15;
    return static_cast<std::uint8_t>(word >> (32 + place % 4 * 8));
  }
  std::uint64_t seed_;
};

// Chances are per mille.
struct Weather {
  Duration delay{};
  Duration jitter{};
  unsigned loss = 0;
  unsigned duplication = 0;
  unsigned overtaking = 0;
  unsigned corruption = 0;
  Duration late{};     // at most, of what is overtaken or comes twice
  TimePoint clears;    // from then on nothing is lost or broken
  TimePoint cut_from;  // until cut_until nothing comes through
  TimePoint cut_until;
  std::size_t rate = 0;          // bytes a second that come through; 0: as many as there are
  std::size_t queue = SIZE_MAX;  // bytes that wait for that; more are lost
  std::size_t mtu = SIZE_MAX;    // larger packets are lost, which their sender is told
  unsigned cut_apart = 0;        // of super-packets
  unsigned put_together = 0;     // of what is sent in one batch
};

// One direction. What is not changed comes in its order, all of a batch at one time.
class Road {
 public:
  using Arrived = std::function<void(Packet&&)>;
  using TooLarge = std::function<void(const Packet&)>;
  struct Counters {
    std::uint64_t sent = 0;  // segments
    std::uint64_t lost = 0;
    std::uint64_t broken = 0;
    std::uint64_t doubled = 0;
    std::uint64_t overtaken = 0;
  };

  Road(EventLoop& loop, Dice dice, const Weather& weather, Arrived arrived, TooLarge too_large = nullptr);
  // Leaves `batch` empty.
  void send(PacketBatch& batch);
  std::size_t under_way() const { return under_way_; }
  const Counters& counters() const { return counters_; }

 private:
  void travel(Packet&& packet);
  bool pass(Packet& packet);
  void damage(Packet& packet);
  void arrive_at(TimePoint when, Packet&& packet);

  EventLoop* loop_;
  Dice dice_;
  Weather weather_;
  Arrived arrived_;
  TooLarge too_large_;
  Coalescer coalescer_{{Offload::Gso::tcp4, Offload::Gso::tcp6}};
  PacketBatch apart_;
  PacketBatch together_;
  TimePoint last_arrival_;
  TimePoint free_from_;  // when the bytes before have come through
  std::size_t under_way_ = 0;
  Counters counters_;
};

}  // namespace penstock::egress::testing
