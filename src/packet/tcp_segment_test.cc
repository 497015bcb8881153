#include "packet/tcp_segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "packet/checksum.h"
#include "packet/packet_samples.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

using samples::Bytes;
using samples::Sample;

// What a Linux kernel sent, as it left through a TUN device without offloads. Blanks stand between IP, TCP and options.
constexpr std::string_view kSynAck4 =
    "4500003c000040004006b6b1c0000201c0000209 1f909c40f7a520d8ffffffffa012fe884df90000 "
    "020405b40402080a68d93650000003e80103030a";
constexpr std::string_view kData4 =
    "450000393581400040068133c0000201c0000209 1f909c40f7a520d9ffffffff8018004037310000 "
    "0101080a68d93650000003e9 68656c6c6f";
constexpr std::string_view kBareSynAck4 =
    "4500002c000040004006b6c1c0000201c0000209 1f909c41429df081000000656012faf029c50000 020405b4";
constexpr std::string_view kBareData4 =
    "450000313a7a400040067c42c0000201c0000209 1f909c41429df082000000655018faf0e78e0000 787878787878787878";
constexpr std::string_view kSacks4 =
    "450000503584400040068119c0000201c0000209 1f909c40f7a520defffffffff0100040040700000101080a68d93650000003ea "
    "0101051a000000310000003b0000001d000000270000000900000013";
constexpr std::string_view kFin4 =
    "450000503586400040068117c0000201c0000209 1f909c40f7a520defffffffff0110040038e0000 0101080a68d93650000003ea"
    "0101051a000000450000004f000000310000003b0000001d00000027";
constexpr std::string_view kSynAck6 =
    "60003d9c0028064020010db800000000000000000000000120010db8000000000000000000000009 "
    "1f909c40c370103fffffffffa012fb04e92b0000 020405a00402080aa0dfd40c000003e80103030a";
constexpr std::string_view kData6 =
    "60003d9c0025064020010db800000000000000000000000120010db8000000000000000000000009 "
    "1f909c40c3701040ffffffff8018003fcecc0000 0101080aa0dfd40c000003e9 68656c6c6f";
constexpr std::string_view kSacks6 =
    "60003d9c0034064020010db800000000000000000000000120010db8000000000000000000000009 "
    "1f909c40c3701045ffffffffd010003fbc1e0000 0101080aa0dfd40c000003ea 010105120000001d000000270000000900000013";

Packet packet_of(std::string_view text) {
  std::string digits(text);
  std::erase(digits, ' ');
  return Packet::copy_of(ByteView(from_hex(digits).value()));
}

IpView view_of(const Packet& packet) { return parse_ip(packet.bytes()).value(); }
std::optional<TcpView> parsed(const Packet& packet) { return parse_tcp(packet.bytes(), view_of(packet)); }

bool is_good(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view || !check_offload(packet.bytes(), *view, packet.offload)) return false;
  const auto at = transport_of(packet.bytes(), *view);
  return at && has_good_checksums(packet, *at);
}

TcpHeader header_of(const Packet& packet) {
  const IpView ip = view_of(packet);
  const TcpView tcp = parsed(packet).value();
  return {.from = {ip.source, tcp.source},
          .to = {ip.destination, tcp.destination},
          .sequence = tcp.sequence,
          .acknowledgement = tcp.acknowledgement,
          .flags = tcp.flags,
          .window = tcp.window,
          .options = tcp.options};
}

Packet written(const TcpHeader& header, ByteView payload, std::size_t segment_size = Packet::kMaxSize) {
  const std::size_t headers = tcp_headers_size(header);
  Packet packet = Packet::with_size(headers + payload.size());
  std::ranges::fill(packet.mutable_bytes(), std::uint8_t{0xA5});
  std::ranges::copy(payload, packet.mutable_bytes().begin() + static_cast<std::ptrdiff_t>(headers));
  write_tcp_headers(packet, header, segment_size);
  return packet;
}

