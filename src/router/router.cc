#include "router/router.h"

#include <algorithm>

#include "base/log.h"
#include "base/result.h"

namespace penstock::router {
namespace {

void log_packet(const char* what, const IpView& view, SessionId source) {
  log::debug(what, {{"inner_from", view.source},
                    {"inner_to", view.destination},
                    {"protocol", view.protocol},
                    {"bytes", view.total_size},
                    {"session", source.slot}});
}

}  // namespace

PortId Router::add_port(Port& port) {
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot].port = &port;
  ++slots_[slot].generation;
  return {shard_, slot, slots_[slot].generation};
}

void Router::remove_port(PortId id) {
  PENSTOCK_ASSERT(port(id) != nullptr);
  slots_[id.slot].port = nullptr;
  free_slots_.push_back(id.slot);
}

Port* Router::port(PortId id) const {
  if (id.shard != shard_ || id.slot >= slots_.size()) return nullptr;
  const Slot& slot = slots_[id.slot];
  return slot.generation == id.generation ? slot.port : nullptr;
}

void Router::from_session(Session& session, PacketBatch& batch) {
  const bool debug = log::enabled(log::Level::debug);
  AccessGate* gate = session.gate();
  const TimePoint now = gate != nullptr ? gate->now() : TimePoint{};
  for (Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    if (!view) {
      drops_.count(Drop::malformed);
      continue;
    }
    if (!session.source_guard().allows(view->source)) {
      drops_.count(Drop::spoofed_source);
      if (debug) log_packet("spoofed source dropped", *view, session.id());
      continue;
    }
    session.meter().count_up(packet.size());
    packet.source = session.id();
    packet.member = session.spec().member;
    if (gate != nullptr) gate->note_answer(packet, *view, now);
    if (debug) log_packet("packet from session", *view, session.id());
    if (discovery_.concerns(view->destination)) {
      const bool allowed = session.source_guard().is_host(view->source);
      route_to_everybody(*view, std::move(packet), allowed, session.discovery());
    } else {
      route(*view, std::move(packet), {});
    }
  }
  batch.clear();
  flush();
}

void Router::from_exit(PortId exit, PacketBatch& batch) {
  const bool debug = log::enabled(log::Level::debug);
  for (Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    if (!view) {
      drops_.count(Drop::malformed);
      continue;
    }
    packet.source = {};
    if (debug) log_packet("packet from exit", *view, {});
    if (discovery_.concerns(view->destination)) {
      route_to_everybody(*view, std::move(packet), true, exits_);
    } else {
      route(*view, std::move(packet), exit);
    }
  }
  batch.clear();
  flush();
}

void Router::route(const IpView& view, Packet&& packet, PortId came_from) {
  const PortId to = routes_.find(view.destination);
  if (!to || (came_from && to == came_from)) return drops_.count(Drop::no_route);
  if (to == kNobody) {
    last_unmatched_ = view.destination;
    return drops_.count(Drop::no_session);
  }
  gather(to, std::move(packet));
}

void Router::route_to_everybody(const IpView& view, Packet&& packet, bool allowed, TokenBucket& sender) {
  if (!allowed) return drops_.count(Drop::multicast);
  if (const auto drop = discovery_.judge(packet.bytes(), view, sender)) return drops_.count(*drop);
  gather(kEverybody, std::move(packet));
}

void Router::gather(PortId to, Packet&& packet) {
  if (to != run_to_) {
    flush();
    run_to_ = to;
  }
  run_.push_back(std::move(packet));
}

void Router::flush() {
  if (run_.empty()) return;
  // A port may answer at once and so come back in here: the run must be nobody's by then.
  PacketBatch run;
  run.swap(run_);
  const PortId to = run_to_;
  run_to_ = {};
  deliver(to, run);
  if (run_.capacity() < run.capacity()) run_.swap(run);
}

void Router::deliver(PortId to, PacketBatch& batch) {
  if (to == kEverybody) {
    deliver_to_everybody(batch);
  } else if (to == everybody_on(shard_)) {
    flood(batch);
  } else if (to.shard != shard_) {
    cross_(to, batch);
  } else if (Port* port = this->port(to)) {
    port->send(batch);
  } else {
    drops_.count(Drop::session_gone, batch.size());
  }
  batch.clear();
}

void Router::deliver_to_everybody(PacketBatch& batch) {
  for (std::size_t shard = 0; shard < shards_; ++shard) {
    if (shard == shard_) continue;
    PacketBatch copies;
    copies.reserve(batch.size());
    for (const Packet& packet : batch) copies.push_back(packet.clone());
    cross_(everybody_on(static_cast<std::uint16_t>(shard)), copies);
  }
  flood(batch);
}

void Router::flood(PacketBatch& batch) {
  floods_.push_back({.packets = std::move(batch)});
  batch.clear();
  if (floods_.size() == 1) flood_slice();
}

void Router::flood_slice() {
  Flood& flood = floods_.front();
  for (std::size_t left = kFloodSlice; left > 0 && flood.next_slot < slots_.size(); --left)
    if (Port* port = slots_[flood.next_slot++].port) port->flood(flood.packets);
  if (flood.next_slot >= slots_.size()) floods_.pop_front();
  if (!floods_.empty()) post_([this] { flood_slice(); });
}

}  // namespace penstock::router
