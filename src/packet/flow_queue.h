// The queue in front of a link that is slower than its senders: a queue for each flow, served in turns, none of which
// may stand (fq_codel: RFC 8290, with RFC 8289 for each flow).
//
//   push() --> hash --> [flow] --+--> NEW: has packets again --+--> take()
//                       [flow] --+                             |
//                       [flow] --+--> OLD: had its first turn -+
//
// Theory of operation
//
// Turns       deficit round robin with two lists (DRR++, RFC 8290 section 4.2). A flow that was empty goes to the new
//             ones, which go before all old ones until they have sent kSparseBytes: so a ping, a DNS query or an
//             acknowledgement passes whatever bulk is queued. A flow that was sent dry waits for one more turn among
//             the old ones before it may be new again, or it would always be.
// Quantum     what a flow may send in a turn: kQuantum, or chunk_bytes where that is less, but no less than the RFC's
//             1514. With those alone a flow of 64 KiB super-packets would be passed over 43 times for each; with this
//             it is at most 4 times, and a round of ten such flows is below 2 ms at 1 Gbit/s. Where the link is slower
//             its user asks for chunks, worth a millisecond or two each, and a turn is no longer than one. What a turn
//             exceeded is subtracted from the next ones, so shares are equal in bytes; a round costs a few instructions
//             for each quantum sent, however many flows there are.
// Delay       of each flow is held by CoDel (packet/codel.h): who understands ECN is marked, the others lose a
//             segment. Of a super-packet only the first segment is dropped, and it is marked as a whole. No flow loses
//             anything while what is behind its head is not more than its largest packet, or than a chunk of that. Who
//             takes again after a stall of seconds loses the thousands of segments that CoDel is behind with at once;
//             they are counted one by one, but cut off each super-packet in one piece.
// Overflow    the newest packet is always taken. Over a bound, the flow that holds most bytes loses from its
//             head: there a loss is noticed soonest (RFC 8290 section 4.1). Looking for it costs a step for each flow
//             record, so one segment goes for every 16 records (at most 64) before that is done again: first of that
//             flow, then of others, but of none below half of what the fattest had. Super-packets go whole: what is
//             short is memory, and of a buffer of 64 KiB none is free before three quarters of its segments are gone
//             (packet.cc), while each cut would copy them for the sake of whoever sends small packets. A TCP takes what
//             it loses in one round trip for one signal, be it a segment or 45.
// Flows       are 1024 buckets by keyed hash (flow_hash.h); who does not know the key cannot choose whom to meet. Two
//             flows in one bucket are treated as one (section 5.3).
// Chunks      a super-packet larger than chunk_bytes leaves in pieces of at most that, but of at least one segment, so
//             that on a slow link it does not stand in the way of the others. One of tiny segments, which grows
//             forty-fold when it is segmented, counts and is cut as what it grows to.
//
// Always true    after push(): size_bytes() <= max_bytes(), packets() <= max_packets(). Packets of a flow leave in the
//                order in which they came.
// Memory         a packet counts with the memory that it holds (Packet::footprint), at least 256 bytes. What is not
//                counted: about 100 bytes while nothing was ever queued or after release_idle_memory(); else 2.2 KB, 72
//                bytes for each flow record (8 at first, at most 1024; used again, those of which CoDel remembers
//                something 16 intervals later) and 56 for each packet slot (8 at first). Slots double while the queue
//                grows, so they are at most 112 bytes a packet, and become fewer when a quarter of them was enough for
//                a second, or is all that a lowered bound left. A queue that stays as busy as it is allocates nothing
//                (flow_queue_allocation_test.cc).
// Cost           about 250 instructions for a packet that is pushed and taken in the same turn, 40 of them its hash.
// Ownership      push() takes the packet.
// Threads        one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "packet/codel.h"
#include "packet/flow_hash.h"
#include "packet/packet.h"

namespace penstock {

class FlowQueue {
 public:
  static constexpr std::size_t kMaxFlows = 1024;
  static constexpr std::size_t kSparseBytes = 1514;
  static constexpr std::size_t kQuantum = 16 * 1024;

  // What became of packets that did not leave as they came, in segments: a super-packet stands for several.
  struct Losses {
    std::uint64_t dropped_full = 0;  // a bound was exceeded
    std::uint64_t dropped_aqm = 0;   // by CoDel
    std::uint64_t marked = 0;        // as having met congestion: these did leave
    friend bool operator==(const Losses&, const Losses&) = default;
  };

  FlowQueue(const FlowHashKey& key, std::size_t max_bytes,
            std::size_t max_packets = std::numeric_limits<std::size_t>::max());
  ~FlowQueue();
  FlowQueue(const FlowQueue&) = delete;
  FlowQueue& operator=(const FlowQueue&) = delete;

  void set_codel(const Codel::Settings& settings) { codel_ = settings; }

  // Times of calls never go back.
  void push(Packet&& packet, TimePoint now);
  // Appends what goes next to `out`, while the sizes add up to at most `max_bytes`; the first goes whatever its size.
  // Returns the sum. `chunk_bytes` 0: nothing is split.
  std::size_t take(PacketBatch& out, std::size_t max_bytes, std::size_t chunk_bytes, TimePoint now);

  bool empty() const { return packets_ == 0; }
  // A super-packet is one.
  std::size_t packets() const { return packets_; }
  // The memory that all that is queued holds.
  std::size_t size_bytes() const { return bytes_; }
  std::size_t max_bytes() const { return max_bytes_; }
  std::size_t max_packets() const { return max_packets_; }
  // What packets may hold together that surely fit beside what is queued, whatever their sizes.
  std::size_t room() const;
  // A lowered bound holds from the next push() on.
  void set_max_bytes(std::size_t max_bytes) { max_bytes_ = max_bytes; }

  // Since the last time they were taken.
  const Losses& losses() const { return losses_; }
  Losses take_losses() { return std::exchange(losses_, {}); }
  // How long the packet that waits longest has waited; 0 where none does. A step for each flow: for people.
  Duration oldest_wait(TimePoint now) const;

  // Drops everything, uncounted, and gives the memory back. Returns how many segments that were.
  std::size_t clear();
  // Gives back what it keeps for the packets to come, if it is empty.
  void release_idle_memory();
  // Beside that of the packets, for tests of what the queue holds on to.
  std::size_t memory() const;

 private:
  struct Flow;
  struct State;
  struct Head;

  Packet& unhook(Flow& flow);
  void drop_first(Flow& flow);
  Packet split(Flow& flow, std::size_t segments);
  void drop_from_fattest();

  std::unique_ptr<State> state_;
  FlowHashKey key_;
  Codel::Settings codel_;
  std::size_t max_bytes_;
  std::size_t max_packets_;
  std::size_t bytes_ = 0;
  std::size_t packets_ = 0;
  Losses losses_;
};

}  // namespace penstock
