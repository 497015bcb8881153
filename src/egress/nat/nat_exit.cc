#include "egress/nat/nat_exit.h"

#include <utility>

#include "packet/hop_limit.h"
#include "packet/mss.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "router/flow_key.h"

namespace penstock::egress {
namespace {

// And no extension header, behind which one might stand that says otherwise.
bool is_whole(const IpView& view) {
  return !view.fragment && (view.family == Family::ipv4 || view.protocol == kProtocolTcp ||
                            view.protocol == kProtocolUdp || view.protocol == kProtocolIcmp6);
}

}  // namespace

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
  for (Packet& packet : batch) put_together(std::move(packet));
  batch.clear();
  flush();
}

void NatExit::put_together(Packet&& one) {
  const IpView view = parse_ip(std::as_const(one).bytes()).value();
  const TimePoint now = shard_->loop().now();
  // Nearly all are whole, and need not be moved for being told so.
  if (is_whole(view)) return send_one(std::move(one), view, now);
  if (auto whole = fragments_.add(std::move(one), view, now)) {
    const IpView view_of_whole = parse_ip(std::as_const(*whole).bytes()).value();
    send_one(*std::move(whole), view_of_whole, now);
  }
}

void NatExit::send_one(Packet&& packet, const IpView& view, TimePoint now) {
  const std::size_t segments = segments_of(packet);
  const auto at = translation_of(std::as_const(packet).bytes(), view);
  const Denied denied = judge(packet, view, at);
  // Asked second: the policy lets nearly all of them go on.
  const bool only_back = denied != Denied::nothing && denied != Denied::rule && may_come_back(packet, view);
  if (denied != Denied::nothing && !only_back) {
    counters_.denied[static_cast<std::size_t>(denied)] += segments;
    if (!at || at->ends.transport != Transport::tcp || is_tcp_syn(packet.bytes()))
      return tell(errors_.unreachable(packet, Unreachable::prohibited));
    // It was allowed once; a connection ends for both, and does not heed what ICMP says.
    nat_.break_off(view, at->ends);
    return tell(tcp_reset_for(packet, view));
  }
  if (!decrement_hop_limit(packet.mutable_bytes())) {
    counters_.hop_limit += segments;
    return tell(errors_.time_exceeded(packet));
  }
  const auto outbound = nat_.translate_outbound(packet, view, at, now);
  if (!outbound) {
    count(outbound.error(), segments);
    if (outbound.error() == NatDrop::not_translatable) tell(errors_.unreachable(packet, Unreachable::prohibited));
    if (outbound.error() == NatDrop::no_port || outbound.error() == NatDrop::no_outside)
      tell(errors_.unreachable(packet, Unreachable::network));
    if (outbound.error() == NatDrop::no_connection) tell(tcp_reset_for(packet, view));
    return;
  }
  if (outbound->hairpin) return come_in(std::move(packet), parse_ip(std::as_const(packet).bytes()).value());
  if (only_back) {  // where that was is nobody's any more
    counters_.denied[static_cast<std::size_t>(denied)] += segments;
    return;
  }
  outbound_.push_back({std::move(packet), outbound->binding});
}

Denied NatExit::judge(const Packet& packet, const IpView& view, const std::optional<TranslationView>& at) const {
  if (at && at->ends.transport != Transport::echo) {
    const std::uint8_t protocol = at->ends.transport == Transport::udp ? kProtocolUdp : kProtocolTcp;
    return policy_.check(protocol, view.destination, at->ends.destination).reason;
  }
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
  if (const auto inbound = nat_.translate_inbound(packet, view, shard_->loop().now()); !inbound) {
    count(inbound.error(), segments);
    if (inbound.error() == NatDrop::no_connection) reset(packet, view);
    return;
  }
  // From here on it is nobody's of the members: what comes by an exit has no session as its source.
  packet.source = {};
  inbound_.push_back(std::move(packet));
}

// To whoever spoke to a forward: from outside, or a member, who speaks from an outer end of ours.
void NatExit::reset(const Packet& packet, const IpView& view) {
  auto answer = tcp_reset_for(packet, view);
  if (!answer) return;
  const IpView back = parse_ip(std::as_const(*answer).bytes()).value();
  const Ports ports = ports_of(std::as_const(*answer).bytes(), back).value();
  if (nat_.is_outer_end({back.destination, ports.destination}, kProtocolTcp)) return come_in(*std::move(answer), back);
  const auto* forward = nat_.table().find_external(MappingTable::End::of({back.source, ports.source}, Transport::tcp));
  outbound_.push_back({*std::move(answer), nat_.table().binding_of(*forward)});
}

// ---- credit ----

router::PortId NatExit::way_to(const Endpoint& external, Transport transport) const {
  const auto* mapping = nat_.table().find_external(MappingTable::End::of(external, transport));
  return mapping == nullptr ? router::PortId{}
                            : shard_->router().routes().find(mapping->inner_end().endpoint().address);
}

router::Port* NatExit::port_here(router::PortId id) const {
  return id.shard == shard_->index() ? shard_->router().port(id) : nullptr;
}

std::size_t NatExit::credit(const Endpoint& external, Transport transport) {
  const router::Port* port = port_here(way_to(external, transport));
  return port == nullptr ? SIZE_MAX : port->credit();
}

router::PortId NatExit::wait_for_credit(const Endpoint& external, Transport transport, router::CreditWaiter& waiter) {
  const router::PortId id = way_to(external, transport);
  router::Port* port = port_here(id);
  if (port == nullptr) return {};
  port->wait_for_credit(waiter);
  return id;
}

void NatExit::cancel_wait(router::PortId id, router::CreditWaiter& waiter) {
  if (router::Port* port = port_here(id)) port->cancel_wait(waiter);
}

void NatExit::set_policy(ExitPolicy policy) {
  policy_ = std::move(policy);
  // Of others each packet is judged; a connection has another half, which sends no packets here.
  nat_.break_off_where([this](const MappingTable::Mapping& mapping, const MappingTable::End& remote) {
    const Endpoint to = remote.endpoint();
    return mapping.transport == Transport::tcp && !policy_.check(kProtocolTcp, to.address, to.port).allowed &&
           !nat_.is_outer_end(to, kProtocolTcp);
  });
}

void NatExit::reached(SessionId session) {
  std::vector<std::pair<Endpoint, Endpoint>> connections;
  nat_.table().for_each_flow(session, [&](const MappingTable::Mapping& mapping, const MappingTable::End& remote) {
    if (mapping.transport == Transport::tcp)
      connections.emplace_back(mapping.external_end().endpoint(), remote.endpoint());
  });
  if (!connections.empty()) gateway_->reached(connections);
}

// ---- drops ----

void NatExit::count(NatDrop drop, std::uint64_t packets) {
  switch (drop) {
    case NatDrop::not_translatable: counters_.not_translatable += packets; break;
    case NatDrop::malformed: counters_.malformed += packets; break;
    case NatDrop::no_port: counters_.no_port += packets; break;
    case NatDrop::no_outside: counters_.no_outside += packets; break;
    case NatDrop::flow_rate: counters_.flow_rate += packets; break;
    case NatDrop::no_connection: counters_.no_connection += packets; break;
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
