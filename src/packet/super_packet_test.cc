#include "packet/super_packet.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>

#include "packet/packet_samples.h"

namespace penstock {
namespace {

using namespace samples;

constexpr std::array<Offload::Gso, 4> kKinds{Offload::Gso::tcp4, Offload::Gso::tcp6, Offload::Gso::udp4,
                                             Offload::Gso::udp6};

Sample super_sample(Offload::Gso kind, std::size_t payload, std::uint16_t segment_size) {
  Sample sample;
  sample.family = kind == Offload::Gso::tcp4 || kind == Offload::Gso::udp4 ? Family::ipv4 : Family::ipv6;
  sample.protocol = kind == Offload::Gso::tcp4 || kind == Offload::Gso::tcp6 ? kProtocolTcp : kProtocolUdp;
  SeededRandom random(payload + segment_size);
  sample.payload = random_bytes(random, payload);
  sample.offload = {.gso = kind, .needs_checksum = true, .segment_size = segment_size};
  return sample;
}

Sample random_super(Random& random) {
  const bool large = random.next32() % 8 == 0;
  const std::uint32_t limit = large ? 60000 : 3000;
  const auto payload = 1 + random.next32() % limit;
  // Small segment sizes too, and ones that the payload does not fill.
  const std::uint32_t most = random.next32() % 2 == 0 ? 1500 : 40;
  const auto segment_size = static_cast<std::uint16_t>(1 + random.next32() % most + (large ? 100 : 0));
  Sample sample = super_sample(kKinds[random.next32() % kKinds.size()], payload, segment_size);
  sample.traffic_class = static_cast<std::uint8_t>(random.next32());
  sample.ttl = static_cast<std::uint8_t>(random.next32());
  sample.flow_label = random.next32() & 0xFFFFF;
  sample.identification = static_cast<std::uint16_t>(random.next32());
  sample.fragment_field = random.next32() % 2 == 0 ? 0 : 0x4000;
  sample.ip_options = random.next32() % 4 == 0 ? random.next32() % 11 * 4 : 0;
  sample.sequence = random.next32();
  sample.acknowledgement = random.next32();
  sample.flags = static_cast<std::uint8_t>(random.next32()) & static_cast<std::uint8_t>(~(kSyn | kRst | kUrg));
  sample.window = static_cast<std::uint16_t>(random.next32());
  sample.urgent = static_cast<std::uint16_t>(random.next32());
  sample.options = random_bytes(random, random.next32() % 11 * 4);
  return sample;
}

bool accepted(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  return view && check_offload(packet.bytes(), *view, packet.offload);
}

std::vector<Bytes> segmented(Packet packet) {
  PacketBatch batch;
  segment(std::move(packet), batch);
  std::vector<Bytes> all;
  for (const Packet& part : batch) {
    EXPECT_EQ(part.offload, Offload{});
    all.push_back(bytes_of(part));
  }
  return all;
}

std::vector<Bytes> reference(const Sample& sample) {
  std::vector<Bytes> all;
  for (const Sample& part : samples::segments_of(sample)) all.push_back(bytes_of(make(part)));
  return all;
}

TEST(SuperPacket, ItsSegmentsAreThePacketsThatASimplerMakerWouldHaveMade) {
  SeededRandom random(1);
  for (int round = 0; round < 1500; ++round) {
    const Sample sample = random_super(random);
    const Packet super = make(sample);
    ASSERT_TRUE(accepted(super)) << round;
    ASSERT_EQ(segmented(super.clone()), reference(sample)) << round;
  }
}

TEST(SuperPacket, CountsAndSizesAreThoseOfTheSegments) {
  SeededRandom random(2);
  for (int round = 0; round < 300; ++round) {
    const Packet super = make(random_super(random));
    std::size_t sum = 0;
    std::size_t largest = 0;
    const auto parts = segmented(super.clone());
    ASSERT_EQ(headers_of(super), transport_of(super.bytes())->payload);
    for (const Bytes& part : parts) {
      sum += part.size();
      largest = std::max(largest, part.size());
    }
    ASSERT_EQ(segments_of(super), parts.size());
    ASSERT_EQ(segmented_size_of(super), sum);
    ASSERT_EQ(largest_segment_of(super), largest);
  }
}

TEST(SuperPacket, TheFirstPacketOfItIsTheFirstOfItsSegments) {
  SeededRandom random(8);
  for (int round = 0; round < 500; ++round) {
    Sample sample = random_super(random);
    if (round % 3 == 0) sample.offload = {.needs_checksum = round % 2 == 0};
    const Packet packet = make(sample);
    const Packet first = first_packet_of(packet);
    ASSERT_EQ(bytes_of(first), reference(sample).front()) << round;
    ASSERT_EQ(first.offload, Offload{});
    ASSERT_EQ(bytes_of(packet), bytes_of(make(sample))) << "which is still what it was";
  }
}

TEST(SuperPacket, SplitAnywhereItsPartsStandForTheSameSegments) {
  SeededRandom random(3);
  for (int round = 0; round < 150; ++round) {
    const Sample sample = random_super(random);
    const auto expected = reference(sample);
    const std::size_t step = 1 + expected.size() / 20;
    for (std::size_t cut = 1; cut < expected.size(); cut += step) {
      Packet rest = make(sample);
      const Packet front = split_front(rest, cut);
      ASSERT_TRUE(accepted(front) && accepted(rest));
      ASSERT_EQ(segments_of(front), cut);
      ASSERT_EQ(segments_of(rest), expected.size() - cut);
      ASSERT_EQ(front.offload.gso == Offload::Gso::none, cut == 1);
      ASSERT_EQ(rest.offload.gso == Offload::Gso::none, cut + 1 == expected.size());
      auto parts = segmented(front.clone());
      for (Bytes& part : segmented(rest.clone())) parts.push_back(std::move(part));
      ASSERT_EQ(parts, expected) << round << " at " << cut;
    }
  }
}

TEST(SuperPacket, SplitAgainAndAgainItLosesNothing) {
  SeededRandom random(4);
  for (int round = 0; round < 300; ++round) {
    const Sample sample = random_super(random);
    Packet rest = make(sample);
    std::vector<Bytes> parts;
    while (segments_of(rest) > 1) {
      Packet front = split_front(rest, 1 + random.next32() % (segments_of(rest) - 1));
      for (Bytes& part : segmented(std::move(front))) parts.push_back(std::move(part));
    }
    for (Bytes& part : segmented(std::move(rest))) parts.push_back(std::move(part));
    ASSERT_EQ(parts, reference(sample)) << round;
  }
}

TEST(SuperPacket, WhatStaysBehindASplitHoldsNoMoreMemoryThanItNeeds) {
  Packet rest = make(super_sample(Offload::Gso::tcp4, 44 * 1448, 1448));
  const Packet large = split_front(rest, 43);
  EXPECT_EQ(rest.footprint(), Packet::footprint_of(rest.size()));
  const Packet again = make(super_sample(Offload::Gso::tcp4, 44 * 1448, 1448));
  rest = again.clone();
  const Packet small = split_front(rest, 1);
  EXPECT_EQ(small.footprint(), Packet::footprint_of(small.size()));
}

TEST(SuperPacket, FinPshAndCwrGoWhereTheyBelong) {
  Sample sample = super_sample(Offload::Gso::tcp4, 250, 100);
  sample.flags = kAck | kFin | kPsh | kCwr | kEce;
  const auto parts = segmented(make(sample));
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0][33], kAck | kCwr | kEce);
  EXPECT_EQ(parts[1][33], kAck | kEce);
  EXPECT_EQ(parts[2][33], kAck | kEce | kFin | kPsh);
}

