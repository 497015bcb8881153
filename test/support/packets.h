// Inner packets for tests: valid headers around a few bytes.
#pragma once

#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock::test {

inline IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }

// An IPv4 or IPv6 packet with `payload` behind its header; `protocol` 17 unless said otherwise.
inline Packet ip_packet(std::string_view from, std::string_view to, std::string_view payload = "hello",
                        std::uint8_t protocol = 17) {
  const IpAddress source = ip(from);
  const IpAddress destination = ip(to);
  const std::size_t header = source.is_v4() ? 20 : 40;
  Packet packet = Packet::with_size(header + payload.size());
  auto bytes = packet.mutable_bytes();
  std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
  if (source.is_v4()) {
    bytes[0] = 0x45;
    store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
    bytes[8] = 64;
    bytes[9] = protocol;
    std::copy(source.bytes().begin(), source.bytes().end(), bytes.begin() + 12);
    std::copy(destination.bytes().begin(), destination.bytes().end(), bytes.begin() + 16);
    store_be16(&bytes[10], internet_checksum(bytes.first(20)));
  } else {
    bytes[0] = 0x60;
    store_be16(&bytes[4], static_cast<std::uint16_t>(payload.size()));
    bytes[6] = protocol;
    bytes[7] = 64;
    std::copy(source.bytes().begin(), source.bytes().end(), bytes.begin() + 8);
    std::copy(destination.bytes().begin(), destination.bytes().end(), bytes.begin() + 24);
  }
  std::copy(payload.begin(), payload.end(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  return packet;
}

// An IPv4 echo request with a good checksum.
inline Packet echo_request(std::string_view from, std::string_view to) {
  std::string payload("\x08\x00\x00\x00\x12\x34\x00\x01ping", 12);
  const auto sum = internet_checksum(as_bytes(payload));
  payload[2] = static_cast<char>(sum >> 8);
  payload[3] = static_cast<char>(sum);
  return ip_packet(from, to, payload, 1);
}

// A TCP super-packet over IPv4, flags ACK, with `payload` bytes in segments of `segment_size`.
inline Packet super_packet(std::string_view from, std::string_view to, std::size_t payload,
                           std::uint16_t segment_size) {
  std::string tcp(20, '\0');
  tcp[12] = 0x50;  // a header of 20 bytes
  tcp[13] = 0x10;  // ACK
  const std::uint32_t sum = pseudo_header_sum(ip(from), ip(to), kProtocolTcp, tcp.size() + payload);
  tcp[16] = static_cast<char>(sum >> 8);
  tcp[17] = static_cast<char>(sum);
  Packet packet = ip_packet(from, to, tcp + std::string(payload, 'x'), kProtocolTcp);
  packet.offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = segment_size};
  return packet;
}

template <typename... Packets>
PacketBatch batch_of(Packets&&... packets) {
  PacketBatch batch;
  (batch.push_back(std::forward<Packets>(packets)), ...);
  return batch;
}

// What a packet carries behind its header.
inline std::string payload_of(const Packet& packet) {
  return std::string(as_text(packet.bytes().subspan(packet.bytes()[0] >> 4 == 4 ? 20 : 40)));
}

}  // namespace penstock::test
