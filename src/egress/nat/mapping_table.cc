#include "egress/nat/mapping_table.h"

#include <algorithm>

#include "base/result.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kFirst = 16;
// For one outer end: how many mappings may have to go, since another's may be of another transport, and how many flows
// of one may be in the way.
constexpr int kMostDisplacedMappings = 4;
constexpr int kMostDisplacedFlows = 64;

IpAddress address_of(const router::AddressBits& bits, Family family) {
  std::array<std::uint8_t, 16> bytes{};
  store_be64(bytes.data(), bits.upper);
  store_be64(&bytes[8], bits.lower);
  return IpAddress::from_bytes(ByteView(bytes).first(family == Family::ipv4 ? 4 : 16));
}

template <typename Index>
Index& at(std::vector<Index>& buckets, std::uint64_t hash) {
  return buckets[hash & (buckets.size() - 1)];
}

}  // namespace

Endpoint MappingTable::End::endpoint() const { return {address_of(address, family), port}; }

MappingTable::MappingTable(const router::SipKey& key, const Bounds& bounds, ExternalPorts& ports, TimePoint now)
    : key_(key), bounds_(bounds), ports_(&ports), start_(now) {
  PENSTOCK_ASSERT(bounds.flows > 0 && bounds.flows <= kMostFlows && bounds.flows_of_owner > 0);
  slots_.fill(kNone);
}

MappingTable::~MappingTable() {
  for (const Flow& flow : flows_) {
    if (flow.mapping != kNone) tell_end_of(flow);
  }
  for (const Mapping& mapping : mappings_) {
    if (mapping.generation != 0 && !mapping.is_static)
      ports_->release(mapping.transport, mapping.external_end().endpoint(), binding_of(mapping));
  }
}

std::uint64_t MappingTable::hash_of(const End& end) const {
  return sip_hash(key_, std::array<std::uint64_t, 3>{end.address.upper, end.address.lower,
                                                     std::uint64_t{end.port} << 16 |
                                                         static_cast<std::uint64_t>(end.transport) << 8 |
                                                         static_cast<std::uint64_t>(end.family)});
}

std::uint64_t MappingTable::hash_of(Index mapping, const router::AddressBits& remote, std::uint16_t port) const {
  return sip_hash(key_, std::array<std::uint64_t, 3>{remote.upper, remote.lower, std::uint64_t{mapping} << 16 | port});
}

// ---- looking ----

const MappingTable::Mapping* MappingTable::find_inner(const End& inner) const {
  if (mapping_count_ == 0) return nullptr;
  for (Index i = by_inner_[hash_of(inner) & (by_inner_.size() - 1)]; i != kNone; i = mappings_[i].next_inner_) {
    if (mappings_[i].inner_end() == inner) return &mappings_[i];
  }
  return nullptr;
}

const MappingTable::Mapping* MappingTable::find_external(const End& external) const {
  if (mapping_count_ == 0) return nullptr;
  Index i = by_external_[hash_of(external) & (by_external_.size() - 1)];
  for (; i != kNone; i = mappings_[i].next_external_) {
    if (mappings_[i].external_end() == external) return &mappings_[i];
  }
  return nullptr;
}

const MappingTable::Mapping* MappingTable::find(Binding binding) const {
  if (!binding || binding.index >= mappings_.size()) return nullptr;
  const Mapping& mapping = mappings_[binding.index];
  return mapping.generation == binding.generation ? &mapping : nullptr;
}

SessionId MappingTable::owner_of(const Mapping& mapping) const {
  return mapping.owner == kNone ? SessionId() : owners_[mapping.owner].session;
}

// Over or not.
MappingTable::Flow* MappingTable::flow_with(Index mapping, const End& remote) {
  if (flow_count_ == 0) return nullptr;
  for (Index i = at(flow_buckets_, hash_of(mapping, remote.address, remote.port)); i != kNone; i = flows_[i].next_) {
    Flow& flow = flows_[i];
    if (flow.mapping == mapping && flow.remote_port == remote.port && flow.remote == remote.address) return &flow;
  }
  return nullptr;
}

MappingTable::Flow* MappingTable::find_flow(const Mapping& mapping, const End& remote, TimePoint now) {
  Flow* flow = flow_with(index_of(mapping), remote);
  return flow == nullptr || is_over(*flow, now) ? nullptr : flow;
}

