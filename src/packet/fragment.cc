#include "packet/fragment.h"

#include <algorithm>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

constexpr std::size_t kFixedHeader = 20;
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

}  // namespace

bool fragment(Packet&& packet, std::size_t mtu, PacketBatch& out) {
  PENSTOCK_ASSERT(may_be_fragmented(packet.bytes()) && packet.offload.gso == Offload::Gso::none);
  const std::size_t header = (packet.bytes()[0] & 0x0FU) * 4U;
  const std::size_t payload = packet.size() - header;
  const std::uint16_t field = load_be16(&packet.bytes()[6]);
  const std::size_t begin = (field & kOffsetMask) * kUnit;  // of the packet, itself perhaps a fragment
  if (packet.size() > mtu && (mtu < header + kUnit || begin + header + payload > Packet::kMaxSize)) return false;

  finish_checksum(packet);  // it covers the whole, so it must stand before the whole is cut
  if (packet.size() <= mtu) {
    out.push_back(std::move(packet));
    return true;
  }
  const std::size_t room = (mtu - header) / kUnit * kUnit;
  for (std::size_t at = 0; at < payload; at += room) {
    const std::size_t size = std::min(room, payload - at);
    const bool last = at + size == payload;
    Packet part = Packet::with_size(header + size);
    part.source = packet.source;
    part.member = packet.member;
    part.answers = packet.answers;

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

}  // namespace penstock
