#include "packet/reassembly.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/result.h"
#include "packet/ecn.h"
#include "packet/fragment_view.h"

namespace penstock {
namespace {

bool met_congestion(ByteView packet) {
  return packet[0] >> 4 == 4 ? (packet[1] & 0x03U) == 0x03 : (packet[1] & 0x30U) == 0x30;
}

using Index = std::uint32_t;
constexpr Index kNone = 0xFFFFFFFF;

// Records that are used again, by their numbers. `next` is theirs while they are in use.
template <typename Record>
struct Pool {
  std::vector<Record> records;
  Index free = kNone;

  Record& operator[](Index index) { return records[index]; }
  Index take() {
    if (free == kNone) {
      records.emplace_back();
      return static_cast<Index>(records.size() - 1);
    }
    const Index index = free;
    free = records[index].next;
    records[index] = Record();
    return index;
  }
  void give_back(Index index) {
    records[index] = Record();
    records[index].next = free;
    free = index;
  }
  std::size_t memory() const { return records.capacity() * sizeof(Record); }
};

struct Fragment {
  Packet packet;
  Index next = kNone;  // of the datagram, in order of place
  std::uint16_t begin = 0;
  std::uint16_t end = 0;
  std::uint16_t payload = 0;
};

struct DatagramKey {
  std::array<std::uint64_t, 4> addresses{};
  std::uint32_t identification = 0;
  Family family = Family::ipv4;
  std::uint8_t protocol = 0;  // IPv4
  SessionId owner;
  friend bool operator==(const DatagramKey&, const DatagramKey&) = default;
};

struct Neighbours {
  Index older = kNone;
  Index newer = kNone;
};

struct Datagram {
  enum class Fate : std::uint8_t { open, malformed, overlapped, too_many };

  DatagramKey key;
  TimePoint since;
  Index next = kNone;  // in its bucket's chain
  Index owner = kNone;
  Neighbours all;       // in order of `since`
  Neighbours own;       // those of its owner
  Index first = kNone;  // fragment
  Index last = kNone;
  std::uint32_t member = 0;  // what the first to arrive said
  std::uint32_t answers = 0;
  std::uint32_t memory = 0;    // footprints
  std::uint32_t received = 0;  // bytes of payload
  std::uint16_t size = 0;      // of the payload; 0: not known yet
  std::uint8_t fragments = 0;
  Fate fate = Fate::open;
  bool congestion = false;
};

struct Owner {
  SessionId id;
  Index next = kNone;  // in its bucket's chain
  Index oldest = kNone;
  Index newest = kNone;
  std::size_t datagrams = 0;  // 0: the record is free
  std::size_t memory = 0;
};

}  // namespace

struct Reassembler::State {
  using Fate = Datagram::Fate;

  State(const Limits& bounds, const FlowHashKey& key, Losses& counted) : limits(bounds), losses(counted), hash(key) {
    static_assert(sizeof(Fragment) == 56 && sizeof(Datagram) == 112 && sizeof(Owner) == 40,
                  "the opening comment of reassembly.h says so");
  }

  Index find(const DatagramKey& key);
  Index open(const DatagramKey& key, const Packet& packet, TimePoint now);
  // Puts a fragment into its place. False where it does not go in: it was counted, and perhaps the datagram is DEAD.
  bool insert(Index datagram, Packet&& packet, const FragmentView& piece);
  std::optional<Packet> whole_of(const Datagram& datagram);
  void keep_bounds(Index owner);
  void expire(TimePoint now, int most);

  void die(Datagram& datagram, Fate fate);
  void free_fragments(Datagram& datagram);
  void forget(Index datagram, std::uint64_t* counter);
  Index find_owner(SessionId id);
  Index owner_with_most(std::size_t Owner::* what, Index sender);
  std::uint64_t& counter_of(Fate fate) {
    return fate == Fate::malformed ? losses.malformed : fate == Fate::overlapped ? losses.overlapped : losses.too_many;
  }
  Index& bucket_of(const DatagramKey& key);
  Index& owner_bucket_of(SessionId id) { return owner_buckets[id.slot & (owner_buckets.size() - 1)]; }

  // Multilinear like FlowHash, and for the same reason: identifications are chosen by whoever sends them.
  struct KeyHash {
    explicit KeyHash(const FlowHashKey& key);
    std::size_t operator()(const DatagramKey& key) const;
    std::array<std::uint64_t, 13> multipliers{};
  };

