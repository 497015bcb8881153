// Super-packets: what a peer may say of a packet is refused, or holds: its parts have all of the payload, good headers
// and good checksums, however it is taken apart, and put together again it is cut as before.
//
// The input: the kind of super-packet, flags (bit 0: partial checksum; bit 1: the IPv4 header's checksum as it
// is), segment size (2 bytes), where to split (1 byte), the packet.
#include <algorithm>
#include <vector>

#include "base/result.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/coalesce.h"
#include "packet/super_packet.h"

namespace {

using namespace penstock;
using Gso = Offload::Gso;

constexpr std::size_t kSaid = 5;
// Segments of a byte each would cost the fuzzer its time.
constexpr std::size_t kEnough = 4096;

TransportView believed_headers_of(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  PENSTOCK_ASSERT(view && check_offload(packet.bytes(), *view, packet.offload));
  const auto at = transport_of(packet.bytes(), *view);
  PENSTOCK_ASSERT(at);
  return *at;
}

bool same(const PacketBatch& a, const PacketBatch& b) {
  return std::ranges::equal(a, b, [](const Packet& x, const Packet& y) {
    return std::ranges::equal(x.bytes(), y.bytes()) && x.offload == y.offload;
  });
}

PacketBatch segmented(const Packet& packet) {
  PacketBatch parts;
  segment(packet.clone(), parts);
  return parts;
}

PacketBatch check_segments(const Packet& super, const TransportView& at) {
  PacketBatch parts = segmented(super);
  std::vector<std::uint8_t> payload;
  std::size_t size = 0;
  std::size_t largest = 0;
  for (const Packet& part : parts) {
    const TransportView part_at = believed_headers_of(part);
    PENSTOCK_ASSERT(part.offload == Offload{} && part_at.payload == at.payload);
    const ByteView rest = part.bytes().subspan(part_at.payload);
    PENSTOCK_ASSERT(&part == &parts.back() || rest.size() == super.offload.segment_size);
    payload.insert(payload.end(), rest.begin(), rest.end());
    size += part.size();
    largest = std::max(largest, part.size());
  }
  PENSTOCK_ASSERT(std::ranges::equal(payload, super.bytes().subspan(at.payload)));
  PENSTOCK_ASSERT(parts.size() == segments_of(super) && size == segmented_size_of(super));
  PENSTOCK_ASSERT(largest == largest_segment_of(super));
  PENSTOCK_ASSERT(std::ranges::equal(first_packet_of(super).bytes(), parts.front().bytes()));
  return parts;
}

void check_split(const Packet& super, std::size_t where, const PacketBatch& parts) {
  Packet rest = super.clone();
  const std::size_t cut = 1 + where % (parts.size() - 1);
  const Packet front = split_front(rest, cut);
  believed_headers_of(front);
  believed_headers_of(rest);
  PENSTOCK_ASSERT(segments_of(front) == cut && segments_of(rest) == parts.size() - cut);
  PacketBatch both = segmented(front);
  segment(std::move(rest), both);
  PENSTOCK_ASSERT(same(both, parts));
}

// Packets that do not join come out as they were.
void check_coalescing(const PacketBatch& parts) {
  PacketBatch batch;
  for (const Packet& part : parts) batch.push_back(part.clone());
  Coalescer({Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6}).coalesce(batch);
  PacketBatch again;
  for (Packet& packet : batch) {
    if (packet.offload.gso != Gso::none) believed_headers_of(packet);
    segment(std::move(packet), again);
  }
  PENSTOCK_ASSERT(same(again, parts));
}

// `good`: the checksums that the packet came with are, so those of its parts must be.
void check_parts(const Packet& packet, const TransportView& at, std::size_t where, bool good) {
  const PacketBatch parts = check_segments(packet, at);
  if (parts.size() > 1) check_split(packet, where, parts);
  if (good) {
    for (const Packet& part : parts) PENSTOCK_ASSERT(has_good_checksums(part, at));
  }
  check_coalescing(parts);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kSaid || size - kSaid > Packet::kMaxSize) return 0;
  Packet packet = Packet::copy_of(ByteView(data, size).subspan(kSaid));
  packet.offload = {
      .gso = static_cast<Gso>(data[0] % 6), .needs_checksum = (data[1] & 1) != 0, .segment_size = load_be16(data + 2)};
  // A bad checksum of an IPv4 header is left where the input says so: what a super-packet has to be refused for.
  fuzz::mend_header(packet.mutable_bytes(), (data[1] & 2) == 0);
  const auto view = parse_ip(packet.bytes());
  if (!view || !check_offload(packet.bytes(), *view, packet.offload)) return 0;
  if (packet.offload == Offload{}) {
    PacketBatch twice;
    twice.push_back(packet.clone());
    twice.push_back(packet.clone());
    check_coalescing(twice);
    return 0;
  }
  const TransportView at = believed_headers_of(packet);
  if (segments_of(packet) > kEnough) return 0;
  check_parts(packet, at, data[4], has_good_checksums(packet, at));
  write_partial_checksum(packet.mutable_bytes(), at);
  PENSTOCK_ASSERT(has_good_checksums(packet, at));
  check_parts(packet, at, data[4], true);
  return 0;
}
