#include "router/router.h"

#include <algorithm>

#include "base/log.h"
#include "base/result.h"

namespace penstock::router {
namespace {

bool is_broadcast_or_group(const IpAddress& address) {
  return address.is_multicast() || (address.is_v4() && address.to_v4() == 0xFFFFFFFF);
}

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
    if (debug) log_packet("packet from session", *view, session.id());
    route(*view, std::move(packet), {});
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
    route(*view, std::move(packet), exit);
  }
  batch.clear();
  flush();
}

void Router::route(const IpView& view, Packet&& packet, PortId came_from) {
  if (is_broadcast_or_group(view.destination)) return drops_.count(Drop::multicast);
  const PortId to = routes_.find(view.destination);
  if (!to || (came_from && to == came_from)) return drops_.count(Drop::no_route);
  if (to == kNobody) {
    last_unmatched_ = view.destination;
    return drops_.count(Drop::no_session);
  }
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
  if (to.shard != shard_) {
    cross_(to, batch);
  } else if (Port* port = this->port(to)) {
    port->send(batch);
  } else {
    drops_.count(Drop::session_gone, batch.size());
  }
  batch.clear();
}

}  // namespace penstock::router
