#include "router/router.h"

#include <algorithm>
#include <iterator>

#include "base/log.h"
#include "base/result.h"
#include "packet/fragment.h"
#include "packet/hop_limit.h"
#include "packet/mss.h"
#include "packet/super_packet.h"

namespace penstock::router {
namespace {

void log_packet(const char* what, const IpView& view, SessionId source) {
  log::debug(what, {{"inner_from", view.source},
                    {"inner_to", view.destination},
                    {"protocol", view.protocol},
                    {"bytes", view.total_size},
                    {"session", source.slot}});
}

bool is_super_packet(const Packet& packet) { return packet.offload.gso != Offload::Gso::none; }

bool fits(const Packet& packet, std::size_t mtu) {
  return packet.size() <= mtu || (is_super_packet(packet) && largest_segment_of(packet) <= mtu);
}

// Whether what the packet says is left undone in it can be so.
bool has_true_offload(const Packet& packet, const IpView& view) {
  return packet.offload == Offload{} || check_offload(packet.bytes(), view, packet.offload);
}

void charge(Meter& meter, const Packet& packet) {
  if (is_super_packet(packet)) {
    meter.count_up(segmented_size_of(packet), segments_of(packet));
  } else {
    meter.count_up(packet.size());
  }
}

std::size_t packets_in(const PacketBatch& batch) {
  std::size_t sum = 0;
  for (const Packet& packet : batch) sum += segments_of(packet);
  return sum;
}

// Offers to a port what goes to everybody, but to a session only what it takes.
void offer(Port& port, const Session* session, std::span<const Packet> packets) {
  const auto is_taken = [session](const Packet& packet) { return fits(packet, session->mtu()); };
  if (session == nullptr || std::ranges::all_of(packets, is_taken)) return port.flood(packets);
  for (const Packet& packet : packets) {
    if (is_taken(packet)) port.flood({&packet, 1});
  }
}

}  // namespace

PortId Router::add(Slot port) {
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  port.generation = slots_[slot].generation + 1;
  slots_[slot] = port;
  return {shard_, slot, slots_[slot].generation};
}

void Router::remove_port(PortId id) {
  PENSTOCK_ASSERT(port(id) != nullptr);
  slots_[id.slot].port = nullptr;
  slots_[id.slot].session = nullptr;
  free_slots_.push_back(id.slot);
}

const Router::Slot* Router::find(PortId id) const {
  if (id.shard != shard_ || id.slot >= slots_.size()) return nullptr;
  const Slot& slot = slots_[id.slot];
  return slot.generation == id.generation && slot.port != nullptr ? &slot : nullptr;
}

Port* Router::port(PortId id) const {
  const Slot* slot = find(id);
  return slot == nullptr ? nullptr : slot->port;
}

void Router::from_session(Session& session, PacketBatch& batch) {
  const bool debug = log::enabled(log::Level::debug);
  AccessGate* gate = session.gate();
  const TimePoint now = gate != nullptr ? gate->now() : TimePoint{};
  const std::size_t mtu = session.mtu();
  for (Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    if (!view || !has_true_offload(packet, *view)) {
      drops_.count(Drop::malformed);
      continue;
    }
    if (!session.source_guard().allows(view->source)) {
      drops_.count(Drop::spoofed_source, segments_of(packet));
      if (debug) log_packet("spoofed source dropped", *view, session.id());
      continue;
    }
    charge(session.meter(), packet);
    packet.source = session.id();
    packet.member = session.spec().member;
    if (is_tcp_syn(packet.bytes())) clamp_mss(packet, mtu);
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
    if (!view || !has_true_offload(packet, *view)) {
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
  if (!to || (came_from && to == came_from))
    return refuse(packet, Drop::no_route, errors_.unreachable(packet, Unreachable::network));
  if (to == kNobody) {
    last_unmatched_ = view.destination;
    return refuse(packet, Drop::no_session, errors_.unreachable(packet, Unreachable::host));
  }
  gather(to, std::move(packet));
}

void Router::route_to_everybody(const IpView& view, Packet&& packet, bool allowed, TokenBucket& sender) {
  if (!allowed) return drops_.count(Drop::multicast, segments_of(packet));
  if (const auto drop = discovery_.judge(packet, view, sender)) return drops_.count(*drop, segments_of(packet));
  // A super-packet by name only: it is one segment.
  packet.offload = {.needs_checksum = packet.offload.needs_checksum};
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
  } else if (const Slot* slot = find(to)) {
    Port& port = *slot->port;
    if (slot->session != nullptr) fit(*slot->session, batch);
    if (!batch.empty()) port.send(batch);
  } else {
    drops_.count(Drop::session_gone, packets_in(batch));
  }
  batch.clear();
}

void Router::fit(Session& session, PacketBatch& batch) {
  const std::size_t mtu = session.mtu();
  std::size_t kept = 0;
  for (std::size_t next = 0; next < batch.size();) {
    Packet& packet = batch[next++];
    if (packet.source && !decrement_hop_limit(packet.mutable_bytes())) {
      refuse_at(session, packet, Drop::hop_limit, [&] { return errors_.time_exceeded(packet); });
    } else if (fits(packet, mtu)) {
      if (is_tcp_syn(packet.bytes())) clamp_mss(packet, mtu);
      if (&batch[kept] != &packet) batch[kept] = std::move(packet);
      ++kept;
    } else {
      PacketBatch pieces;
      cut(session, std::move(packet), pieces);
      const auto place = [&](std::size_t index) { return batch.begin() + static_cast<std::ptrdiff_t>(index); };
      batch.erase(place(kept), place(next));
      batch.insert(place(kept), std::move_iterator(pieces.begin()), std::move_iterator(pieces.end()));
      next = kept += pieces.size();
    }
  }
  batch.resize(kept);
}

void Router::cut(Session& session, Packet&& packet, PacketBatch& out) {
  const std::size_t mtu = session.mtu();
  if (!may_be_fragmented(packet))
    return refuse_at(session, packet, Drop::too_big, [&] { return errors_.too_big(packet, mtu); });
  PacketBatch whole;
  segment(std::move(packet), whole);
  for (Packet& one : whole) {
    if (!fragment(std::move(one), mtu, ++identification_, out)) drops_.count(Drop::malformed);
  }
}

void Router::refuse(const Packet& packet, Drop reason, std::optional<Packet> error) {
  drops_.count(reason, segments_of(packet));
  if (!error) return;
  const PortId to = routes_.find(parse_ip(error->bytes())->destination);
  if (!to || to == kNobody) return;
  PacketBatch batch;
  batch.push_back(std::move(*error));
  deliver(to, batch);
}

template <typename Error>
void Router::refuse_at(Session& session, const Packet& packet, Drop reason, Error error) {
  AccessGate* gate = session.gate();
  if (gate != nullptr && !gate->admits(packet, gate->now())) {
    drops_.count(Drop::access_denied, segments_of(packet));
  } else {
    refuse(packet, reason, error());
  }
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
    if (const Slot& slot = slots_[flood.next_slot++]; slot.port != nullptr)
      offer(*slot.port, slot.session, flood.packets);
  if (flood.next_slot >= slots_.size()) floods_.pop_front();
  if (!floods_.empty()) post_([this] { flood_slice(); });
}

}  // namespace penstock::router