std::size_t MappingTable::flows_of(SessionId owner) const {
  const Index index = find_owner(owner);
  return index == kNone ? 0 : owners_[index].flows;
}

std::size_t MappingTable::memory() const {
  return mappings_.capacity() * sizeof(Mapping) + flows_.capacity() * sizeof(Flow) +
         owners_.capacity() * sizeof(Owner) +
         (by_inner_.capacity() + by_external_.capacity() + flow_buckets_.capacity() + owner_buckets_.capacity() +
          with_count_.capacity()) *
             sizeof(Index);
}

// ---- opening ----

MappingTable::Mapping& MappingTable::fill(Index index, const End& inner, const End& external) {
  Mapping& mapping = mappings_[index];
  mapping = {};
  mapping.inner = inner.address;
  mapping.inner_port = inner.port;
  mapping.external = external.address;
  mapping.external_port = external.port;
  mapping.transport = inner.transport;
  mapping.family = inner.family;
  mapping.generation = generation_;
  Index& inner_bucket = at(by_inner_, hash_of(inner));
  mapping.next_inner_ = inner_bucket;
  inner_bucket = index;
  Index& external_bucket = at(by_external_, hash_of(external));
  mapping.next_external_ = external_bucket;
  external_bucket = index;
  ++mapping_count_;
  return mapping;
}

MappingTable::Index MappingTable::take_mapping() {
  if (free_mapping_ == kNone) grow_mappings();
  const Index index = free_mapping_;
  free_mapping_ = mappings_[index].next_inner_;
  if (++generation_ == 0) ++generation_;
  return index;
}

void MappingTable::put_back(Index index) {
  mappings_[index].next_inner_ = free_mapping_;
  free_mapping_ = index;
}

MappingTable::Flow* MappingTable::open(SessionId owner, const End& inner, const End& remote, Duration timeout,
                                       TimePoint now) {
  Index index = take_mapping();
  auto external = ports_->acquire(inner.transport, inner.family, {index, generation_});
  for (int i = 0; !external; ++i) {
    put_back(index);
    last_refusal_ = external.error();
    if (external.error() != NoPort::all_taken || i == kMostDisplacedMappings || flow_count_ == 0) return nullptr;
    displace_mapping(owner);
    index = take_mapping();
    external = ports_->acquire(inner.transport, inner.family, {index, generation_});
  }
  PENSTOCK_ASSERT(external->address.family() == inner.family);
  fill(index, inner, End::of(*external, inner.transport));
  make_room(owner);
  mappings_[index].owner = owner_for(owner);
  return add_flow(index, remote, timeout, now);
}

Binding MappingTable::add_static(const End& inner, const End& external) {
  while (const Mapping* former = find_inner(inner)) {
    PENSTOCK_ASSERT(!former->is_static);
    take_away(flows_[former->first_flow]);
  }
  PENSTOCK_ASSERT(find_external(external) == nullptr);
  Mapping& mapping = fill(take_mapping(), inner, external);
  mapping.is_static = true;
  return binding_of(mapping);
}

void MappingTable::remove_static(Binding binding) {
  PENSTOCK_ASSERT(find(binding) != nullptr && mappings_[binding.index].is_static);
  while (mappings_[binding.index].first_flow != kNone) take_away(flows_[mappings_[binding.index].first_flow]);
  remove_mapping(binding.index);
}

MappingTable::Flow* MappingTable::open_flow(const Mapping& mapping, SessionId owner, const End& remote,
                                            Duration timeout, TimePoint now) {
  const Binding binding = binding_of(mapping);
  if (Flow* over = flow_with(binding.index, remote)) {
    tell_end_of(*over);  // what begins is another conversation
    leave_slot(*over);
    set_timeout(*over, timeout);
    seen(*over, now);
    enter_slot(*over);
    return over;
  }
  make_room(owner);
  if (find(binding) == nullptr) return nullptr;
  if (mappings_[binding.index].owner == kNone) mappings_[binding.index].owner = owner_for(owner);
  return add_flow(binding.index, remote, timeout, now);
}

