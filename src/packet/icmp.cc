#include "packet/icmp.h"

#include <algorithm>

#include "packet/checksum.h"

namespace penstock {
namespace {

constexpr std::size_t kIcmpHeader = 8;
constexpr std::uint8_t kTtl = 64;
constexpr std::uint16_t kDontFragment = 0x4000;
// RFC 1812 section 4.3.2.5: errors travel with precedence "internetwork control".
constexpr std::uint8_t kErrorTos = 0xC0;

constexpr std::uint8_t kEchoReply4 = 0;
constexpr std::uint8_t kUnreachable4 = 3;
constexpr std::uint8_t kFragmentationNeeded4 = 4;  // a code of type 3
constexpr std::uint8_t kEchoRequest4 = 8;
constexpr std::uint8_t kTimeExceeded4 = 11;
constexpr std::uint8_t kUnreachable6 = 1;
constexpr std::uint8_t kTooBig6 = 2;
constexpr std::uint8_t kTimeExceeded6 = 3;
constexpr std::uint8_t kEchoRequest6 = 128;
constexpr std::uint8_t kEchoReply6 = 129;
constexpr std::uint8_t kRedirect6 = 137;

// The largest error: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
constexpr std::size_t kMaxError4 = 576;
constexpr std::size_t kMaxError6 = 1280;

std::size_t header_size(Family family) { return family == Family::ipv4 ? 20 : 40; }

// An address that one host can answer to, so that something may be sent there.
bool is_single_host(const IpAddress& address) {
  if (address.is_unspecified() || address.is_loopback() || address.is_multicast()) return false;
  if (address.is_v6()) return true;
  const std::uint32_t top = address.to_v4() >> 24;
  return top != 0 && top < 240;  // "this network", reserved, limited broadcast
}

struct Envelope {
  const IpAddress& source;
  const IpAddress& destination;
  std::uint8_t traffic_class = 0;
  // IPv4 only.
  std::uint16_t identification = 0;
  std::uint16_t flags = kDontFragment;
};

// Writes the IP header in front of an ICMP message whose checksum field is zero, and that checksum.
void finish(MutableByteView packet, const Envelope& envelope) {
  const Family family = envelope.source.family();
  const std::size_t header = header_size(family);
  const MutableByteView icmp = packet.subspan(header);
  std::fill_n(packet.begin(), header, std::uint8_t{0});
  if (family == Family::ipv4) {
    packet[0] = 0x45;
    packet[1] = envelope.traffic_class;
    store_be16(&packet[2], static_cast<std::uint16_t>(packet.size()));
    store_be16(&packet[4], envelope.identification);
    store_be16(&packet[6], envelope.flags);
    packet[8] = kTtl;
    packet[9] = kProtocolIcmp;
    std::ranges::copy(envelope.source.bytes(), &packet[12]);
    std::ranges::copy(envelope.destination.bytes(), &packet[16]);
    store_be16(&packet[10], internet_checksum(packet.first(header)));
    store_be16(&icmp[2], internet_checksum(icmp));
    return;
  }
  packet[0] = static_cast<std::uint8_t>(0x60 | envelope.traffic_class >> 4);
  packet[1] = static_cast<std::uint8_t>(envelope.traffic_class << 4);
  store_be16(&packet[4], static_cast<std::uint16_t>(icmp.size()));
  packet[6] = kProtocolIcmp6;
  packet[7] = kTtl;
  std::ranges::copy(envelope.source.bytes(), &packet[8]);
  std::ranges::copy(envelope.destination.bytes(), &packet[24]);
  const auto pseudo = pseudo_header_sum(envelope.source, envelope.destination, kProtocolIcmp6, icmp.size());
  store_be16(&icmp[2], checksum_finish(checksum_add(icmp, pseudo)));
}

std::uint8_t traffic_class_of(ByteView packet, Family family) {
  return family == Family::ipv4 ? packet[1] : static_cast<std::uint8_t>(packet[0] << 4 | packet[1] >> 4);
}

bool is_icmp_error(Family family, std::uint8_t type) {
  if (family == Family::ipv6) return type < 128 || type == kRedirect6;
  // Unreachable, source quench, redirect, time exceeded, parameter problem.
  return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

// RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e), except for groups as destinations.
bool may_be_answered_with_an_error(const IpView& view, ByteView offending) {
  if (!is_single_host(view.source)) return false;
  const auto upper = upper_layer(offending, view);
  if (!upper || upper->fragment_offset != 0) return false;
  const std::uint8_t icmp = view.family == Family::ipv4 ? kProtocolIcmp : kProtocolIcmp6;
  if (upper->protocol != icmp) return true;
  return upper->offset < offending.size() && !is_icmp_error(view.family, offending[upper->offset]);
}

bool is_group(const IpAddress& address) {
  return address.is_multicast() || (address.is_v4() && address.to_v4() == 0xFFFFFFFF);
}

// `rest` is the second word of the ICMP header.
std::optional<Packet> error_about(const IpView& view, ByteView offending, const IpAddress& from, std::uint8_t type,
                                  std::uint8_t code, std::uint32_t rest) {
  if (from.family() != view.family || !may_be_answered_with_an_error(view, offending)) return std::nullopt;
  const std::size_t header = header_size(view.family) + kIcmpHeader;
  const std::size_t limit = view.family == Family::ipv4 ? kMaxError4 : kMaxError6;
  const ByteView quoted = offending.first(std::min(offending.size(), limit - header));

  Packet error = Packet::with_size(header + quoted.size());
  const MutableByteView icmp = error.mutable_bytes().subspan(header - kIcmpHeader);
  icmp[0] = type;
  icmp[1] = code;
  store_be16(&icmp[2], 0);
  store_be32(&icmp[4], rest);
  std::ranges::copy(quoted, icmp.subspan(kIcmpHeader).begin());
  finish(error.mutable_bytes(), {.source = from,
                                 .destination = view.source,
                                 .traffic_class = view.family == Family::ipv4 ? kErrorTos : std::uint8_t{0}});
  return error;
}

}  // namespace

std::optional<Packet> echo_reply(const Packet& request, const IpView& view) {
  const ByteView bytes = request.bytes();
  const bool v4 = view.family == Family::ipv4;
  const auto upper = upper_layer(bytes, view);
  if (!upper || upper->fragment || upper->protocol != (v4 ? kProtocolIcmp : kProtocolIcmp6)) return std::nullopt;
  if (!is_single_host(view.source) || !is_single_host(view.destination)) return std::nullopt;

  const ByteView asked = bytes.subspan(upper->offset);
  if (asked.size() < kIcmpHeader || asked[0] != (v4 ? kEchoRequest4 : kEchoRequest6) || asked[1] != 0) {
    return std::nullopt;
  }
  const std::uint32_t pseudo = v4 ? 0 : pseudo_header_sum(view.source, view.destination, kProtocolIcmp6, asked.size());
  if (checksum_finish(checksum_add(asked, pseudo)) != 0) return std::nullopt;

  const std::size_t header = header_size(view.family);
  Packet reply = Packet::with_size(header + asked.size());
  const MutableByteView icmp = reply.mutable_bytes().subspan(header);
  std::ranges::copy(asked, icmp.begin());
  icmp[0] = v4 ? kEchoReply4 : kEchoReply6;
  store_be16(&icmp[2], 0);
  // RFC 1122 section 3.2.2.6: with the type of service of the request. It may be fragmented where the request might.
  Envelope envelope{
      .source = view.destination, .destination = view.source, .traffic_class = traffic_class_of(bytes, view.family)};
  if (v4) {
    envelope.identification = load_be16(&bytes[4]);
    envelope.flags = load_be16(&bytes[6]) & kDontFragment;
  }
  finish(reply.mutable_bytes(), envelope);
  return reply;
}

std::optional<Packet> unreachable(const IpView& view, ByteView offending, const IpAddress& from, Unreachable code) {
  if (is_group(view.destination)) return std::nullopt;
  struct Codes {
    std::uint8_t v4, v6;
  };
  const auto codes = [code]() -> Codes {
    switch (code) {
      case Unreachable::network: return {0, 0};
      case Unreachable::host: return {1, 3};
      case Unreachable::port: return {3, 4};
      case Unreachable::prohibited: return {13, 1};
    }
    return {0, 0};
  }();
  return view.family == Family::ipv4 ? error_about(view, offending, from, kUnreachable4, codes.v4, 0)
                                     : error_about(view, offending, from, kUnreachable6, codes.v6, 0);
}

std::optional<Packet> time_exceeded(const IpView& view, ByteView offending, const IpAddress& from) {
  if (is_group(view.destination)) return std::nullopt;
  const std::uint8_t type = view.family == Family::ipv4 ? kTimeExceeded4 : kTimeExceeded6;
  return error_about(view, offending, from, type, 0, 0);  // code 0: in transit
}

std::optional<Packet> too_big(const IpView& view, ByteView offending, const IpAddress& from, std::uint32_t mtu) {
  if (view.family == Family::ipv6) return error_about(view, offending, from, kTooBig6, 0, mtu);
  if (is_group(view.destination)) return std::nullopt;
  return error_about(view, offending, from, kUnreachable4, kFragmentationNeeded4, std::min<std::uint32_t>(mtu, 0xFFFF));
}

}  // namespace penstock
