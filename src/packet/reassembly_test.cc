#include "packet/reassembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "packet/checksum.h"
#include "packet/fragment.h"
#include "packet/packet_samples.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using test::ip_packet;

constexpr FlowHashKey kKey{.first = 1, .second = 2};
constexpr Reassembler::Losses kNothingLost{};

std::string counting(std::size_t size, std::size_t from = 0) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((from + i) * 7 + (from + i) / 256);
  return text;
}

// One fragment, with bytes [begin, end) of counting().
struct Cut {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool more = true;
  std::uint32_t identification = 7;
  std::uint8_t protocol = kProtocolUdp;
  std::uint32_t owner = 1;
  Family family = Family::ipv4;
  std::string source;
};

Packet fragment_of(const Cut& cut) {
  const std::string payload = counting(cut.end - cut.begin, cut.begin);
  const bool v4 = cut.family == Family::ipv4;
  const std::string from = cut.source.empty() ? (v4 ? "10.0.0.2" : "fd00::2") : cut.source;
  Packet packet;
  if (v4) {
    packet = ip_packet(from, "10.0.0.3", payload, cut.protocol);
    const auto bytes = packet.mutable_bytes();
    store_be16(&bytes[4], static_cast<std::uint16_t>(cut.identification));
    store_be16(&bytes[6], static_cast<std::uint16_t>((cut.more ? 0x2000 : 0) | cut.begin / 8));
  } else {
    std::string header(8, '\0');
    auto* const at = reinterpret_cast<std::uint8_t*>(header.data());
    at[0] = cut.protocol;
    store_be16(at + 2, static_cast<std::uint16_t>(cut.begin | (cut.more ? 1 : 0)));
    store_be32(at + 4, cut.identification);
    packet = ip_packet(from, "fd00::3", header + payload, 44);
  }
  packet.source = {.slot = cut.owner, .generation = 1};
  return packet;
}

// A reassembler and its time.
class Reassembly : public testing::Test {
 protected:
  std::optional<Packet> add(Packet packet) {
    const auto view = parse_ip(packet.bytes());
    EXPECT_TRUE(view.has_value());
    return reassembler_->add(std::move(packet), *view, clock_.now());
  }
  std::optional<Packet> add(const Cut& cut) { return add(fragment_of(cut)); }
  void limit(const Reassembler::Limits& limits) { reassembler_.emplace(limits, kKey); }

  ManualClock clock_;
  std::optional<Reassembler> reassembler_{std::in_place, Reassembler::Limits{}, kKey};
};

TEST_F(Reassembly, FragmentsInAnyOrderMakeTheWhole) {
  std::vector<Cut> cuts{{0, 800}, {800, 1600}, {1600, 1700, false}};
  std::vector<int> order{0, 1, 2};
  do {
    EXPECT_FALSE(add(cuts[static_cast<std::size_t>(order[0])]));
    EXPECT_FALSE(add(cuts[static_cast<std::size_t>(order[1])]));
    const auto whole = add(cuts[static_cast<std::size_t>(order[2])]);
    ASSERT_TRUE(whole);
    EXPECT_EQ(test::payload_of(*whole), counting(1700));
  } while (std::ranges::next_permutation(order).found);
  EXPECT_EQ(reassembler_->datagrams(), 0U);
  EXPECT_EQ(reassembler_->size_bytes(), 0U);
  EXPECT_EQ(reassembler_->losses(), kNothingLost);
}

TEST_F(Reassembly, WhatIsNoFragmentPassesAsItIs) {
  Packet super = test::super_packet("10.0.0.2", "10.0.0.3", 4000, 1000);
  const auto whole = add(super.clone());
  ASSERT_TRUE(whole);
  EXPECT_EQ(samples::bytes_of(*whole), samples::bytes_of(super));
  EXPECT_EQ(whole->offload, super.offload);
  EXPECT_TRUE(add(ip_packet("fd00::2", "fd00::3")));
  EXPECT_EQ(reassembler_->memory(), 0U);
}

TEST_F(Reassembly, TheWholeIsWhatTheFirstToArriveWas) {
  Packet second = fragment_of({800, 1000, false});
  second.member = 5;
  second.answers = 6;
  EXPECT_FALSE(add(std::move(second)));
  const auto whole = add({0, 800});
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->source, (SessionId{.slot = 1, .generation = 1}));
  EXPECT_EQ(whole->member, 5U);
  EXPECT_EQ(whole->answers, 6U);
  EXPECT_EQ(whole->offload, Offload{});
}