TEST(SuperPacket, SequenceNumbersAndIdentificationsWrapAround) {
  Sample sample = super_sample(Offload::Gso::tcp4, 300, 100);
  sample.sequence = 0xFFFFFFFF;
  sample.identification = 0xFFFF;
  const auto parts = segmented(make(sample));
  EXPECT_EQ(load_be32(&parts[1][24]), 99U);
  EXPECT_EQ(load_be16(&parts[1][4]), 0U);
  EXPECT_EQ(load_be16(&parts[2][4]), 1U);
}

TEST(SuperPacket, MetadataGoesWithEveryPart) {
  const auto marked = [](Packet packet) {
    packet.source = {.slot = 3, .generation = 4};
    packet.member = 5;
    packet.answers = 6;
    return packet;
  };
  const auto is_marked = [](const Packet& packet) {
    return packet.source == SessionId{.slot = 3, .generation = 4} && packet.member == 5 && packet.answers == 6;
  };
  for (const std::size_t cut : {1U, 43U}) {
    Packet rest = marked(make(super_sample(Offload::Gso::tcp6, 44 * 1400, 1400)));
    const Packet front = split_front(rest, cut);
    EXPECT_TRUE(is_marked(front) && is_marked(rest));
    EXPECT_TRUE(is_marked(first_packet_of(rest)));
  }
  for (const std::uint16_t size : std::array<std::uint16_t, 2>{100, 5000}) {
    PacketBatch batch;
    segment(marked(make(super_sample(Offload::Gso::udp4, 1000, size))), batch);
    EXPECT_TRUE(std::ranges::all_of(batch, is_marked));
  }
}

