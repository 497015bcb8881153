// TCP and UDP packets for tests, written field by field as the RFCs draw them, with sums made word by word: what the
// faster code of this room is compared with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock::samples {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 0x01;
inline constexpr std::uint8_t kSyn = 0x02;
inline constexpr std::uint8_t kRst = 0x04;
inline constexpr std::uint8_t kPsh = 0x08;
inline constexpr std::uint8_t kAck = 0x10;
inline constexpr std::uint8_t kUrg = 0x20;
inline constexpr std::uint8_t kEce = 0x40;
inline constexpr std::uint8_t kCwr = 0x80;

// Everything that tells one packet from another; the rest (lengths, checksums) follows.
struct Sample {
  Family family = Family::ipv4;
  std::uint8_t protocol = kProtocolTcp;
  std::uint8_t host = 2;  // the last byte of the sender's address
  std::uint16_t source_port = 40000;
  std::uint16_t destination_port = 443;
  std::uint8_t traffic_class = 0;
  std::uint8_t ttl = 64;
  std::uint32_t flow_label = 0x12345;     // IPv6
  std::uint16_t identification = 1000;    // IPv4
  std::uint16_t fragment_field = 0x4000;  // IPv4: flags and fragment offset
  std::size_t ip_options = 0;             // IPv4: bytes of them, all NOP
  std::uint32_t sequence = 0xFFFFF000;
  std::uint32_t acknowledgement = 77;
  std::uint8_t reserved = 0;  // the four bits in front of the flags
  std::uint8_t flags = kAck;
  std::uint16_t window = 500;
  std::uint16_t urgent = 0;
  Bytes options;             // TCP
  bool no_checksum = false;  // UDP
  Bytes payload;
  Offload offload;
};

inline std::uint32_t naive_sum(ByteView bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 == 0 ? static_cast<std::uint32_t>(bytes[i]) << 8 : bytes[i];
    sum = (sum & 0xFFFF) + (sum >> 16);
  }
  return sum;
}

inline Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size);
  random.fill(bytes);
  return bytes;
}

inline Packet make(const Sample& sample) {
  const bool v4 = sample.family == Family::ipv4;
  const bool tcp = sample.protocol == kProtocolTcp;
  const std::size_t ip = v4 ? 20 + sample.ip_options : 40;
  const std::size_t header = ip + (tcp ? 20 + sample.options.size() : 8);
  const std::size_t size = header + sample.payload.size();
  Bytes bytes(size);
  Bytes pseudo;
  if (v4) {
    bytes[0] = static_cast<std::uint8_t>(0x40 | ip / 4);
    bytes[1] = sample.traffic_class;
    store_be16(&bytes[2], static_cast<std::uint16_t>(size));
    store_be16(&bytes[4], sample.identification);
    store_be16(&bytes[6], sample.fragment_field);
    bytes[8] = sample.ttl;
    bytes[9] = sample.protocol;
    store_be32(&bytes[12], 0x0A640000U | sample.host);
    store_be32(&bytes[16], 0xC0000201);
    std::fill_n(bytes.begin() + 20, sample.ip_options, std::uint8_t{1});
    store_be16(&bytes[10], static_cast<std::uint16_t>(~naive_sum(ByteView(bytes).first(ip))));
    pseudo.assign(bytes.begin() + 12, bytes.begin() + 20);
  } else {
    store_be32(bytes.data(), 0x60000000U | static_cast<std::uint32_t>(sample.traffic_class) << 20 | sample.flow_label);
    store_be16(&bytes[4], static_cast<std::uint16_t>(size - 40));
    bytes[6] = sample.protocol;
    bytes[7] = sample.ttl;
    bytes[8] = 0xFD;
    bytes[23] = sample.host;
    bytes[24] = 0x20;
    bytes[39] = 1;
    pseudo.assign(bytes.begin() + 8, bytes.begin() + 40);
  }
  std::uint8_t* const transport = &bytes[ip];
  store_be16(transport, sample.source_port);
  store_be16(transport + 2, sample.destination_port);
  if (tcp) {
    store_be32(transport + 4, sample.sequence);
    store_be32(transport + 8, sample.acknowledgement);
    transport[12] = static_cast<std::uint8_t>((20 + sample.options.size()) / 4 << 4 | sample.reserved);
    transport[13] = sample.flags;
    store_be16(transport + 14, sample.window);
    store_be16(transport + 18, sample.urgent);
    std::copy(sample.options.begin(), sample.options.end(), transport + 20);
  } else {
    store_be16(transport + 4, static_cast<std::uint16_t>(size - ip));
  }
  std::copy(sample.payload.begin(), sample.payload.end(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  pseudo.insert(pseudo.end(), {0, sample.protocol, static_cast<std::uint8_t>((size - ip) >> 8),
                               static_cast<std::uint8_t>(size - ip)});
  std::uint32_t sum = naive_sum(pseudo);
  if (!sample.offload.needs_checksum) {
    sum = 0xFFFF - naive_sum(ByteView(bytes).subspan(ip), sum);
    if (sum == 0 && !tcp) sum = 0xFFFF;
    if (sample.no_checksum) sum = 0;
  }
  store_be16(transport + (tcp ? 16 : 6), static_cast<std::uint16_t>(sum));
  Packet packet = Packet::copy_of(bytes);
  packet.offload = sample.offload;
  return packet;
}

// The packets that a sample of a super-packet stands for.
inline std::vector<Sample> segments_of(const Sample& super) {
  if (super.offload.gso == Offload::Gso::none) {
    Sample one = super;
    one.offload = {};
    return {one};
  }
  std::vector<Sample> all;
  for (std::size_t at = 0; at < super.payload.size(); at += super.offload.segment_size) {
    Sample one = super;
    one.offload = {};
    const std::size_t end = std::min<std::size_t>(super.payload.size(), at + super.offload.segment_size);
    one.payload.assign(super.payload.begin() + static_cast<std::ptrdiff_t>(at),
                       super.payload.begin() + static_cast<std::ptrdiff_t>(end));
    one.identification = static_cast<std::uint16_t>(one.identification + all.size());
    one.sequence += static_cast<std::uint32_t>(at);
    if (at != 0) one.flags &= static_cast<std::uint8_t>(~kCwr);
    if (end != super.payload.size()) one.flags &= static_cast<std::uint8_t>(~(kFin | kPsh));
    all.push_back(one);
  }
  return all;
}

inline Offload::Gso kind_of(const Sample& sample) {
  const bool v4 = sample.family == Family::ipv4;
  if (sample.protocol == kProtocolTcp) return v4 ? Offload::Gso::tcp4 : Offload::Gso::tcp6;
  return v4 ? Offload::Gso::udp4 : Offload::Gso::udp6;
}

inline Bytes bytes_of(const Packet& packet) { return {packet.bytes().begin(), packet.bytes().end()}; }

}  // namespace penstock::samples