TEST_F(Reassembly, TheHeaderOfIpv4IsThatOfTheFirstFragmentMadeWhole) {
  Packet first = fragment_of({0, 800});
  first.mutable_bytes()[6] |= 0xC0;  // "don't fragment", and the bit that means nothing
  first.mutable_bytes()[8] = 33;
  // With options, which the last fragment lacks.
  Packet with_options = ip_packet("10.0.0.2", "10.0.0.3", "\1\1\1\1"s + counting(800));
  std::ranges::copy(first.bytes().first(20), with_options.mutable_bytes().begin());
  with_options.mutable_bytes()[0] = 0x46;
  store_be16(&with_options.mutable_bytes()[2], 824);
  with_options.source = first.source;

  EXPECT_FALSE(add({800, 1001, false}));
  const auto whole = add(std::move(with_options));
  ASSERT_TRUE(whole);
  const ByteView bytes = whole->bytes();
  ASSERT_EQ(bytes.size(), 1025U);
  EXPECT_EQ(bytes[0], 0x46);
  EXPECT_EQ(load_be16(&bytes[2]), 1025U);
  EXPECT_EQ(load_be16(&bytes[4]), 7U);
  EXPECT_EQ(load_be16(&bytes[6]), 0U);
  EXPECT_EQ(bytes[8], 33);
  EXPECT_EQ(checksum_add(bytes.first(24)), 0xFFFFU);
  EXPECT_EQ(as_text(bytes.subspan(24)), counting(1001));
}

// Behind an IPv6 header: destination options, a fragment header, of what is carried other options.
std::string behind_options(const std::string& fragment_header, const std::string& payload) {
  return "\x2c\0\1\4\0\0\0\0"s + fragment_header + payload;
}

TEST_F(Reassembly, TheFragmentHeaderOfIpv6GoesAndWhatIsBeforeItStays) {
  const std::string inner = "\x11\0\1\4\0\0\0\0"s + counting(792);
  auto first = ip_packet("fd00::2", "fd00::3", behind_options("\x3c\0\0\1\0\0\0\x09"s, inner), 60);
  first.mutable_bytes()[7] = 33;
  // Its next header is another: that of the first is right (RFC 8200 section 4.5).
  auto last = ip_packet("fd00::2", "fd00::3", behind_options("\x3b\0\x03\x20\0\0\0\x09"s, counting(5)), 60);
  EXPECT_FALSE(add(std::move(last)));
  const auto whole = add(std::move(first));
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->bytes()[6], 60);
  EXPECT_EQ(whole->bytes()[7], 33);
  EXPECT_EQ(load_be16(&whole->bytes()[4]), 8 + 805);
  EXPECT_EQ(test::payload_of(*whole), "\x3c\0\1\4\0\0\0\0"s + inner + counting(5));
  const auto upper = upper_layer(whole->bytes(), *parse_ip(whole->bytes()));
  ASSERT_TRUE(upper);
  EXPECT_EQ(upper->protocol, kProtocolUdp);
  EXPECT_FALSE(upper->fragment);
}

// RFC 6946.
TEST_F(Reassembly, AnAtomicFragmentPassesAtOnceAndDisturbsNobody) {
  EXPECT_FALSE(add({.begin = 0, .end = 800, .family = Family::ipv6}));
  const auto atomic = add({.begin = 0, .end = 500, .more = false, .family = Family::ipv6});
  ASSERT_TRUE(atomic);
  EXPECT_EQ(test::payload_of(*atomic), counting(500));
  EXPECT_EQ(atomic->bytes()[6], kProtocolUdp);
  EXPECT_TRUE(parse_ip(atomic->bytes()));
  const auto whole = add({.begin = 800, .end = 900, .more = false, .family = Family::ipv6});
  ASSERT_TRUE(whole);
  EXPECT_EQ(test::payload_of(*whole), counting(900));
  EXPECT_EQ(reassembler_->losses(), kNothingLost);
}

TEST_F(Reassembly, OnlyWhatBelongsTogetherMeets) {
  const std::vector<Cut> others{{.begin = 800, .end = 900, .more = false, .identification = 8},
                                {.begin = 800, .end = 900, .more = false, .protocol = kProtocolTcp},
                                {.begin = 800, .end = 900, .more = false, .owner = 2},
                                {.begin = 800, .end = 900, .more = false, .family = Family::ipv6},
                                {.begin = 800, .end = 900, .more = false, .source = "10.0.0.4"}};
  EXPECT_FALSE(add({0, 800}));
  for (const Cut& other : others) EXPECT_FALSE(add(other));
  EXPECT_EQ(reassembler_->datagrams(), 6U);
  EXPECT_TRUE(add({800, 900, false}));
}