TcpOptions random_options(Random& random, bool syn) {
  TcpOptions options;
  if (random.next32() % 2 == 0) options.timestamps = {.value = random.next32(), .echo = random.next32()};
  if (syn) {
    if (random.next32() % 2 == 0) options.mss = static_cast<std::uint16_t>(random.next32() % 0xFFFF + 1);
    if (random.next32() % 2 == 0) options.window_scale = static_cast<std::uint8_t>(random.next32());
    options.sack_permitted = random.next32() % 2 == 0;
  } else {
    options.sack_count = static_cast<std::uint8_t>(random.next32() % (options.timestamps ? 4 : 5));
    for (std::size_t i = 0; i < options.sack_count; ++i) options.sacks[i] = {random.next32(), random.next32()};
  }
  return options;
}

constexpr std::array<std::uint8_t, 5> kFlagsOfKinds{kTcpSyn, kTcpSyn | kTcpAck, kTcpAck, kTcpAck | kTcpPsh,
                                                    kTcpAck | kTcpFin};

class TcpSegment : public testing::TestWithParam<Family> {
 protected:
  // With the ends that samples::make() gives its packets.
  TcpHeader random_header() {
    const Packet model = samples::make({.family = GetParam()});
    const std::uint8_t flags = kFlagsOfKinds[random_.next32() % kFlagsOfKinds.size()];
    return {.from = {view_of(model).source, static_cast<std::uint16_t>(random_.next32())},
            .to = {view_of(model).destination, static_cast<std::uint16_t>(random_.next32())},
            .sequence = random_.next32(),
            .acknowledgement = random_.next32(),
            .flags = flags,
            .window = static_cast<std::uint16_t>(random_.next32()),
            .options = random_options(random_, (flags & kTcpSyn) != 0)};
  }
  TcpOptions options_of(Bytes options, std::uint8_t flags) const {
    return parsed(samples::make({.family = GetParam(), .flags = flags, .options = std::move(options)}))->options;
  }
  SeededRandom random_{1};
};

