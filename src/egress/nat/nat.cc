#include "egress/nat/nat.h"

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "router/flow_key.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kIcmpHeader = 8;

Endpoint source_of(const IpView& view, const TransportEnds& ends) { return {view.source, ends.source}; }
Endpoint destination_of(const IpView& view, const TransportEnds& ends) { return {view.destination, ends.destination}; }

std::uint8_t tcp_flags(const Packet& packet, const TranslationView& at) { return packet.bytes()[at.offset + 13U]; }

// What opens a connection, what answers to that, and what only whoever has heard of one says.
bool is_syn(std::uint8_t flags) { return (flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn; }
bool is_syn_ack(std::uint8_t flags) { return (flags & (kTcpSyn | kTcpAck | kTcpRst)) == (kTcpSyn | kTcpAck); }
bool acknowledges(std::uint8_t flags) { return (flags & (kTcpAck | kTcpRst)) == kTcpAck; }

// What the inner end of a forward says to who asked in vain.
bool is_refusal(const Packet& packet, const TranslationView& at, const MappingTable::Mapping* mapping) {
  return at.ends.transport == Transport::tcp && mapping != nullptr && mapping->is_static &&
         (tcp_flags(packet, at) & kTcpRst) != 0;
}

// An ICMP error about something that is translated: where the packet that it quotes begins, and whose it is.
struct QuotedView {
  std::size_t icmp = 0;       // of the ICMP header, from the start of the packet
  std::size_t quoted = 0;     // of the quoted packet
  std::size_t transport = 0;  // of the quoted packet's own UDP, TCP or ICMP header, from the start of the quoted
  Transport kind = Transport::udp;
  Endpoint source{};       // of the quoted packet
  Endpoint destination{};  // of the quoted packet
};

std::optional<Transport> transport_of_quoted(const router::FlowKey& key) {
  switch (key.protocol) {
    case kProtocolUdp: return Transport::udp;
    case kProtocolTcp: return Transport::tcp;
    case kProtocolIcmp:
    case kProtocolIcmp6: return Transport::echo;
    default: return std::nullopt;
  }
}

IpAddress address_of(const router::AddressBits& bits, Family family) {
  return MappingTable::End{.address = bits, .family = family}.endpoint().address;
}

std::expected<QuotedView, NatDrop> quoted_of(ByteView packet, const IpView& view) {
  const auto upper = upper_layer(packet, view);
  if (!upper || upper->fragment) return std::unexpected(NatDrop::not_translatable);
  const auto flow = router::read_flow(packet, view);
  if (!flow) return std::unexpected(NatDrop::malformed);
  if (flow->role != router::FlowRole::error) return std::unexpected(NatDrop::not_translatable);
  const router::FlowKey& key = flow->quoted;
  const auto kind = transport_of_quoted(key);
  if (!kind) return std::unexpected(NatDrop::not_translatable);

  QuotedView found{.icmp = upper->offset, .quoted = upper->offset + kIcmpHeader, .kind = *kind};
  const ByteView quoted = packet.subspan(found.quoted);
  // read_flow() has found these headers; what it returns does not say where.
  if (view.family == Family::ipv4) {
    found.transport = (quoted[0] & 0x0FU) * 4;
  } else {
    IpView header;
    header.family = Family::ipv6;
    header.protocol = quoted[6];
    header.header_size = 40;
    header.total_size = quoted.size();
    found.transport = upper_layer(quoted, header)->offset;
  }
  found.source = {address_of(key.from, key.family), key.from_port};
  found.destination = {address_of(key.to, key.family), key.to_port};
  return found;
}

std::uint32_t icmp_sum(ByteView packet, const IpView& view, std::size_t icmp) {
  const ByteView message = packet.subspan(icmp);
  const std::uint32_t pseudo = view.family == Family::ipv6
                                   ? pseudo_header_sum(view.source, view.destination, kProtocolIcmp6, message.size())
                                   : 0;
  return checksum_add(message, pseudo);
}

// The error's own address and the quoted packet's end become `outer_to` and `quoted_to`.
void translate_error(Packet& packet, const QuotedView& at, Side outer_side, const IpAddress& outer_to, Side quoted_side,
                     const Endpoint& quoted_to) {
  MutableByteView bytes = packet.mutable_bytes();
  rewrite_quoted(bytes.subspan(at.quoted), at.transport, at.kind, quoted_side, quoted_to);
  rewrite_address(packet, outer_side, outer_to);
  const auto view = parse_ip(packet.bytes());
  PENSTOCK_ASSERT(view);
  store_be16(&bytes[at.icmp + 2], 0);
  store_be16(&bytes[at.icmp + 2], checksum_finish(icmp_sum(packet.bytes(), *view, at.icmp)));
}

}  // namespace