TEST_F(Reassembly, TwoOwnersWithTheSameIdentificationDoNotMeet) {
  EXPECT_FALSE(add({.begin = 0, .end = 800, .owner = 1}));
  EXPECT_FALSE(add({.begin = 0, .end = 400, .owner = 2}));
  const auto his = add({.begin = 400, .end = 1000, .more = false, .owner = 2});
  const auto hers = add({.begin = 800, .end = 900, .more = false, .owner = 1});
  ASSERT_TRUE(his && hers);
  EXPECT_EQ(his->source.slot, 2U);
  EXPECT_EQ(his->size(), 1020U);
  EXPECT_EQ(hers->source.slot, 1U);
  EXPECT_EQ(hers->size(), 920U);
}

TEST_F(Reassembly, AnOverlapKillsTheDatagramAndAllThatIsToComeOfIt) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const Cut& evil : {Cut{.begin = 792, .end = 1000}, Cut{.begin = 0, .end = 808}, Cut{.begin = 0, .end = 792},
                            Cut{.begin = 8, .end = 16}, Cut{.begin = 1400, .end = 1608}}) {
      limit({});
      Cut cut = evil;
      cut.family = family;
      EXPECT_FALSE(add({.begin = 0, .end = 800, .family = family}));
      EXPECT_FALSE(add({.begin = 1600, .end = 2400, .family = family}));
      EXPECT_FALSE(add(cut));
      EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.overlapped = 3})) << cut.begin << '-' << cut.end;
      EXPECT_EQ(reassembler_->size_bytes(), 0U);
      EXPECT_FALSE(add({.begin = 0, .end = 800, .family = family}));
      EXPECT_FALSE(add({.begin = 800, .end = 1600, .more = false, .family = family}));
      EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.overlapped = 2}));

      clock_.advance(Reassembler::kPatience);
      EXPECT_FALSE(add({.begin = 0, .end = 800, .family = family})) << "a new datagram with an old number";
      EXPECT_TRUE(add({.begin = 800, .end = 900, .more = false, .family = family}));
      EXPECT_EQ(reassembler_->take_losses(), kNothingLost);
    }
  }
}

TEST_F(Reassembly, TheSamePlaceWithOtherBytesIsAnOverlap) {
  EXPECT_FALSE(add({0, 800}));
  Packet other = fragment_of({0, 800});
  other.mutable_bytes()[100] ^= 1;
  EXPECT_FALSE(add(std::move(other)));
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.overlapped = 2}));
}

TEST_F(Reassembly, DuplicatesAreIgnored) {
  EXPECT_FALSE(add({0, 800}));
  EXPECT_FALSE(add({0, 800}));
  EXPECT_FALSE(add({1600, 1700, false}));
  EXPECT_FALSE(add({1600, 1700, false}));
  EXPECT_FALSE(add({0, 800}));
  const auto whole = add({800, 1600});
  ASSERT_TRUE(whole);
  EXPECT_EQ(test::payload_of(*whole), counting(1700));
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.duplicates = 3}));
}

TEST_F(Reassembly, AMalformedFragmentHarmsOnlyItself) {
  EXPECT_FALSE(add({0, 800}));
  const std::vector<Cut> malformed{{800, 801},             // more follow, and it is no multiple of 8
                                   {800, 800},             // nothing in it
                                   {800, 800, false},      //
                                   {65528, 65536, false},  // behind the largest there is
                                   {65512, 65516, false},  // the same, with a header in front
                                   {65000, 65800}};        //
  for (const Cut& cut : malformed) {
    EXPECT_FALSE(add(cut));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 1})) << cut.begin << '-' << cut.end;
  }
  EXPECT_TRUE(add({800, 900, false}));
}

