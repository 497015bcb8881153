#include "packet/flow_queue.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "packet/ecn.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

using FlowIndex = std::uint16_t;
constexpr FlowIndex kNoFlow = 0xFFFF;

constexpr std::size_t kFirstSlots = 8;
constexpr std::size_t kKeptSlots = 64;  // not fewer while the queue is in use
constexpr std::size_t kFirstFlows = 8;
constexpr Duration kReviewEvery = std::chrono::seconds(1);
// How many flow records are looked at for each segment that overflow drops.
constexpr std::size_t kRecordsPerDrop = 16;

struct Node {
  Packet packet;
  TimePoint since;
  Node* next = nullptr;  // in its flow, or in the free list
};

// Of a super-packet with segments smaller than this nobody honest has many: what it grows to when it is segmented,
// mostly headers, is what counts for it.
constexpr std::size_t kSmallSegment = 64;

// How a packet leaves: in pieces of `segments` segments, the first of which counts as `size` bytes and takes `bytes`
// out of the queue; or whole, with 0.
struct Piece {
  std::size_t size = 0;
  std::size_t bytes = 0;
  std::size_t segments = 0;
};

// What leaves first of a super-packet whose first `gone` segments are there no more.
Piece piece_of_super(const Packet& packet, std::size_t chunk_bytes, std::size_t gone) {
  const std::size_t payload = packet.offload.segment_size;
  const std::size_t size = packet.size() - gone * payload;
  const bool small = payload < kSmallSegment;
  if (!small && (chunk_bytes == 0 || size <= chunk_bytes)) return {.size = size, .bytes = size};
  const std::size_t headers = headers_of(packet);
  const std::size_t all = (size - headers + payload - 1) / payload;
  const std::size_t each = std::min(size, headers + payload);
  if (small) {
    const std::size_t most = std::max<std::size_t>(1, (chunk_bytes == 0 ? FlowQueue::kQuantum : chunk_bytes) / each);
    if (most >= all) return {.size = all * each, .bytes = size};
    return {.size = most * each, .bytes = headers + most * payload, .segments = most};
  }
  const std::size_t most = chunk_bytes <= each ? 1 : (chunk_bytes - headers) / payload;
  if (most >= all) return {.size = size, .bytes = size};
  return {.size = headers + most * payload, .bytes = headers + most * payload, .segments = most};
}

Piece piece_of(const Packet& packet, std::size_t chunk_bytes, std::size_t gone = 0) {
  if (packet.offload.gso == Offload::Gso::none) return {.size = packet.size(), .bytes = packet.size()};
  return piece_of_super(packet, chunk_bytes, gone);
}

}  // namespace

struct FlowQueue::Flow {
  enum class List : std::uint8_t { none, fresh, old };

  [[no_unique_address]] Codel codel;  // what follows fits into its padding
  List list = List::none;
  std::uint16_t bucket = 0;
  FlowIndex next = kNoFlow;   // in its list
  std::uint16_t largest = 0;  // packet since it was last on no list
  std::int32_t deficit = 0;
  Node* head = nullptr;
  Node* tail = nullptr;
  std::size_t memory = 0;  // footprints of its packets
  std::size_t size = 0;    // sizes of its packets

  bool empty() const { return head == nullptr; }
};

struct FlowQueue::State {
  struct List {
    FlowIndex first = kNoFlow;
    FlowIndex last = kNoFlow;
  };

  explicit State(const FlowHashKey& key) : hash(key) {
    static_assert(sizeof(Node) == 56 && sizeof(Flow) == 72, "the opening comment of flow_queue.h says so");
    static_assert(sizeof(FlowQueue) <= 112 && sizeof(State) < 2300);
    records.fill(kNoFlow);
  }

  Flow& flow_of(const Packet& packet, const Codel::Settings& codel, TimePoint now) {
    const std::uint32_t bucket = hash(packet.bytes()) >> (32 - std::countr_zero(kMaxFlows));
    if (records[bucket] == kNoFlow) add_record(bucket, codel, now);
    return flows[records[bucket]];
  }
  void add_record(std::size_t bucket, const Codel::Settings& codel, TimePoint now);
  FlowIndex index_of(const Flow& flow) const { return static_cast<FlowIndex>(&flow - flows.data()); }