INSTANTIATE_TEST_SUITE_P(Families, TcpSegment, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST(TcpSegmentOfAKernel, ASynIsReadFieldByField) {
  for (const bool v4 : {true, false}) {
    const Packet packet = packet_of(v4 ? kSynAck4 : kSynAck6);
    const auto tcp = parsed(packet);
    ASSERT_TRUE(tcp);
    EXPECT_EQ(tcp->source, 8080);
    EXPECT_EQ(tcp->destination, 40000);
    EXPECT_EQ(tcp->sequence, v4 ? 0xF7A520D8 : 0xC370103F);
    EXPECT_EQ(tcp->acknowledgement, 0xFFFFFFFF);
    EXPECT_EQ(tcp->flags, kTcpSyn | kTcpAck);
    EXPECT_EQ(tcp->window, v4 ? 0xFE88 : 0xFB04);
    EXPECT_EQ(tcp->payload, packet.size());
    EXPECT_EQ(tcp->payload_size, 0U);
    const TcpTimestamps timestamps{.value = v4 ? 0x68D93650 : 0xA0DFD40C, .echo = 1000};
    EXPECT_EQ(tcp->options, (TcpOptions{.mss = v4 ? 1460 : 1440,
                                        .window_scale = std::uint8_t{10},
                                        .sack_permitted = true,
                                        .timestamps = timestamps}));
  }
}

TEST(TcpSegmentOfAKernel, ItsPayloadAndSackBlocksAreFound) {
  const Packet data = packet_of(kData4);
  const auto tcp = parsed(data);
  ASSERT_TRUE(tcp);
  EXPECT_EQ(as_text(data.bytes().subspan(tcp->payload, tcp->payload_size)), "hello");
  EXPECT_EQ(tcp->options, (TcpOptions{.timestamps = TcpTimestamps{.value = 0x68D93650, .echo = 1001}}));

  EXPECT_EQ(parsed(packet_of(kBareData4))->options, TcpOptions{});
  EXPECT_EQ(parsed(packet_of(kBareData4))->payload, 40U);

  const auto sacks = parsed(packet_of(kSacks4));
  EXPECT_EQ(sacks->options, (TcpOptions{.timestamps = TcpTimestamps{.value = 0x68D93650, .echo = 1002},
                                        .sacks = {{{49, 59}, {29, 39}, {9, 19}, {}}},
                                        .sack_count = 3}));
}

// But for the IPv4 identification, which means nothing with don't-fragment, and the IPv6 flow label.
TEST(TcpSegmentOfAKernel, IsWrittenAgainByteByByte) {
  for (const std::string_view text :
       {kSynAck4, kData4, kBareSynAck4, kBareData4, kSacks4, kFin4, kSynAck6, kData6, kSacks6}) {
    Packet packet = packet_of(text);
    ASSERT_TRUE(is_good(packet)) << text;
    const auto tcp = parsed(packet);
    Packet again = written(header_of(packet), packet.bytes().subspan(tcp->payload));
    ASSERT_TRUE(is_good(again)) << text;
    finish_checksum(again);

    const MutableByteView bytes = packet.mutable_bytes();
    if (view_of(packet).family == Family::ipv4) {
      store_be16(&bytes[10], checksum_update(load_be16(&bytes[10]), load_be16(&bytes[4]), 0));
      store_be16(&bytes[4], 0);
    } else {
      store_be32(bytes.data(), 0x60000000);
    }
    EXPECT_EQ(samples::bytes_of(again), samples::bytes_of(packet)) << text;
  }
}

TEST(TcpSegmentOfAKernel, AResetIsTheOneThatAKernelSends) {
  // To a port that nobody listens on, and what came back.
  constexpr std::array<std::array<std::string_view, 2>, 5> kAnswered4{{
      {"45 a012fa00c1420000 020405780402080a000003e80000000001030307", "1234567800000000 5004000026de0000"},
      {"45 8018fa002ab70000 0101080a0000000768d93650 6162636465", "1234567800000000 5004000026de0000"},
      {"45 a002fa00c1520000 020405780402080a000003e80000000001030307", "00000000fffffffe 501400008f7b0000"},
      {"45 5003fa00687a0000 616263", "0000000000000002 501400008f780000"},
      {"45 5000fa00cb7e0000 6162", "00000000ffffffff 501400008f7a0000"},
  }};
  for (const auto& [asked, answered] : kAnswered4) {
    std::string text = "4500000000004000400600 00c0000209c0000201 9c420009fffffffd12345678";
    Packet question = packet_of(text.append(asked.substr(3)));
    const MutableByteView bytes = question.mutable_bytes();
    store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
    store_be16(&bytes[10], internet_checksum(bytes.first(20)));
    auto reset = tcp_reset_for(question, view_of(question));
    ASSERT_TRUE(reset) << asked;
    finish_checksum(*reset);
    std::string wanted = "45000028000040004006b6c5c0000201c0000209 00099c42";
    EXPECT_EQ(samples::bytes_of(*reset), samples::bytes_of(packet_of(wanted.append(answered)))) << asked;
  }
  const Packet question = packet_of(
      "600000000017064020010db800000000000000000000000920010db8000000000000000000000001"
      "9c420009fffffffd123456785003fa0091090000616263");
  auto reset = tcp_reset_for(question, view_of(question));
  ASSERT_TRUE(reset);
  finish_checksum(*reset);
  EXPECT_EQ(
      samples::bytes_of(*reset),
      samples::bytes_of(packet_of("600000000014064020010db800000000000000000000000120010db8000000000000000000000009"
                                  "00099c42000000000000000250140000b8070000")));
}

TEST_P(TcpSegment, WhatWasWrittenIsReadAsTheSame) {
  for (int round = 0; round < 3000; ++round) {
    const TcpHeader header = random_header();
    const Bytes payload = samples::random_bytes(random_, random_.next32() % 3 == 0 ? 0 : random_.next32() % 1500);
    const Packet packet = written(header, payload);
    const IpView ip = view_of(packet);
    const auto tcp = parse_tcp(packet.bytes(), ip);
    ASSERT_TRUE(tcp);
    ASSERT_EQ((Endpoint{ip.source, tcp->source}), header.from);
    ASSERT_EQ((Endpoint{ip.destination, tcp->destination}), header.to);
    ASSERT_EQ(tcp->sequence, header.sequence);
    ASSERT_EQ(tcp->acknowledgement, header.acknowledgement);
    ASSERT_EQ(tcp->flags, header.flags);
    ASSERT_EQ(tcp->window, header.window);
    ASSERT_EQ(tcp->options, header.options);
    ASSERT_EQ(tcp->payload, tcp_headers_size(header));
    ASSERT_EQ(tcp->payload_size, payload.size());
    ASSERT_TRUE(std::ranges::equal(packet.bytes().subspan(tcp->payload), payload));

    // Word by word as the sample's slower code has it.
    Sample model{.family = GetParam(), .source_port = tcp->source, .destination_port = tcp->destination};
    model.flow_label = 0;
    model.identification = 0;
    model.sequence = header.sequence;
    model.acknowledgement = header.acknowledgement;
    model.flags = header.flags;
    model.window = header.window;
    const std::size_t options = ip.header_size + 20;
    model.options.assign(&packet.bytes()[options], packet.bytes().data() + tcp->payload);
    model.payload = payload;
    model.offload = {.needs_checksum = true};
    ASSERT_EQ(samples::bytes_of(packet), samples::bytes_of(samples::make(model)));
    ASSERT_EQ(packet.offload, model.offload);
  }
}

TEST_P(TcpSegment, OptionsAreReadInWhateverOrderAndBetweenWhateverElse) {
  for (int round = 0; round < 3000; ++round) {
    const bool syn = round % 2 == 0;
    const TcpOptions wanted = random_options(random_, syn);
    std::vector<Bytes> parts;
    const auto word = [](std::uint32_t value) {
      Bytes bytes(4);
      store_be32(bytes.data(), value);
      return bytes;
    };
    const auto add = [&](Bytes head, std::initializer_list<std::uint32_t> words) -> Bytes& {
      for (const std::uint32_t value : words) std::ranges::copy(word(value), std::back_inserter(head));
      return parts.emplace_back(std::move(head));
    };
    if (wanted.mss) add({2, 4, word(*wanted.mss)[2], word(*wanted.mss)[3]}, {});
    if (wanted.window_scale) add({3, 3, *wanted.window_scale}, {});
    if (wanted.sack_permitted) add({4, 2}, {});
    if (wanted.timestamps) add({8, 10}, {wanted.timestamps->value, wanted.timestamps->echo});
    if (wanted.sack_count != 0) {
      Bytes sacks{5, static_cast<std::uint8_t>(2 + 8 * wanted.sack_count)};
      for (std::size_t i = 0; i < wanted.sack_count; ++i) {
        for (const std::uint32_t edge : {wanted.sacks[i].first, wanted.sacks[i].end})
          std::ranges::copy(word(edge), std::back_inserter(sacks));
      }
      parts.push_back(sacks);
    }
    std::size_t size = 0;
    for (const Bytes& part : parts) size += part.size();
    // Fast open with a cookie (RFC 7413), user timeout (RFC 5482), lengths that are not the kind's, nothing at all.
    const std::array<Bytes, 7> noise{
        Bytes{1},    Bytes{34, 6, 1, 2, 3, 4}, Bytes{28, 4, 8, 10}, Bytes{254, 2}, Bytes{2, 3, 0xFF},
        Bytes{3, 2}, Bytes{8, 6, 1, 1, 1, 1}};
    for (int tries = 0; tries < 6; ++tries) {
      const Bytes& more = noise[random_.next32() % noise.size()];
      if (size + more.size() > 40) continue;
      size += more.size();
      parts.push_back(more);
    }
    for (std::size_t i = parts.size(); i > 1; --i) std::swap(parts[i - 1], parts[random_.next32() % i]);
    Bytes bytes;
    for (const Bytes& part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
    // The end of the list, behind which nothing counts.
    if (bytes.size() % 4 != 0) bytes.push_back(0);
    while (bytes.size() % 4 != 0) bytes.push_back(0xFF);
    ASSERT_EQ(options_of(bytes, syn ? kTcpSyn : kTcpAck), wanted) << to_hex(bytes);
  }
}

TEST_P(TcpSegment, ALengthThatMakesNoSenseEndsTheOptionsAndWhatStoodBeforeHolds) {
  const TcpOptions before{.mss = std::uint16_t{1400}};
  for (const std::uint8_t length : std::array<std::uint8_t, 4>{0, 1, 9, 255}) {
    EXPECT_EQ(options_of({2, 4, 0x05, 0x78, 254, length, 1, 1, 4, 2, 1, 1}, kTcpSyn), before) << int{length};
  }
  EXPECT_EQ(options_of({2, 4, 0x05, 0x78, 1, 1, 1, 8}, kTcpSyn), before) << "a kind without a length";
  EXPECT_EQ(options_of({2, 4, 0x05, 0x78, 0, 4, 4, 2}, kTcpSyn), before) << "behind the end";
}

TEST_P(TcpSegment, OptionsOfASynMeanNothingElsewhereAndSackBlocksNothingInASyn) {
  const Bytes syn{2, 4, 0x05, 0x78, 1, 3, 3, 7, 4, 2, 1, 1};
  EXPECT_EQ(options_of(syn, kTcpAck), TcpOptions{});
  EXPECT_NE(options_of(syn, kTcpSyn), TcpOptions{});
  const Bytes sacks{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2};
  EXPECT_EQ(options_of(sacks, kTcpSyn | kTcpAck), TcpOptions{});
  EXPECT_EQ(options_of(sacks, kTcpAck).sack_count, 1);
}

TEST_P(TcpSegment, OfTwoOptionsOfAKindTheLastHolds) {
  EXPECT_EQ(options_of({2, 4, 0, 9, 2, 4, 0, 8}, kTcpSyn).mss, 8);
  EXPECT_EQ(options_of({2, 4, 0, 9, 2, 4, 0, 0}, kTcpSyn).mss, 9) << "segments of nothing are no option";
  const TcpOptions options =
      options_of({5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 5, 10, 0, 0, 0, 5, 0, 0, 0, 6}, kTcpAck);
  EXPECT_EQ(options, (TcpOptions{.sacks = {{{5, 6}, {}, {}, {}}}, .sack_count = 1}));
}

TEST_P(TcpSegment, WhatIsNoWholeTcpSegmentIsNotRead) {
  Sample sample{.family = GetParam(), .payload = Bytes(8)};
  const auto reads = [](const Packet& packet) { return parsed(packet).has_value(); };
  EXPECT_TRUE(reads(samples::make(sample)));
  Packet packet = samples::make(sample);
  const std::size_t tcp = view_of(packet).header_size;
  for (const int words : {0, 1, 4, 8, 15}) {
    packet.mutable_bytes()[tcp + 12] = static_cast<std::uint8_t>(words << 4);
    EXPECT_FALSE(reads(packet)) << words;
  }
  packet.mutable_bytes()[tcp + 12] = 7 << 4;
  EXPECT_TRUE(reads(packet)) << "all of it options";
  if (GetParam() == Family::ipv4) {
    sample.fragment_field = 0x2000;
    EXPECT_FALSE(reads(samples::make(sample)));
  } else {
    packet.mutable_bytes()[6] = 60;  // destination options
    EXPECT_FALSE(reads(packet));
  }
  sample.protocol = kProtocolUdp;
  sample.payload = Bytes(40, 0x50);
  EXPECT_FALSE(reads(samples::make(sample)));

  TcpHeader header = random_header();
  header.options = {};
  const Packet whole = tcp_packet(header);
  for (std::size_t size = tcp; size < whole.size(); ++size) {
    Packet cut = Packet::copy_of(whole.bytes().first(size));
    store_be16(&cut.mutable_bytes()[GetParam() == Family::ipv4 ? 2 : 4],
               static_cast<std::uint16_t>(GetParam() == Family::ipv4 ? size : size - 40));
    EXPECT_FALSE(reads(cut)) << size;
  }
}

TEST_P(TcpSegment, TheOptionsOfAHeaderAreCountedAsTheyAreWritten) {
  const std::size_t plain = GetParam() == Family::ipv4 ? 40 : 60;
  TcpHeader header = random_header();
  header.options = {};
  EXPECT_EQ(tcp_headers_size(header), plain);
  header.options.timestamps = TcpTimestamps{};
  EXPECT_EQ(tcp_headers_size(header), plain + 12);
  header.options.sack_count = 3;
  EXPECT_EQ(tcp_headers_size(header), plain + 40);
  EXPECT_EQ(tcp_packet(header).size(), plain + 40);
  header.options.sack_count = 4;
  EXPECT_DEATH(tcp_packet(header), "") << "more than a header holds";
}

TEST_P(TcpSegment, ALargePayloadMakesASuperPacketOfGoodPackets) {
  for (int round = 0; round < 300; ++round) {
    TcpHeader header = random_header();
    header.flags &= static_cast<std::uint8_t>(~kTcpSyn);
    header.options = random_options(random_, false);
    const std::size_t limit = round % 10 == 0 ? Packet::kMaxSize - tcp_headers_size(header) : 5000;
    const Bytes payload = samples::random_bytes(random_, round == 0 ? limit : 1 + random_.next32() % limit);
    const std::size_t segment_size = 100 + random_.next32() % 1400;
    const Packet super = written(header, payload, segment_size);
    ASSERT_TRUE(is_good(super)) << round;
    ASSERT_EQ(super.offload.gso != Offload::Gso::none, payload.size() > segment_size);

    PacketBatch parts;
    segment(super.clone(), parts);
    ASSERT_EQ(parts.size(), (payload.size() + segment_size - 1) / segment_size);
    Bytes together;
    for (const Packet& part : parts) {
      ASSERT_TRUE(is_good(part));
      ASSERT_EQ(part.offload, Offload{});
      const auto tcp = parsed(part);
      ASSERT_EQ(tcp->sequence, static_cast<std::uint32_t>(header.sequence + together.size()));
      ASSERT_EQ(tcp->options, header.options);
      ASSERT_EQ((tcp->flags & kTcpFin) != 0, &part == &parts.back() && (header.flags & kTcpFin) != 0);
      ASSERT_TRUE(&part == &parts.back() || tcp->payload_size == segment_size);
      const ByteView rest = part.bytes().subspan(tcp->payload);
      together.insert(together.end(), rest.begin(), rest.end());
    }
    ASSERT_EQ(together, payload);
  }
}

TEST_P(TcpSegment, WritingHeadersLeavesWhoseThePacketIs) {
  const TcpHeader header = random_header();
  Packet packet = Packet::with_size(tcp_headers_size(header));
  packet.source = {.slot = 3, .generation = 4};
  packet.member = 5;
  packet.answers = 6;
  packet.offload = {.gso = Offload::Gso::udp4, .segment_size = 9};
  write_tcp_headers(packet, header, 1000);
  EXPECT_EQ(packet.source, (SessionId{.slot = 3, .generation = 4}));
  EXPECT_EQ(packet.member, 5U);
  EXPECT_EQ(packet.answers, 6U);
  EXPECT_EQ(packet.offload, (Offload{.needs_checksum = true}));
}

// As RFC 9293 sections 3.10.7.3 and 3.10.7.4 have it, and RFC 5961 section 3.2: in SYN-SENT a reset is believed that
// acknowledges the SYN, later one that stands exactly where the next byte is expected.
TEST_P(TcpSegment, AResetIsBelievedByWhomItIsSentTo) {
  for (int round = 0; round < 1000; ++round) {
    TcpHeader header = random_header();
    if (round % 4 == 0) header.flags = kTcpFin | kTcpPsh;
    const bool super = round % 2 == 0 && (header.flags & kTcpSyn) == 0;
    Packet segment = written(header, Bytes(random_.next32() % 2000), super ? 500 : Packet::kMaxSize);
    if (round % 3 == 0 && segment.offload.gso == Offload::Gso::none) finish_checksum(segment);
    const auto reset = tcp_reset_for(segment, view_of(segment));
    ASSERT_TRUE(reset);
    ASSERT_TRUE(is_good(*reset));
    const TcpHeader got = header_of(*reset);
    ASSERT_EQ(got.from, header.to);
    ASSERT_EQ(got.to, header.from);
    const auto sent = static_cast<std::uint32_t>(parsed(segment)->payload_size);
    const std::uint32_t counted = ((header.flags & kTcpSyn) != 0 ? 1 : 0) + ((header.flags & kTcpFin) != 0 ? 1 : 0);
    const std::uint32_t next_sent = header.sequence + sent + counted;
    if ((header.flags & kTcpAck) == 0) {
      ASSERT_EQ(got.flags, kTcpRst | kTcpAck);
      ASSERT_EQ(got.acknowledgement, next_sent);
      ASSERT_EQ(got.sequence, 0U);
    } else {
      ASSERT_EQ(got.flags, kTcpRst);
      ASSERT_EQ(got.sequence, header.acknowledgement) << "where the other end expects the next byte";
    }
    ASSERT_EQ(parsed(*reset)->payload_size, 0U);
    ASSERT_FALSE(tcp_reset_for(*reset, view_of(*reset))) << "two of us would never end";
  }
}

TEST_P(TcpSegment, NoResetIsOwedToASegmentWithABitTurned) {
  const Packet good = samples::make({.family = GetParam(), .options = Bytes(4, 1), .payload = {1, 2, 3, 4, 5}});
  ASSERT_TRUE(tcp_reset_for(good, view_of(good)));
  const std::size_t unprotected = GetParam() == Family::ipv4 ? 0 : 8;
  for (std::size_t bit = unprotected * 8; bit < good.size() * 8; ++bit) {
    Packet bad = good.clone();
    bad.mutable_bytes()[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    const auto view = parse_ip(bad.bytes());
    EXPECT_FALSE(view && tcp_reset_for(bad, *view)) << bit;
  }
  Packet partial = written(random_header(), {});
  ASSERT_TRUE(tcp_reset_for(partial, view_of(partial)));
  partial.mutable_bytes()[view_of(partial).header_size + 17] ^= 1;
  EXPECT_FALSE(tcp_reset_for(partial, view_of(partial)));
}

TEST_P(TcpSegment, NoResetIsOwedToMoreThanOneHost) {
  const bool v4 = GetParam() == Family::ipv4;
  const TcpHeader good = random_header();
  for (const char* address :
       {v4 ? "224.0.0.1" : "ff02::1", v4 ? "0.0.0.0" : "::", v4 ? "255.255.255.255" : "ff0e::1"}) {
    for (const bool source : {false, true}) {
      TcpHeader header = good;
      (source ? header.from : header.to).address = IpAddress::parse(address).value();
      const Packet packet = tcp_packet(header);
      EXPECT_FALSE(tcp_reset_for(packet, view_of(packet))) << address;
    }
  }
}

}  // namespace
}  // namespace penstock
