#include "tun/vnet_header.h"

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::tun {
namespace {

// linux/virtio_net.h; an older one does not know UDP_L4 (Linux 6.2).
constexpr std::uint8_t kNeedsChecksum = 1;  // VIRTIO_NET_HDR_F_NEEDS_CSUM
constexpr std::uint8_t kGsoNone = 0;
constexpr std::uint8_t kGsoTcp4 = 1;
constexpr std::uint8_t kGsoTcp6 = 4;
constexpr std::uint8_t kGsoUdp = 5;     // VIRTIO_NET_HDR_GSO_UDP_L4, of either family
constexpr std::uint8_t kGsoEcn = 0x80;  // besides TCP: the first segment has CWR (RFC 3168 section 6.1.2), no other

constexpr std::size_t kTcpFlags = 13;
constexpr std::uint8_t kTcpCwr = 0x80;

std::uint16_t load_le16(const std::uint8_t* at) {
  return static_cast<std::uint16_t>(at[0] | static_cast<unsigned>(at[1]) << 8);
}
void store_le16(std::uint8_t* at, std::size_t value) {
  at[0] = static_cast<std::uint8_t>(value);
  at[1] = static_cast<std::uint8_t>(value >> 8);
}

// Where the checksum stands in the header of TCP or UDP.
std::size_t checksum_offset_of(std::uint8_t protocol) { return protocol == kProtocolTcp ? 16 : 6; }

std::optional<Offload::Gso> gso_of(std::uint8_t gso_type, Family family) {
  const bool v4 = family == Family::ipv4;
  switch (gso_type) {
    case kGsoTcp4:
    case kGsoTcp4 | kGsoEcn: return v4 ? std::optional(Offload::Gso::tcp4) : std::nullopt;
    case kGsoTcp6:
    case kGsoTcp6 | kGsoEcn: return v4 ? std::nullopt : std::optional(Offload::Gso::tcp6);
    case kGsoUdp: return v4 ? Offload::Gso::udp4 : Offload::Gso::udp6;
    default: return std::nullopt;
  }
}

std::uint8_t gso_type_of(Offload::Gso gso, ByteView transport) {
  switch (gso) {
    case Offload::Gso::none: return kGsoNone;
    case Offload::Gso::udp4:
    case Offload::Gso::udp6: return kGsoUdp;
    case Offload::Gso::tcp4:
    case Offload::Gso::tcp6: break;
  }
  const std::uint8_t type = gso == Offload::Gso::tcp4 ? kGsoTcp4 : kGsoTcp6;
  return (transport[kTcpFlags] & kTcpCwr) != 0 ? type | kGsoEcn : type;
}

// What the kernel's own skb_checksum_help() does: all from `start` on is summed, and what is in the field with it.
bool finish_anywhere(MutableByteView packet, std::size_t start, std::size_t offset) {
  if (start + offset + 2 > packet.size()) return false;
  const std::uint16_t checksum = internet_checksum(packet.subspan(start));
  store_be16(&packet[start + offset], checksum == 0 ? 0xFFFF : checksum);
  return true;
}

}  // namespace

std::optional<Offload> take_vnet_header(ByteView header, MutableByteView packet) {
  PENSTOCK_ASSERT(header.size() == kVnetHeaderSize);
  const bool needs_checksum = (header[0] & kNeedsChecksum) != 0;
  const std::uint8_t gso_type = header[1];
  // The other flags say what receivers may leave out, not what is left to do.
  if (!needs_checksum) return gso_type == kGsoNone ? std::optional(Offload{}) : std::nullopt;

  const std::size_t start = load_le16(&header[6]);
  const std::size_t offset = load_le16(&header[8]);
  const auto view = parse_ip(packet);
  const auto transport = view ? transport_of(packet, *view) : std::nullopt;
  const bool usual = transport && start == transport->transport && offset == checksum_offset_of(transport->protocol);
  Offload offload{.needs_checksum = true};
  if (gso_type == kGsoNone) {
    if (usual && check_offload(packet, *view, offload)) return offload;
    return finish_anywhere(packet, start, offset) ? std::optional(Offload{}) : std::nullopt;
  }
  if (!usual) return std::nullopt;
  const auto gso = gso_of(gso_type, view->family);
  if (!gso) return std::nullopt;
  offload.gso = *gso;
  offload.segment_size = load_le16(&header[4]);
  return check_offload(packet, *view, offload) ? std::optional(offload) : std::nullopt;
}

VnetHeader make_vnet_header(ByteView packet, const Offload& offload) {
  VnetHeader header{};
  if (!offload.needs_checksum) return header;
  const auto view = parse_ip(packet);
  const auto transport = view ? transport_of(packet, *view) : std::nullopt;
  PENSTOCK_ASSERT(transport);
  header[0] = kNeedsChecksum;
  header[1] = gso_type_of(offload.gso, packet.subspan(transport->transport));
  store_le16(&header[2], transport->payload);
  store_le16(&header[4], offload.segment_size);
  store_le16(&header[6], transport->transport);
  store_le16(&header[8], checksum_offset_of(transport->protocol));
  return header;
}

}  // namespace penstock::tun