TEST(SuperPacket, SegmentsAreAppendedEvenToTheBatchThatItLiesIn) {
  const Sample sample = super_sample(Offload::Gso::tcp4, 5000, 100);
  PacketBatch batch;
  batch.push_back(make(sample));
  batch.shrink_to_fit();
  segment(std::move(batch[0]), batch);
  ASSERT_EQ(batch.size(), 51U);
  EXPECT_EQ(bytes_of(batch[50]), reference(sample).back());
}

TEST(SuperPacket, AnOrdinaryPacketPassesAsItIs) {
  Sample sample = super_sample(Offload::Gso::tcp4, 100, 100);
  sample.offload = {};
  Packet packet = make(sample);
  const auto* before = packet.bytes().data();
  EXPECT_EQ(segments_of(packet), 1U);
  EXPECT_EQ(segmented_size_of(packet), packet.size());
  EXPECT_EQ(largest_segment_of(packet), packet.size());
  PacketBatch batch;
  segment(std::move(packet), batch);
  EXPECT_EQ(batch[0].bytes().data(), before);
  EXPECT_EQ(bytes_of(batch[0]), bytes_of(make(sample)));
}

TEST(SuperPacket, APartialChecksumIsFinishedWhateverTheKind) {
  SeededRandom random(5);
  for (int round = 0; round < 500; ++round) {
    Sample sample = random_super(random);
    sample.offload = {.needs_checksum = true};
    Packet packet = make(sample);
    ASSERT_TRUE(accepted(packet));
    finish_checksum(packet);
    sample.offload = {};
    ASSERT_EQ(bytes_of(packet), bytes_of(make(sample)));
    ASSERT_EQ(packet.offload, Offload{});
    finish_checksum(packet);
    ASSERT_EQ(bytes_of(packet), bytes_of(make(sample))) << "a second time changes nothing";
  }
}

TEST(SuperPacket, AUdpChecksumOfZeroIsSentAsOnes) {
  Sample sample = super_sample(Offload::Gso::udp4, 4, 2);
  sample.payload.assign(4, 0);
  // Each segment's first two bytes are what its sum lacks.
  const Sample one = samples::segments_of(sample).front();
  const std::uint16_t lacking = load_be16(&bytes_of(make(one))[26]);
  store_be16(sample.payload.data(), lacking);
  store_be16(&sample.payload[2], lacking);
  const auto parts = segmented(make(sample));
  EXPECT_EQ(load_be16(&parts[0][26]), 0xFFFF);
  EXPECT_EQ(load_be16(&parts[1][26]), 0xFFFF);
}

TEST(SuperPacket, HeadersThatWereGrownAreMadeToFit) {
  SeededRandom random(6);
  for (int round = 0; round < 200; ++round) {
    const Sample sample = random_super(random);
    const Packet expected = make(sample);
    Packet packet = expected.clone();
    const auto view = *parse_ip(packet.bytes());
    const auto at = transport_of(packet.bytes(), view);
    const MutableByteView bytes = packet.mutable_bytes();
    store_be16(&bytes[view.family == Family::ipv4 ? 2 : 4], 0);
    store_be16(&bytes[at->transport + (sample.protocol == kProtocolTcp ? 16U : 6U)], 0);
    write_partial_checksum(bytes, *at);
    ASSERT_EQ(bytes_of(packet), bytes_of(expected));
    ASSERT_TRUE(has_good_checksums(packet, *at));
    bytes[random.next32() % 2 == 0 ? at->transport + (sample.protocol == kProtocolTcp ? 17U : 7U) : 10U] ^= 1;
    ASSERT_FALSE(has_good_checksums(packet, *at));
  }
}

