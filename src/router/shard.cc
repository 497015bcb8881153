#include "router/shard.h"

#include <algorithm>

#include "base/result.h"
#include "packet/super_packet.h"

namespace penstock::router {

Shard::Shard(std::uint16_t index, EventLoop& loop)
    : index_(index),
      loop_(&loop),
      router_(
          index, [this](PortId to, PacketBatch& batch) { cross(to, batch); },
          [this](Task task) { loop_->post(std::move(task)); }) {}

Shard::~Shard() = default;

void Shard::connect(const std::vector<std::unique_ptr<Shard>>& shards) {
  const auto flood_budget = std::make_shared<FloodBudget>();
  for (const auto& shard : shards) {
    PENSTOCK_ASSERT(shards[shard->index_] == shard);
    PENSTOCK_ASSERT(shard->sessions_.empty());
    shard->flood_budget_ = flood_budget;
    shard->incoming_.clear();
    shard->shards_.clear();
    for (const auto& other : shards) {
      shard->incoming_.push_back(other == shard ? nullptr : std::make_unique<Lane>());
      shard->shards_.push_back(other.get());
    }
  }
}

void Shard::cross(PortId to, PacketBatch& batch) {
  if (to.shard >= shards_.size()) {
    router_.drops().count(Drop::no_route, segments_of(batch));
    return;
  }
  Shard& other = *shards_[to.shard];
  Lane& lane = *other.incoming_[index_];
  for (Packet& packet : batch) {
    const std::size_t bytes = packet.footprint();
    const std::size_t segments = segments_of(packet);
    Crossing crossing{to, std::move(packet)};
    if (lane.bytes.load(std::memory_order_relaxed) + bytes > kRingBytes || !lane.ring.try_push(std::move(crossing))) {
      router_.drops().count(Drop::crossing_full, segments);
    } else {
      lane.bytes.fetch_add(bytes, std::memory_order_relaxed);
    }
  }
  if (lane.ring.wake_needed()) other.loop_->post([&other, &lane] { other.drain(lane); });
}

void Shard::drain(Lane& lane) {
  PortId run_to;
  const auto flush = [&] {
    if (!run_.empty()) router_.deliver(run_to, run_);
  };
  Crossing crossing;
  // At most one ring's worth a turn, so that a busy neighbour does not starve this shard's own sockets.
  std::size_t packets = 0;
  do {
    while (lane.ring.try_pop(crossing)) {
      lane.bytes.fetch_sub(crossing.packet.footprint(), std::memory_order_relaxed);
      if (crossing.to != run_to) {
        flush();
        run_to = crossing.to;
      }
      run_.push_back(std::move(crossing.packet));
      if (++packets < kRingCapacity) continue;
      flush();
      loop_->post([this, &lane] { drain(lane); });
      return;
    }
    flush();
  } while (!lane.ring.park());
}

void Shard::set_discovery(const DiscoverySettings& settings) {
  router_.set_discovery(Discovery(settings, flood_budget_, *loop_), std::max<std::size_t>(shards_.size(), 1));
}

void Shard::set_access_policy(std::shared_ptr<const AccessPolicy> policy) {
  access_policy_ = std::move(policy);
  for (const auto& [slot, session] : sessions_) session->set_access_policy(access_policy_, *loop_);
}

void Shard::set_sites(std::vector<Prefix> sites) {
  sites_ = std::move(sites);
  for (const auto& [slot, session] : sessions_) {
    if (SessionLink* link = session->link()) link->sites_changed();
  }
}

PortId Shard::open_session(SessionSpec spec) {
  auto session = std::make_unique<Session>(std::move(spec), router_.drops(), *loop_);
  session->set_access_policy(access_policy_, *loop_);
  const PortId id = router_.add_port(*session);
  sessions_[id.slot] = std::move(session);
  flood_budget_->add_receiver();
  return id;
}

Session* Shard::session(PortId id) {
  if (router_.port(id) == nullptr) return nullptr;
  const auto found = sessions_.find(id.slot);
  return found == sessions_.end() ? nullptr : found->second.get();
}

void Shard::close_session(PortId id, std::string_view reason) {
  Session* session = this->session(id);
  if (session == nullptr) return;
  SessionLink* link = session->link();
  session->detach();
  if (link != nullptr) link->end(reason);
  router_.remove_port(id);
  sessions_.erase(id.slot);
  flood_budget_->remove_receiver();
}

}  // namespace penstock::router
