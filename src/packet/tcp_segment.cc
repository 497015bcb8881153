#include "packet/tcp_segment.h"

#include <cstring>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

constexpr std::size_t kHeader4 = 20;
constexpr std::size_t kHeader6 = 40;
constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kMostOptions = 40;
constexpr std::uint32_t kHopLimit = 64;

// Kinds and lengths of options: RFC 9293 section 3.2, RFC 7323 sections 2.2 and 3.2, RFC 2018 sections 2 and 3.
constexpr std::uint8_t kEnd = 0;
constexpr std::uint8_t kNoOperation = 1;
constexpr std::uint8_t kMss = 2;
constexpr std::uint8_t kMssLength = 4;
constexpr std::uint8_t kWindowScale = 3;
constexpr std::uint8_t kWindowScaleLength = 3;
constexpr std::uint8_t kSackPermitted = 4;
constexpr std::uint8_t kSackPermittedLength = 2;
constexpr std::uint8_t kSack = 5;
constexpr std::uint8_t kSackBlock = 8;
constexpr std::uint8_t kTimestamps = 8;
constexpr std::uint8_t kTimestampsLength = 10;

constexpr std::uint32_t word(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return std::uint32_t{a} << 24 | std::uint32_t{b} << 16 | std::uint32_t{c} << 8 | d;
}

// What nearly every segment has in front of its only option (RFC 7323 appendix A).
constexpr std::uint32_t kAlignedTimestamps = word(kNoOperation, kNoOperation, kTimestamps, kTimestampsLength);
constexpr std::size_t kAlignedTimestampsSize = 12;

TcpTimestamps timestamps_at(const std::uint8_t* at) { return {.value = load_be32(at), .echo = load_be32(at + 4)}; }

// `value` is what the option has behind its kind and length. One that is not as long as its kind is passed over, and so
// is one that stands where it has no meaning. Of two of a kind the last holds.
void read_option(TcpOptions& options, std::uint8_t kind, ByteView value, bool syn) {
  const std::size_t length = value.size() + 2;
  switch (kind) {
    case kMss:
      // Nobody takes segments of nothing.
      if (syn && length == kMssLength && load_be16(value.data()) != 0) options.mss = load_be16(value.data());
      return;
    case kWindowScale:
      if (syn && length == kWindowScaleLength) options.window_scale = value[0];
      return;
    case kSackPermitted:
      if (syn && length == kSackPermittedLength) options.sack_permitted = true;
      return;
    case kSack: {
      const std::size_t count = value.size() / kSackBlock;
      if (syn || count == 0 || count > TcpOptions::kMostSacks || value.size() % kSackBlock != 0) return;
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* const at = &value[i * kSackBlock];
        options.sacks[i] = {.first = load_be32(at), .end = load_be32(at + 4)};
      }
      for (std::size_t i = count; i < options.sack_count; ++i) options.sacks[i] = {};
      options.sack_count = static_cast<std::uint8_t>(count);
      return;
    }
    case kTimestamps:
      if (length == kTimestampsLength) options.timestamps = timestamps_at(value.data());
      return;
    default: return;
  }
}

void read_options(TcpOptions& options, ByteView bytes, bool syn) {
  if (bytes.size() == kAlignedTimestampsSize && load_be32(bytes.data()) == kAlignedTimestamps) {
    options.timestamps = timestamps_at(&bytes[4]);
    return;
  }
  while (!bytes.empty() && bytes[0] != kEnd) {
    if (bytes[0] == kNoOperation) {
      bytes = bytes.subspan(1);
      continue;
    }
    if (bytes.size() < 2 || bytes[1] < 2 || bytes[1] > bytes.size()) return;
    read_option(options, bytes[0], bytes.subspan(2, bytes[1] - 2U), syn);
    bytes = bytes.subspan(bytes[1]);
  }
}

