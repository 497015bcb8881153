#include "egress/nat/nat_exit.h"

#include <utility>

#include "packet/hop_limit.h"
#include "packet/super_packet.h"
#include "router/flow_key.h"

namespace penstock::egress {

NatExit::NatExit(router::Shard& shard, const Settings& settings, const Keys& keys, ExitPolicy policy,
                 ExternalGateway& gateway, ExternalPorts& ports)
    : shard_(&shard),
      policy_(std::move(policy)),
      gateway_(&gateway),
      id_(shard.router().add_port(*this)),
      nat_(keys.table, settings.nat, ports, shard.loop().now()),
      fragments_(settings.fragments, keys.fragments),
      errors_(settings.inner4, settings.inner6, shard.loop()),
      expiry_(shard.loop()) {}

NatExit::~NatExit() {
  gateway_->stop();
  shard_->router().remove_port(id_);
}

Result<void> NatExit::start() {
  PENSTOCK_TRY_VOID(gateway_->start(*this));
  expire();
  return {};
}

void NatExit::expire() {
  const TimePoint now = shard_->loop().now();
  fragments_.expire(now);
  const bool more = nat_.expire(now);
  expiry_.start(more ? Duration{} : kExpiry, [this] { expire(); });
}

// ---- out ----

void NatExit::send(PacketBatch& batch) {
  coalescer_.coalesce(batch);
  for (Packet& packet : batch) send_one(std::move(packet));
  batch.clear();
  flush();
}

void NatExit::send_one(Packet&& one) {
  const TimePoint now = shard_->loop().now();
  auto whole = fragments_.add(std::move(one), parse_ip(std::as_const(one).bytes()).value(), now);
  if (!whole) return;
  Packet& packet = *whole;
  const IpView view = parse_ip(std::as_const(packet).bytes()).value();
  const std::size_t segments = segments_of(packet);
  const Denied denied = judge(packet, view);
  // Asked second: the policy lets nearly all of them go on.
  const bool only_back = denied != Denied::nothing && denied != Denied::rule && may_come_back(packet, view);
  if (denied != Denied::nothing && !only_back) {
    counters_.denied[static_cast<std::size_t>(denied)] += segments;
    return tell(errors_.unreachable(packet, Unreachable::prohibited));
  }
  if (!decrement_hop_limit(packet.mutable_bytes())) {
    counters_.hop_limit += segments;
    return tell(errors_.time_exceeded(packet));
  }
  const auto outbound = nat_.translate_outbound(packet, view, now);
  if (!outbound) {
    count(outbound.error(), segments);
    if (outbound.error() == NatDrop::not_translatable) tell(errors_.unreachable(packet, Unreachable::prohibited));
    if (outbound.error() == NatDrop::no_port || outbound.error() == NatDrop::no_outside)
      tell(errors_.unreachable(packet, Unreachable::network));
    return;
  }
  if (outbound->hairpin) return come_in(std::move(packet), parse_ip(std::as_const(packet).bytes()).value());
  if (only_back) {  // where that was is nobody's any more
    counters_.denied[static_cast<std::size_t>(denied)] += segments;
    return;
  }
  outbound_.push_back({std::move(packet), outbound->binding});
}

Denied NatExit::judge(const Packet& packet, const IpView& view) {
  const auto upper = upper_layer(packet.bytes(), view);
  const auto ports = ports_of(packet.bytes(), view);
  const std::uint8_t protocol = upper ? upper->protocol : view.protocol;
  return policy_.check(protocol, view.destination, ports ? ports->destination : std::uint16_t{0}).reason;
}

// To an outer end of ours, or an ICMP error, of which translation finds out whether it is to one.
bool NatExit::may_come_back(const Packet& packet, const IpView& view) const {
  const auto ports = ports_of(packet.bytes(), view);
  if (ports) return nat_.is_outer_end({view.destination, ports->destination}, view.protocol);
  const auto flow = router::read_flow(packet.bytes(), view);
  return flow && flow->role == router::FlowRole::error;
}

// ---- in ----

void NatExit::from_outside(PacketBatch& batch) {
  coalescer_.coalesce(batch);
  for (Packet& packet : batch) {
    const std::size_t segments = segments_of(packet);
    const auto view = parse_ip(std::as_const(packet).bytes());
    if (!view) {
      counters_.malformed += segments;
    } else if (is_from_inside(*view)) {
      counters_.spoofed += segments;
    } else if (decrement_hop_limit(packet.mutable_bytes())) {
      come_in(std::move(packet), *view);
    } else {
      counters_.hop_limit += segments;
    }
  }
  batch.clear();
  flush();
}

bool NatExit::is_from_inside(const IpView& view) const {
  const router::PortId way_back = shard_->router().routes().find(view.source);
  return way_back && way_back != id_;
}

void NatExit::come_in(Packet&& packet, const IpView& view) {
  const std::size_t segments = segments_of(packet);
  if (const auto inbound = nat_.translate_inbound(packet, view, shard_->loop().now()); !inbound)
    return count(inbound.error(), segments);
  // From here on it is nobody's of the members: what comes by an exit has no session as its source.
  packet.source = {};
  inbound_.push_back(std::move(packet));
}

void NatExit::count(NatDrop drop, std::uint64_t packets) {
  switch (drop) {
    case NatDrop::not_translatable: counters_.not_translatable += packets; break;
    case NatDrop::malformed: counters_.malformed += packets; break;
    case NatDrop::no_port: counters_.no_port += packets; break;
    case NatDrop::no_outside: counters_.no_outside += packets; break;
    case NatDrop::flow_rate: counters_.flow_rate += packets; break;
    case NatDrop::no_mapping:
    case NatDrop::filtered: counters_.unasked += packets; break;
  }
}

void NatExit::tell(std::optional<Packet> error) {
  if (error) inbound_.push_back(std::move(*error));
}

// Whoever is handed packets may send at once, and so fill these anew.
void NatExit::flush() {
  while (!outbound_.empty() || !inbound_.empty()) {
    if (!outbound_.empty()) {
      std::vector<OutboundPacket> out = std::exchange(outbound_, {});
      gateway_->send_outbound(out);
      if (outbound_.empty()) outbound_ = std::move(out);  // keeps its memory
    }
    if (!inbound_.empty()) {
      PacketBatch in = std::exchange(inbound_, {});
      shard_->router().from_exit(id_, in);
      if (inbound_.empty()) inbound_ = std::move(in);
    }
  }
}

}  // namespace penstock::egress