  List& list_of(const Flow& flow) { return flow.list == Flow::List::fresh ? fresh : old; }
  void append(Flow& flow, Flow::List where) {
    flow.list = where;
    flow.next = kNoFlow;
    List& list = list_of(flow);
    const FlowIndex index = index_of(flow);
    (list.first == kNoFlow ? list.first : flows[list.last].next) = index;
    list.last = index;
  }
  // Takes `flow`, the first of its list, out of it.
  void remove_first(Flow& flow) {
    list_of(flow).first = flow.next;
    flow.list = Flow::List::none;
  }
  void empty_lists() {
    for (List* list : {&fresh, &old}) {
      while (list->first != kNoFlow) remove_first(flows[list->first]);
    }
  }

  Node* new_node() {
    if (free_nodes != nullptr) return std::exchange(free_nodes, free_nodes->next);
    if (used_slots == slots) resize(slots == 0 ? kFirstSlots : slots * 2);
    return &nodes[used_slots++];
  }
  // `slots` is at least the number of packets.
  void resize(std::size_t slots);

  FlowHash hash;
  std::array<FlowIndex, kMaxFlows> records;  // the flow of each bucket
  std::vector<Flow> flows;
  List fresh;
  List old;
  FlowIndex free_flows = kNoFlow;
  std::unique_ptr<Node[]> nodes;
  std::size_t slots = 0;
  std::size_t used_slots = 0;  // those above were in no list yet
  Node* free_nodes = nullptr;
  std::size_t most_packets = 0;  // since the last review
  TimePoint next_review;
};

void FlowQueue::State::add_record(std::size_t bucket, const Codel::Settings& codel, TimePoint now) {
  if (free_flows == kNoFlow && flows.size() == flows.capacity()) {
    // Records are kept as long as there is room, since flows come back. Now what need not be kept goes; where that is
    // not much, more room is made too, so that this is not done for every packet.
    std::size_t freed = 0;
    for (Flow& flow : flows) {
      if (flow.list != Flow::List::none || flow.codel.has_history(codel, now)) continue;
      records[flow.bucket] = kNoFlow;
      flow.next = std::exchange(free_flows, index_of(flow));
      ++freed;
    }
    if (freed * 4 <= flows.size()) flows.reserve(std::max(kFirstFlows, flows.size() * 2));
  }
  FlowIndex index = free_flows;
  if (index != kNoFlow) {
    free_flows = flows[index].next;
    flows[index] = Flow();
  } else {
    index = static_cast<FlowIndex>(flows.size());
    flows.emplace_back();
  }
  flows[index].bucket = static_cast<std::uint16_t>(bucket);
  records[bucket] = index;
}

void FlowQueue::State::resize(std::size_t new_slots) {
  auto new_nodes = std::make_unique<Node[]>(new_slots);
  Node* to = new_nodes.get();
  for (Flow& flow : flows) {
    if (flow.empty()) continue;
    Node* from = std::exchange(flow.head, to);
    for (; from != nullptr; from = from->next, ++to) *to = {std::move(from->packet), from->since, to + 1};
    flow.tail = to - 1;
    flow.tail->next = nullptr;
  }
  used_slots = static_cast<std::size_t>(to - new_nodes.get());
  nodes = std::move(new_nodes);
  slots = new_slots;
  free_nodes = nullptr;
}

// The head of a flow, as CoDel wants to see it. Segments that it drops of a super-packet are cut off in settle(), all
// at once: after a stall there are many, and each cut copies what is left.
struct FlowQueue::Head {
  FlowQueue& queue;
  Flow& flow;
  std::size_t chunk_bytes;
  TimePoint now;
  std::size_t gone = 0;  // segments of the head