MappingTable::Flow* MappingTable::add_flow(Index mapping, const End& remote, Duration timeout, TimePoint now) {
  if (free_flow_ == kNone) grow_flows();
  const Index index = free_flow_;
  Flow& flow = flows_[index];
  free_flow_ = flow.next_;
  flow = {};
  flow.remote = remote.address;
  flow.remote_port = remote.port;
  flow.mapping = mapping;
  flow.last_seen = now;
  set_timeout(flow, timeout);
  Index& bucket = at(flow_buckets_, hash_of(mapping, remote.address, remote.port));
  flow.next_ = bucket;
  bucket = index;
  Mapping& above = mappings_[mapping];
  flow.next_of_mapping_ = above.first_flow;
  if (above.first_flow != kNone) flows_[above.first_flow].previous_of_mapping_ = index;
  above.first_flow = index;
  link_newest(flow, owners_[above.owner]);
  set_count(above.owner, owners_[above.owner].flows + 1);
  enter_slot(flow);
  ++flow_count_;
  return &flow;
}

void MappingTable::seen(Flow& flow, TimePoint now) {
  flow.last_seen = now;
  Owner& owner = owners_[mappings_[flow.mapping].owner];
  if (owner.newest == index_of(flow)) return;
  unlink(flow, owner);
  link_newest(flow, owner);
}

// ---- taking away ----

void MappingTable::close_all(SessionId session) {
  for (Index owner = find_owner(session); owner != kNone; owner = find_owner(session))
    take_away(flows_[owners_[owner].oldest]);
}

void MappingTable::close_external(const IpAddress& external) {
  const auto bits = router::AddressBits::of(external);
  for (std::size_t i = 0; i < mappings_.size(); ++i) {
    const auto concerns = [&] {
      return i < mappings_.size() && mappings_[i].generation != 0 && !mappings_[i].is_static &&
             mappings_[i].family == external.family() && mappings_[i].external == bits;
    };
    while (concerns()) take_away(flows_[mappings_[i].first_flow]);
  }
}

bool MappingTable::end_flow(const Mapping& mapping, const End& remote) {
  Flow* flow = flow_with(index_of(mapping), remote);
  if (flow == nullptr) return false;
  remove_flow(*flow);
  return true;
}

void MappingTable::break_off(const Mapping& mapping, const End& remote) {
  if (Flow* flow = flow_with(index_of(mapping), remote)) take_away(*flow);
}

void MappingTable::tell_end_of(const Flow& flow) {
  const Mapping& mapping = mappings_[flow.mapping];
  if (mapping.transport != Transport::tcp) return;
  const End remote{flow.remote, flow.remote_port, mapping.transport, mapping.family};
  ports_->ended(mapping.transport, mapping.external_end().endpoint(), remote.endpoint());
}

void MappingTable::take_away(Flow& flow) {
  tell_end_of(flow);
  remove_flow(flow);
}

void MappingTable::remove_flow(Flow& flow) {
  const Index index = index_of(flow);
  const Index mapping_index = flow.mapping;
  Index* in_bucket = &at(flow_buckets_, hash_of(mapping_index, flow.remote, flow.remote_port));
  while (*in_bucket != index) {
    PENSTOCK_ASSERT(*in_bucket != kNone);
    in_bucket = &flows_[*in_bucket].next_;
  }
  *in_bucket = flow.next_;
  Mapping& mapping = mappings_[mapping_index];
  (flow.previous_of_mapping_ == kNone ? mapping.first_flow : flows_[flow.previous_of_mapping_].next_of_mapping_) =
      flow.next_of_mapping_;
  if (flow.next_of_mapping_ != kNone) flows_[flow.next_of_mapping_].previous_of_mapping_ = flow.previous_of_mapping_;
  leave_slot(flow);
  const Index owner = mapping.owner;
  unlink(flow, owners_[owner]);
  set_count(owner, owners_[owner].flows - 1);
  flow.next_ = free_flow_;
  flow.mapping = kNone;
  free_flow_ = index;
  --flow_count_;
  if (mapping.first_flow == kNone) {
    mapping.owner = kNone;
    if (!mapping.is_static) remove_mapping(mapping_index);
  }
  if (owners_[owner].flows == 0) remove_owner(owner);
  give_back_if_empty();
}

// A scan or a busy day should not be paid for ever after.
void MappingTable::give_back_if_empty() {
  if (flow_count_ != 0 || flows_.size() <= kFirst) return;
  flows_ = {};
  flow_buckets_ = {};
  free_flow_ = kNone;
  owners_ = {};
  owner_buckets_ = {};
  free_owner_ = kNone;
  with_count_ = {};
  PENSTOCK_ASSERT(most_ == 0);
  if (mapping_count_ != 0) return;  // static ones
  mappings_ = {};
  by_inner_ = {};
  by_external_ = {};
  free_mapping_ = kNone;
}