TEST(Transport, ItsHeadersAreFoundBehindTheIpHeader) {
  Sample sample;
  sample.ip_options = 8;
  sample.options = Bytes(12, 1);
  sample.payload = Bytes(5);
  const Packet packet = make(sample);
  const auto at = transport_of(packet.bytes(), *parse_ip(packet.bytes()));
  ASSERT_TRUE(at);
  EXPECT_EQ(at->family, Family::ipv4);
  EXPECT_EQ(at->protocol, kProtocolTcp);
  EXPECT_EQ(at->transport, 28U);
  EXPECT_EQ(at->payload, 60U);
  EXPECT_EQ(gso_of(*at), Offload::Gso::tcp4);
}

TEST(Transport, LengthsThatCannotBeAreNoHeaders) {
  Sample sample = super_sample(Offload::Gso::udp4, 20, 20);
  Packet udp = make(sample);
  const IpView view = *parse_ip(udp.bytes());
  for (const std::uint16_t length : std::array<std::uint16_t, 3>{0, 7, 29}) {
    store_be16(&udp.mutable_bytes()[24], length);
    EXPECT_FALSE(transport_of(udp.bytes(), view)) << length;
  }
  store_be16(&udp.mutable_bytes()[24], 8);
  EXPECT_TRUE(transport_of(udp.bytes(), view));
}

TEST(Transport, WithoutAViewTheAnswerIsTheSame) {
  SeededRandom random(7);
  for (int round = 0; round < 2000; ++round) {
    Packet packet = make(random_super(random));
    // One byte of the headers, or none, is something else.
    if (round % 4 != 0) packet.mutable_bytes()[random.next32() % 28] = static_cast<std::uint8_t>(random.next32());
    const auto view = parse_ip(packet.bytes());
    const auto expected = view ? transport_of(packet.bytes(), *view) : std::nullopt;
    const auto at = transport_of(packet.bytes());
    ASSERT_EQ(at.has_value(), expected.has_value()) << round;
    if (!at) continue;
    ASSERT_EQ(at->family, expected->family);
    ASSERT_EQ(at->protocol, expected->protocol);
    ASSERT_EQ(at->transport, expected->transport);
    ASSERT_EQ(at->payload, expected->payload);
  }
}

// What a peer may say of a packet, and what of it is believed.
struct Claim {
  std::string name;
  bool believed;
  Offload::Gso kind;                           // of the packet that is told about
  std::function<void(Sample&)> sample;         // changes it before it is made
  std::function<void(MutableByteView)> bytes;  // and afterwards
};

