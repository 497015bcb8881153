#include "router/flow_table.h"

#include <algorithm>

#include "base/result.h"

namespace penstock::router {
namespace {

// Flow::state_
constexpr std::uint8_t kAnswered = 0x01;
constexpr std::uint8_t kOpenerFinished = 0x02;
constexpr std::uint8_t kAnswererFinished = 0x04;
constexpr std::uint8_t kReset = 0x08;

constexpr std::size_t kFirstFlows = 16;

bool is_closed(std::uint8_t state) {
  constexpr std::uint8_t kBoth = kOpenerFinished | kAnswererFinished;
  return (state & kReset) != 0 || (state & kBoth) == kBoth;
}

}  // namespace

bool FlowTable::is_settled(const Flow& flow) { return (flow.state_ & kAnswered) != 0 && !is_closed(flow.state_); }

Duration FlowTable::idle_limit(const Flow& flow) {
  const std::uint8_t protocol = flow.key.protocol;
  if (protocol == kProtocolIcmp || protocol == kProtocolIcmp6) return kIcmpIdle;
  if (is_closed(flow.state_)) return kClosedIdle;
  if ((flow.state_ & kAnswered) == 0) return kFreshIdle;
  return protocol == kProtocolTcp ? kTcpIdle : kAnsweredIdle;
}

FlowTable::Index& FlowTable::bucket_of(const FlowKey& key) {
  return buckets_[sip_hash(key_, key.words()) & (buckets_.size() - 1)];
}

FlowTable::Flow* FlowTable::find(const FlowKey& key, TimePoint now) {
  if (size_ == 0) return nullptr;
  for (Index index = bucket_of(key); index != kNone; index = flows_[index].next_) {
    Flow& flow = flows_[index];
    if (flow.key != key) continue;
    if (!is_over(flow, now)) return &flow;
    erase(flow);
    return nullptr;
  }
  return nullptr;
}

FlowTable::Flow& FlowTable::open(const FlowKey& key, std::uint32_t member, std::uint32_t policy, TimePoint now) {
  make_room(now);
  const Index index = free_;
  Flow& flow = flows_[index];
  free_ = flow.next_;
  flow = Flow{};
  flow.key = key;
  flow.member = member;
  flow.policy = policy;
  flow.last_seen = now;
  Index& bucket = bucket_of(key);
  flow.next_ = bucket;
  bucket = index;
  link_newest(flow);
  ++size_;
  return flow;
}

void FlowTable::seen(Flow& flow, Direction direction, std::uint8_t tcp_flags, TimePoint now) {
  unlink(flow);
  const bool opener = direction == Direction::opener;
  // Ports are used again: a connection that is over gives way to the next one.
  if (opener && (tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn && is_closed(flow.state_)) flow.state_ = 0;
  if (!opener) flow.state_ |= kAnswered;
  if ((tcp_flags & kTcpFin) != 0) flow.state_ |= opener ? kOpenerFinished : kAnswererFinished;
  if ((tcp_flags & kTcpRst) != 0) flow.state_ |= kReset;
  flow.last_seen = now;
  link_newest(flow);
}

void FlowTable::erase(Flow& flow) {
  const Index index = index_of(flow);
  Index* at = &bucket_of(flow.key);
  while (*at != index) {
    PENSTOCK_ASSERT(*at != kNone);
    at = &flows_[*at].next_;
  }
  *at = flow.next_;
  unlink(flow);
  flow.next_ = free_;
  free_ = index;
  if (--size_ != 0 || flows_.size() == kFirstFlows) return;
  flows_ = {};
  buckets_ = {};
  free_ = kNone;
}

void FlowTable::link_newest(Flow& flow) {
  Ages& ages = ages_of(flow);
  const Index index = index_of(flow);
  flow.older_ = ages.newest;
  flow.newer_ = kNone;
  (ages.newest == kNone ? ages.oldest : flows_[ages.newest].newer_) = index;
  ages.newest = index;
}

void FlowTable::unlink(Flow& flow) {
  Ages& ages = ages_of(flow);
  (flow.older_ == kNone ? ages.oldest : flows_[flow.older_].newer_) = flow.newer_;
  (flow.newer_ == kNone ? ages.newest : flows_[flow.newer_].older_) = flow.older_;
}

// A slot in the free list, by what is over, by growth, or at somebody's expense.
void FlowTable::make_room(TimePoint now) {
  for (const Ages* ages : {&unsettled_, &settled_}) {
    while (ages->oldest != kNone && is_over(flows_[ages->oldest], now)) erase(flows_[ages->oldest]);
  }
  if (free_ != kNone) return;
  if (flows_.size() < kMaxFlows) return grow();
  erase(flows_[unsettled_.oldest != kNone ? unsettled_.oldest : settled_.oldest]);
}

void FlowTable::grow() {
  const std::size_t before = flows_.size();
  const std::size_t size = std::max(before * 2, kFirstFlows);
  flows_.resize(size);
  buckets_.assign(size, kNone);
  for (std::size_t i = 0; i < before; ++i) {  // all of them in use
    Index& bucket = bucket_of(flows_[i].key);
    flows_[i].next_ = bucket;
    bucket = static_cast<Index>(i);
  }
  for (std::size_t i = size; i-- > before;) {
    flows_[i].next_ = free_;
    free_ = static_cast<Index>(i);
  }
}

}  // namespace penstock::router
