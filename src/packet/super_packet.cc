#include "packet/super_packet.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/result.h"
#include "packet/checksum.h"

namespace penstock {
namespace {

constexpr std::size_t kMinTcpHeader = 20;
constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kMinHeader4 = 20;
constexpr std::size_t kHeader6 = 40;
constexpr std::size_t kMaxHeaders = 60 + 60;  // of IPv4 and of TCP, both with all the options that fit

// TCP flags, RFC 9293 section 3.1 and RFC 3168 section 6.1.
constexpr std::uint8_t kFin = 0x01;
constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kRst = 0x04;
constexpr std::uint8_t kPsh = 0x08;
constexpr std::uint8_t kUrg = 0x20;
constexpr std::uint8_t kCwr = 0x80;

// A word that is added takes away what `word` added before.
std::uint32_t minus(std::size_t word) { return static_cast<std::uint16_t>(~word); }

std::size_t checksum_field(const TransportView& at) { return at.transport + (at.protocol == kProtocolTcp ? 16U : 6U); }

std::optional<TransportView> transport_at(ByteView packet, Family family, std::uint8_t protocol, std::size_t offset) {
  const std::size_t left = packet.size() - offset;
  std::size_t header = 0;
  if (protocol == kProtocolTcp) {
    if (left < kMinTcpHeader) return std::nullopt;
    header = (packet[offset + 12] >> 4) * 4U;
    if (header < kMinTcpHeader || header > left) return std::nullopt;
  } else if (protocol == kProtocolUdp) {
    if (left < kUdpHeader) return std::nullopt;
    const std::size_t length = load_be16(&packet[offset + 4]);
    if (length < kUdpHeader || length > left) return std::nullopt;
    header = kUdpHeader;
  } else {
    return std::nullopt;
  }
  return TransportView{.family = family,
                       .protocol = protocol,
                       .transport = static_cast<std::uint16_t>(offset),
                       .payload = static_cast<std::uint16_t>(offset + header)};
}

// The headers of a packet that check_offload() said yes to.
TransportView checked_headers(ByteView packet, const Offload& offload) {
  const auto at = transport_of(packet);
  PENSTOCK_ASSERT(at &&
                  (offload.gso == Offload::Gso::none || (offload.gso == gso_of(*at) && offload.segment_size != 0)));
  return *at;
}
TransportView checked_headers(const Packet& packet) { return checked_headers(packet.bytes(), packet.offload); }

std::size_t segments_in(std::size_t payload, std::size_t segment_size) {
  return payload <= segment_size ? 1 : (payload + segment_size - 1) / segment_size;
}

// The sum of the pseudo header that belongs to these headers: the addresses lie next to each other.
std::uint32_t pseudo_header_of(ByteView packet, const TransportView& at) {
  const ByteView addresses = at.family == Family::ipv4 ? packet.subspan(12, 8) : packet.subspan(8, 32);
  const auto length = static_cast<std::uint32_t>(packet.size() - at.transport);
  return checksum_fold(checksum_add(addresses) + at.protocol + length);
}

// The lengths and the IPv4 header's checksum, which follow from the packet's size.
void write_lengths(MutableByteView packet, const TransportView& at) {
  if (at.family == Family::ipv4) {
    store_be16(&packet[2], static_cast<std::uint16_t>(packet.size()));
    store_be16(&packet[10], 0);
    store_be16(&packet[10], internet_checksum(packet.first(at.transport)));
  } else {
    store_be16(&packet[4], static_cast<std::uint16_t>(packet.size() - kHeader6));
  }
  if (at.protocol == kProtocolUdp) {
    store_be16(&packet[at.transport + 4], static_cast<std::uint16_t>(packet.size() - at.transport));
  }
}

void write_checksum(std::uint8_t* field, const TransportView& at, std::uint32_t sum) {
  std::uint16_t checksum = checksum_finish(sum);
  if (checksum == 0 && at.protocol == kProtocolUdp) checksum = 0xFFFF;  // RFC 768: 0 means that there is none
  store_be16(field, checksum);
}

// The headers of the segments that a super-packet stands for: what they have in common is copied and summed once.
class SegmentHeaders {
 public:
  SegmentHeaders(ByteView super, const TransportView& at) : at_(at) {
    std::ranges::copy(super.first(at.payload), bytes_.begin());
    std::uint8_t* const transport = &bytes_[at.transport];
    // The pseudo header, without the length of the whole.
    const std::uint32_t partial = load_be16(&bytes_[checksum_field(at)]) + minus(super.size() - at.transport);
    clear(&bytes_[checksum_field(at)], 2);
    if (at.family == Family::ipv4) {
      identification_ = load_be16(&bytes_[4]);
      clear(&bytes_[2], 4);  // length and identification
      clear(&bytes_[10], 2);
      ip_sum_ = checksum_add(ByteView(bytes_).first(at.transport));
    }
    if (at.protocol == kProtocolTcp) {
      sequence_ = load_be32(transport + 4);
      flags_ = transport[13];
      clear(transport + 4, 4);
      clear(transport + 13, 1);
    } else {
      clear(transport + 4, 2);
    }
    transport_sum_ = checksum_add({transport, std::size_t{at.payload} - at.transport}, checksum_fold(partial));
  }