// RFC 1858, RFC 7112: what is judged by stands in the first fragment.
TEST_F(Reassembly, AFirstFragmentWithoutAllHeadersIsMalformed) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    EXPECT_FALSE(add({.begin = 0, .end = 16, .protocol = kProtocolTcp, .family = family}));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 1}));
    EXPECT_FALSE(add({.begin = 0, .end = 24, .protocol = kProtocolTcp, .family = family}));
    EXPECT_FALSE(add({.begin = 0, .end = 8, .identification = 8, .family = family})) << "all of UDP's";
    EXPECT_EQ(reassembler_->take_losses(), kNothingLost);
  }
  limit({});
  // A header that says it is longer than this.
  std::string tcp(24, '\0');
  tcp[12] = '\x70';
  Packet packet = ip_packet("10.0.0.2", "10.0.0.3", tcp, kProtocolTcp);
  packet.mutable_bytes()[6] = 0x20;
  EXPECT_FALSE(add(packet.clone()));
  EXPECT_EQ(reassembler_->take_losses().malformed, 1U);
  packet.mutable_bytes()[32] = 0x60;
  EXPECT_FALSE(add(std::move(packet)));
  EXPECT_EQ(reassembler_->take_losses(), kNothingLost);

  const std::vector<std::string> chains{
      "\x3c\0\0\1\0\0\0\1"s + "\x11\1\0\0\0\0\0\0"s,                // options that go on in the next
      "\x3c\0\0\1\0\0\0\1"s + "\x11\0\0\0\0\0\0\0"s,                // and UDP that begins there
      "\x2c\0\0\1\0\0\0\1"s + "\x11\0\0\0\0\0\0\2"s + counting(8),  // a fragment of a fragment
      "\x2c\0\0\0\0\0\0\1"s + "\x11\0\0\1\0\0\0\2"s + counting(8),  // in an atomic one
      "\x11\0\0\1"s,                                                // half a fragment header
  };
  for (std::size_t i = 0; i < chains.size(); ++i) {
    EXPECT_FALSE(add(ip_packet("fd00::2", "fd00::3", chains[i], 44)));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 1})) << i;
  }
  // Five headers in front and four behind: more than there is use for (RFC 8200 section 4.1).
  const auto options = [](char next, int count) {
    std::string all;
    for (; count > 0; --count) all += (count == 1 ? next : '\x3c') + "\0\1\4\0\0\0\0"s;
    return all;
  };
  EXPECT_FALSE(
      add(ip_packet("fd00::2", "fd00::3", options('\x2c', 5) + "\x3c\0\0\0\0\0\0\3"s + options('\x3b', 4), 60)));
  EXPECT_EQ(reassembler_->take_losses().malformed, 1U);
  EXPECT_TRUE(
      add(ip_packet("fd00::2", "fd00::3", options('\x2c', 4) + "\x3c\0\0\0\0\0\0\3"s + options('\x3b', 4), 60)));
  EXPECT_FALSE(add(ip_packet("fd00::2", "fd00::3", "\x2c\x05\0\0\0\0\0\0"s, 60))) << "who knows what hides there";
  EXPECT_EQ(reassembler_->take_losses().malformed, 1U);
  EXPECT_EQ(reassembler_->datagrams(), 1U) << "that of six words of TCP";
}

TEST_F(Reassembly, TwoEndsOfOneDatagramKillIt) {
  const std::vector<std::vector<Cut>> contradictions{
      {{0, 800}, {1600, 1700, false}, {1600, 1708, false}},
      {{0, 800}, {1600, 1700, false}, {1704, 1712}},
      {{0, 800}, {1600, 1704, false}, {1600, 1704, true}},
      {{0, 800}, {1600, 2400}, {800, 808, false}},
  };
  for (const auto& cuts : contradictions) {
    limit({});
    for (const Cut& cut : cuts) EXPECT_FALSE(add(cut));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 3}));
    EXPECT_FALSE(add({800, 1600}));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 1}));
  }
}

TEST_F(Reassembly, TheLargestDatagramThereIsFitsAndNoneLarger) {
  const auto all_but_last = [&](std::size_t option_words) {
    Packet first = ip_packet("10.0.0.2", "10.0.0.3", std::string(4 * option_words, '\1') + counting(32768));
    first.mutable_bytes()[0] = static_cast<std::uint8_t>(0x45 + option_words);
    store_be16(&first.mutable_bytes()[4], 7);
    first.mutable_bytes()[6] = 0x20;
    first.source = {.slot = 1, .generation = 1};
    return first;
  };
  EXPECT_FALSE(add(all_but_last(0)));
  const auto whole = add({32768, 65515, false});
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->size(), 65535U);
  EXPECT_TRUE(parse_ip(whole->bytes()));
  EXPECT_FALSE(add(all_but_last(1)));
  EXPECT_FALSE(add({32768, 65515, false})) << "its own header is smaller";
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 2}));
  EXPECT_EQ(reassembler_->datagrams(), 0U);
}

