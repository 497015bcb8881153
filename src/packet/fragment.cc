#include "packet/fragment.h"

#include <algorithm>
#include <utility>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/extension_header.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

constexpr std::size_t kFixedHeader = 20;
constexpr std::size_t kHeader6 = 40;
// RFC 791 section 3.1: the three flags, and an offset in units of 8 bytes.
constexpr std::uint16_t kMoreFragments = 0x2000;
constexpr std::uint16_t kOffsetMask = 0x1FFF;
constexpr std::size_t kUnit = 8;

constexpr std::uint8_t kEndOfOptions = 0;
constexpr std::uint8_t kNoOperation = 1;
constexpr std::uint8_t kCopied = 0x80;

// Replaces the options that belong into the first fragment only. Where they are malformed the rest stays as it is.
void blank_uncopied(MutableByteView options) {
  for (std::size_t at = 0; at < options.size() && options[at] != kEndOfOptions;) {
    if (options[at] == kNoOperation) {
      ++at;
      continue;
    }
    if (options.size() - at < 2) return;
    const std::size_t length = options[at + 1];
    if (length < 2 || length > options.size() - at) return;
    if ((options[at] & kCopied) == 0) std::ranges::fill(options.subspan(at, length), kNoOperation);
    at += length;
  }
}

Packet part_of(const Packet& whole, std::size_t size) {
  Packet part = Packet::with_size(size);
  part.source = whole.source;
  part.member = whole.member;
  part.answers = whole.answers;
  return part;
}

bool fragment4(Packet&& packet, std::size_t mtu, PacketBatch& out) {
  const std::size_t header = (packet.bytes()[0] & 0x0FU) * 4U;
  const std::size_t payload = packet.size() - header;
  const std::uint16_t field = load_be16(&packet.bytes()[6]);
  const std::size_t begin = (field & kOffsetMask) * kUnit;  // of the packet, itself perhaps a fragment
  if (mtu < header + kUnit || begin + header + payload > Packet::kMaxSize) return false;

  finish_checksum(packet);  // it covers the whole, so it must stand before the whole is cut
  const std::size_t room = (mtu - header) / kUnit * kUnit;
  for (std::size_t at = 0; at < payload; at += room) {
    const std::size_t size = std::min(room, payload - at);
    const bool last = at + size == payload;
    Packet part = part_of(packet, header + size);
    const MutableByteView bytes = part.mutable_bytes();
    std::ranges::copy(packet.bytes().first(header), bytes.begin());
    std::ranges::copy(packet.bytes().subspan(header + at, size), bytes.subspan(header).begin());
    if (begin + at != 0) blank_uncopied(bytes.first(header).subspan(kFixedHeader));
    const auto flags =
        static_cast<std::uint16_t>(last ? field & ~kOffsetMask : (field & ~kOffsetMask) | kMoreFragments);
    store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
    store_be16(&bytes[6], static_cast<std::uint16_t>(flags | (begin + at) / kUnit));
    store_be16(&bytes[10], 0);
    store_be16(&bytes[10], internet_checksum(bytes.first(header)));
    out.push_back(std::move(part));
  }
  return true;
}

struct PerFragmentHeaders {
  std::size_t size = kHeader6;  // with IPv6's own header
  std::size_t named_at = 6;     // where the byte is that announces what follows them
};

// To the end of the last one that routers read.
PerFragmentHeaders per_fragment_headers(ByteView packet) {
  PerFragmentHeaders found;
  std::size_t at = kHeader6;
  std::size_t named_at = 6;
  for (int i = 0; i < extension::kMost; ++i) {
    const std::uint8_t next = packet[named_at];
    const bool read_by_routers = next == extension::kHopByHop || next == extension::kRouting;
    if (!read_by_routers && next != extension::kDestinationOptions) break;
    const std::size_t size = extension::size_of(next, packet.subspan(at));
    if (size >= packet.size() - at) break;
    named_at = at;
    at += size;
    if (read_by_routers) found = {.size = at, .named_at = named_at};
  }
  return found;
}

bool fragment6(Packet&& packet, std::size_t mtu, std::uint32_t identification, PacketBatch& out) {
  const PerFragmentHeaders headers = per_fragment_headers(packet.bytes());
  const std::size_t header = headers.size + extension::kFragmentHeader;
  if (mtu < header + kUnit) return false;

  finish_checksum(packet);
  const ByteView payload = std::as_const(packet).bytes().subspan(headers.size);
  const std::size_t room = (mtu - header) / kUnit * kUnit;
  for (std::size_t at = 0; at < payload.size(); at += room) {
    const std::size_t size = std::min(room, payload.size() - at);
    Packet part = part_of(packet, header + size);
    const MutableByteView bytes = part.mutable_bytes();
    std::ranges::copy(std::as_const(packet).bytes().first(headers.size), bytes.begin());
    std::ranges::copy(payload.subspan(at, size), bytes.subspan(header).begin());
    const MutableByteView mark = bytes.subspan(headers.size, extension::kFragmentHeader);
    mark[0] = std::exchange(bytes[headers.named_at], extension::kFragment);
    mark[1] = 0;
    const bool last = at + size == payload.size();
    store_be16(&mark[2], static_cast<std::uint16_t>(at | (last ? 0U : 1U)));
    store_be32(&mark[4], identification);
    store_be16(&bytes[4], static_cast<std::uint16_t>(bytes.size() - kHeader6));
    out.push_back(std::move(part));
  }
  return true;
}

}  // namespace

bool fragment(Packet&& packet, std::size_t mtu, std::uint32_t identification, PacketBatch& out) {
  PENSTOCK_ASSERT(may_be_fragmented(packet) && packet.offload.gso == Offload::Gso::none);
  if (packet.size() > mtu) {
    const bool v4 = packet.bytes()[0] >> 4 == 4;
    return v4 ? fragment4(std::move(packet), mtu, out) : fragment6(std::move(packet), mtu, identification, out);
  }
  finish_checksum(packet);
  out.push_back(std::move(packet));
  return true;
}

}  // namespace penstock