Nat::Nat(const router::SipKey& key, const Settings& settings, ExternalPorts& ports, TimePoint now)
    : settings_(settings), table_(key, settings.bounds, ports, now) {
  PENSTOCK_ASSERT(settings.tcp_transitory_timeout <= settings.tcp_timeout);
}

Nat::End Nat::as_filtered(End remote) const {
  if (settings_.filtering == Filtering::address_and_port || remote.transport == Transport::tcp) return remote;
  if (settings_.filtering == Filtering::none) remote.address = {};
  remote.port = 0;
  return remote;
}

bool Nat::is_outer_end(const Endpoint& to, std::uint8_t protocol) const {
  if (protocol != kProtocolUdp && protocol != kProtocolTcp) return false;
  const Transport transport = protocol == kProtocolUdp ? Transport::udp : Transport::tcp;
  return table_.find_external(End::of(to, transport)) != nullptr;
}

void Nat::end_flow(const Endpoint& external, const Endpoint& remote) {
  const auto* mapping = table_.find_external(End::of(external, Transport::tcp));
  if (mapping != nullptr) table_.end_flow(*mapping, End::of(remote, Transport::tcp));
}

void Nat::break_off(const IpView& view, const TransportEnds& ends) {
  const auto* mapping = table_.find_inner(End::of(source_of(view, ends), ends.transport));
  if (mapping != nullptr) table_.break_off(*mapping, End::of(destination_of(view, ends), ends.transport));
}

std::expected<Nat::Outbound, NatDrop> Nat::translate_outbound(Packet& packet, const IpView& view,
                                                              const std::optional<TranslationView>& at, TimePoint now) {
  if (!at) return error_outbound(packet, view, now);
  const Transport transport = at->ends.transport;
  // An answer to an echo that came in has the asker's identifier, and one mapping's at that.
  if (at->echo_reply) return std::unexpected(NatDrop::not_translatable);

  const End inner = End::of(source_of(view, at->ends), transport);
  const End remote = End::of(destination_of(view, at->ends), transport);
  const End filtered = as_filtered(remote);
  const MappingTable::Mapping* mapping = table_.find_inner(inner);
  MappingTable::Flow* flow = mapping == nullptr ? nullptr : table_.find_flow(*mapping, filtered, now);
  if (flow != nullptr) {
    table_.seen(*flow, now);
  } else if (!is_refusal(packet, *at, mapping)) {
    if (const auto refused = may_not_open(packet, view, *at, mapping, now)) return std::unexpected(*refused);
    const Duration timeout = timeout_of(transport);
    if (mapping != nullptr) flow = table_.open_flow(*mapping, packet.source, filtered, timeout, now);
    if (flow == nullptr) flow = table_.open(packet.source, inner, filtered, timeout, now);
    if (flow == nullptr)
      return std::unexpected(table_.last_refusal() == NoPort::none ? NatDrop::no_outside : NatDrop::no_port);
    mapping = table_.find_inner(inner);
  }
  rewrite(packet, *at, Side::source, mapping->external_end().endpoint());
  return Outbound{.binding = table_.binding_of(*mapping), .hairpin = table_.find_external(remote) != nullptr};
}

bool Nat::may_begin(SessionId session, TimePoint now) {
  if (settings_.flow_rate == 0) return true;
  if (beginnings_.size() <= session.slot) beginnings_.resize(session.slot + std::size_t{1});
  return beginnings_[session.slot].take(now, Duration(std::chrono::seconds(1)) / settings_.flow_rate,
                                        2 * settings_.flow_rate);
}

