#include "egress/nat/outer_packets.h"

#include <algorithm>

#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kHeader4 = 20;
constexpr std::size_t kHeader6 = 40;
constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kIcmpHeader = 8;
constexpr std::uint8_t kUsualHops = 64;
constexpr std::uint8_t kParameterProblem4 = 12;  // RFC 792
// Of the packet that an error quotes: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c), less the headers around it.
constexpr std::size_t kQuoted4 = 576 - kHeader4 - kIcmpHeader;
constexpr std::size_t kQuoted6 = 1280 - kHeader6 - kIcmpHeader;

struct Header {
  IpAddress from;
  IpAddress to;
  std::uint8_t protocol = 0;
  std::uint8_t hops = kUsualHops;
  std::uint8_t tos = 0;
  std::uint16_t identification = 0;

  std::size_t size() const { return from.is_v4() ? kHeader4 : kHeader6; }
};

// `total` is what the header says of the packet, whatever of it is there.
void write_header(MutableByteView packet, const Header& header, std::size_t total) {
  std::fill_n(packet.begin(), header.size(), std::uint8_t{0});
  if (header.from.is_v4()) {
    packet[0] = 0x45;
    packet[1] = header.tos;
    store_be16(&packet[2], static_cast<std::uint16_t>(total));
    store_be16(&packet[4], header.identification);
    packet[8] = header.hops;
    packet[9] = header.protocol;
    std::ranges::copy(header.from.bytes(), packet.begin() + 12);
    std::ranges::copy(header.to.bytes(), packet.begin() + 16);
    store_be16(&packet[10], internet_checksum(packet.first(kHeader4)));
    return;
  }
  packet[0] = static_cast<std::uint8_t>(0x60 | header.tos >> 4);
  packet[1] = static_cast<std::uint8_t>(header.tos << 4);
  store_be16(&packet[4], static_cast<std::uint16_t>(total - kHeader6));
  packet[6] = header.protocol;
  packet[7] = header.hops;
  std::ranges::copy(header.from.bytes(), packet.begin() + 8);
  std::ranges::copy(header.to.bytes(), packet.begin() + 24);
}

Packet packet_of(const Header& header, std::size_t payload) {
  Packet packet = Packet::with_size(header.size() + payload);
  write_header(packet.mutable_bytes(), header, packet.size());
  packet.may_fragment = true;  // how it came in, nobody knows
  return packet;
}

std::uint8_t echo_protocol(const IpAddress& address) { return address.is_v4() ? kProtocolIcmp : kProtocolIcmp6; }

}  // namespace

Packet udp_packet_of(const net::Received& datagram, const Endpoint& to, std::uint16_t identification) {
  const Header header{.from = datagram.from.address,
                      .to = to.address,
                      .protocol = kProtocolUdp,
                      .hops = datagram.ttl,
                      .tos = datagram.tos,
                      .identification = identification};
  if (header.size() + kUdpHeader + datagram.bytes.size() > Packet::kMaxSize) return {};
  Packet packet = packet_of(header, kUdpHeader + datagram.bytes.size());
  MutableByteView udp = packet.mutable_bytes().subspan(header.size());
  store_be16(&udp[0], datagram.from.port);
  store_be16(&udp[2], to.port);
  std::ranges::copy(datagram.bytes, udp.begin() + kUdpHeader);
  const TransportView at{.family = header.from.family(),
                         .protocol = kProtocolUdp,
                         .transport = static_cast<std::uint16_t>(header.size()),
                         .payload = static_cast<std::uint16_t>(header.size() + kUdpHeader)};
  write_partial_checksum(packet.mutable_bytes(), at);
  packet.offload.needs_checksum = true;
  if (datagram.segment_size != 0 && datagram.bytes.size() > datagram.segment_size) {
    packet.offload.gso = gso_of(at);
    packet.offload.segment_size = datagram.segment_size;
  }
  return packet;
}

Packet echo_packet_of(const net::Received& message, const Endpoint& to, std::uint16_t identification) {
  const Header header{.from = message.from.address,
                      .to = to.address,
                      .protocol = echo_protocol(to.address),
                      .hops = message.ttl,
                      .tos = message.tos,
                      .identification = identification};
  if (header.size() + message.bytes.size() > Packet::kMaxSize) return {};
  Packet packet = packet_of(header, message.bytes.size());
  std::ranges::copy(message.bytes, packet.mutable_bytes().begin() + static_cast<std::ptrdiff_t>(header.size()));
  return packet;
}

Packet error_packet_of(const net::SocketError& error, Transport transport, const Endpoint& from) {
  const bool v4 = from.address.is_v4();
  if (error.reporter.is_unspecified() || error.reporter.is_v4() != v4 || error.to.address.is_v4() != v4) return {};
  const bool udp = transport == Transport::udp;
  const Header quoted{.from = from.address,
                      .to = error.to.address,
                      .protocol = udp ? kProtocolUdp : echo_protocol(from.address),
                      .hops = 1};
  const std::size_t before = quoted.size() + (udp ? kUdpHeader : 0);
  const std::size_t kept = std::min(error.quoted.size(), (v4 ? kQuoted4 : kQuoted6) - before);
  const Header outer{.from = error.reporter,
                     .to = from.address,
                     .protocol = echo_protocol(from.address),
                     .hops = error.ttl != 0 ? error.ttl : kUsualHops,
                     .tos = error.tos};

  Packet packet = packet_of(outer, kIcmpHeader + before + kept);
  MutableByteView icmp = packet.mutable_bytes().subspan(outer.size());
  std::fill_n(icmp.begin(), kIcmpHeader, std::uint8_t{0});
  icmp[0] = error.type;
  icmp[1] = error.code;
  // The next hop's MTU (RFC 1191 section 4, RFC 4443 section 3.2); where a parameter is wrong, of IPv4 in one byte (RFC
  // 792); or 0.
  store_be32(&icmp[4], v4 && error.type == kParameterProblem4 ? error.info << 24 : error.info);
  MutableByteView inside = icmp.subspan(kIcmpHeader);
  write_header(inside, quoted, before + error.quoted.size());
  if (udp) {
    MutableByteView header = inside.subspan(quoted.size());
    store_be16(&header[0], from.port);
    store_be16(&header[2], error.to.port);
    store_be16(&header[4], static_cast<std::uint16_t>(kUdpHeader + error.quoted.size()));
    store_be16(&header[6], 0);
  }
  std::ranges::copy(error.quoted.first(kept), inside.begin() + static_cast<std::ptrdiff_t>(before));
  const std::uint32_t pseudo = v4 ? 0 : pseudo_header_sum(outer.from, outer.to, kProtocolIcmp6, icmp.size());
  store_be16(&icmp[2], checksum_finish(checksum_add(icmp, pseudo)));
  return packet;
}

}  // namespace penstock::egress
