#include "protocol/batch.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace penstock::protocol {
namespace {

using Gso = Offload::Gso;

constexpr std::uint8_t kPartialChecksum = 0x01;

// By their kind on the wire, from 1 on, which is that of the enumeration.
constexpr std::array<std::string_view, 4> kKindNames{"tcp4", "tcp6", "udp4", "udp6"};
static_assert(static_cast<int>(Gso::tcp4) == 1 && static_cast<int>(Gso::udp6) == 4);

}  // namespace

std::string describe(const Format& format) {
  if (!format.batches) return "v1";
  std::string text = "batches";
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    if (format.gso.has(static_cast<Gso>(i + 1))) text.append(",").append(kKindNames[i]);
  }
  return text;
}

Format format_of(const std::optional<Receive>& receive) {
  if (!receive) return {};
  Format format{.batches = true, .gso = {}, .max_packet = receive->max_packet, .batch_bytes = receive->batch_bytes};
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    if (std::ranges::find(receive->gso, kKindNames[i]) != receive->gso.end()) format.gso.add(static_cast<Gso>(i + 1));
  }
  return format;
}

Receive receive_of(GsoKinds kinds, std::uint32_t mtu) {
  Receive receive{.max_packet = Packet::kMaxSize, .gso = {}, .batch_bytes = kBatchBytes, .mtu = mtu};
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    if (kinds.has(static_cast<Gso>(i + 1))) receive.gso.emplace_back(kKindNames[i]);
  }
  return receive;
}

Message next_message(std::span<const Packet> packets, const Format& format) {
  if (!format.batches) return {.packets = 1, .bytes = packets.front().size()};
  const std::size_t most = std::min(format.batch_bytes, kMessageTarget);
  Message message;
  for (const Packet& packet : packets) {
    const std::size_t bytes = message.bytes + kEntryHeader + packet.size();
    if (bytes > most && message.packets != 0) break;
    message.bytes = bytes;
    ++message.packets;
  }
  return message;
}

void write_entry_header(std::uint8_t* at, const Packet& packet) {
  at[0] = static_cast<std::uint8_t>(packet.offload.gso);
  at[1] = packet.offload.needs_checksum ? kPartialChecksum : 0;
  store_be16(at + 2, static_cast<std::uint16_t>(packet.size()));
  store_be16(at + 4, packet.offload.segment_size);
}

std::optional<BatchReader::Entry> BatchReader::next() {
  if (rest_.empty()) return std::nullopt;
  malformed_ = true;  // until it is not
  if (rest_.size() < kEntryHeader) return std::nullopt;
  std::array<std::uint8_t, kEntryHeader> header;
  rest_.subspan(0, kEntryHeader).copy_to(header.data());
  const std::uint8_t kind = header[0];
  const std::uint8_t flags = header[1];
  const std::size_t length = load_be16(&header[2]);
  const std::uint16_t segment_size = load_be16(&header[4]);
  if (kind > kKindNames.size() || (flags & ~kPartialChecksum) != 0 || length > rest_.size() - kEntryHeader ||
      (kind == 0 && segment_size != 0))
    return std::nullopt;
  malformed_ = false;
  const Entry entry{.packet = rest_.subspan(kEntryHeader, length),
                    .offload = {.gso = static_cast<Gso>(kind),
                                .needs_checksum = (flags & kPartialChecksum) != 0,
                                .segment_size = segment_size}};
  rest_ = rest_.subspan(kEntryHeader + length);
  return entry;
}

}  // namespace penstock::protocol