void MappingTable::remove_mapping(Index index) {
  Mapping& mapping = mappings_[index];
  Index* inner = &at(by_inner_, hash_of(mapping.inner_end()));
  while (*inner != index) inner = &mappings_[*inner].next_inner_;
  *inner = mapping.next_inner_;
  Index* external = &at(by_external_, hash_of(mapping.external_end()));
  while (*external != index) external = &mappings_[*external].next_external_;
  *external = mapping.next_external_;
  const Binding binding = binding_of(mapping);
  mapping.generation = 0;
  mapping.next_inner_ = free_mapping_;
  free_mapping_ = index;
  --mapping_count_;
  if (!mapping.is_static) ports_->release(mapping.transport, mapping.external_end().endpoint(), binding);
}

// A flow more for `opener`: at its own expense where it has enough, or at that of whoever has most.
void MappingTable::make_room(SessionId opener) {
  const Index own = find_owner(opener);
  Index loser = kNone;
  if (own != kNone && owners_[own].flows >= bounds_.flows_of_owner) {
    loser = own;
  } else if (flow_count_ >= bounds_.flows) {
    loser = who_has_most(own);
  }
  if (loser == kNone) return;
  take_away(flows_[owners_[loser].oldest]);
  ++displaced_;
}

MappingTable::Index MappingTable::who_has_most(Index preferred) const {
  return preferred != kNone && owners_[preferred].flows == most_ ? preferred : with_count_[most_];
}

// Or as many flows of one as are not too many at once: each of TCP may have held what is wanted.
void MappingTable::displace_mapping(SessionId opener) {
  const std::size_t before = mapping_count_;
  for (int i = 0; i < kMostDisplacedFlows && flow_count_ != 0 && mapping_count_ == before; ++i) {
    take_away(flows_[owners_[who_has_most(find_owner(opener))].oldest]);
    ++displaced_;
  }
}

// ---- time ----

// The slot of the second after the one in which it will be over, or the last of the wheel, from where it goes on.
void MappingTable::enter_slot(Flow& flow) {
  const std::int64_t due = tick_of(flow.last_seen + std::chrono::seconds(flow.timeout_seconds)) + 1;
  const std::int64_t tick = std::clamp(due, done_tick_ + 1, done_tick_ + static_cast<std::int64_t>(kSlots) - 1);
  flow.slot_ = static_cast<std::uint16_t>(tick % static_cast<std::int64_t>(kSlots));
  Index& first = slots_[flow.slot_];
  const Index index = index_of(flow);
  flow.previous_in_slot_ = kNone;
  flow.next_in_slot_ = first;
  if (first != kNone) flows_[first].previous_in_slot_ = index;
  first = index;
}

void MappingTable::leave_slot(Flow& flow) {
  if (flow.next_in_slot_ != kNone) flows_[flow.next_in_slot_].previous_in_slot_ = flow.previous_in_slot_;
  (flow.previous_in_slot_ == kNone ? slots_[flow.slot_] : flows_[flow.previous_in_slot_].next_in_slot_) =
      flow.next_in_slot_;
}

bool MappingTable::expire(TimePoint now, std::size_t most) {
  const std::int64_t due = tick_of(now);
  // After a long sleep each slot needs to be looked at once.
  done_tick_ = std::max(done_tick_, due - static_cast<std::int64_t>(kSlots));
  for (std::size_t steps = 0; done_tick_ < due;) {
    Index& first = slots_[static_cast<std::size_t>(done_tick_ + 1) % kSlots];
    if (first == kNone) {
      ++done_tick_;
      continue;
    }
    if (++steps > most) return true;
    Flow& flow = flows_[first];
    if (is_over(flow, now)) {
      take_away(flow);
    } else {
      leave_slot(flow);
      const std::int64_t before = done_tick_;
      ++done_tick_;  // so that it goes to a later slot than this one
      enter_slot(flow);
      done_tick_ = before;
    }
  }
  return false;
}

// ---- order of age ----

void MappingTable::link_newest(Flow& flow, Owner& owner) {
  const Index index = index_of(flow);
  flow.older_ = owner.newest;
  flow.newer_ = kNone;
  (owner.newest == kNone ? owner.oldest : flows_[owner.newest].newer_) = index;
  owner.newest = index;
}