  // RFC 8289 section 4.2: a largest packet is always left, that the sender may go on. What leaves in pieces is as
  // large as those.
  bool too_long() const {
    if (flow.empty() || now - flow.head->since < queue.codel_.target) return false;
    const Packet& packet = flow.head->packet;
    const std::size_t leaving = piece_of(packet, chunk_bytes, gone).bytes;
    const std::size_t largest =
        chunk_bytes == 0 ? flow.largest : std::min<std::size_t>(flow.largest, std::max(chunk_bytes, leaving));
    return flow.size - gone * packet.offload.segment_size - leaving > largest;
  }
  bool mark() const {
    Packet& packet = flow.head->packet;
    if (!mark_congestion(packet.mutable_bytes())) return false;
    queue.losses_.marked += segments_of(packet) - gone;
    return true;
  }
  void drop() {
    ++queue.losses_.dropped_aqm;
    if (++gone < segments_of(flow.head->packet)) return;
    gone = 0;
    queue.drop_first(flow);
  }
  void settle() {
    if (gone != 0) queue.split(flow, std::exchange(gone, 0));
  }
};

FlowQueue::FlowQueue(const FlowHashKey& key, std::size_t max_bytes, std::size_t max_packets)
    : key_(key), max_bytes_(max_bytes), max_packets_(max_packets) {}

FlowQueue::~FlowQueue() = default;

void FlowQueue::push(Packet&& packet, TimePoint now) {
  if (!state_) state_ = std::make_unique<State>(key_);
  State& state = *state_;
  Flow& flow = state.flow_of(packet, codel_, now);
  const std::size_t memory = packet.footprint();
  const std::size_t size = packet.size();

  Node* const node = state.new_node();
  // A free node's packet is empty: cheaper than to swap with it.
  std::construct_at(&node->packet, std::move(packet));
  node->since = now;
  node->next = nullptr;
  if (flow.empty()) {
    flow.codel.was_empty();
    flow.head = node;
  } else {
    flow.tail->next = node;
  }
  flow.tail = node;

  if (flow.list == Flow::List::none) {
    flow.deficit = kSparseBytes;
    flow.largest = 0;
    state.append(flow, Flow::List::fresh);
  }
  flow.largest = std::max(flow.largest, static_cast<std::uint16_t>(size));
  flow.memory += memory;
  flow.size += size;
  bytes_ += memory;
  ++packets_;
  if (bytes_ <= max_bytes_ && packets_ <= max_packets_) return;
  do drop_from_fattest();
  while (bytes_ > max_bytes_ || packets_ > max_packets_);
  // The bound was lowered by much: nobody who takes may come to review the slots.
  if (state.slots > kKeptSlots && packets_ * 4 <= state.slots) {
    state.resize(std::bit_ceil(std::max(kKeptSlots, packets_ * 2)));
  }
}

// Takes the first node out of `flow`. It is free, but its packet is there until it is used again.
inline Packet& FlowQueue::unhook(Flow& flow) {
  Node* const node = flow.head;
  const std::size_t memory = node->packet.footprint();
  flow.head = node->next;
  node->next = std::exchange(state_->free_nodes, node);
  flow.memory -= memory;
  flow.size -= node->packet.size();
  bytes_ -= memory;
  --packets_;
  return node->packet;
}

// The first segments of the flow's first packet, a super-packet with more.
Packet FlowQueue::split(Flow& flow, std::size_t segments) {
  Packet& rest = flow.head->packet;
  const std::size_t memory = rest.footprint();
  const std::size_t size = rest.size();
  Packet front = split_front(rest, segments);
  flow.memory = flow.memory - memory + rest.footprint();
  flow.size = flow.size - size + rest.size();
  bytes_ = bytes_ - memory + rest.footprint();
  return front;
}

