// The conversations that others began with one session and that it may answer: a bounded table with timeouts.
//
//   open() --> FRESH --an answer; of TCP then an ACK of the opener--> SETTLED --FIN from both, or RST--> CLOSED
//                ^                                                                                         |
//                +------------------------- a new SYN of the same two ends --------------------------------+
//
// Each is forgotten when it has been silent for as long as its kind and state allow (kTcpIdle and the others below). A
// SYN that is answered settles nothing: the answerer's kernel does that for whoever asks, and takes it back (RFC 9293
// section 3.5: established is what both ends have acknowledged).
//
// A full table forgets, before it refuses anybody: what is over (looked for where no slot is free, at most once in
// kSweepEvery), else one of the member who has most flows in it, the opener before others with as many. Of that
// member's it is the one that has been silent for longest, but of those that are not SETTLED while there are any. So
// nobody loses a flow to somebody who has more of them, and who opens flow after flow displaces his own, the unanswered
// ones first (flow_table_test.cc). Whoever is displaced all the same loses nothing but the answers until its next
// packet.
//
// Owners      are the members who have flows here. Each keeps its own in the order in which they were last seen, and
//             owners with equally many are a list, so that whoever has most is found without looking for it.
// Memory      grows with its use up to kMaxFlows (64 bytes each, 280 KB in all) and as many owners (20 bytes each, 90
//             KB in all), and goes when the table is empty again.
// Cost        of a packet a keyed hash and the steps of one chain. Of opening the same twice; a sweep is kMaxFlows
//             steps. Only growing allocates.
// Threads     those of the session.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "router/flow_key.h"
#include "router/sip_hash.h"

namespace penstock::router {

class FlowTable {
 public:
  static constexpr std::size_t kMaxFlows = 4096;
  static constexpr Duration kIcmpIdle = std::chrono::seconds(30);
  static constexpr Duration kFreshIdle = std::chrono::seconds(60);      // of any protocol but ICMP
  static constexpr Duration kAnsweredIdle = std::chrono::seconds(180);  // settled: UDP and protocols without ports
  static constexpr Duration kTcpIdle = std::chrono::hours(2);           // RFC 5382 section 5, REQ-5
  static constexpr Duration kClosedIdle = std::chrono::seconds(10);     // for the last acknowledgements
  static constexpr Duration kSweepEvery = std::chrono::seconds(1);

  enum class Direction : std::uint8_t { opener, answer };

  struct Flow {
    FlowKey key;  // as the opener's packets travel
    TimePoint last_seen;
    std::uint32_t policy = 0;  // the generation of the rules under which it was last found allowed

   private:
    friend class FlowTable;
    std::uint16_t next_ = 0;  // in its bucket's chain, or in the free list
    std::uint16_t older_ = 0;
    std::uint16_t newer_ = 0;
    std::uint16_t owner_ = 0;
    std::uint8_t state_ = 0;  // the flags in flow_table.cc
  };
  static_assert(sizeof(Flow) == 64);

  explicit FlowTable(const SipKey& key) : key_(key) {}

  // Null where there is none (any more). The pointer is good until the next open() or erase().
  Flow* find(const FlowKey& key, TimePoint now);
  // `key` must not be there.
  Flow& open(const FlowKey& key, std::uint32_t member, std::uint32_t policy, TimePoint now);
  // A packet of `flow` passes.
  void seen(Flow& flow, Direction direction, std::uint8_t tcp_flags, TimePoint now);
  void erase(Flow& flow);
  // The opener.
  std::uint32_t member_of(const Flow& flow) const { return owners_[flow.owner_].member; }

  // With those that are over and not yet swept away.
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  using Index = std::uint16_t;
  static constexpr Index kNone = 0xFFFF;
  static_assert(kMaxFlows < kNone);

  // Flows of one owner in the order in which they were last seen.
  struct Ages {
    Index oldest = kNone;
    Index newest = kNone;
  };
  struct Owner {
    std::uint32_t member = 0;
    Index flows = 0;     // how many
    Index next = kNone;  // in its bucket's chain, or in the free list
    Index before = kNone;
    Index after = kNone;  // of the owners with as many
    Ages settled;
    Ages unsettled;  // and those that are closed
  };
  static_assert(sizeof(Owner) == 20);

  static bool is_settled(const Flow& flow);
  static Duration idle_limit(const Flow& flow);
  static bool is_over(const Flow& flow, TimePoint now) { return now - flow.last_seen >= idle_limit(flow); }
  Index index_of(const Flow& flow) const { return static_cast<Index>(&flow - flows_.data()); }
  Index& bucket_of(const FlowKey& key);
  void link_newest(Flow& flow, Ages& ages);
  void unlink(Flow& flow, Ages& ages);
  void make_room(std::uint32_t opener, TimePoint now);
  void sweep(TimePoint now);
  Flow& one_to_displace(std::uint32_t opener);
  void grow();

  Index& owner_bucket_of(std::uint32_t member) { return owner_buckets_[member & (owner_buckets_.size() - 1)]; }
  Index find_owner(std::uint32_t member);
  Index add_owner(std::uint32_t member);
  void remove_owner(Index owner);
  void set_count(Index owner, std::size_t flows);
  void grow_owners();

  SipKey key_;
  std::vector<Flow> flows_;
  std::vector<Index> buckets_;  // as many as flows_, a power of two; the first of each chain
  Index free_ = kNone;
  std::size_t size_ = 0;
  TimePoint next_sweep_;

  std::vector<Owner> owners_;
  std::vector<Index> owner_buckets_;  // as many as owners_, a power of two
  Index free_owner_ = kNone;
  std::vector<Index> with_count_;  // [n]: the first of the owners with n flows
  Index most_ = 0;                 // the largest n that anybody has
};

}  // namespace penstock::router
