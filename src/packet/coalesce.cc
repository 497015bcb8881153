#include "packet/coalesce.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/result.h"
#include "packet/ip_view.h"

namespace penstock {
namespace {

constexpr std::size_t kHeader4 = 20;
constexpr std::uint8_t kPsh = 0x08;
constexpr std::uint8_t kAck = 0x10;
constexpr std::uint16_t kDontFragment = 0x4000;

bool same(const std::uint8_t* a, const std::uint8_t* b, std::size_t from, std::size_t to) {
  return std::memcmp(a + from, b + from, to - from) == 0;
}

std::uint64_t load64(const std::uint8_t* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Only saves comparisons: flows of one hash are told apart by same_flow().
std::uint32_t hash_of_flow(const std::uint8_t* packet, const TransportView& at) {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;
  std::uint64_t mixed = load_be32(packet + at.transport);  // the ports
  if (at.family == Family::ipv4) {
    mixed ^= load64(packet + 12);
  } else {
    mixed ^= load64(packet + 8) ^ load64(packet + 16) * kOdd;
    mixed = mixed * kOdd ^ load64(packet + 24) ^ load64(packet + 32) * kOdd;
  }
  return static_cast<std::uint32_t>(((mixed + at.protocol) * kOdd) >> 32);
}

// The header sizes may differ.
bool same_flow(const std::uint8_t* a, const TransportView& at_a, const std::uint8_t* b, const TransportView& at_b) {
  const bool addresses = at_a.family == Family::ipv4 ? same(a, b, 12, 20) : same(a, b, 8, 40);
  return addresses && std::memcmp(a + at_a.transport, b + at_b.transport, 4) == 0;
}

// All that the segments of one super-packet have in common, the flow aside.
bool alike(const std::uint8_t* a, const std::uint8_t* b, const TransportView& at) {
  // Version, header size, traffic class; flags, TTL, protocol; of IPv6 the flow label, next header and hop limit.
  const bool ip =
      at.family == Family::ipv4 ? same(a, b, 0, 2) && same(a, b, 6, 10) : same(a, b, 0, 4) && same(a, b, 6, 8);
  if (!ip || at.protocol != kProtocolTcp) return ip;
  const std::uint8_t* const x = a + at.transport;
  const std::uint8_t* const y = b + at.transport;
  // Acknowledgement and header size; window; urgent pointer and options. The flags are known to be ACK and PSH.
  return same(x, y, 8, 13) && same(x, y, 14, 16) && same(x, y, 18, at.payload - std::size_t{at.transport});
}

// Neither TCP nor UDP, whatever else it is: a packet of other flows.
bool is_icmp(ByteView packet) {
  if (packet.size() < kHeader4) return false;
  return packet[0] >> 4 == 4 ? packet[9] == kProtocolIcmp : packet[6] == kProtocolIcmp6;
}

}  // namespace

struct Coalescer::Candidate {
  TransportView at;
  Offload::Gso kind = Offload::Gso::none;
  std::uint32_t place = 0;
  std::uint32_t flow_hash = 0;
  std::uint32_t segments = 1;
  std::size_t payload = 0;
  std::size_t segment_size = 0;
};

void Coalescer::coalesce(PacketBatch& batch) {
  if (batch.size() < 2 || kinds_.empty()) return;
  if (next_.size() < batch.size()) next_.resize(batch.size());
  merged_ = false;
  for (std::uint32_t place = 0; place < batch.size(); ++place) take(batch, place);
  end_all(batch);
  if (merged_) std::erase_if(batch, [](const Packet& packet) { return packet.empty(); });
}

void Coalescer::take(PacketBatch& batch, std::uint32_t place) {
  const Packet& packet = batch[place];
  const auto at = transport_of(packet.bytes());
  if (!at) {
    if (!is_icmp(packet.bytes())) end_all(batch);
    return;
  }
  Candidate candidate{.at = *at, .kind = gso_of(*at), .place = place, .payload = packet.size() - at->payload};
  if (!kinds_.has(candidate.kind)) return;
  const std::uint8_t* const bytes = packet.bytes().data();
  const std::uint8_t* const transport = bytes + at->transport;
  const bool tcp = at->protocol == kProtocolTcp;
  const bool joins = candidate.payload != 0 && (at->family == Family::ipv6 || at->transport == kHeader4) &&
                     (tcp ? (transport[13] & ~kPsh) == kAck && (transport[12] & 0x0F) == 0
                          : load_be16(transport + 4) == packet.size() - at->transport);
  if (!joins && open_ == 0) return;

  candidate.flow_hash = hash_of_flow(bytes, *at);
  Run* const run = find(batch, candidate);
  if (!joins) {
    if (run != nullptr) end(*run, batch);
    return;
  }
  candidate.segment_size = candidate.payload;
  if (packet.offload.gso != Offload::Gso::none && packet.offload.segment_size < candidate.payload) {
    candidate.segment_size = packet.offload.segment_size;
    candidate.segments = static_cast<std::uint32_t>(segments_of(packet));
  }
  if (run == nullptr) return open(batch, candidate);
  if (!continues(*run, batch, candidate)) {
    end(*run, batch);
    return open(batch, candidate);
  }
  // Only now is it worth the time to look at the payloads.
  if (!run->verified && !has_good_checksums(batch[run->first], run->at)) {
    end(*run, batch);
    return open(batch, candidate);
  }
  run->verified = true;
  if (!has_good_checksums(packet, candidate.at)) return end(*run, batch);
  join(*run, batch, candidate);
}

Coalescer::Run* Coalescer::find(const PacketBatch& batch, const Candidate& candidate) {
  const std::uint8_t* const bytes = batch[candidate.place].bytes().data();
  for (std::size_t i = 0; i < open_; ++i) {
    Run& run = runs_[i];
    if (run.flow_hash == candidate.flow_hash && run.kind == candidate.kind &&
        same_flow(batch[run.first].bytes().data(), run.at, bytes, candidate.at)) {
      return &run;
    }
  }
  return nullptr;
}

bool Coalescer::continues(const Run& run, const PacketBatch& batch, const Candidate& candidate) {
  const Packet& first = batch[run.first];
  const Packet& packet = batch[candidate.place];
  const std::uint8_t* const bytes = packet.bytes().data();
  const bool fits =
      candidate.segments == 1 ? candidate.payload <= run.segment_size : candidate.segment_size == run.segment_size;
  const bool tcp = run.at.protocol == kProtocolTcp;
  if (!fits || run.segments + candidate.segments > (tcp ? kMaxTcpSegments : kMaxUdpSegments) ||
      run.size + candidate.payload > Packet::kMaxSize) {
    return false;
  }
  if (tcp && load_be32(bytes + run.at.transport + 4) != run.next_sequence) return false;
  if (run.at.family == Family::ipv4 && load_be16(bytes + 4) != run.next_identification &&
      (load_be16(bytes + 6) & kDontFragment) == 0) {
    return false;
  }
  return alike(first.bytes().data(), bytes, run.at) && packet.source == first.source && packet.member == first.member &&
         packet.answers == first.answers && packet.may_fragment == first.may_fragment;
}

void Coalescer::join(Run& run, PacketBatch& batch, const Candidate& candidate) {
  next_[run.last] = candidate.place;
  run.size += candidate.payload;
  advance(run, batch[candidate.place], candidate);
  if (run.complete) end(run, batch);
}

void Coalescer::open(PacketBatch& batch, const Candidate& candidate) {
  Run run{.at = candidate.at,
          .kind = candidate.kind,
          .segment_size = static_cast<std::uint16_t>(candidate.segment_size),
          .flow_hash = candidate.flow_hash,
          .first = candidate.place,
          .size = batch[candidate.place].size()};
  advance(run, batch[candidate.place], candidate);
  if (run.complete) return;  // nothing can join it
  if (open_ == kOpenRuns) end(*std::ranges::min_element(runs_, {}, &Run::first), batch);
  runs_[open_++] = run;
}

void Coalescer::advance(Run& run, const Packet& packet, const Candidate& candidate) {
  const std::uint8_t* const bytes = packet.bytes().data();
  const std::uint8_t* const transport = bytes + run.at.transport;
  if (run.at.family == Family::ipv4) {
    run.next_identification = static_cast<std::uint16_t>(load_be16(bytes + 4) + candidate.segments);
  }
  if (run.at.protocol == kProtocolTcp) {
    run.next_sequence = static_cast<std::uint32_t>(load_be32(transport + 4) + candidate.payload);
    run.push = (transport[13] & kPsh) != 0;
  }
  run.segments += candidate.segments;
  run.last = candidate.place;
  run.complete = run.push || candidate.payload % run.segment_size != 0;
}

void Coalescer::end(Run& run, PacketBatch& batch) {
  if (run.first != run.last) {
    batch[run.first] = merge(run, batch);
    merged_ = true;
  }
  run = runs_[--open_];
}

void Coalescer::end_all(PacketBatch& batch) {
  while (open_ != 0) end(runs_[0], batch);
}

Packet Coalescer::merge(const Run& run, PacketBatch& batch) const {
  Packet super = Packet::with_size(run.size);
  const MutableByteView bytes = super.mutable_bytes();
  const Packet& first = batch[run.first];
  std::memcpy(bytes.data(), first.bytes().data(), first.size());
  super.source = first.source;
  super.member = first.member;
  super.answers = first.answers;
  super.may_fragment = first.may_fragment;
  super.offload = {.gso = run.kind, .needs_checksum = true, .segment_size = run.segment_size};
  std::size_t end = first.size();
  for (std::uint32_t place = run.first; place != run.last;) {
    place = next_[place];
    const Packet joined = std::move(batch[place]);
    const ByteView payload = joined.bytes().subspan(run.at.payload);
    std::memcpy(&bytes[end], payload.data(), payload.size());
    end += payload.size();
  }
  PENSTOCK_ASSERT(end == run.size);
  if (run.push) bytes[run.at.transport + 13U] |= kPsh;
  write_partial_checksum(bytes, run.at);
  return super;
}

}  // namespace penstock
