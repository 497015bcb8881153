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
constexpr std::uint8_t kAcknowledged = 0x10;  // TCP: the answer, by the opener

constexpr std::size_t kFirstFlows = 16;
constexpr std::size_t kFirstOwners = 4;

bool is_closed(std::uint8_t state) {
  constexpr std::uint8_t kBoth = kOpenerFinished | kAnswererFinished;
  return (state & kReset) != 0 || (state & kBoth) == kBoth;
}

}  // namespace

bool FlowTable::is_settled(const Flow& flow) {
  const std::uint8_t settles = flow.key.protocol == kProtocolTcp ? kAcknowledged : kAnswered;
  return (flow.state_ & settles) != 0 && !is_closed(flow.state_);
}

Duration FlowTable::idle_limit(const Flow& flow) {
  const std::uint8_t protocol = flow.key.protocol;
  if (protocol == kProtocolIcmp || protocol == kProtocolIcmp6) return kIcmpIdle;
  if (is_closed(flow.state_)) return kClosedIdle;
  if (!is_settled(flow)) return kFreshIdle;
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
  make_room(member, now);
  Index owner = find_owner(member);
  if (owner == kNone) owner = add_owner(member);
  const Index index = free_;
  Flow& flow = flows_[index];
  free_ = flow.next_;
  flow = Flow{};
  flow.key = key;
  flow.policy = policy;
  flow.last_seen = now;
  flow.owner_ = owner;
  Index& bucket = bucket_of(key);
  flow.next_ = bucket;
  bucket = index;
  link_newest(flow, owners_[owner].unsettled);
  set_count(owner, owners_[owner].flows + 1U);
  ++size_;
  return flow;
}