// Returns one variable and nothing else, so that it is made where the caller wants it.
std::optional<TcpView> read_segment(ByteView packet, std::size_t at, std::size_t payload) {
  const std::uint8_t* const tcp = &packet[at];
  std::optional<TcpView> segment(std::in_place);
  segment->source = load_be16(tcp);
  segment->destination = load_be16(tcp + 2);
  segment->sequence = load_be32(tcp + 4);
  segment->acknowledgement = load_be32(tcp + 8);
  segment->flags = tcp[13];
  segment->window = load_be16(tcp + 14);
  segment->payload = payload;
  segment->payload_size = packet.size() - payload;
  const std::size_t options = at + kTcpHeader;
  if (payload != options) {
    read_options(segment->options, packet.subspan(options, payload - options), (segment->flags & kTcpSyn) != 0);
  }
  return segment;
}

// Each takes whole words, as Linux lays them out: "SACK permitted" takes the place of the two NOPs that align
// timestamps.
std::size_t size_of(const TcpOptions& options) {
  std::size_t size = 0;
  if (options.mss) size += 4;
  if (options.timestamps) {
    size += kAlignedTimestampsSize;
  } else if (options.sack_permitted) {
    size += 4;
  }
  if (options.window_scale) size += 4;
  if (options.sack_count != 0) size += 4U + std::size_t{kSackBlock} * options.sack_count;
  return size;
}

void write_options(std::uint8_t* at, const TcpOptions& options) {
  const auto put = [&at](std::uint32_t value) {
    store_be32(at, value);
    at += 4;
  };
  if (options.mss) put(word(kMss, kMssLength, 0, 0) | *options.mss);
  if (options.timestamps) {
    put(options.sack_permitted ? word(kSackPermitted, kSackPermittedLength, kTimestamps, kTimestampsLength)
                               : kAlignedTimestamps);
    put(options.timestamps->value);
    put(options.timestamps->echo);
  } else if (options.sack_permitted) {
    put(word(kNoOperation, kNoOperation, kSackPermitted, kSackPermittedLength));
  }
  if (options.window_scale) put(word(kNoOperation, kWindowScale, kWindowScaleLength, *options.window_scale));
  if (options.sack_count != 0) {
    const auto length = static_cast<std::uint8_t>(2 + kSackBlock * options.sack_count);
    put(word(kNoOperation, kNoOperation, kSack, length));
    for (std::size_t i = 0; i < options.sack_count; ++i) {
      put(options.sacks[i].first);
      put(options.sacks[i].end);
    }
  }
}

constexpr std::uint32_t add_halves(std::uint32_t sum, std::uint32_t words) {
  return sum + (words >> 16) + (words & 0xFFFF);
}

// Writes the IP header of a packet of `size` bytes and returns the sum of its pseudo header. Sums are made of what is
// written, not read back: a load across stores that are still on their way waits for all of them.
std::uint32_t write_ip_header4(std::uint8_t* at, const TcpHeader& header, std::size_t size) {
  constexpr std::uint32_t kFirst = 0x45000000;
  constexpr std::uint32_t kDontFragment = 0x4000;
  constexpr std::uint32_t kHopsAndProtocol = kHopLimit << 24 | std::uint32_t{kProtocolTcp} << 16;
  constexpr std::uint32_t kFixedSum = add_halves(add_halves(kDontFragment, kFirst), kHopsAndProtocol);
  const auto length = static_cast<std::uint32_t>(size);
  const std::uint32_t from = load_be32(header.from.address.bytes().data());
  const std::uint32_t to = load_be32(header.to.address.bytes().data());
  const std::uint32_t addresses = add_halves(add_halves(0, from), to);
  store_be32(at, kFirst | length);
  store_be32(at + 4, kDontFragment);
  store_be32(at + 8, kHopsAndProtocol | checksum_finish(checksum_fold(kFixedSum + length + addresses)));
  store_be32(at + 12, from);
  store_be32(at + 16, to);
  return checksum_fold(addresses + kProtocolTcp + length - std::uint32_t{kHeader4});
}

std::uint32_t write_ip_header6(std::uint8_t* at, const TcpHeader& header, std::size_t size) {
  const auto length = static_cast<std::uint32_t>(size - kHeader6);
  store_be32(at, 0x60000000);
  store_be32(at + 4, length << 16 | std::uint32_t{kProtocolTcp} << 8 | kHopLimit);
  std::memcpy(at + 8, header.from.address.bytes().data(), 16);
  std::memcpy(at + 24, header.to.address.bytes().data(), 16);
  return pseudo_header_sum(header.from.address, header.to.address, kProtocolTcp, length);
}

