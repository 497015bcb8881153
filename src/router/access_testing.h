// Packets of conversations, for tests: what access rules look at is right in them, checksums above IP are not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "packet/ip_view.h"
#include "router/flow_key.h"
#include "test/support/packets.h"

namespace penstock::router {

inline std::string big_endian(std::uint16_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }

inline Packet udp(std::string_view from, std::uint16_t from_port, std::string_view to, std::uint16_t to_port,
                  std::string_view data = "hello") {
  const auto size = static_cast<std::uint16_t>(8 + data.size());
  return test::ip_packet(
      from, to, big_endian(from_port) + big_endian(to_port) + big_endian(size) + big_endian(0) + std::string(data));
}

inline Packet tcp(std::string_view from, std::uint16_t from_port, std::string_view to, std::uint16_t to_port,
                  std::uint8_t flags = kTcpAck) {
  std::string header = big_endian(from_port) + big_endian(to_port) + std::string(16, '\0');
  header[12] = 0x50;
  header[13] = static_cast<char>(flags);
  return test::ip_packet(from, to, header, kProtocolTcp);
}

inline bool is_v6(std::string_view address) { return address.find(':') != std::string_view::npos; }

inline Packet icmp(std::string_view from, std::string_view to, int type, std::string_view rest) {
  return test::ip_packet(from, to, std::string{static_cast<char>(type), 0, 0, 0} + std::string(rest),
                         is_v6(from) ? kProtocolIcmp6 : kProtocolIcmp);
}
inline Packet ping(std::string_view from, std::string_view to, std::uint16_t id) {
  return icmp(from, to, is_v6(from) ? 128 : 8, big_endian(id) + big_endian(1));
}
inline Packet pong(std::string_view from, std::string_view to, std::uint16_t id) {
  return icmp(from, to, is_v6(from) ? 129 : 0, big_endian(id) + big_endian(1));
}
// "Unreachable" about `packet`, of which it quotes the IP header and eight bytes.
inline Packet unreachable_about(std::string_view from, std::string_view to, const Packet& packet) {
  const std::size_t quoted = (packet.bytes()[0] >> 4 == 4 ? 20U : 40U) + 8;
  return icmp(from, to, is_v6(from) ? 1 : 3, std::string(4, '\0') + std::string(as_text(packet.bytes().first(quoted))));
}

// IPv4: `packet`'s header in front of a fragment's piece of payload.
inline Packet fragment(std::string_view from, std::string_view to, std::uint8_t protocol, std::uint16_t id,
                       std::size_t offset, bool more, std::string_view piece) {
  Packet packet = test::ip_packet(from, to, piece, protocol);
  auto bytes = packet.mutable_bytes();
  store_be16(&bytes[4], id);
  store_be16(&bytes[6], static_cast<std::uint16_t>((more ? 0x2000U : 0U) | offset / 8));
  return packet;
}

inline std::optional<FlowView> flow_of(const Packet& packet) {
  return read_flow(packet.bytes(), parse_ip(packet.bytes()).value());
}

}  // namespace penstock::router
