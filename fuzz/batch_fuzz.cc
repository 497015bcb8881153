// Batches: a message gives the same entries bare and masked, and they are all of it unless it is malformed. Those that
// are believed arrive at any peer: as they are where it takes them, else as the packets that they stand for.
//
// The input: a mask key (4 bytes); of the peer the kinds of super-packets that it takes (bits 0 to 3; bit 7: plain v1),
// max_packet and batch_bytes (2 bytes each, see peer()); the message.
#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "base/result.h"
#include "mend_header.h"
#include "packet/super_packet.h"
#include "protocol/batch.h"

namespace {

using namespace penstock;
using namespace penstock::protocol;

constexpr std::size_t kSaid = 9;
// Segments of a byte each would cost the fuzzer its time.
constexpr std::size_t kEnough = 4096;

bool same(const PacketBatch& a, const PacketBatch& b) {
  return std::ranges::equal(a, b, [](const Packet& x, const Packet& y) {
    return std::ranges::equal(x.bytes(), y.bytes()) && x.offload == y.offload;
  });
}

// Any that control messages let through: no size below 576.
Format peer(ByteView said) {
  if ((said[0] & 0x80) != 0) return format_of(std::nullopt);
  constexpr std::array kKinds{"tcp4", "tcp6", "udp4", "udp6"};
  Receive receive{.max_packet = 576U + load_be16(&said[1]), .gso = {}, .batch_bytes = 576U + 2U * load_be16(&said[3])};
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    if ((said[0] >> i & 1) != 0) receive.gso.emplace_back(kKinds[i]);
  }
  return format_of(receive);
}

struct Read {
  PacketBatch packets;
  bool malformed = false;
};

Read read_batch(MaskedView message) {
  BatchReader reader(message);
  Read read;
  std::size_t bytes = 0;
  while (const auto entry = reader.next()) {
    bytes += kEntryHeader + entry->packet.size();
    read.packets.push_back(Packet::copy_of(entry->packet));
    read.packets.back().offload = entry->offload;
  }
  read.malformed = reader.malformed();
  PENSTOCK_ASSERT(bytes <= message.size());
  PENSTOCK_ASSERT(read.malformed == (message.empty() || bytes < message.size()));
  return read;
}

PacketBatch believed(PacketBatch packets) {
  std::size_t segments = 0;
  std::erase_if(packets, [&](Packet& packet) {
    fuzz::mend_header(packet.mutable_bytes());
    const auto view = parse_ip(packet.bytes());
    if (!view || !check_offload(packet.bytes(), *view, packet.offload)) return true;
    segments += segments_of(packet);
    return segments > kEnough;
  });
  return packets;
}

// What is to arrive, and how many are too large for that.
struct Expected {
  PacketBatch packets;
  std::size_t lost = 0;
};

Expected expected(const PacketBatch& packets, const Format& format) {
  const auto small_enough = [&](const Packet& packet) {
    return packet.size() <= format.max_packet &&
           packet.size() + (format.batches ? kEntryHeader : 0) <= format.batch_bytes;
  };
  Expected all;
  for (const Packet& packet : packets) {
    PacketBatch parts;
    if (small_enough(packet) && format.gso.has(packet.offload.gso) &&
        (format.batches || !packet.offload.needs_checksum)) {
      parts.push_back(packet.clone());
    } else {
      segment(packet.clone(), parts);
    }
    all.lost += std::erase_if(parts, [&](const Packet& part) { return !small_enough(part); });
    std::ranges::move(parts, std::back_inserter(all.packets));
  }
  return all;
}

std::vector<std::uint8_t> written(std::span<const Packet> packets, const Message& message, const Format& format) {
  std::vector<std::uint8_t> bytes(message.bytes);
  std::size_t at = 0;
  for (const Packet& packet : packets.first(message.packets)) {
    PENSTOCK_ASSERT(at + packet.size() + (format.batches ? kEntryHeader : 0) <= bytes.size());
    if (format.batches) {
      write_entry_header(&bytes[at], packet);
      at += kEntryHeader;
    }
    std::ranges::copy(packet.bytes(), &bytes[at]);
    at += packet.size();
  }
  PENSTOCK_ASSERT(at == bytes.size());
  return bytes;
}

PacketBatch over_the_wire(std::span<const Packet> packets, const Format& format, std::uint32_t mask_key) {
  PacketBatch arrived;
  while (!packets.empty()) {
    const Message message = next_message(packets, format);
    PENSTOCK_ASSERT(message.packets >= 1 && message.packets <= packets.size() && message.bytes <= format.batch_bytes);
    std::vector<std::uint8_t> bytes = written(packets, message, format);
    apply_mask(bytes, mask_key);
    const MaskedView masked(bytes, mask_key);
    if (format.batches) {
      Read read = read_batch(masked);
      PENSTOCK_ASSERT(!read.malformed && read.packets.size() == message.packets);
      std::ranges::move(read.packets, std::back_inserter(arrived));
    } else {
      PENSTOCK_ASSERT(message.packets == 1);
      arrived.push_back(Packet::copy_of(masked));
    }
    packets = packets.subspan(message.packets);
  }
  return arrived;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kSaid) return 0;
  const std::uint32_t mask_key = load_be32(data);
  const Format format = peer({data + 4, kSaid - 4});
  std::vector<std::uint8_t> message(data + kSaid, data + size);

  Read bare = read_batch(ByteView(message));
  apply_mask(message, mask_key);
  const Read masked = read_batch(MaskedView(message, mask_key));
  PENSTOCK_ASSERT(same(bare.packets, masked.packets) && bare.malformed == masked.malformed);

  PacketBatch batch = believed(std::move(bare.packets));
  const Expected all = expected(batch, format);
  PacketBatch scratch;
  const std::size_t lost = adapt(batch, format, scratch);
  PENSTOCK_ASSERT(lost == all.lost && scratch.empty());
  PENSTOCK_ASSERT(same(batch, all.packets));
  PENSTOCK_ASSERT(same(over_the_wire(batch, format, mask_key), all.packets));
  return 0;
}
