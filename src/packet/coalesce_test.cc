#include "packet/coalesce.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "packet/packet_samples.h"

namespace penstock {
namespace {

using namespace samples;
using Gso = Offload::Gso;

constexpr GsoKinds kAll{Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6};

PacketBatch batch_of(const std::vector<Sample>& samples) {
  PacketBatch batch;
  for (const Sample& sample : samples) batch.push_back(make(sample));
  return batch;
}

std::vector<Bytes> bytes_of_all(const PacketBatch& batch) {
  std::vector<Bytes> all;
  for (const Packet& packet : batch) all.push_back(bytes_of(packet));
  return all;
}

std::vector<Bytes> segmented(PacketBatch batch) {
  PacketBatch parts;
  for (Packet& packet : batch) segment(std::move(packet), parts);
  return bytes_of_all(parts);
}

// `count` segments of one flow that follow each other.
std::vector<Sample> stream(std::size_t count, std::size_t size = 100, Gso kind = Gso::tcp4) {
  Sample super;
  super.family = kind == Gso::tcp4 || kind == Gso::udp4 ? Family::ipv4 : Family::ipv6;
  super.protocol = kind == Gso::tcp4 || kind == Gso::tcp6 ? kProtocolTcp : kProtocolUdp;
  SeededRandom random(count);
  super.payload = random_bytes(random, count * size);
  super.offload = {.gso = kind, .needs_checksum = true, .segment_size = static_cast<std::uint16_t>(size)};
  return samples::segments_of(super);
}

// The number of packets that are left of `samples`, after it was seen that they come apart again as they were.
std::size_t left_of(const std::vector<Sample>& samples, GsoKinds kinds = kAll) {
  PacketBatch batch = batch_of(samples);
  const auto before = segmented(batch_of(samples));
  Coalescer(kinds).coalesce(batch);
  const std::size_t left = batch.size();
  EXPECT_EQ(segmented(std::move(batch)), before);
  return left;
}

TEST(Coalescer, SegmentsThatFollowEachOtherBecomeOne) {
  for (const Gso kind : {Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6}) {
    PacketBatch batch = batch_of(stream(10, 100, kind));
    Coalescer(kAll).coalesce(batch);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(batch[0].offload, (Offload{.gso = kind, .needs_checksum = true, .segment_size = 100}));
    EXPECT_TRUE(check_offload(batch[0].bytes(), *parse_ip(batch[0].bytes()), batch[0].offload));
    EXPECT_EQ(segmented(std::move(batch)), bytes_of_all(batch_of(stream(10, 100, kind))));
  }
}

// What the second of three segments is changed by, and how many packets are left then: 1 if it joins all the same, 2
// if it is joined but ends the run, or is not joined but opens one, 3 if it stays alone and the third does too.
struct Case {
  std::string name;
  std::size_t left;
  std::function<void(Sample&)> change;
};

TEST(Coalescer, WhatIsNotAlikeDoesNotJoin) {
  const std::vector<Case> table{
      {"nothing", 1, [](Sample&) {}},
      {"a partial checksum", 1, [](Sample& second) { second.offload.needs_checksum = true; }},
      {"PSH ends the run", 2, [](Sample& second) { second.flags |= kPsh; }},
      {"a shorter one ends the run", 2, [](Sample& second) { second.payload.resize(99); }},
      {"a longer one", 3, [](Sample& second) { second.payload.resize(101); }},
      {"nothing but an acknowledgement", 3, [](Sample& second) { second.payload.clear(); }},
      {"another acknowledgement", 3, [](Sample& second) { ++second.acknowledgement; }},
      {"another window", 3, [](Sample& second) { ++second.window; }},
      {"a gap", 3, [](Sample& second) { ++second.sequence; }},
      {"an overlap", 3, [](Sample& second) { --second.sequence; }},
      {"another TTL", 3, [](Sample& second) { --second.ttl; }},
      {"another traffic class", 3, [](Sample& second) { second.traffic_class = 3; }},
      {"don't-fragment missing", 3, [](Sample& second) { second.fragment_field = 0; }},
      {"the reserved flag", 3, [](Sample& second) { second.fragment_field |= 0x8000; }},
      {"a fragment", 3, [](Sample& second) { second.fragment_field = 0x2000; }},
      {"IPv4 options", 3, [](Sample& second) { second.ip_options = 4; }},
      {"TCP options", 3, [](Sample& second) { second.options = Bytes(4, 1); }},
      {"an urgent pointer", 3, [](Sample& second) { second.urgent = 1; }},
      {"FIN", 3, [](Sample& second) { second.flags |= kFin; }},
      {"SYN", 3, [](Sample& second) { second.flags |= kSyn; }},
      {"RST", 3, [](Sample& second) { second.flags |= kRst; }},
      {"URG", 3, [](Sample& second) { second.flags |= kUrg; }},
      {"ECE", 3, [](Sample& second) { second.flags |= kEce; }},
      {"CWR", 3, [](Sample& second) { second.flags |= kCwr; }},
      {"no ACK", 3, [](Sample& second) { second.flags = 0; }},
      {"another port", 2, [](Sample& second) { ++second.source_port; }},
      {"another sender", 2, [](Sample& second) { ++second.host; }},
      {"another protocol", 2, [](Sample& second) { second.protocol = kProtocolUdp; }},
  };
  for (const Case& one : table) {
    auto three = stream(3);
    if (one.left == 2 && one.name.starts_with("another")) {
      // Of another flow: the third follows the first.
      three[2] = three[1];
    }
    one.change(three[1]);
    PacketBatch batch = batch_of(three);
    Coalescer(kAll).coalesce(batch);
    EXPECT_EQ(batch.size(), one.left) << one.name;
    if (one.left == 2 && one.name.starts_with("another")) continue;  // it was overtaken
    EXPECT_EQ(segmented(std::move(batch)), segmented(batch_of(three))) << one.name;
  }
}

TEST(Coalescer, TcpOptionsThatDifferDoNotJoin) {
  auto two = stream(2);
  two[0].options = two[1].options = Bytes(12, 1);
  EXPECT_EQ(left_of(two), 1U);
  two[1].options[11] = 2;
  EXPECT_EQ(left_of(two), 2U);
}

TEST(Coalescer, WhatAllOfARunHaveMayKeepThemApartToo) {
  auto two = stream(2);
  for (Sample& sample : two) sample.ip_options = 8;
  EXPECT_EQ(left_of(two), 2U) << "IPv4 options";
  two = stream(2);
  for (Sample& sample : two) sample.reserved = 1;
  EXPECT_EQ(left_of(two), 2U) << "a reserved bit";
  two = stream(2);
  for (Sample& sample : two) sample.flags |= kEce;
  EXPECT_EQ(left_of(two), 2U) << "ECE";
}

// A sum that is good with 0xFFFF in its field is good with 0 too, but only one of the two would be written here.
TEST(Coalescer, AChecksumThatWouldComeBackAsAnotherStaysAsItIs) {
  constexpr std::size_t kIpChecksum = 10;
  constexpr std::size_t kTcpChecksum = 36;
  auto two = stream(2);
  // What the checksum is becomes part of what is summed, so that the next one is 0.
  two[0].identification = static_cast<std::uint16_t>(two[0].identification + load_be16(&bytes_of(make(two[0]))[10]));
  if (load_be16(&bytes_of(make(two[0]))[kIpChecksum]) != 0) ++two[0].identification;
  two[1].identification = static_cast<std::uint16_t>(two[0].identification + 1);
  store_be16(two[0].payload.data(), 0);
  store_be16(two[0].payload.data(), load_be16(&bytes_of(make(two[0]))[kTcpChecksum]));
  EXPECT_EQ(left_of(two), 1U);
  for (const std::size_t field : {kIpChecksum, kTcpChecksum}) {
    PacketBatch batch = batch_of(two);
    ASSERT_EQ(load_be16(&batch[0].bytes()[field]), 0) << field;
    store_be16(&batch[0].mutable_bytes()[field], 0xFFFF);
    Coalescer(kAll).coalesce(batch);
    EXPECT_EQ(batch.size(), 2U) << field;
  }
}

TEST(Coalescer, WithoutDontFragmentIdentificationsMustCountUp) {
  auto two = stream(2);
  for (Sample& sample : two) sample.fragment_field = 0;
  EXPECT_EQ(left_of(two), 1U);
  two[1].identification = two[0].identification;
  EXPECT_EQ(left_of(two), 2U);
}

TEST(Coalescer, WithDontFragmentIdentificationsMeanNothing) {
  auto three = stream(3);
  for (Sample& sample : three) sample.identification = 0;
  PacketBatch batch = batch_of(three);
  Coalescer(kAll).coalesce(batch);
  ASSERT_EQ(batch.size(), 1U);
  for (std::size_t i = 0; i < three.size(); ++i) three[i].identification = static_cast<std::uint16_t>(i);
  EXPECT_EQ(segmented(std::move(batch)), bytes_of_all(batch_of(three)));
}

TEST(Coalescer, TheFlowLabelMustBeTheSame) {
  auto two = stream(2, 100, Gso::tcp6);
  ++two[1].flow_label;
  EXPECT_EQ(left_of(two), 2U);
}

TEST(Coalescer, OnlyWhatTheReceiverTakesIsMade) {
  for (const Gso kind : {Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6}) {
    GsoKinds others = kAll;
    others.remove(kind);
    EXPECT_EQ(left_of(stream(3, 100, kind), others), 3U);
    EXPECT_EQ(left_of(stream(3, 100, kind), {kind}), 1U);
    EXPECT_EQ(left_of(stream(3, 100, kind), {}), 3U);
  }
}

TEST(Coalescer, ABadChecksumStaysAsItIs) {
  const auto with_flipped = [](std::size_t packet, std::size_t byte, bool partial) {
    auto samples = stream(4);
    for (Sample& sample : samples) sample.offload.needs_checksum = partial;
    PacketBatch batch = batch_of(samples);
    batch[packet].mutable_bytes()[byte] ^= 1;
    const auto before = bytes_of_all(batch);
    Coalescer(kAll).coalesce(batch);
    EXPECT_EQ(std::ranges::count(bytes_of_all(batch), before[packet]), 1) << packet << " " << byte;
    return batch.size();
  };
  constexpr std::size_t kPayload = 60;
  constexpr std::size_t kTcpChecksum = 36;
  constexpr std::size_t kIpChecksum = 10;
  for (const std::size_t byte : {kPayload, kTcpChecksum, kIpChecksum}) {
    EXPECT_EQ(with_flipped(0, byte, false), 2U);
    EXPECT_EQ(with_flipped(1, byte, false), 3U);
    EXPECT_EQ(with_flipped(2, byte, false), 3U);
    EXPECT_EQ(with_flipped(3, byte, false), 2U);
  }
  EXPECT_EQ(with_flipped(1, kTcpChecksum, true), 3U) << "the sum of the pseudo header must be that";
}

TEST(Coalescer, UdpWithoutAChecksumStaysAlone) {
  auto three = stream(3, 100, Gso::udp4);
  three[1].no_checksum = true;
  EXPECT_EQ(left_of(three), 3U);
}

TEST(Coalescer, SuperPacketsJoinWithTheirSegments) {
  auto packets = stream(12);
  Sample super = packets[2];
  for (std::size_t i = 3; i < 9; ++i) {
    super.payload.insert(super.payload.end(), packets[i].payload.begin(), packets[i].payload.end());
  }
  super.offload = {.gso = Gso::tcp4, .needs_checksum = true, .segment_size = 100};
  packets.erase(packets.begin() + 3, packets.begin() + 9);
  packets[2] = super;
  EXPECT_EQ(left_of(packets), 1U);

  packets[2].offload.segment_size = 50;
  EXPECT_EQ(left_of({packets[0], packets[1], packets[2]}), 2U) << "of other segments it opens a run of its own";
  packets[2].offload.segment_size = 60;
  EXPECT_EQ(left_of({packets[2], packets[3]}), 2U) << "its last segment is short, so nothing may follow";
  packets[2].offload.segment_size = 1000;
  packets[3].identification = static_cast<std::uint16_t>(packets[2].identification + 1);
  EXPECT_EQ(left_of({packets[2], packets[3]}), 1U) << "one segment that is smaller than it might be";
}

TEST(Coalescer, ASuperPacketIsNotLargerThanAPacketMayBe) {
  EXPECT_EQ(left_of(stream(46, 1448)), 2U);
  PacketBatch batch = batch_of(stream(46, 1448));
  Coalescer(kAll).coalesce(batch);
  EXPECT_EQ(segments_of(batch[0]), 45U);
  EXPECT_EQ(left_of(stream(kMaxTcpSegments + 1, 10)), 2U);
  EXPECT_EQ(left_of(stream(kMaxUdpSegments, 10, Gso::udp6)), 1U);
  EXPECT_EQ(left_of(stream(kMaxUdpSegments + 1, 10, Gso::udp6)), 2U);
}

TEST(Coalescer, OfMoreFlowsThanItFollowsTheOldestEnds) {
  std::vector<Sample> packets;
  constexpr std::size_t kFlows = Coalescer::kOpenRuns + 1;
  for (std::size_t i = 0; i < 3 * kFlows; ++i) {
    auto three = stream(3);
    packets.push_back(three[i / kFlows]);
    packets.back().source_port = static_cast<std::uint16_t>(i % kFlows);
  }
  const auto without_the_last = [&] {
    std::vector<Sample> fewer;
    for (const Sample& packet : packets)
      if (packet.source_port != kFlows - 1) fewer.push_back(packet);
    return fewer;
  }();
  PacketBatch batch = batch_of(without_the_last);
  Coalescer(kAll).coalesce(batch);
  EXPECT_EQ(batch.size(), kFlows - 1);
  EXPECT_EQ(left_of(packets), packets.size()) << "each ends the run whose turn would be next";
}

TEST(Coalescer, AnotherFlowsPacketMayBeOvertakenButAFragmentMayNot) {
  auto two = stream(2);
  Sample between = two[0];
  between.protocol = kProtocolUdp;
  PacketBatch batch = batch_of({two[0], between, two[1]});
  Coalescer(kAll).coalesce(batch);
  EXPECT_EQ(batch.size(), 2U);
  EXPECT_EQ(bytes_of(batch[1]), bytes_of(make(between)));

  between.fragment_field = 0x2010;
  EXPECT_EQ(left_of({two[0], between, two[1]}), 3U);
}

TEST(Coalescer, AnAcknowledgementBetweenIsNotOvertakenByItsOwnFlow) {
  const auto three = stream(3);
  Sample acknowledgement = three[1];
  acknowledgement.payload.clear();
  EXPECT_EQ(left_of({three[0], acknowledgement, three[1], three[2]}), 3U);
}

TEST(Coalescer, PacketsOfDifferentOriginDoNotJoin) {
  for (int field = 0; field < 4; ++field) {
    PacketBatch batch = batch_of(stream(2));
    if (field == 3) batch[1].may_fragment = true;
    if (field == 0) batch[1].source = {.slot = 1, .generation = 1};
    if (field == 1) batch[1].member = 1;
    if (field == 2) batch[1].answers = 1;
    Coalescer(kAll).coalesce(batch);
    EXPECT_EQ(batch.size(), 2U);
  }
  PacketBatch batch = batch_of(stream(2));
  for (Packet& packet : batch) {
    packet.member = 7;
    packet.may_fragment = true;
  }
  Coalescer(kAll).coalesce(batch);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_EQ(batch[0].member, 7U);
  EXPECT_TRUE(batch[0].may_fragment);
}

TEST(Coalescer, WhatFindsNoNeighbourIsNotTouched) {
  auto packets = stream(2);
  packets[1].sequence += 1;
  PacketBatch batch = batch_of(packets);
  const auto* first = batch[0].bytes().data();
  const auto* second = batch[1].bytes().data();
  Coalescer(kAll).coalesce(batch);
  ASSERT_EQ(batch.size(), 2U);
  EXPECT_EQ(batch[0].bytes().data(), first);
  EXPECT_EQ(batch[1].bytes().data(), second);
}

TEST(Coalescer, WhatIsNoPacketOfAFlowPasses) {
  PacketBatch batch;
  Coalescer coalescer(kAll);
  coalescer.coalesce(batch);
  EXPECT_TRUE(batch.empty());
  batch.push_back(Packet::copy_of(Bytes(3, 7)));
  batch.push_back(Packet::copy_of(Bytes(60, 0x45)));
  coalescer.coalesce(batch);
  EXPECT_EQ(batch.size(), 2U);
}

// Streams of several flows, mixed, with everything that disturbs one now and then.
std::vector<Sample> random_traffic(Random& random) {
  const auto flows = 1 + random.next32() % 12;
  std::vector<Sample> state(flows);
  std::vector<std::size_t> size(flows);
  for (std::size_t i = 0; i < flows; ++i) {
    state[i].family = random.next32() % 2 == 0 ? Family::ipv4 : Family::ipv6;
    state[i].protocol = random.next32() % 4 == 0 ? kProtocolUdp : kProtocolTcp;
    state[i].source_port = static_cast<std::uint16_t>(i);
    state[i].sequence = random.next32();
    state[i].identification = static_cast<std::uint16_t>(random.next32());
    state[i].fragment_field = random.next32() % 2 == 0 ? 0 : 0x4000;
    state[i].options = random_bytes(random, random.next32() % 4 * 4);
    size[i] = 1 + random.next32() % 1448;
  }
  std::vector<Sample> packets;
  for (auto count = random.next32() % 150; count != 0; --count) {
    const std::size_t i = random.next32() % flows;
    Sample& flow = state[i];
    const std::uint32_t dice = random.next32() % 40;
    if (dice == 0) ++flow.acknowledgement;
    if (dice == 1) flow.window = static_cast<std::uint16_t>(random.next32());
    if (dice == 2) flow.sequence += 1000;
    if (dice == 3) flow.traffic_class ^= 3;
    Sample packet = flow;
    packet.payload = random_bytes(random, size[i]);
    if (dice == 4) packet.payload.clear();
    if (dice == 5) packet.payload.resize(1 + random.next32() % 2000);
    if (dice == 6) packet.flags |= static_cast<std::uint8_t>(1U << random.next32() % 8);
    if (dice == 7) packet.flags |= kPsh;
    if (dice == 8) packet.fragment_field |= 0x2000;
    if (dice == 9) packet.ip_options = 8;
    if (dice == 10) packet.no_checksum = true;
    std::size_t segments = 1;
    if (dice < 14) packet.offload.needs_checksum = !packet.no_checksum && packet.fragment_field % 0x4000 == 0;
    if (dice >= 11 && dice < 14) {
      packet.payload = random_bytes(random, size[i] * (1 + random.next32() % 10) + (dice == 13 ? 1 : 0));
      packet.offload.gso = kind_of(packet);
      packet.offload.segment_size = static_cast<std::uint16_t>(size[i]);
      segments = samples::segments_of(packet).size();
    }
    flow.sequence += static_cast<std::uint32_t>(packet.payload.size());
    flow.identification = static_cast<std::uint16_t>(flow.identification + segments);
    packets.push_back(std::move(packet));
  }
  return packets;
}

std::map<std::size_t, std::vector<Bytes>> by_flow(const std::vector<Bytes>& packets) {
  std::map<std::size_t, std::vector<Bytes>> flows;
  for (const Bytes& packet : packets) {
    const std::size_t transport = packet[0] >> 4 == 4 ? (packet[0] & 0x0FU) * 4U : 40U;
    flows[load_be16(&packet[transport])].push_back(packet);
  }
  return flows;
}

TEST(Coalescer, WhatIsCoalescedComesApartAgainByteByByte) {
  SeededRandom random(1);
  Coalescer coalescer(kAll);
  std::size_t before = 0;
  std::size_t after = 0;
  for (int round = 0; round < 700; ++round) {
    const auto traffic = random_traffic(random);
    PacketBatch batch = batch_of(traffic);
    const auto expected = by_flow(segmented(batch_of(traffic)));
    before += batch.size();
    coalescer.coalesce(batch);
    after += batch.size();
    for (const Packet& packet : batch) {
      ASSERT_TRUE(check_offload(packet.bytes(), *parse_ip(packet.bytes()), packet.offload)) << round;
      const bool tcp = packet.offload.gso == Gso::tcp4 || packet.offload.gso == Gso::tcp6;
      ASSERT_LE(segments_of(packet), tcp ? kMaxTcpSegments : kMaxUdpSegments);
    }
    ASSERT_EQ(by_flow(segmented(std::move(batch))), expected) << round;
  }
  EXPECT_LT(after, before / 2) << "and much of it was";
}

}  // namespace
}  // namespace penstock