TEST_F(Reassembly, AMarkOfCongestionOnAnyPieceIsOnTheWhole) {
  const auto marked = [](const Cut& cut, unsigned ecn) {
    Packet packet = fragment_of(cut);
    packet.mutable_bytes()[1] = static_cast<std::uint8_t>(cut.family == Family::ipv4 ? ecn : ecn << 4);
    return packet;
  };
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const Cut first{.begin = 0, .end = 800, .family = family};
    const Cut last{.begin = 800, .end = 900, .more = false, .family = family};
    EXPECT_FALSE(add(marked(first, 2)));
    const auto whole = add(marked(last, 3));
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->bytes()[1], family == Family::ipv4 ? 0x03 : 0x30);
    if (family == Family::ipv4) {
      EXPECT_EQ(checksum_add(whole->bytes().first(20)), 0xFFFFU);
    }
    EXPECT_FALSE(add(marked(first, 0)));
    EXPECT_FALSE(add(marked(last, 3))) << "who would not understand must not miss it";
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.malformed = 2}));
  }
}

TEST_F(Reassembly, NobodyWaitsForLongerThanItsTime) {
  EXPECT_FALSE(reassembler_->next_expiry());
  const TimePoint start = clock_.now();
  EXPECT_FALSE(add({0, 800}));
  clock_.advance(20s);
  EXPECT_FALSE(add({.begin = 800, .end = 1600}));
  EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = 8}));
  EXPECT_EQ(reassembler_->next_expiry(), start + 30s) << "from the first fragment on";
  clock_.advance(10s - 1ns);
  reassembler_->expire(clock_.now());
  EXPECT_EQ(reassembler_->datagrams(), 2U);
  clock_.advance(1ns);
  reassembler_->expire(clock_.now());
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.timed_out = 2}));
  EXPECT_EQ(reassembler_->datagrams(), 1U);
  EXPECT_NE(reassembler_->memory(), 0U);
  clock_.advance(20s);
  reassembler_->expire(clock_.now());
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.timed_out = 1}));
  EXPECT_EQ(reassembler_->memory(), 0U);
  EXPECT_FALSE(reassembler_->next_expiry());
}

TEST_F(Reassembly, NothingIsCompletedAfterItsTimeThoughNobodyLooked) {
  for (std::uint32_t id = 0; id < 10; ++id) EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = id}));
  clock_.advance(Reassembler::kPatience);
  EXPECT_FALSE(add({.begin = 800, .end = 900, .more = false, .identification = 9}));
  EXPECT_EQ(reassembler_->take_losses().timed_out, 3U) << "that one, and two that were longer overdue";
  for (std::uint32_t id = 20; id < 30; ++id) EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = id}));
  EXPECT_EQ(reassembler_->take_losses().timed_out, 7U);
}

TEST_F(Reassembly, ADatagramHasSoManyFragmentsAtMost) {
  for (const bool one_more : {false, true}) {
    limit({});
    const std::size_t count = Reassembler::kMaxFragments + (one_more ? 1 : 0);
    std::optional<Packet> whole;
    for (std::size_t i = 0; i < count; ++i) whole = add({8 * i, 8 * i + 8, i + 1 != count});
    EXPECT_EQ(whole.has_value(), !one_more);
    EXPECT_EQ(reassembler_->losses().too_many, one_more ? count : 0U);
    EXPECT_EQ(reassembler_->size_bytes(), 0U);
  }
}

TEST_F(Reassembly, WhoIsOverItsOwnBoundLosesItsOwnOldest) {
  for (const bool by_memory : {false, true}) {
    if (by_memory)
      limit({.owner_bytes = 3 * Packet::footprint_of(820)});
    else
      limit({.owner_datagrams = 3});
    EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = 0, .owner = 1}));
    for (std::uint32_t id = 0; id < 4; ++id)
      EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = id, .owner = 2}));
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.too_many = 1}));
    EXPECT_EQ(reassembler_->datagrams(), 4U);
    for (std::uint32_t id = 1; id < 4; ++id) {
      EXPECT_TRUE(add({.begin = 800, .end = 900, .more = false, .identification = id, .owner = 2})) << id;
    }
    EXPECT_TRUE(add({.begin = 800, .end = 900, .more = false, .identification = 0, .owner = 1}));
  }
}

