#include "packet/udp_packet.h"

#include <algorithm>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

constexpr std::size_t kHeader4 = 20;
constexpr std::size_t kHeader6 = 40;
constexpr std::size_t kUdpHeader = 8;

}  // namespace

std::optional<UdpView> read_udp(const Packet& packet) {
  const ByteView bytes = packet.bytes();
  const auto view = parse_ip(bytes);
  if (!view || view->protocol != kProtocolUdp) return std::nullopt;
  const auto at = transport_of(bytes, *view);
  if (!at || !check_offload(bytes, *view, packet.offload)) return std::nullopt;
  const std::uint8_t* header = &bytes[at->transport];
  const std::size_t length = load_be16(header + 4);
  if (!packet.offload.needs_checksum) {
    const bool absent = load_be16(header + 6) == 0;
    if (absent && view->family == Family::ipv6) return std::nullopt;
    if (!absent) {
      const auto pseudo = pseudo_header_sum(view->source, view->destination, kProtocolUdp, length);
      if (checksum_finish(checksum_add(bytes.subspan(at->transport, length), pseudo)) != 0) return std::nullopt;
    }
  }
  return UdpView{
      .from = {view->source, load_be16(header)},
      .to = {view->destination, load_be16(header + 2)},
      .payload = bytes.subspan(at->payload, length - kUdpHeader),
      .segment_size = packet.offload.gso == Offload::Gso::none ? std::uint16_t{0} : packet.offload.segment_size};
}

Packet make_udp(const Endpoint& from, const Endpoint& to, ByteView payload, const UdpHeaders& headers) {
  PENSTOCK_ASSERT(from.address.family() == to.address.family());
  const bool v4 = from.address.is_v4();
  const std::size_t ip = v4 ? kHeader4 : kHeader6;
  const std::size_t length = kUdpHeader + payload.size();
  if (ip + length > Packet::kMaxSize) return {};
  Packet packet = Packet::with_size(ip + length);
  const MutableByteView bytes = packet.mutable_bytes();
  std::fill_n(bytes.begin(), ip + kUdpHeader, std::uint8_t{0});
  if (v4) {
    bytes[0] = 0x45;
    bytes[1] = headers.tos;
    store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
    store_be16(&bytes[4], headers.identification);
    bytes[8] = headers.hops;
    bytes[9] = kProtocolUdp;
    std::ranges::copy(from.address.bytes(), bytes.begin() + 12);
    std::ranges::copy(to.address.bytes(), bytes.begin() + 16);
    store_be16(&bytes[10], internet_checksum(bytes.first(kHeader4)));
  } else {
    bytes[0] = static_cast<std::uint8_t>(0x60 | headers.tos >> 4);
    bytes[1] = static_cast<std::uint8_t>(headers.tos << 4);
    store_be16(&bytes[4], static_cast<std::uint16_t>(length));
    bytes[6] = kProtocolUdp;
    bytes[7] = headers.hops;
    std::ranges::copy(from.address.bytes(), bytes.begin() + 8);
    std::ranges::copy(to.address.bytes(), bytes.begin() + 24);
  }
  const MutableByteView udp = bytes.subspan(ip);
  store_be16(&udp[0], from.port);
  store_be16(&udp[2], to.port);
  store_be16(&udp[4], static_cast<std::uint16_t>(length));
  std::ranges::copy(payload, udp.begin() + kUdpHeader);
  const auto sum = pseudo_header_sum(from.address, to.address, kProtocolUdp, length);
  const std::uint16_t checksum = checksum_finish(checksum_add(udp, sum));
  // 0 would say that there is none (RFC 768).
  store_be16(&udp[6], checksum == 0 ? std::uint16_t{0xFFFF} : checksum);
  return packet;
}

}  // namespace penstock
