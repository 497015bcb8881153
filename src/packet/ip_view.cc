#include "packet/ip_view.h"

#include "packet/extension_header.h"

namespace penstock {
namespace {

constexpr std::size_t kMinHeader4 = 20;
constexpr std::size_t kHeader6 = 40;

std::expected<IpView, ParseFailure> parse_ip4(ByteView packet) {
  const std::size_t header_size = (packet[0] & 0x0FU) * 4;
  const std::size_t total_size = load_be16(&packet[2]);
  if (header_size < kMinHeader4 || header_size > total_size || total_size != packet.size()) {
    return std::unexpected(ParseFailure::bad_length);
  }
  return IpView{.family = Family::ipv4,
                .source = IpAddress::v4(load_be32(&packet[12])),
                .destination = IpAddress::v4(load_be32(&packet[16])),
                .protocol = packet[9],
                .header_size = header_size,
                .total_size = total_size,
                .ttl = packet[8],
                // More-fragments or an offset.
                .fragment = (load_be16(&packet[6]) & 0x3FFF) != 0};
}

std::expected<IpView, ParseFailure> parse_ip6(ByteView packet) {
  if (packet.size() < kHeader6) return std::unexpected(ParseFailure::too_short);
  if (load_be16(&packet[4]) + kHeader6 != packet.size()) return std::unexpected(ParseFailure::bad_length);
  return IpView{.family = Family::ipv6,
                .source = IpAddress::from_bytes(packet.subspan(8, 16)),
                .destination = IpAddress::from_bytes(packet.subspan(24, 16)),
                .protocol = packet[6],
                .header_size = kHeader6,
                .total_size = packet.size(),
                .ttl = packet[7],
                .fragment = packet[6] == extension::kFragment};
}

}  // namespace

std::string_view to_string(ParseFailure failure) {
  switch (failure) {
    case ParseFailure::too_short: return "packet too short";
    case ParseFailure::bad_version: return "neither IPv4 nor IPv6";
    case ParseFailure::bad_length: return "length fields disagree with the packet";
  }
  return "";
}

std::expected<IpView, ParseFailure> parse_ip(ByteView packet) {
  if (packet.size() < kMinHeader4) return std::unexpected(ParseFailure::too_short);
  switch (packet[0] >> 4) {
    case 4: return parse_ip4(packet);
    case 6: return parse_ip6(packet);
    default: return std::unexpected(ParseFailure::bad_version);
  }
}

std::optional<UpperLayer> upper_layer(ByteView packet, const IpView& view) {
  UpperLayer upper{.protocol = view.protocol, .offset = view.header_size, .fragment = view.fragment};
  if (view.family == Family::ipv4) {
    upper.fragment_offset = (load_be16(&packet[6]) & 0x1FFFU) * 8;
    return upper;
  }
  for (int headers = 0; headers <= extension::kMost; ++headers) {
    const ByteView rest = packet.subspan(upper.offset);
    const std::size_t size = extension::size_of(upper.protocol, rest);
    if (size == 0) return upper;
    if (size > rest.size()) return std::nullopt;
    if (upper.protocol == extension::kFragment) {
      upper.fragment = true;
      upper.fragment_offset = load_be16(&rest[2]) & 0xFFF8U;
    }
    upper.protocol = rest[0];
    upper.offset += size;
    if (upper.fragment_offset != 0) return upper;
  }
  return std::nullopt;
}

std::optional<Ports> ports_of(ByteView packet, const IpView& view) {
  const auto upper = upper_layer(packet, view);
  if (!upper || upper->fragment_offset != 0 || (upper->protocol != kProtocolTcp && upper->protocol != kProtocolUdp) ||
      packet.size() - upper->offset < 4) {
    return std::nullopt;
  }
  return Ports{.source = load_be16(&packet[upper->offset]), .destination = load_be16(&packet[upper->offset + 2])};
}

}  // namespace penstock