TEST(CheckOffload, WhatCannotBeTrueIsRefused) {
  using enum Offload::Gso;
  const auto as_is = [](MutableByteView) {};
  const auto claims = [](Offload offload) { return [offload](Sample& sample) { sample.offload = offload; }; };
  const auto flags = [](int more) {
    return [more](Sample& sample) { sample.flags = static_cast<std::uint8_t>(sample.flags | more); };
  };
  const auto unchanged = [](Sample&) {};
  const std::vector<Claim> table{
      {"a super-packet of TCP over IPv4", true, tcp4, unchanged, as_is},
      {"a super-packet of TCP over IPv6", true, tcp6, unchanged, as_is},
      {"a super-packet of UDP over IPv4", true, udp4, unchanged, as_is},
      {"a super-packet of UDP over IPv6", true, udp6, unchanged, as_is},
      {"no offload", true, tcp4, claims({}), as_is},
      {"a partial checksum", true, udp6, claims({.needs_checksum = true}), as_is},
      {"no larger than one segment", true, tcp4, claims({tcp4, true, 60000}), as_is},
      {"segments of one byte", true, tcp4, claims({tcp4, true, 1}), as_is},
      {"FIN, PSH, ECE and CWR", true, tcp4, flags(kFin | kPsh | kEce | kCwr), as_is},
      {"with IPv4 options", true, tcp4, [](Sample& sample) { sample.ip_options = 40; }, as_is},

      {"TCP over IPv4 called TCP over IPv6", false, tcp4, claims({tcp6, true, 100}), as_is},
      {"TCP over IPv6 called TCP over IPv4", false, tcp6, claims({tcp4, true, 100}), as_is},
      {"TCP called UDP", false, tcp4, claims({udp4, true, 100}), as_is},
      {"UDP called TCP", false, udp6, claims({tcp6, true, 100}), as_is},
      {"a kind that there is not", false, tcp4, claims({static_cast<Offload::Gso>(5), true, 100}), as_is},
      {"a finished checksum", false, tcp4, claims({tcp4, false, 100}), as_is},
      {"a segment size of 0", false, tcp4, claims({tcp4, true, 0}), as_is},
      {"a segment size without a kind", false, tcp4, claims({none, true, 100}), as_is},
      {"a segment size without anything", false, tcp4, claims({none, false, 100}), as_is},
      {"no payload", false, tcp4, [](Sample& sample) { sample.payload.clear(); }, as_is},
      {"no payload of UDP", false, udp4, [](Sample& sample) { sample.payload.clear(); }, as_is},
      {"SYN", false, tcp4, flags(kSyn), as_is},
      {"RST", false, tcp6, flags(kRst), as_is},
      {"URG", false, tcp4, flags(kUrg), as_is},
      {"a first fragment", false, tcp4, [](Sample& sample) { sample.fragment_field = 0x2000; }, as_is},
      {"a later fragment", false, udp4, [](Sample& sample) { sample.fragment_field = 0x0010; }, as_is},
      {"a fragment with a partial checksum", false, udp4,
       [](Sample& sample) {
         sample.fragment_field = 0x2000;
         sample.offload = {.needs_checksum = true};
       },
       as_is},
      {"a bad IPv4 header checksum, which cutting would mend", false, tcp4, unchanged,
       [](MutableByteView bytes) { bytes[10] ^= 1; }},
      {"one of UDP", false, udp4, unchanged, [](MutableByteView bytes) { bytes[8] ^= 1; }},
      {"one in options", false, tcp4, [](Sample& sample) { sample.ip_options = 8; },
       [](MutableByteView bytes) { bytes[27] = 0; }},
      {"one with a partial checksum, which nothing mends", true, tcp4, claims({.needs_checksum = true}),
       [](MutableByteView bytes) { bytes[10] ^= 1; }},
      {"hop-by-hop options", false, tcp6, unchanged, [](MutableByteView bytes) { bytes[6] = 0; }},
      {"a fragment header", false, udp6, unchanged, [](MutableByteView bytes) { bytes[6] = 44; }},
      {"ICMP", false, udp4, unchanged, [](MutableByteView bytes) { bytes[9] = kProtocolIcmp; }},
      {"ICMP with a partial checksum", false, udp4, claims({.needs_checksum = true}),
       [](MutableByteView bytes) { bytes[9] = kProtocolIcmp; }},
      {"a TCP header that is smaller than one", false, tcp4, unchanged,
       [](MutableByteView bytes) { bytes[32] = 0x40; }},
      {"a TCP header that is larger than the packet", false, tcp4, [](Sample& sample) { sample.payload.resize(10); },
       [](MutableByteView bytes) { bytes[32] = 0xF0; }},
      {"a UDP length that is more than there is", false, udp4, unchanged, [](MutableByteView bytes) { ++bytes[25]; }},
      {"a UDP length that is less than there is", false, udp4, unchanged, [](MutableByteView bytes) { --bytes[25]; }},
      {"a UDP length that is less than its header", false, udp6, unchanged,
       [](MutableByteView bytes) { store_be16(&bytes[44], 7); }},
  };
  for (const Claim& claim : table) {
    Sample sample = super_sample(claim.kind, 1001, 100);
    claim.sample(sample);
    Packet packet = make(sample);
    claim.bytes(packet.mutable_bytes());
    EXPECT_EQ(accepted(packet), claim.believed) << claim.name;
  }
}

TEST(CheckOffload, ATransportHeaderThatIsCutShortIsRefused) {
  for (const Offload::Gso kind : kKinds) {
    const Packet whole = make(super_sample(kind, 1, 1));
    const auto view = *parse_ip(whole.bytes());
    for (std::size_t size = view.header_size; size + 1 < whole.size(); ++size) {
      Packet cut = Packet::copy_of(whole.bytes().first(size));
      const MutableByteView bytes = cut.mutable_bytes();
      store_be16(&bytes[view.family == Family::ipv4 ? 2 : 4],
                 static_cast<std::uint16_t>(view.family == Family::ipv4 ? size : size - 40));
      cut.offload = {.needs_checksum = true};
      ASSERT_FALSE(accepted(cut)) << size;
      cut.offload = {};
      ASSERT_TRUE(accepted(cut)) << "without an offload nothing is said of it";
    }
  }
}

}  // namespace
}  // namespace penstock
