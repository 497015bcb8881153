// The conversations that others began with one session and that it may answer: a bounded table with timeouts.
//
//   open() --> FRESH --seen(answer)--> ANSWERED --FIN from both, or RST--> CLOSED
//                ^                                                           |
//                +------------------ a new SYN of the same two ends ---------+
//
// Each is forgotten when it has been silent for as long as its kind and state allow (kTcpIdle and the others below).
// A full table forgets, before it refuses anybody, the one that has been silent for longest, but of those that are
// FRESH or CLOSED while there are any: so a sender that opens flow after flow displaces its unanswered ones first.
// Whoever is displaced all the same loses nothing but the answers until its next packet.
//
// Memory      grows with its use up to kMaxFlows (80 bytes each, 330 KB in all), and goes when the table is empty
// again. Cost        a keyed hash and the steps of one chain; only growing allocates. Threads     those of the session.
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
  static constexpr Duration kFreshIdle = std::chrono::seconds(60);      // not answered, of any protocol but ICMP
  static constexpr Duration kAnsweredIdle = std::chrono::seconds(180);  // UDP and protocols without ports
  static constexpr Duration kTcpIdle = std::chrono::hours(2);           // RFC 5382 section 5, REQ-5
  static constexpr Duration kClosedIdle = std::chrono::seconds(10);     // for the last acknowledgements

  enum class Direction : std::uint8_t { opener, answer };

  struct Flow {
    FlowKey key;               // as the opener's packets travel
    std::uint32_t member = 0;  // the opener
    std::uint32_t policy = 0;  // the generation of the rules under which it was last found allowed
    TimePoint last_seen;

   private:
    friend class FlowTable;
    std::uint16_t next_ = 0;  // in its bucket's chain, or in the free list
    std::uint16_t older_ = 0;
    std::uint16_t newer_ = 0;
    std::uint8_t state_ = 0;  // the flags in flow_table.cc
  };

  explicit FlowTable(const SipKey& key) : key_(key) {}

  // Null where there is none (any more). The pointer is good until the next open() or erase().
  Flow* find(const FlowKey& key, TimePoint now);
  // `key` must not be there.
  Flow& open(const FlowKey& key, std::uint32_t member, std::uint32_t policy, TimePoint now);
  // A packet of `flow` passes.
  void seen(Flow& flow, Direction direction, std::uint8_t tcp_flags, TimePoint now);
  void erase(Flow& flow);

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  using Index = std::uint16_t;
  static constexpr Index kNone = 0xFFFF;
  static_assert(kMaxFlows < kNone);

  // Flows in the order in which they were last seen.
  struct Ages {
    Index oldest = kNone;
    Index newest = kNone;
  };

  static bool is_settled(const Flow& flow);
  static Duration idle_limit(const Flow& flow);
  static bool is_over(const Flow& flow, TimePoint now) { return now - flow.last_seen >= idle_limit(flow); }
  Ages& ages_of(const Flow& flow) { return is_settled(flow) ? settled_ : unsettled_; }
  Index index_of(const Flow& flow) const { return static_cast<Index>(&flow - flows_.data()); }
  Index& bucket_of(const FlowKey& key);
  void link_newest(Flow& flow);
  void unlink(Flow& flow);
  void make_room(TimePoint now);
  void grow();

  SipKey key_;
  std::vector<Flow> flows_;
  std::vector<Index> buckets_;  // as many as flows_, a power of two; the first of each chain
  Index free_ = kNone;
  Ages settled_;    // answered and not closed
  Ages unsettled_;  // the rest
  std::size_t size_ = 0;
};

}  // namespace penstock::router
