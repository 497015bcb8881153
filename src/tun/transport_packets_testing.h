// For tests: TCP and UDP packets as a kernel with offloads makes them, partial checksums and super-packets among them.
#pragma once

#include <string>
#include <string_view>

#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "test/support/packets.h"

namespace penstock::tun {

inline std::uint8_t payload_byte(std::size_t i) { return static_cast<std::uint8_t>(i * 7 + i / 256); }

// `header` is that of TCP or UDP with a checksum of 0; behind it stand `payload` bytes. The checksum is left partial.
inline Packet with_partial_checksum(std::string_view from, std::string_view to, std::uint8_t protocol,
                                    std::string header, std::size_t payload) {
  const std::size_t checksum = protocol == kProtocolTcp ? 16 : 6;
  const std::size_t length = header.size() + payload;
  const std::uint32_t sum = pseudo_header_sum(test::ip(from), test::ip(to), protocol, length);
  header[checksum] = static_cast<char>(sum >> 8);
  header[checksum + 1] = static_cast<char>(sum);
  for (std::size_t i = 0; i < payload; ++i) header.push_back(static_cast<char>(payload_byte(i)));
  Packet packet = test::ip_packet(from, to, header, protocol);
  packet.offload.needs_checksum = true;
  return packet;
}

// From port 40000 to 5000, ACK and PSH besides `flags`.
inline Packet tcp_packet(std::string_view from, std::string_view to, std::size_t payload, char flags = 0) {
  std::string header(20, '\0');
  header.replace(0, 4, std::string_view("\x9C\x40\x13\x88", 4));
  header[12] = 5 << 4;
  header[13] = static_cast<char>(flags | 0x18);
  return with_partial_checksum(from, to, kProtocolTcp, std::move(header), payload);
}

inline Packet udp_packet(std::string_view from, std::string_view to, std::size_t payload) {
  std::string header(8, '\0');
  header.replace(0, 4, std::string_view("\x9C\x40\x13\x88", 4));
  header[4] = static_cast<char>((8 + payload) >> 8);
  header[5] = static_cast<char>(8 + payload);
  return with_partial_checksum(from, to, kProtocolUdp, std::move(header), payload);
}

inline Packet super_packet(Packet packet, Offload::Gso gso, std::uint16_t segment_size) {
  packet.offload.gso = gso;
  packet.offload.segment_size = segment_size;
  return packet;
}

// Whether the checksum of TCP or UDP, directly behind the IP header, is finished and good.
inline bool has_good_checksum(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view) return false;
  const ByteView upper = packet.bytes().subspan(view->header_size);
  const auto sum = pseudo_header_sum(view->source, view->destination, view->protocol, upper.size());
  return checksum_finish(checksum_add(upper, sum)) == 0;
}

}  // namespace penstock::tun
