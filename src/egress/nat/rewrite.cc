#include "egress/nat/rewrite.h"

#include <algorithm>

#include "base/result.h"
#include "packet/checksum.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kIcmpHeader = 8;
// RFC 792; RFC 4443 section 4.
constexpr std::uint8_t kEchoRequest4 = 8;
constexpr std::uint8_t kEchoReply4 = 0;
constexpr std::uint8_t kEchoRequest6 = 128;
constexpr std::uint8_t kEchoReply6 = 129;

std::size_t checksum_offset(Transport transport) {
  switch (transport) {
    case Transport::udp: return 6;
    case Transport::tcp: return 16;
    case Transport::echo: return 2;
  }
  return 0;
}

std::size_t port_offset(Transport transport, Side side) {
  if (transport == Transport::echo) return 4;
  return side == Side::source ? 0 : 2;
}

struct AddressField {
  std::size_t offset;
  std::size_t size;
};

AddressField address_field(bool v4, Side side) {
  if (v4) return {side == Side::source ? 12U : 16U, 4};
  return {side == Side::source ? 8U : 24U, 16};
}

// What changes in a packet, for every checksum that covers it.
struct Change {
  IpAddress old_address;
  IpAddress new_address;
  std::uint16_t old_port = 0;
  std::uint16_t new_port = 0;

  std::uint16_t addresses_in(std::uint16_t checksum) const {
    return checksum_update(checksum, old_address, new_address);
  }
  std::uint16_t port_in(std::uint16_t checksum) const { return checksum_update(checksum, old_port, new_port); }
};

void update_transport_checksum(std::uint8_t* field, const Change& change, Transport transport, bool partial) {
  const std::uint16_t before = load_be16(field);
  // An ICMPv4 checksum covers no addresses (RFC 792).
  const bool pseudo_header = transport != Transport::echo || change.new_address.is_v6();
  if (partial)
    return store_be16(field, static_cast<std::uint16_t>(~change.addresses_in(static_cast<std::uint16_t>(~before))));
  if (transport == Transport::udp && before == 0) return;  // there is none (RFC 768)
  std::uint16_t after = change.port_in(before);
  if (pseudo_header) after = change.addresses_in(after);
  if (transport == Transport::udp && after == 0) after = 0xFFFF;
  store_be16(field, after);
}

// Returns what was there.
IpAddress put_address(MutableByteView bytes, Side side, const IpAddress& to) {
  const AddressField field = address_field(to.is_v4(), side);
  const IpAddress before = IpAddress::from_bytes(bytes.subspan(field.offset, field.size));
  std::ranges::copy(to.bytes(), bytes.begin() + static_cast<std::ptrdiff_t>(field.offset));
  if (to.is_v4()) store_be16(&bytes[10], checksum_update(load_be16(&bytes[10]), before, to));
  return before;
}

// In `bytes`, which may end early: the address, then as much of the rest as is there.
void rewrite_in(MutableByteView bytes, std::size_t transport_at, Transport transport, Side side, const Endpoint& to,
                bool partial) {
  Change change{.old_address = put_address(bytes, side, to.address),
                .new_address = to.address,
                .old_port = 0,
                .new_port = to.port};
  const std::size_t port = transport_at + port_offset(transport, side);
  if (port + 2 > bytes.size()) return;
  change.old_port = load_be16(&bytes[port]);
  store_be16(&bytes[port], to.port);
  const std::size_t checksum = transport_at + checksum_offset(transport);
  if (checksum + 2 <= bytes.size()) update_transport_checksum(&bytes[checksum], change, transport, partial);
}

std::optional<TranslationView> echo_of(ByteView message, Family family, std::uint16_t offset) {
  const std::uint8_t type = message[0];
  const bool request = type == (family == Family::ipv4 ? kEchoRequest4 : kEchoRequest6);
  const bool reply = type == (family == Family::ipv4 ? kEchoReply4 : kEchoReply6);
  if (!request && !reply) return std::nullopt;
  const std::uint16_t identifier = load_be16(&message[4]);
  return TranslationView{.ends = {.transport = Transport::echo,
                                  .source = request ? identifier : std::uint16_t{0},
                                  .destination = reply ? identifier : std::uint16_t{0}},
                         .offset = offset,
                         .echo_reply = reply};
}

}  // namespace

std::optional<TranslationView> translation_of(ByteView packet, const IpView& view) {
  const auto upper = upper_layer(packet, view);
  if (!upper || upper->fragment) return std::nullopt;
  const auto offset = static_cast<std::uint16_t>(upper->offset);
  const ByteView rest = packet.subspan(upper->offset);
  switch (upper->protocol) {
    case kProtocolUdp:
    case kProtocolTcp: {
      const bool udp = upper->protocol == kProtocolUdp;
      if (rest.size() < (udp ? kUdpHeader : kTcpHeader)) return std::nullopt;
      return TranslationView{.ends = {.transport = udp ? Transport::udp : Transport::tcp,
                                      .source = load_be16(&rest[0]),
                                      .destination = load_be16(&rest[2])},
                             .offset = offset};
    }
    case kProtocolIcmp:
    case kProtocolIcmp6:
      if ((upper->protocol == kProtocolIcmp) != (view.family == Family::ipv4)) return std::nullopt;
      if (rest.size() < kIcmpHeader) return std::nullopt;
      return echo_of(rest, view.family, offset);
    default: return std::nullopt;
  }
}

void rewrite(Packet& packet, const TranslationView& at, Side side, const Endpoint& to) {
  PENSTOCK_ASSERT((packet.bytes()[0] >> 4 == 4) == to.address.is_v4());
  rewrite_in(packet.mutable_bytes(), at.offset, at.ends.transport, side, to, packet.offload.needs_checksum);
}

void rewrite_address(Packet& packet, Side side, const IpAddress& to) { put_address(packet.mutable_bytes(), side, to); }

void rewrite_quoted(MutableByteView quoted, std::size_t transport, Transport kind, Side side, const Endpoint& to) {
  PENSTOCK_ASSERT(quoted.size() >= (to.address.is_v4() ? 20U : 40U));
  rewrite_in(quoted, transport, kind, side, to, false);
}

}  // namespace penstock::egress
