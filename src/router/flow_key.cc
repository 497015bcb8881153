#include "router/flow_key.h"

namespace penstock::router {
namespace {

constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kIcmpHeader = 8;
constexpr std::uint8_t kFragmentHeader = 44;  // RFC 8200 section 4.5

enum class IcmpKind : std::uint8_t { echo_request, echo_reply, error, other };

IcmpKind icmp_kind(Family family, std::uint8_t type) {
  if (family == Family::ipv4) {
    switch (type) {  // RFC 792
      case 8: return IcmpKind::echo_request;
      case 0: return IcmpKind::echo_reply;
      case 3:   // unreachable
      case 11:  // time exceeded
      case 12:  // parameter problem
        return IcmpKind::error;
      default: return IcmpKind::other;
    }
  }
  switch (type) {  // RFC 4443
    case 128: return IcmpKind::echo_request;
    case 129: return IcmpKind::echo_reply;
    case 1:  // unreachable
    case 2:  // packet too big
    case 3:  // time exceeded
    case 4:  // parameter problem
      return IcmpKind::error;
    default: return IcmpKind::other;
  }
}

FlowKey addresses_of(const IpView& view, std::uint8_t protocol) {
  return {.from = AddressBits::of(view.source),
          .to = AddressBits::of(view.destination),
          .family = view.family,
          .protocol = protocol};
}

// The header of a quoted packet, whose length fields speak of more than is there.
std::optional<IpView> quoted_header(ByteView bytes) {
  if (bytes.size() < 20) return std::nullopt;
  IpView view{.total_size = bytes.size()};
  if (bytes[0] >> 4 == 4) {
    view.header_size = (bytes[0] & 0x0FU) * 4;
    if (view.header_size < 20 || view.header_size > bytes.size()) return std::nullopt;
    view.source = IpAddress::v4(load_be32(&bytes[12]));
    view.destination = IpAddress::v4(load_be32(&bytes[16]));
    view.protocol = bytes[9];
    return view;
  }
  if (bytes[0] >> 4 != 6 || bytes.size() < 40) return std::nullopt;
  view.family = Family::ipv6;
  view.header_size = 40;
  view.source = IpAddress::from_bytes(bytes.subspan(8, 16));
  view.destination = IpAddress::from_bytes(bytes.subspan(24, 16));
  view.protocol = bytes[6];
  return view;
}

// The key of a packet whose first bytes are quoted: of these at least eight are its payload's (RFC 792).
std::optional<FlowKey> read_quoted(ByteView bytes) {
  const auto view = quoted_header(bytes);
  if (!view) return std::nullopt;
  const auto upper = upper_layer(bytes, *view);
  if (!upper || upper->fragment_offset != 0) return std::nullopt;
  const ByteView payload = bytes.subspan(upper->offset);
  FlowKey key = addresses_of(*view, upper->protocol);
  switch (upper->protocol) {
    case kProtocolTcp:
    case kProtocolUdp:
      if (payload.size() < 4) return std::nullopt;
      key.from_port = load_be16(&payload[0]);
      key.to_port = load_be16(&payload[2]);
      return key;
    case kProtocolIcmp:
    case kProtocolIcmp6: {
      if (payload.size() < kIcmpHeader) return std::nullopt;
      const IcmpKind kind = icmp_kind(view->family, payload[0]);
      if (kind == IcmpKind::echo_request) key.from_port = load_be16(&payload[4]);
      if (kind == IcmpKind::echo_reply) key.to_port = load_be16(&payload[4]);
      if (kind == IcmpKind::error || kind == IcmpKind::other) return std::nullopt;
      return key;
    }
    default: return key;
  }
}

std::uint32_t datagram_of(ByteView packet, const IpView& view) {
  if (view.family == Family::ipv4) return load_be16(&packet[4]);
  // The fragment header may stand behind other extension headers; where it is not the first, the flow that such a
  // packet could share with an honest one is not worth looking for.
  return packet[6] == kFragmentHeader && packet.size() >= 48 ? load_be32(&packet[44]) : 0;
}

}  // namespace

std::optional<FlowView> read_flow(ByteView packet, const IpView& view) {
  const auto upper = upper_layer(packet, view);
  if (!upper) return std::nullopt;
  FlowView flow{.key = addresses_of(view, upper->protocol), .fragment = upper->fragment};
  if (flow.fragment) flow.datagram = datagram_of(packet, view);
  const bool tcp = upper->protocol == kProtocolTcp;
  if (upper->fragment_offset != 0) {
    if (tcp && upper->fragment_offset < kTcpHeader) return std::nullopt;
    flow.role = FlowRole::later_fragment;
    return flow;
  }
  const ByteView payload = packet.subspan(upper->offset);
  if (tcp || upper->protocol == kProtocolUdp) {
    if (payload.size() < (tcp ? kTcpHeader : 8)) return std::nullopt;
    flow.key.from_port = load_be16(&payload[0]);
    flow.key.to_port = load_be16(&payload[2]);
    if (tcp) flow.tcp_flags = payload[13];
    return flow;
  }
  if (upper->protocol != (view.family == Family::ipv4 ? kProtocolIcmp : kProtocolIcmp6)) return flow;
  if (payload.size() < kIcmpHeader) return std::nullopt;
  switch (icmp_kind(view.family, payload[0])) {
    case IcmpKind::echo_request:
      flow.role = FlowRole::echo_request;
      flow.key.from_port = load_be16(&payload[4]);
      return flow;
    case IcmpKind::echo_reply:
      flow.role = FlowRole::echo_reply;
      flow.key.to_port = load_be16(&payload[4]);
      return flow;
    case IcmpKind::error: {
      const auto quoted = read_quoted(payload.subspan(kIcmpHeader));
      if (!quoted || quoted->family != view.family) return std::nullopt;
      flow.role = FlowRole::error;
      flow.quoted = *quoted;
      return flow;
    }
    case IcmpKind::other: flow.role = FlowRole::other_control; return flow;
  }
  return std::nullopt;
}

}  // namespace penstock::router