  std::size_t size() const { return at_.payload; }

  // Writes the packet of segment `index`, which begins `offset` bytes into the payload; `last` says where it ends it.
  void write(MutableByteView packet, ByteView payload, std::size_t index, std::size_t offset, bool last) const {
    std::memcpy(packet.data(), bytes_.data(), at_.payload);
    if (at_.family == Family::ipv4) {
      const auto length = static_cast<std::uint16_t>(packet.size());
      const auto identification = static_cast<std::uint16_t>(identification_ + index);
      store_be16(&packet[2], length);
      store_be16(&packet[4], identification);
      store_be16(&packet[10], checksum_finish(checksum_fold(ip_sum_ + length + identification)));
    } else {
      store_be16(&packet[4], static_cast<std::uint16_t>(packet.size() - kHeader6));
    }

    std::uint8_t* const transport = &packet[at_.transport];
    const auto length = static_cast<std::uint16_t>(packet.size() - at_.transport);
    std::uint32_t sum = transport_sum_ + length;
    if (at_.protocol == kProtocolTcp) {
      const auto sequence = static_cast<std::uint32_t>(sequence_ + offset);
      const auto not_here = static_cast<std::uint8_t>((index == 0 ? 0 : kCwr) | (last ? 0 : kFin | kPsh));
      const auto flags = static_cast<std::uint8_t>(flags_ & ~not_here);
      store_be32(transport + 4, sequence);
      transport[13] = flags;
      sum += (sequence >> 16) + (sequence & 0xFFFF) + flags;
    } else {
      store_be16(transport + 4, length);
      sum += length;
    }
    sum = checksum_copy(&packet[at_.payload], payload, sum);
    write_checksum(&packet[checksum_field(at_)], at_, sum);
  }

 private:
  static void clear(std::uint8_t* at, std::size_t size) { std::memset(at, 0, size); }