// Addresses that are not one host's, about which RFC 9293 section 3.9.2.3 wants silence.
bool is_single_host(const IpAddress& address) {
  if (address.is_unspecified() || address.is_multicast()) return false;
  return address.is_v6() || address.to_v4() != 0xFFFFFFFF;
}

}  // namespace

std::optional<TcpView> parse_tcp(ByteView packet, const IpView& view) {
  if (view.protocol != kProtocolTcp) return std::nullopt;
  const auto at = transport_of(packet, view);
  if (!at) return std::nullopt;
  return read_segment(packet, at->transport, at->payload);
}

std::size_t tcp_headers_size(const TcpHeader& header) {
  return (header.from.address.is_v4() ? kHeader4 : kHeader6) + kTcpHeader + size_of(header.options);
}

void write_tcp_headers(Packet& packet, const TcpHeader& header, std::size_t segment_size) {
  PENSTOCK_ASSERT(header.from.address.family() == header.to.address.family() &&
                  header.options.sack_count <= TcpOptions::kMostSacks);
  const bool v4 = header.from.address.is_v4();
  const std::size_t ip = v4 ? kHeader4 : kHeader6;
  const std::size_t options = size_of(header.options);
  const std::size_t payload = ip + kTcpHeader + options;
  const MutableByteView bytes = packet.mutable_bytes();
  PENSTOCK_ASSERT(options <= kMostOptions && payload <= bytes.size());
  const std::uint32_t pseudo =
      v4 ? write_ip_header4(bytes.data(), header, bytes.size()) : write_ip_header6(bytes.data(), header, bytes.size());

  std::uint8_t* const tcp = &bytes[ip];
  store_be16(tcp, header.from.port);
  store_be16(tcp + 2, header.to.port);
  store_be32(tcp + 4, header.sequence);
  store_be32(tcp + 8, header.acknowledgement);
  tcp[12] = static_cast<std::uint8_t>((kTcpHeader + options) / 4 << 4);
  tcp[13] = header.flags;
  store_be16(tcp + 14, header.window);
  store_be16(tcp + 16, static_cast<std::uint16_t>(pseudo));
  store_be16(tcp + 18, 0);
  if (options != 0) write_options(tcp + kTcpHeader, header.options);

  packet.offload = {.needs_checksum = true};
  if (bytes.size() - payload > segment_size) {
    PENSTOCK_ASSERT(segment_size != 0 && (header.flags & (kTcpSyn | kTcpRst | kTcpUrg)) == 0);
    packet.offload.gso = v4 ? Offload::Gso::tcp4 : Offload::Gso::tcp6;
    packet.offload.segment_size = static_cast<std::uint16_t>(segment_size);
  }
}

Packet tcp_packet(const TcpHeader& header) {
  Packet packet = Packet::with_size(tcp_headers_size(header));
  write_tcp_headers(packet, header, 0);
  return packet;
}

std::optional<Packet> tcp_reset_for(const Packet& packet, const IpView& view) {
  if (!is_single_host(view.source) || !is_single_host(view.destination)) return std::nullopt;
  const auto segment = parse_tcp(packet.bytes(), view);
  if (!segment || (segment->flags & kTcpRst) != 0) return std::nullopt;
  if (!has_good_checksums(packet, *transport_of(packet.bytes(), view))) return std::nullopt;

  TcpHeader reset{.from = {view.destination, segment->destination}, .to = {view.source, segment->source}};
  if ((segment->flags & kTcpAck) != 0) {
    reset.sequence = segment->acknowledgement;
    reset.flags = kTcpRst;
  } else {
    const std::size_t length = segment->payload_size + ((segment->flags & kTcpSyn) != 0 ? 1U : 0U) +
                               ((segment->flags & kTcpFin) != 0 ? 1U : 0U);
    reset.acknowledgement = segment->sequence + static_cast<std::uint32_t>(length);
    reset.flags = kTcpRst | kTcpAck;
  }
  return tcp_packet(reset);
}

}  // namespace penstock