void FlowTable::seen(Flow& flow, Direction direction, std::uint8_t tcp_flags, TimePoint now) {
  const bool was_settled = is_settled(flow);
  const bool opener = direction == Direction::opener;
  // Ports are used again: a connection that is over gives way to the next one.
  if (opener && (tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn && is_closed(flow.state_)) flow.state_ = 0;
  if (!opener) flow.state_ |= kAnswered;
  if (opener && (tcp_flags & kTcpAck) != 0 && (flow.state_ & kAnswered) != 0) flow.state_ |= kAcknowledged;
  if ((tcp_flags & kTcpFin) != 0) flow.state_ |= opener ? kOpenerFinished : kAnswererFinished;
  if ((tcp_flags & kTcpRst) != 0) flow.state_ |= kReset;
  flow.last_seen = now;
  const bool settled = is_settled(flow);
  if (settled == was_settled && flow.newer_ == kNone) return;  // where it belongs
  Owner& owner = owners_[flow.owner_];
  unlink(flow, was_settled ? owner.settled : owner.unsettled);
  link_newest(flow, settled ? owner.settled : owner.unsettled);
}

void FlowTable::erase(Flow& flow) {
  const Index index = index_of(flow);
  Index* at = &bucket_of(flow.key);
  while (*at != index) {
    PENSTOCK_ASSERT(*at != kNone);
    at = &flows_[*at].next_;
  }
  *at = flow.next_;
  Owner& owner = owners_[flow.owner_];
  unlink(flow, is_settled(flow) ? owner.settled : owner.unsettled);
  set_count(flow.owner_, owner.flows - 1U);
  if (owner.flows == 0) remove_owner(flow.owner_);
  flow.next_ = free_;
  free_ = index;
  if (--size_ == 0 && flows_.size() != kFirstFlows) *this = FlowTable(key_);
}

void FlowTable::link_newest(Flow& flow, Ages& ages) {
  const Index index = index_of(flow);
  flow.older_ = ages.newest;
  flow.newer_ = kNone;
  (ages.newest == kNone ? ages.oldest : flows_[ages.newest].newer_) = index;
  ages.newest = index;
}

void FlowTable::unlink(Flow& flow, Ages& ages) {
  (flow.older_ == kNone ? ages.oldest : flows_[flow.older_].newer_) = flow.newer_;
  (flow.newer_ == kNone ? ages.newest : flows_[flow.newer_].older_) = flow.older_;
}

// A slot in the free list, by what is over, by growth, or at somebody's expense.
void FlowTable::make_room(std::uint32_t opener, TimePoint now) {
  if (free_ != kNone) return;
  if (now >= next_sweep_) sweep(now);
  if (free_ != kNone) return;
  if (flows_.size() < kMaxFlows) return grow();
  erase(one_to_displace(opener));
}

// Only where no slot is free: so each that is looked at is in use.
void FlowTable::sweep(TimePoint now) {
  for (std::size_t i = 0; i < flows_.size(); ++i) {
    if (is_over(flows_[i], now)) erase(flows_[i]);
  }
  next_sweep_ = now + kSweepEvery;
}

FlowTable::Flow& FlowTable::one_to_displace(std::uint32_t opener) {
  Index owner = find_owner(opener);
  if (owner == kNone || owners_[owner].flows != most_) owner = with_count_[most_];
  const Owner& loser = owners_[owner];
  return flows_[loser.unsettled.oldest != kNone ? loser.unsettled.oldest : loser.settled.oldest];
}

void FlowTable::grow() {
  const std::size_t before = flows_.size();
  const std::size_t size = std::max(before * 2, kFirstFlows);
  flows_.resize(size);
  buckets_.assign(size, kNone);
  with_count_.resize(size + 1, kNone);
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

// ---- owners ----

FlowTable::Index FlowTable::find_owner(std::uint32_t member) {
  if (owners_.empty()) return kNone;
  Index owner = owner_bucket_of(member);
  while (owner != kNone && owners_[owner].member != member) owner = owners_[owner].next;
  return owner;
}

FlowTable::Index FlowTable::add_owner(std::uint32_t member) {
  if (free_owner_ == kNone) grow_owners();
  const Index index = free_owner_;
  free_owner_ = owners_[index].next;
  Index& bucket = owner_bucket_of(member);
  owners_[index] = {.member = member, .next = bucket};
  bucket = index;
  return index;
}

void FlowTable::remove_owner(Index owner) {
  Index* at = &owner_bucket_of(owners_[owner].member);
  while (*at != owner) {
    PENSTOCK_ASSERT(*at != kNone);
    at = &owners_[*at].next;
  }
  *at = owners_[owner].next;
  owners_[owner].next = free_owner_;
  free_owner_ = owner;
}

// One more or one less than before, so the largest count moves by one at most.
void FlowTable::set_count(Index index, std::size_t flows) {
  Owner& owner = owners_[index];
  if (owner.flows != 0) {
    (owner.before == kNone ? with_count_[owner.flows] : owners_[owner.before].after) = owner.after;
    if (owner.after != kNone) owners_[owner.after].before = owner.before;
  }
  owner.flows = static_cast<Index>(flows);
  if (flows != 0) {
    owner.before = kNone;
    owner.after = with_count_[flows];
    if (owner.after != kNone) owners_[owner.after].before = index;
    with_count_[flows] = index;
  }
  if (flows > most_) {
    most_ = owner.flows;
  } else if (most_ != 0 && with_count_[most_] == kNone) {
    --most_;
  }
}

void FlowTable::grow_owners() {
  const std::size_t before = owners_.size();
  const std::size_t size = std::max(before * 2, kFirstOwners);
  owners_.resize(size);
  owner_buckets_.assign(size, kNone);
  for (std::size_t i = 0; i < before; ++i) {  // all of them in use
    Index& bucket = owner_bucket_of(owners_[i].member);
    owners_[i].next = bucket;
    bucket = static_cast<Index>(i);
  }
  for (std::size_t i = size; i-- > before;) {
    owners_[i].next = free_owner_;
    free_owner_ = static_cast<Index>(i);
  }
}

}  // namespace penstock::router