std::size_t FlowQueue::take(PacketBatch& out, std::size_t max_bytes, std::size_t chunk_bytes, TimePoint now) {
  if (packets_ == 0) return 0;
  State& state = *state_;
  state.most_packets = std::max(state.most_packets, packets_);
  const std::size_t quantum = chunk_bytes == 0 ? kQuantum : std::clamp(chunk_bytes, kSparseBytes, kQuantum);
  std::size_t taken = 0;
  bool full = false;
  // RFC 8290 section 4.2.
  while (packets_ != 0 && !full) {
    Flow& flow = state.flows[state.fresh.first != kNoFlow ? state.fresh.first : state.old.first];
    if (flow.deficit <= 0) {
      flow.deficit += static_cast<std::int32_t>(quantum);
      state.remove_first(flow);
      state.append(flow, Flow::List::old);
      continue;
    }
    if (flow.empty()) {
      const bool waits = flow.list == Flow::List::fresh && state.old.first != kNoFlow;
      state.remove_first(flow);
      if (waits) state.append(flow, Flow::List::old);
      continue;
    }
    while (!flow.empty() && flow.deficit > 0) {
      Piece piece = piece_of(flow.head->packet, chunk_bytes);
      full = taken != 0 && taken + piece.size > max_bytes;
      if (full) break;
      if (now - flow.head->since < codel_.target && !flow.codel.dropping()) {
        flow.codel.fresh_head();
      } else {
        Head head{*this, flow, chunk_bytes, now};
        flow.codel.before_leaving(head, codel_, now);
        head.settle();
        if (flow.empty()) break;
        piece = piece_of(flow.head->packet, chunk_bytes);
        full = taken != 0 && taken + piece.size > max_bytes;
        if (full) break;
      }
      taken += piece.size;
      flow.deficit -= static_cast<std::int32_t>(piece.size);
      if (piece.segments == 0) {
        out.push_back(std::move(unhook(flow)));
      } else {
        out.push_back(split(flow, piece.segments));
      }
    }
  }
  if (packets_ == 0) state.empty_lists();
  if (now >= state.next_review) {
    if (state.slots > kKeptSlots && state.most_packets * 4 <= state.slots) {
      state.resize(std::bit_ceil(std::max(kKeptSlots, state.most_packets * 2)));
    }
    state.most_packets = packets_;
    state.next_review = now + kReviewEvery;
  }
  return taken;
}

void FlowQueue::drop_first(Flow& flow) { const Packet dropped = std::move(unhook(flow)); }

// RFC 8290 section 4.1. Whole packets: the opening comment of flow_queue.h says why.
void FlowQueue::drop_from_fattest() {
  Flow* fattest = nullptr;
  for (Flow& flow : state_->flows) {
    if (!flow.empty() && (fattest == nullptr || flow.memory > fattest->memory)) fattest = &flow;
  }
  const std::size_t half = fattest->memory / 2;
  std::size_t batch = std::max<std::size_t>(1, state_->flows.size() / kRecordsPerDrop);
  const auto drop_one_of = [&](Flow& flow) {
    const std::size_t segments = segments_of(flow.head->packet);
    losses_.dropped_full += segments;
    drop_first(flow);
    batch -= std::min(batch, segments);
  };
  drop_one_of(*fattest);
  while (batch != 0 && fattest->memory > half) drop_one_of(*fattest);
  // Those that are nearly as fat, or a flood of many small flows would have all looked at for each of its packets.
  for (auto flow = state_->flows.begin(); batch != 0 && flow != state_->flows.end(); ++flow) {
    while (batch != 0 && flow->memory > half) drop_one_of(*flow);
  }
}

std::size_t FlowQueue::room() const {
  const std::size_t bytes = bytes_ < max_bytes_ ? max_bytes_ - bytes_ : 0;
  const std::size_t packets = max_packets_ - packets_;
  const std::size_t smallest = Packet::footprint_of(0);
  return packets < bytes / smallest ? packets * smallest : bytes;
}

Duration FlowQueue::oldest_wait(TimePoint now) const {
  if (packets_ == 0) return {};
  TimePoint oldest = now;
  for (const Flow& flow : state_->flows) {
    if (!flow.empty()) oldest = std::min(oldest, flow.head->since);
  }
  return now - oldest;
}

std::size_t FlowQueue::clear() {
  std::size_t segments = 0;
  if (packets_ != 0) {
    for (const Flow& flow : state_->flows) {
      for (const Node* node = flow.head; node != nullptr; node = node->next) segments += segments_of(node->packet);
    }
  }
  state_.reset();
  bytes_ = packets_ = 0;
  return segments;
}

void FlowQueue::release_idle_memory() {
  if (packets_ == 0) state_.reset();
}

std::size_t FlowQueue::memory() const {
  if (!state_) return sizeof(FlowQueue);
  return sizeof(FlowQueue) + sizeof(State) + state_->flows.capacity() * sizeof(Flow) + state_->slots * sizeof(Node);
}

}  // namespace penstock