TEST_F(Reassembly, OneDatagramTooLargeForItsOwnerIsItsOwnLoss) {
  limit({.owner_bytes = Packet::footprint_of(820)});
  EXPECT_FALSE(add({.begin = 0, .end = 800, .owner = 1}));
  EXPECT_FALSE(add({.begin = 0, .end = 800, .owner = 2}));
  EXPECT_FALSE(add({.begin = 800, .end = 1600, .owner = 2}));
  EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.too_many = 2}));
  EXPECT_EQ(reassembler_->datagrams(), 1U);
  EXPECT_TRUE(add({.begin = 800, .end = 900, .more = false, .owner = 1})) << "what completes a datagram needs no room";
}

TEST_F(Reassembly, OverTheBoundOfAllTheHeaviestLosesItsOldest) {
  for (const bool by_memory : {false, true}) {
    if (by_memory)
      limit({.bytes = 6 * Packet::footprint_of(820)});
    else
      limit({.datagrams = 6});
    const auto begin = [&](std::uint32_t owner, std::uint32_t id) {
      EXPECT_FALSE(add({.begin = 0, .end = 800, .identification = id, .owner = owner}));
    };
    const auto end = [&](std::uint32_t owner, std::uint32_t id) {
      return add({.begin = 800, .end = 900, .more = false, .identification = id, .owner = owner}).has_value();
    };
    begin(1, 0);
    for (std::uint32_t id = 0; id < 5; ++id) begin(2, id);
    begin(3, 0);
    begin(3, 1);
    EXPECT_EQ(reassembler_->take_losses(), (Reassembler::Losses{.too_many = 2}));
    EXPECT_EQ(reassembler_->datagrams(), 6U);
    EXPECT_TRUE(end(1, 0));
    EXPECT_TRUE(end(3, 0));
    EXPECT_TRUE(end(3, 1));
    for (std::uint32_t id = 2; id < 5; ++id) EXPECT_TRUE(end(2, id));
    EXPECT_EQ(reassembler_->datagrams(), 0U);
  }
}

TEST_F(Reassembly, AmongEquallyHeavyOwnersWhoComesLastLoses) {
  limit({.datagrams = 3});
  for (std::uint32_t owner = 1; owner <= 4; ++owner) EXPECT_FALSE(add({.begin = 0, .end = 800, .owner = owner}));
  for (std::uint32_t owner = 1; owner <= 3; ++owner) {
    EXPECT_TRUE(add({.begin = 800, .end = 900, .more = false, .owner = owner}));
  }
}

TEST_F(Reassembly, AFloodOfOneTakesNothingFromAnother) {
  SeededRandom random(3);
  for (std::uint32_t id = 0; id < 10; ++id) {
    EXPECT_FALSE(add({.begin = 0, .end = 1200, .identification = id, .owner = 1}));
  }
  for (int i = 0; i < 50000; ++i) {
    const std::size_t begin = 8 * (random.next32() % 1000);
    add({.begin = begin,
         .end = begin + 8 * (3 + random.next32() % 180),
         .identification = random.next32(),
         .owner = 2});
    ASSERT_LE(reassembler_->size_bytes(), (std::size_t{1} << 20) + 10 * Packet::footprint_of(1220));
    ASSERT_LE(reassembler_->datagrams(), 128U + 10U);
  }
  for (std::uint32_t id = 0; id < 10; ++id) {
    EXPECT_TRUE(add({.begin = 1200, .end = 1300, .more = false, .identification = id, .owner = 1}));
  }
}

// ---- random datagrams, cut and mixed ----

struct Original {
  Packet packet;
  std::size_t head = 0;  // bytes that stay in front of a fragment header
};

Original random_datagram(Random& random, std::uint32_t number) {
  samples::Sample sample;
  sample.family = random.next32() % 2 == 0 ? Family::ipv4 : Family::ipv6;
  sample.protocol = random.next32() % 2 == 0 ? kProtocolTcp : kProtocolUdp;
  sample.identification = static_cast<std::uint16_t>(number / 3);  // shared by owners
  sample.fragment_field = 0;
  sample.ip_options = 4 * (random.next32() % 3);
  sample.traffic_class = static_cast<std::uint8_t>(random.next32());
  const std::size_t most = random.next32() % 8 == 0 ? 60000 : 4000;
  sample.payload = samples::random_bytes(random, 64 + random.next32() % most);
  Original original{.packet = samples::make(sample)};
  original.packet.source = {.slot = number % 3, .generation = number % 3};  // one of them: none
  original.packet.member = number;
  original.head = sample.family == Family::ipv4 ? 20 + sample.ip_options : 40;
  return original;
}