std::optional<NatDrop> Nat::may_not_open(const Packet& packet, const IpView& view, const TranslationView& at,
                                         const MappingTable::Mapping* mapping, TimePoint now) {
  if (at.ends.transport == Transport::tcp) {
    const std::uint8_t flags = tcp_flags(packet, at);
    const bool from_forward = mapping != nullptr && mapping->is_static;
    if (!is_syn(flags) && !(from_forward && is_syn_ack(flags))) return NatDrop::no_connection;
    // Behind extension headers nobody looks for it.
    if (at.offset == view.header_size) {
      const auto tcp = transport_of(packet.bytes(), view);
      if (!tcp || !has_good_checksums(packet, *tcp)) return NatDrop::malformed;
    }
  }
  return may_begin(packet.source, now) ? std::nullopt : std::optional(NatDrop::flow_rate);
}

std::expected<Nat::Inbound, NatDrop> Nat::translate_inbound(Packet& packet, const IpView& view, TimePoint now) {
  const auto at = translation_of(packet.bytes(), view);
  if (!at) return error_inbound(packet, view, now);
  const Transport transport = at->ends.transport;
  // Who is asked for an echo is the machine that has the outer address, and that is none of ours.
  if (transport == Transport::echo && !at->echo_reply) return std::unexpected(NatDrop::no_mapping);

  const MappingTable::Mapping* mapping = table_.find_external(End::of(destination_of(view, at->ends), transport));
  if (mapping == nullptr) return std::unexpected(NatDrop::no_mapping);
  const End remote = as_filtered(End::of(source_of(view, at->ends), transport));
  if (MappingTable::Flow* flow = table_.find_flow(*mapping, remote, now)) {
    table_.seen(*flow, now);
    if (transport == Transport::tcp && acknowledges(tcp_flags(packet, *at)))
      table_.set_timeout(*flow, settings_.tcp_timeout);
  } else if (!mapping->is_static) {
    return std::unexpected(NatDrop::filtered);
  } else if (transport == Transport::tcp && !is_syn(tcp_flags(packet, *at))) {
    return std::unexpected(NatDrop::no_connection);
  }
  rewrite(packet, *at, Side::destination, mapping->inner_end().endpoint());
  return Inbound{.binding = table_.binding_of(*mapping), .owner = table_.owner_of(*mapping)};
}

// About a packet that was delivered to the session: its destination is the inner end.
std::expected<Nat::Outbound, NatDrop> Nat::error_outbound(Packet& packet, const IpView& view, TimePoint now) {
  const auto at = quoted_of(packet.bytes(), view);
  if (!at) return std::unexpected(at.error());
  if (checksum_finish(icmp_sum(packet.bytes(), view, at->icmp)) != 0) return std::unexpected(NatDrop::malformed);
  const MappingTable::Mapping* mapping = table_.find_inner(End::of(at->destination, at->kind));
  if (mapping == nullptr) return std::unexpected(NatDrop::no_mapping);
  // Of what is another's nobody but the router may say anything.
  const SessionId owner = table_.owner_of(*mapping);
  if (packet.source && owner && packet.source != owner) return std::unexpected(NatDrop::filtered);
  // What came to a forward has left no flow.
  if (!mapping->is_static && table_.find_flow(*mapping, as_filtered(End::of(at->source, at->kind)), now) == nullptr)
    return std::unexpected(NatDrop::filtered);
  const Endpoint external = mapping->external_end().endpoint();
  translate_error(packet, *at, Side::source, external.address, Side::destination, external);
  return Outbound{.binding = table_.binding_of(*mapping),
                  .hairpin = table_.find_external(End::of(at->source, at->kind)) != nullptr};
}

// About a packet that went out: its source is the outer end.
std::expected<Nat::Inbound, NatDrop> Nat::error_inbound(Packet& packet, const IpView& view, TimePoint now) {
  const auto at = quoted_of(packet.bytes(), view);
  if (!at) return std::unexpected(at.error());
  if (checksum_finish(icmp_sum(packet.bytes(), view, at->icmp)) != 0) return std::unexpected(NatDrop::malformed);
  const MappingTable::Mapping* mapping = table_.find_external(End::of(at->source, at->kind));
  if (mapping == nullptr) return std::unexpected(NatDrop::no_mapping);
  if (table_.find_flow(*mapping, as_filtered(End::of(at->destination, at->kind)), now) == nullptr)
    return std::unexpected(NatDrop::filtered);
  const Endpoint inner = mapping->inner_end().endpoint();
  translate_error(packet, *at, Side::destination, inner.address, Side::source, inner);
  return Inbound{.binding = table_.binding_of(*mapping), .owner = table_.owner_of(*mapping)};
}

}  // namespace penstock::egress