  const Limits limits;
  Losses& losses;
  KeyHash hash;
  Pool<Fragment> fragments;
  Pool<Datagram> datagrams;
  Pool<Owner> owners;
  std::vector<Index> buckets;  // powers of two, and not fewer than there are records
  std::vector<Index> owner_buckets;
  Index oldest = kNone;
  Index newest = kNone;
  std::size_t count = 0;
  std::size_t bytes = 0;
};

// SplitMix64, as in flow_hash.cc.
Reassembler::State::KeyHash::KeyHash(const FlowHashKey& key) {
  std::uint64_t state = key.first;
  for (std::uint64_t& multiplier : multipliers) {
    state += key.second | 1;
    std::uint64_t mixed = state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    multiplier = mixed ^ mixed >> 31;
  }
}

std::size_t Reassembler::State::KeyHash::operator()(const DatagramKey& key) const {
  std::uint64_t sum = multipliers[0];
  std::size_t at = 1;
  const auto absorb = [&](std::uint64_t word) { sum += multipliers[at++] * (word & 0xFFFFFFFF); };
  for (const std::uint64_t half : key.addresses) {
    absorb(half >> 32);
    absorb(half);
  }
  absorb(key.identification);
  absorb(static_cast<std::uint64_t>(key.family) << 8 | key.protocol);
  absorb(key.owner.slot);
  absorb(key.owner.generation);
  return static_cast<std::size_t>(sum >> 32);
}

Index& Reassembler::State::bucket_of(const DatagramKey& key) { return buckets[hash(key) & (buckets.size() - 1)]; }

Index Reassembler::State::find(const DatagramKey& key) {
  if (buckets.empty()) return kNone;
  Index index = bucket_of(key);
  while (index != kNone && datagrams[index].key != key) index = datagrams[index].next;
  return index;
}

Index Reassembler::State::find_owner(SessionId id) {
  if (owner_buckets.empty()) return kNone;
  Index index = owner_bucket_of(id);
  while (index != kNone && owners[index].id != id) index = owners[index].next;
  return index;
}

// Puts the chains of `records` anew into twice the buckets, where there are more records than those. All are in use.
template <typename Record, typename BucketOf>
void widen(std::vector<Index>& buckets, Pool<Record>& pool, BucketOf bucket_of) {
  if (pool.free != kNone || pool.records.size() < buckets.size()) return;
  buckets.assign(std::max<std::size_t>(8, buckets.size() * 2), kNone);
  for (std::size_t i = 0; i < pool.records.size(); ++i) {
    Index& bucket = bucket_of(pool.records[i]);
    pool.records[i].next = std::exchange(bucket, static_cast<Index>(i));
  }
}

Index Reassembler::State::open(const DatagramKey& key, const Packet& packet, TimePoint now) {
  Index owner = find_owner(key.owner);
  if (owner == kNone) {
    widen(owner_buckets, owners, [this](const Owner& one) -> Index& { return owner_bucket_of(one.id); });
    owner = owners.take();
    owners[owner].id = key.owner;
    owners[owner].next = std::exchange(owner_bucket_of(key.owner), owner);
  }
  widen(buckets, datagrams, [this](const Datagram& one) -> Index& { return bucket_of(one.key); });
  const Index index = datagrams.take();
  Datagram& datagram = datagrams[index];
  datagram.key = key;
  datagram.since = now;
  datagram.member = packet.member;
  datagram.answers = packet.answers;
  datagram.owner = owner;
  datagram.next = std::exchange(bucket_of(key), index);

  datagram.all.older = std::exchange(newest, index);
  (datagram.all.older == kNone ? oldest : datagrams[datagram.all.older].all.newer) = index;
  Owner& of = owners[owner];
  datagram.own.older = std::exchange(of.newest, index);
  (datagram.own.older == kNone ? of.oldest : datagrams[datagram.own.older].own.newer) = index;
  ++of.datagrams;
  ++count;
  return index;
}

void Reassembler::State::free_fragments(Datagram& datagram) {
  while (datagram.first != kNone) {
    const Index next = fragments[datagram.first].next;
    fragments.give_back(datagram.first);
    datagram.first = next;
  }
  datagram.last = kNone;
  owners[datagram.owner].memory -= datagram.memory;
  bytes -= datagram.memory;
  datagram.memory = 0;
  datagram.fragments = 0;
}

// What it has and what it just got is counted, and so will be what comes.
void Reassembler::State::die(Datagram& datagram, Fate fate) {
  datagram.fate = fate;
  counter_of(fate) += datagram.fragments + 1U;
  free_fragments(datagram);
}

void Reassembler::State::forget(Index index, std::uint64_t* counter) {
  Datagram& datagram = datagrams[index];
  if (counter != nullptr) *counter += datagram.fragments;
  free_fragments(datagram);

  Index* at = &bucket_of(datagram.key);
  while (*at != index) at = &datagrams[*at].next;
  *at = datagram.next;
  (datagram.all.older == kNone ? oldest : datagrams[datagram.all.older].all.newer) = datagram.all.newer;
  (datagram.all.newer == kNone ? newest : datagrams[datagram.all.newer].all.older) = datagram.all.older;
  const Index owner = datagram.owner;
  Owner& of = owners[owner];
  (datagram.own.older == kNone ? of.oldest : datagrams[datagram.own.older].own.newer) = datagram.own.newer;
  (datagram.own.newer == kNone ? of.newest : datagrams[datagram.own.newer].own.older) = datagram.own.older;
  datagrams.give_back(index);
  --count;
  if (--of.datagrams != 0) return;
  at = &owner_bucket_of(of.id);
  while (*at != owner) at = &owners[*at].next;
  *at = of.next;
  owners.give_back(owner);
}

bool Reassembler::State::insert(Index index, Packet&& packet, const FragmentView& piece) {
  Datagram& datagram = datagrams[index];
  if (datagram.fate != Fate::open) {
    ++counter_of(datagram.fate);
    return false;
  }
  const auto begin = static_cast<std::uint16_t>(piece.begin);
  const auto end = static_cast<std::uint16_t>(piece.end);
  // The new one goes behind `before`; nearly always that is the last.
  Index before = datagram.last;
  if (before != kNone && fragments[before].begin >= begin) {
    before = kNone;
    for (Index at = datagram.first; fragments[at].begin < begin; at = fragments[at].next) before = at;
  }
  const Index after = before == kNone ? datagram.first : fragments[before].next;

  if (after != kNone && fragments[after].begin == begin && fragments[after].end == end) {
    const bool is_last = datagram.size == end;
    const ByteView there = fragments[after].packet.bytes().subspan(fragments[after].payload);
    if (is_last == piece.last && std::ranges::equal(there, packet.bytes().subspan(piece.payload))) {
      ++losses.duplicates;
      return false;
    }
  }
  // Where it ends is said once.
  const bool contradicts = datagram.size != 0 && (piece.last ? end != datagram.size : end >= datagram.size);
  if (contradicts || (piece.last && datagram.last != kNone && fragments[datagram.last].end > end)) {
    die(datagram, Fate::malformed);
    return false;
  }
  if ((before != kNone && fragments[before].end > begin) || (after != kNone && fragments[after].begin < end)) {
    die(datagram, Fate::overlapped);
    return false;
  }
  if (datagram.fragments == kMaxFragments) {
    die(datagram, Fate::too_many);
    return false;
  }

  if (piece.last) datagram.size = end;
  datagram.congestion |= met_congestion(packet.bytes());
  const auto footprint = static_cast<std::uint32_t>(packet.footprint());
  datagram.received += static_cast<std::uint32_t>(piece.end - piece.begin);
  datagram.memory += footprint;
  ++datagram.fragments;
  owners[datagram.owner].memory += footprint;
  bytes += footprint;
  const Index added = fragments.take();
  fragments[added] = {.packet = std::move(packet),
                      .next = after,
                      .begin = begin,
                      .end = end,
                      .payload = static_cast<std::uint16_t>(piece.payload)};
  (before == kNone ? datagram.first : fragments[before].next) = added;
  if (after == kNone) datagram.last = added;
  return true;
}

// Nothing where what is complete cannot be: too large with its headers, or marked without knowing of marks.
std::optional<Packet> Reassembler::State::whole_of(const Datagram& datagram) {
  const Packet& first = fragments[datagram.first].packet;
  const auto view = parse_ip(first.bytes());
  PENSTOCK_ASSERT(view.has_value());
  const FragmentView piece = read_fragment(first.bytes(), *view);
  const std::size_t head = whole_head_size(piece, view->family);
  if (head + datagram.size > Packet::kMaxSize) return std::nullopt;

  Packet whole = Packet::with_size(head + datagram.size);
  write_whole_head(whole.mutable_bytes(), first.bytes(), piece, view->family);
  for (Index at = datagram.first; at != kNone; at = fragments[at].next) {
    const Fragment& fragment = fragments[at];
    std::ranges::copy(fragment.packet.bytes().subspan(fragment.payload),
                      whole.mutable_bytes().subspan(head + fragment.begin).begin());
  }
  if (datagram.congestion && !mark_congestion(whole.mutable_bytes())) return std::nullopt;
  whole.source = first.source;
  whole.member = datagram.member;
  whole.answers = datagram.answers;
  whole.may_fragment = true;
  return whole;
}

Index Reassembler::State::owner_with_most(std::size_t Owner::* what, Index sender) {
  Index most = sender;
  for (Index i = 0; i < owners.records.size(); ++i) {
    if (owners[i].datagrams != 0 && (most == kNone || owners[i].*what > owners[most].*what)) most = i;
  }
  return most;
}

// `owner`, which sent what was just put in, may lose all that it has on the way, and its record with it.
void Reassembler::State::keep_bounds(Index owner) {
  while (owners[owner].memory > limits.owner_bytes || owners[owner].datagrams > limits.owner_datagrams) {
    const bool last = owners[owner].datagrams == 1;
    forget(owners[owner].oldest, &losses.too_many);
    if (last) return;  // and what is gone is more than what came
  }
  while (bytes > limits.bytes || count > limits.datagrams) {
    const auto what = bytes > limits.bytes ? &Owner::memory : &Owner::datagrams;
    const Index loser = owner_with_most(what, owner);
    if (loser == owner && owners[owner].datagrams == 1) owner = kNone;
    forget(owners[loser].oldest, &losses.too_many);
  }
}

void Reassembler::State::expire(TimePoint now, int most) {
  for (; most > 0 && oldest != kNone && now - datagrams[oldest].since >= kPatience; --most) {
    forget(oldest, &losses.timed_out);
  }
}

Reassembler::Reassembler(const Limits& limits, const FlowHashKey& key) : limits_(limits), key_(key) {
  PENSTOCK_ASSERT(limits.bytes != 0 && limits.datagrams != 0 && limits.owner_bytes != 0 && limits.owner_datagrams != 0);
}

Reassembler::~Reassembler() = default;

std::optional<Packet> Reassembler::add(Packet&& fragment, const IpView& view, TimePoint now) {
  const FragmentView piece = read_fragment(fragment.bytes(), view);
  switch (piece.kind) {
    case FragmentView::Kind::malformed: ++losses_.malformed; return std::nullopt;
    case FragmentView::Kind::no_fragment: return std::move(fragment);
    case FragmentView::Kind::atomic:
      // RFC 6946 section 4: it has nothing to do with other fragments, whatever its identification.
      remove_fragment_header(fragment, piece);
      return std::move(fragment);
    case FragmentView::Kind::fragment: break;
  }
  PENSTOCK_ASSERT(fragment.offload == Offload{});
  if (!state_) state_ = std::make_unique<State>(limits_, key_, losses_);
  State& state = *state_;
  state.expire(now, 2);

  const DatagramKey key{
      .addresses = {view.source.upper(), view.source.lower(), view.destination.upper(), view.destination.lower()},
      .identification = piece.identification,
      .family = view.family,
      .protocol = view.family == Family::ipv4 ? view.protocol : std::uint8_t{0},
      .owner = fragment.source};
  Index index = state.find(key);
  if (index != kNone && now - state.datagrams[index].since >= kPatience) {
    state.forget(index, &losses_.timed_out);
    index = kNone;
  }
  if (index == kNone) index = state.open(key, fragment, now);
  const bool inserted = state.insert(index, std::move(fragment), piece);
  const Datagram& datagram = state.datagrams[index];
  if (!inserted || datagram.received != datagram.size) {
    state.keep_bounds(datagram.owner);
    return std::nullopt;
  }
  auto whole = state.whole_of(datagram);
  state.forget(index, whole ? nullptr : &losses_.malformed);
  return whole;
}

void Reassembler::expire(TimePoint now) {
  if (!state_) return;
  state_->expire(now, 64);
  if (state_->count == 0) state_.reset();
}

std::optional<TimePoint> Reassembler::next_expiry() const {
  if (!state_ || state_->count == 0) return std::nullopt;
  return state_->datagrams[state_->oldest].since + kPatience;
}

std::size_t Reassembler::datagrams() const { return state_ ? state_->count : 0; }
std::size_t Reassembler::size_bytes() const { return state_ ? state_->bytes : 0; }

std::size_t Reassembler::memory() const {
  if (!state_) return 0;
  return sizeof(State) + state_->fragments.memory() + state_->datagrams.memory() + state_->owners.memory() +
         (state_->buckets.capacity() + state_->owner_buckets.capacity()) * sizeof(Index);
}

}  // namespace penstock