PacketBatch cut_at_random(Random& random, const Original& original, std::uint32_t identification) {
  PacketBatch parts;
  const ByteView all = original.packet.bytes();
  const bool v4 = all[0] >> 4 == 4;
  const ByteView payload = all.subspan(original.head);
  const std::size_t step = payload.size() / 40 / 8 + 1;
  for (std::size_t at = 0; at < payload.size();) {
    std::size_t size = 8 * (step + random.next32() % (step * 20)) + (at == 0 ? 24 : 0);
    const bool more = at + size < payload.size();
    if (!more) size = payload.size() - at;
    const std::size_t head = original.head + (v4 ? 0 : 8);
    Packet part = Packet::with_size(head + size);
    const auto bytes = part.mutable_bytes();
    std::ranges::copy(all.first(original.head), bytes.begin());
    std::ranges::copy(payload.subspan(at, size), bytes.subspan(head).begin());
    if (v4) {
      store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
      store_be16(&bytes[6], static_cast<std::uint16_t>((more ? 0x2000 : 0) | at / 8));
    } else {
      store_be16(&bytes[4], static_cast<std::uint16_t>(bytes.size() - 40));
      bytes[6] = 44;
      bytes[40] = all[6];
      bytes[41] = 0;
      store_be16(&bytes[42], static_cast<std::uint16_t>(at | (more ? 1 : 0)));
      store_be32(&bytes[44], identification);
    }
    part.source = original.packet.source;
    part.member = original.packet.member;
    parts.push_back(std::move(part));
    at += size;
  }
  return parts;
}

TEST_F(Reassembly, RandomDatagramsCutMixedAndDoubledComeBackAsTheyWere) {
  SeededRandom random(5);
  for (int round = 0; round < 60; ++round) {
    limit({});
    std::vector<Original> originals;
    struct Part {
      std::size_t of;
      Packet packet;
    };
    std::vector<Part> parts;
    std::vector<std::size_t> pieces;
    for (std::uint32_t number = 0; number < 12; ++number) {
      originals.push_back(random_datagram(random, number));
      PacketBatch cut = cut_at_random(random, originals.back(), number / 3);
      pieces.push_back(cut.size());
      for (Packet& part : cut) {
        if (cut.size() > 1 && random.next32() % 8 == 0) parts.push_back({number, part.clone()});
        parts.push_back({number, std::move(part)});
      }
    }
    for (std::size_t i = parts.size(); i > 1; --i) std::swap(parts[i - 1], parts[random.next32() % i]);

    std::set<std::size_t> came_back;  // with all of its pieces doubled, one may come twice
    std::size_t in_wholes = 0;
    for (Part& part : parts) {
      auto whole = add(std::move(part.packet));
      if (!whole) continue;
      came_back.insert(part.of);
      in_wholes += pieces[part.of];
      const Original& original = originals[part.of];
      ASSERT_EQ(samples::bytes_of(*whole), samples::bytes_of(original.packet)) << round << ' ' << part.of;
      ASSERT_EQ(whole->source, original.packet.source);
      ASSERT_EQ(whole->member, original.packet.member);
    }
    EXPECT_EQ(came_back.size(), originals.size());
    // A duplicate that comes after its datagram waits for nothing.
    clock_.advance(Reassembler::kPatience);
    reassembler_->expire(clock_.now());
    const auto losses = reassembler_->losses();
    EXPECT_EQ(in_wholes + losses.duplicates + losses.timed_out, parts.size());
    EXPECT_EQ(losses.malformed + losses.overlapped + losses.too_many, 0U);
    EXPECT_EQ(reassembler_->memory(), 0U);
  }
}

// What a datagram is to somebody who keeps every byte: used to check what hostile fragments lead to.
struct NaiveDatagram {
  std::map<std::size_t, std::uint8_t> bytes;
  std::optional<std::size_t> size;
  std::vector<Cut> parts;
  bool dead = false;
};