  TransportView at_;
  std::array<std::uint8_t, kMaxHeaders> bytes_;  // those fields that differ are zero
  std::uint32_t ip_sum_ = 0;
  std::uint32_t transport_sum_ = 0;
  std::uint32_t sequence_ = 0;
  std::uint16_t identification_ = 0;
  std::uint8_t flags_ = 0;
};

void copy_metadata(const Packet& from, Packet& to) {
  to.source = from.source;
  to.member = from.member;
  to.answers = from.answers;
  to.may_fragment = from.may_fragment;
}

// Mends the headers of a part of a super-packet of which `segments` are left and whose transport length was `whole`.
void become_part(Packet& part, const TransportView& at, std::size_t whole, std::size_t segments,
                 const Offload& offload) {
  const MutableByteView bytes = part.mutable_bytes();
  write_lengths(bytes, at);
  std::uint8_t* const partial = &bytes[checksum_field(at)];
  const auto length = static_cast<std::uint32_t>(bytes.size() - at.transport);
  store_be16(partial, static_cast<std::uint16_t>(checksum_fold(load_be16(partial) + minus(whole) + length)));
  part.offload = segments > 1 ? offload : Offload{.needs_checksum = true};
}

}  // namespace

Offload::Gso gso_of(const TransportView& at) {
  if (at.protocol == kProtocolTcp) return at.family == Family::ipv4 ? Offload::Gso::tcp4 : Offload::Gso::tcp6;
  return at.family == Family::ipv4 ? Offload::Gso::udp4 : Offload::Gso::udp6;
}

std::optional<TransportView> transport_of(ByteView packet, const IpView& view) {
  if (view.fragment) return std::nullopt;
  return transport_at(packet, view.family, view.protocol, view.header_size);
}

std::optional<TransportView> transport_of(ByteView packet) {
  if (packet.size() < kMinHeader4) return std::nullopt;
  if (packet[0] >> 4 == 4) {
    const std::size_t header = (packet[0] & 0x0FU) * 4;
    const bool fragment = (load_be16(&packet[6]) & 0x3FFF) != 0;
    if (header < kMinHeader4 || header > packet.size() || load_be16(&packet[2]) != packet.size() || fragment) {
      return std::nullopt;
    }
    return transport_at(packet, Family::ipv4, packet[9], header);
  }
  if (packet[0] >> 4 != 6 || packet.size() < kHeader6 || load_be16(&packet[4]) + kHeader6 != packet.size()) {
    return std::nullopt;
  }
  return transport_at(packet, Family::ipv6, packet[6], kHeader6);
}

bool check_offload(ByteView packet, const IpView& view, const Offload& offload) {
  const bool super = offload.gso != Offload::Gso::none;
  if (super != (offload.segment_size != 0)) return false;
  if (!offload.needs_checksum) return !super;
  const auto at = transport_of(packet, view);
  if (!at) return false;
  // A checksum is finished over all that is there, so the header must not claim less.
  if (at->protocol == kProtocolUdp && load_be16(&packet[at->transport + 4U]) != packet.size() - at->transport) {
    return false;
  }
  if (!super) return true;
  if (offload.gso != gso_of(*at) || packet.size() == at->payload) return false;
  if (at->family == Family::ipv4 && internet_checksum(packet.first(at->transport)) != 0) return false;
  return at->protocol != kProtocolTcp || (packet[at->transport + 13U] & (kSyn | kRst | kUrg)) == 0;
}

void write_partial_checksum(MutableByteView packet, const TransportView& at) {
  write_lengths(packet, at);
  store_be16(&packet[checksum_field(at)], static_cast<std::uint16_t>(pseudo_header_of(packet, at)));
}

bool has_good_checksums(const Packet& packet, const TransportView& at) {
  const ByteView bytes = packet.bytes();
  // A finished field that says 0xFFFF where 0 is meant would not come back as it was.
  if (at.family == Family::ipv4) {
    if (load_be16(&bytes[10]) == 0xFFFF || internet_checksum(bytes.first(at.transport)) != 0) return false;
  }
  const std::uint16_t field = load_be16(&bytes[checksum_field(at)]);
  const std::uint32_t pseudo = pseudo_header_of(bytes, at);
  if (packet.offload.needs_checksum) return checksum_fold(pseudo + minus(field)) == 0xFFFF;
  if (field == (at.protocol == kProtocolUdp ? 0 : 0xFFFF)) return false;
  return checksum_finish(checksum_add(bytes.subspan(at.transport), pseudo)) == 0;
}

std::size_t segments_of(ByteView packet, const Offload& offload) {
  if (offload.gso == Offload::Gso::none) return 1;
  return segments_in(packet.size() - checked_headers(packet, offload).payload, offload.segment_size);
}

std::uint64_t segments_of(std::span<const Packet> packets) {
  std::uint64_t sum = 0;
  for (const Packet& packet : packets) sum += segments_of(packet);
  return sum;
}

std::size_t segmented_size_of(ByteView packet, const Offload& offload) {
  if (offload.gso == Offload::Gso::none) return packet.size();
  const std::size_t header = checked_headers(packet, offload).payload;
  return packet.size() + (segments_in(packet.size() - header, offload.segment_size) - 1) * header;
}

std::size_t largest_segment_of(const Packet& packet) {
  if (packet.offload.gso == Offload::Gso::none) return packet.size();
  return std::min<std::size_t>(packet.size(),
                               checked_headers(packet).payload + std::size_t{packet.offload.segment_size});
}

std::size_t headers_of(const Packet& super) { return checked_headers(super).payload; }

void finish_checksum(Packet& packet) {
  PENSTOCK_ASSERT(packet.offload.gso == Offload::Gso::none);
  if (!packet.offload.needs_checksum) return;
  const TransportView at = checked_headers(packet);
  const MutableByteView bytes = packet.mutable_bytes();
  // The pseudo header stands in the field, and so is summed with the rest.
  write_checksum(&bytes[checksum_field(at)], at, checksum_add(bytes.subspan(at.transport)));
  packet.offload = {};
}

void segment(Packet&& super, PacketBatch& out) {
  Packet whole = std::move(super);  // which may lie in `out`
  if (segments_of(whole) == 1) {
    whole.offload = {.needs_checksum = whole.offload.needs_checksum};
    finish_checksum(whole);
    out.push_back(std::move(whole));
    return;
  }
  const SegmentHeaders headers(whole.bytes(), checked_headers(whole));
  const ByteView payload = whole.bytes().subspan(headers.size());
  const std::size_t segment_size = whole.offload.segment_size;
  for (std::size_t index = 0, offset = 0; offset < payload.size(); ++index, offset += segment_size) {
    const std::size_t size = std::min(segment_size, payload.size() - offset);
    Packet& part = out.emplace_back(Packet::with_size(headers.size() + size));
    copy_metadata(whole, part);
    headers.write(part.mutable_bytes(), payload.subspan(offset, size), index, offset, offset + size == payload.size());
  }
}

Packet first_packet_of(const Packet& packet) {
  if (segments_of(packet) == 1) {
    Packet copy = packet.clone();
    copy.offload = {.needs_checksum = packet.offload.needs_checksum};
    finish_checksum(copy);
    return copy;
  }
  const SegmentHeaders headers(packet.bytes(), checked_headers(packet));
  const ByteView payload = packet.bytes().subspan(headers.size(), packet.offload.segment_size);
  Packet first = Packet::with_size(headers.size() + payload.size());
  copy_metadata(packet, first);
  headers.write(first.mutable_bytes(), payload, 0, 0, false);
  return first;
}

Packet split_front(Packet& super, std::size_t segments) {
  const std::size_t all = segments_of(super);
  PENSTOCK_ASSERT(segments >= 1 && segments < all);
  const TransportView at = checked_headers(super);
  const std::size_t whole = super.size() - at.transport;
  const std::size_t cut = segments * super.offload.segment_size;  // bytes of payload that leave
  const std::size_t rest_size = super.size() - cut;

  // What stays behind may wait for long: it gets a buffer of its size. What leaves keeps the large one only if it needs
  // that; so no byte is copied more than once.
  Packet rest = Packet::with_size(rest_size);
  const MutableByteView bytes = rest.mutable_bytes();
  std::memcpy(bytes.data(), super.bytes().data(), at.payload);
  std::memcpy(&bytes[at.payload], &super.bytes()[at.payload + cut], rest_size - at.payload);
  copy_metadata(super, rest);
  if (at.family == Family::ipv4) {
    store_be16(&bytes[4], static_cast<std::uint16_t>(load_be16(&bytes[4]) + segments));
  }
  Packet front;
  const std::size_t front_size = at.payload + cut;
  if (Packet::footprint_of(front_size) == super.footprint()) {
    front = std::move(super);
    front.truncate(front_size);
  } else {
    front = Packet::copy_of(super.bytes().first(front_size));
    copy_metadata(super, front);
    front.offload = super.offload;
  }
  if (at.protocol == kProtocolTcp) {
    std::uint8_t* const tcp = &bytes[at.transport];
    store_be32(tcp + 4, static_cast<std::uint32_t>(load_be32(tcp + 4) + cut));
    tcp[13] &= static_cast<std::uint8_t>(~kCwr);
    front.mutable_bytes()[at.transport + 13U] &= static_cast<std::uint8_t>(~(kFin | kPsh));
  }
  const Offload offload = front.offload;
  become_part(front, at, whole, segments, offload);
  become_part(rest, at, whole, all - segments, offload);
  super = std::move(rest);
  return front;
}

}  // namespace penstock
