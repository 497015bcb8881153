// Packets with good checksums, for tests of translation.
#pragma once

#include <string>
#include <string_view>

#include "packet/checksum.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "test/support/packets.h"

namespace penstock::egress {

inline Endpoint end(std::string_view text) { return Endpoint::parse(text).value(); }

// `checksum_at` into what the IP header carries stands the checksum; ICMPv4's has no pseudo header.
inline Packet with_checksum(Packet packet, std::uint8_t protocol, std::size_t checksum_at) {
  const IpView view = parse_ip(packet.bytes()).value();
  MutableByteView rest = packet.mutable_bytes().subspan(view.header_size);
  store_be16(&rest[checksum_at], 0);
  const std::uint32_t pseudo =
      protocol == kProtocolIcmp ? 0 : pseudo_header_sum(view.source, view.destination, protocol, rest.size());
  store_be16(&rest[checksum_at], checksum_finish(checksum_add(rest, pseudo)));
  return packet;
}

inline std::string be16_text(std::uint16_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xFF)};
}

inline Packet udp_packet(const Endpoint& from, const Endpoint& to, std::string_view payload = "data") {
  const std::string text = be16_text(from.port) + be16_text(to.port) +
                           be16_text(static_cast<std::uint16_t>(8 + payload.size())) + be16_text(0) +
                           std::string(payload);
  return with_checksum(test::ip_packet(from.address.to_string(), to.address.to_string(), text, kProtocolUdp),
                       kProtocolUdp, 6);
}

inline Packet tcp_segment(const Endpoint& from, const Endpoint& to, std::uint8_t flags, std::string_view payload = "") {
  std::string text = be16_text(from.port) + be16_text(to.port) + std::string(16, '\0') + std::string(payload);
  text[12] = 0x50;
  text[13] = static_cast<char>(flags);
  return with_checksum(test::ip_packet(from.address.to_string(), to.address.to_string(), text, kProtocolTcp),
                       kProtocolTcp, 16);
}

// With ACK, as in the midst of a connection.
inline Packet tcp_packet(const Endpoint& from, const Endpoint& to, std::string_view payload = "data") {
  return tcp_segment(from, to, kTcpAck, payload);
}

inline Packet echo_packet(const IpAddress& from, const IpAddress& to, std::uint16_t identifier, bool reply = false) {
  const bool v4 = from.is_v4();
  std::string text(8, '\0');
  text[0] = static_cast<char>(v4 ? (reply ? 0 : 8) : (reply ? 129 : 128));
  text.replace(4, 2, be16_text(identifier));
  text += "ping";
  const std::uint8_t protocol = v4 ? kProtocolIcmp : kProtocolIcmp6;
  return with_checksum(test::ip_packet(from.to_string(), to.to_string(), text, protocol), protocol, 2);
}

// "Port unreachable" about the first `quoted` bytes of `about`.
inline Packet error_packet(const IpAddress& from, const IpAddress& to, const Packet& about, std::size_t quoted = 1000) {
  const bool v4 = from.is_v4();
  std::string text(8, '\0');
  text[0] = static_cast<char>(v4 ? 3 : 1);
  text[1] = static_cast<char>(v4 ? 3 : 4);
  text += as_text(about.bytes().first(std::min(quoted, about.size())));
  const std::uint8_t protocol = v4 ? kProtocolIcmp : kProtocolIcmp6;
  return with_checksum(test::ip_packet(from.to_string(), to.to_string(), text, protocol), protocol, 2);
}

inline bool same_bytes(const Packet& a, const Packet& b) { return as_text(a.bytes()) == as_text(b.bytes()); }

}  // namespace penstock::egress