void MappingTable::unlink(Flow& flow, Owner& owner) {
  (flow.older_ == kNone ? owner.oldest : flows_[flow.older_].newer_) = flow.newer_;
  (flow.newer_ == kNone ? owner.newest : flows_[flow.newer_].older_) = flow.older_;
}

// ---- owners ----

MappingTable::Index MappingTable::find_owner(SessionId session) const {
  if (owners_.empty()) return kNone;
  Index owner = owner_buckets_[owner_bucket(session)];
  while (owner != kNone && owners_[owner].session != session) owner = owners_[owner].next;
  return owner;
}

MappingTable::Index MappingTable::owner_for(SessionId session) {
  if (const Index known = find_owner(session); known != kNone) return known;
  if (free_owner_ == kNone) grow_owners();
  const Index index = free_owner_;
  free_owner_ = owners_[index].next;
  Index& bucket = owner_buckets_[owner_bucket(session)];
  owners_[index] = {.session = session, .next = bucket};
  bucket = index;
  return index;
}

void MappingTable::remove_owner(Index owner) {
  Index* in_bucket = &owner_buckets_[owner_bucket(owners_[owner].session)];
  while (*in_bucket != owner) in_bucket = &owners_[*in_bucket].next;
  *in_bucket = owners_[owner].next;
  owners_[owner].next = free_owner_;
  free_owner_ = owner;
}

// One more or one less than before, so the largest count moves by one at most.
void MappingTable::set_count(Index index, std::uint32_t flows) {
  Owner& owner = owners_[index];
  if (owner.flows != 0) {
    (owner.before == kNone ? with_count_[owner.flows] : owners_[owner.before].after) = owner.after;
    if (owner.after != kNone) owners_[owner.after].before = owner.before;
  }
  owner.flows = flows;
  if (flows != 0) {
    if (with_count_.size() <= flows) with_count_.resize(std::max<std::size_t>(kFirst, std::size_t{flows} * 2), kNone);
    owner.before = kNone;
    owner.after = with_count_[flows];
    if (owner.after != kNone) owners_[owner.after].before = index;
    with_count_[flows] = index;
  }
  if (flows > most_) {
    most_ = flows;
  } else if (most_ != 0 && with_count_[most_] == kNone) {
    --most_;
  }
}

// ---- growing ----

void MappingTable::grow_mappings() {
  const std::size_t before = mappings_.size();
  const std::size_t size = std::max(before * 2, kFirst);
  mappings_.resize(size);
  by_inner_.assign(size, kNone);
  by_external_.assign(size, kNone);
  for (std::size_t i = 0; i < before; ++i) {  // all of them in use
    Index& inner = at(by_inner_, hash_of(mappings_[i].inner_end()));
    mappings_[i].next_inner_ = std::exchange(inner, static_cast<Index>(i));
    Index& external = at(by_external_, hash_of(mappings_[i].external_end()));
    mappings_[i].next_external_ = std::exchange(external, static_cast<Index>(i));
  }
  for (std::size_t i = size; i-- > before;)
    mappings_[i].next_inner_ = std::exchange(free_mapping_, static_cast<Index>(i));
}

void MappingTable::grow_flows() {
  const std::size_t before = flows_.size();
  const std::size_t size = std::max(before * 2, kFirst);
  flows_.resize(size);
  flow_buckets_.assign(size, kNone);
  for (std::size_t i = 0; i < before; ++i) {  // all of them in use
    Index& bucket = at(flow_buckets_, hash_of(flows_[i].mapping, flows_[i].remote, flows_[i].remote_port));
    flows_[i].next_ = std::exchange(bucket, static_cast<Index>(i));
  }
  for (std::size_t i = size; i-- > before;) flows_[i].next_ = std::exchange(free_flow_, static_cast<Index>(i));
}

void MappingTable::grow_owners() {
  const std::size_t before = owners_.size();
  const std::size_t size = std::max(before * 2, kFirst);
  owners_.resize(size);
  owner_buckets_.assign(size, kNone);
  for (std::size_t i = 0; i < before; ++i)  // all of them in use
    owners_[i].next = std::exchange(owner_buckets_[owner_bucket(owners_[i].session)], static_cast<Index>(i));
  for (std::size_t i = size; i-- > before;) owners_[i].next = std::exchange(free_owner_, static_cast<Index>(i));
}

}  // namespace penstock::egress