TEST_F(Reassembly, ItAgreesWithANaiveOneOnHostileFragments) {
  SeededRandom random(7);
  std::size_t completed = 0;
  std::size_t died = 0;
  for (int round = 0; round < 3000; ++round) {
    limit({});
    NaiveDatagram naive;
    std::size_t added = 0;
    std::uint64_t duplicates = 0;
    const std::size_t size = 8 * (4 + random.next32() % 5) - random.next32() % 2;
    for (int step = 0; step < 12; ++step) {
      Cut cut{.begin = 8 * (random.next32() % (size / 8 + 1)), .protocol = 200};
      cut.end = std::min(size, cut.begin + 8 * (1 + random.next32() % 4));
      cut.more = cut.end != size;
      if (random.next32() % 40 == 0) cut.more = !cut.more;
      if (cut.end <= cut.begin || (cut.more && (cut.end - cut.begin) % 8 != 0)) continue;
      if (cut.begin == 0 && !cut.more) continue;
      ++added;
      const auto whole = add(cut);

      const bool same = std::ranges::any_of(naive.parts, [&](const Cut& part) {
        return part.begin == cut.begin && part.end == cut.end && part.more == cut.more;
      });
      if (!naive.dead && same) {
        ++duplicates;
      } else if (!naive.dead) {
        const bool overlaps = std::ranges::any_of(
            naive.parts, [&](const Cut& part) { return part.begin < cut.end && cut.begin < part.end; });
        const bool contradicts =
            (!cut.more && std::ranges::any_of(naive.parts, [&](const Cut& part) { return part.end > cut.end; })) ||
            (naive.size && (cut.more ? cut.end >= *naive.size : cut.end != *naive.size));
        naive.dead = overlaps || contradicts;
        naive.parts.push_back(cut);
        for (std::size_t i = cut.begin; i < cut.end; ++i) naive.bytes[i] = 1;
        if (!cut.more) naive.size = cut.end;
      }
      const bool complete = !naive.dead && naive.size && naive.bytes.size() == *naive.size;
      ASSERT_EQ(whole.has_value(), complete);
      ASSERT_EQ(reassembler_->losses().duplicates, duplicates);
      if (complete) {
        ASSERT_EQ(test::payload_of(*whole), counting(*naive.size));
        ++completed;
        break;
      }
    }
    died += naive.dead ? 1 : 0;
    const auto losses = reassembler_->losses();
    if (naive.dead) {
      EXPECT_EQ(losses.overlapped + losses.malformed + losses.duplicates, added);
    }
  }
  EXPECT_GT(completed, 20U) << "or nothing is tested";
  EXPECT_GT(died, 1000U);
}

TEST_F(Reassembly, BoundsHoldWhateverComes) {
  SeededRandom random(11);
  const Reassembler::Limits limits{.bytes = 60000, .datagrams = 40, .owner_bytes = 20000, .owner_datagrams = 15};
  limit(limits);
  std::uint64_t added = 0;
  std::uint64_t in_wholes = 0;
  for (int i = 0; i < 60000; ++i) {
    const std::size_t part = random.next32() % 3;
    const bool evil = random.next32() % 30 == 0;
    Cut cut{.begin = part * 400 + (evil ? 8 : 0),
            .end = part * 400 + 400,
            .more = part != 2,
            .identification = random.next32() % 12,
            .owner = random.next32() % (1 + random.next32() % 12)};
    ++added;
    if (add(cut)) in_wholes += 3;
    ASSERT_LE(reassembler_->size_bytes(), limits.bytes);
    ASSERT_LE(reassembler_->datagrams(), limits.datagrams);
    if (random.next32() % 50 == 0) clock_.advance(std::chrono::milliseconds(random.next32() % 3000));
    if (random.next32() % 500 == 0) reassembler_->expire(clock_.now());
  }
  EXPECT_GT(in_wholes, 300U);
  clock_.advance(Reassembler::kPatience);
  reassembler_->expire(clock_.now());
  const auto losses = reassembler_->losses();
  EXPECT_GT(losses.overlapped, 0U);
  EXPECT_GT(losses.too_many, 0U);
  EXPECT_EQ(added,
            in_wholes + losses.malformed + losses.overlapped + losses.timed_out + losses.too_many + losses.duplicates);
  EXPECT_EQ(reassembler_->memory(), 0U);
}

TEST_F(Reassembly, WhatIsCutOnTheWayOutComesBack) {
  const std::string payload = counting(9000);
  PacketBatch parts;
  ASSERT_TRUE(fragment(ip_packet("10.0.0.2", "10.0.0.3", payload), 1420, 0, parts));
  std::optional<Packet> whole;
  for (Packet& part : parts) whole = add(std::move(part));
  ASSERT_TRUE(whole);
  EXPECT_EQ(samples::bytes_of(*whole), samples::bytes_of(ip_packet("10.0.0.2", "10.0.0.3", payload)));
}

}  // namespace
}  // namespace penstock
