#include "packet/fragment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

using namespace std::string_literals;
using test::ip_packet;

std::string counting(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 256);
  return text;
}

// An IPv4 packet with IP options in front of its payload.
Packet with_options(const std::string& options, std::string_view payload) {
  Packet packet = ip_packet("10.0.0.2", "10.0.0.3", options + std::string(payload));
  const auto bytes = packet.mutable_bytes();
  bytes[0] = static_cast<std::uint8_t>(0x45 + options.size() / 4);
  return packet;
}

struct Whole {
  std::string payload;
  bool more = false;  // fragments follow
  std::size_t begin = 0;
};

// Puts fragments that come in order back together; everything that must be true of each is checked on the way.
Whole reassembled(const PacketBatch& fragments, std::size_t mtu) {
  Whole whole;
  std::size_t next = 0;
  for (const Packet& fragment : fragments) {
    const ByteView bytes = fragment.bytes();
    const auto view = parse_ip(bytes);
    EXPECT_TRUE(view);
    EXPECT_LE(fragment.size(), mtu);
    EXPECT_EQ(checksum_add(bytes.first(view->header_size)), 0xFFFFU);
    const std::uint16_t field = load_be16(&bytes[6]);
    const std::size_t offset = (field & 0x1FFFU) * 8U;
    if (&fragment == &fragments.front()) {
      whole.begin = next = offset;
    } else {
      EXPECT_TRUE(whole.more) << "only the last is the last";
    }
    EXPECT_EQ(offset, next);
    whole.payload += as_text(bytes.subspan(view->header_size));
    next = offset + bytes.size() - view->header_size;
    whole.more = (field & 0x2000) != 0;
    if (&fragment != &fragments.back()) {
      EXPECT_EQ(next % 8, 0U);
    }
  }
  return whole;
}

TEST(Fragment, PiecesAreAsLargeAsTheyMayBeAndMakeTheWholeAgain) {
  const struct {
    std::size_t size, mtu, pieces;
  } cases[] = {{1420, 1420, 1}, {1421, 1420, 2}, {1500, 1280, 2},   {1500, 576, 3}, {1500, 577, 3},
               {2796, 1420, 2}, {2828, 1420, 3}, {65535, 1500, 45}, {100, 28, 10},  {68, 67, 2}};
  for (const auto& [size, mtu, pieces] : cases) {
    const std::string payload = counting(size - 20);
    Packet packet = ip_packet("10.0.0.2", "10.0.0.3", payload);
    store_be16(&packet.mutable_bytes()[4], 0xBEEF);
    packet.source = {.slot = 3, .generation = 1};
    packet.member = 7;
    packet.answers = 8;
    PacketBatch out;
    ASSERT_TRUE(fragment(std::move(packet), mtu, 0, out)) << size << ' ' << mtu;
    EXPECT_EQ(out.size(), pieces) << size << ' ' << mtu;
    if (out.size() > 1) {
      const Whole whole = reassembled(out, mtu);
      EXPECT_EQ(whole.payload, payload);
      EXPECT_FALSE(whole.more);
    }
    for (const Packet& piece : out) {
      EXPECT_EQ(load_be16(&piece.bytes()[4]), 0xBEEF);
      EXPECT_EQ(piece.source, (SessionId{.slot = 3, .generation = 1}));
      EXPECT_EQ(piece.member, 7U);
      EXPECT_EQ(piece.answers, 8U);
    }
  }
}

TEST(Fragment, AFragmentIsCutOnceMoreAndKeepsItsPlace) {
  for (const bool last : {false, true}) {
    Packet packet = ip_packet("10.0.0.2", "10.0.0.3", counting(1200));
    store_be16(&packet.mutable_bytes()[6], last ? 100 : 0x2000 | 100);
    PacketBatch out;
    ASSERT_TRUE(fragment(std::move(packet), 576, 0, out));
    const Whole whole = reassembled(out, 576);
    EXPECT_EQ(out.size(), 3U);
    EXPECT_EQ(whole.begin, 800U);
    EXPECT_EQ(whole.payload, counting(1200));
    EXPECT_EQ(whole.more, !last);
  }
}

TEST(Fragment, OptionsThatAreNotToBeCopiedStandInTheFirstOnly) {
  const std::string record_route = "\x07\x07\x04\1\2\3\4"s;
  const std::string router_alert = "\x94\x04\0\0"s;
  PacketBatch out;
  ASSERT_TRUE(fragment(with_options(record_route + "\1" + router_alert, counting(1000)), 576, 0, out));
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(reassembled(out, 576).payload, counting(1000));
  const auto options = [&](std::size_t i) { return std::string(as_text(out[i].bytes().subspan(20, 12))); };
  EXPECT_EQ(options(0), record_route + "\1" + router_alert);
  EXPECT_EQ(options(1), std::string(8, '\1') + router_alert);
}

TEST(Fragment, MalformedOptionsHarmNobody) {
  for (const std::string& options : {"\x07\x00\1\1"s, "\x07\x01\1\1"s, "\x07\xFF\1\1"s, "\1\1\1\x07"s}) {
    PacketBatch out;
    ASSERT_TRUE(fragment(with_options(options, counting(1000)), 576, 0, out));
    EXPECT_EQ(reassembled(out, 576).payload, counting(1000));
  }
}

TEST(Fragment, WhatCannotBeCutIsRefusedAndTheRestUntouched) {
  PacketBatch out;
  EXPECT_FALSE(fragment(ip_packet("10.0.0.2", "10.0.0.3", counting(100)), 27, 0, out)) << "no room for 8 bytes";
  EXPECT_FALSE(fragment(with_options(std::string(40, '\1'), counting(100)), 67, 0, out));
  Packet beyond = ip_packet("10.0.0.2", "10.0.0.3", counting(1000));
  store_be16(&beyond.mutable_bytes()[6], 8191);
  EXPECT_FALSE(fragment(std::move(beyond), 576, 0, out)) << "it ends behind 65535";
  EXPECT_TRUE(out.empty());
}

TEST(Fragment, FinishesAChecksumBeforeTheFirstCut) {
  std::string datagram = "\x30\x39\0\x35\x03\xE8\0\0"s + counting(992);
  Packet packet = ip_packet("10.0.0.2", "10.0.0.3", datagram);
  const auto partial = pseudo_header_sum(test::ip("10.0.0.2"), test::ip("10.0.0.3"), kProtocolUdp, datagram.size());
  store_be16(&packet.mutable_bytes()[26], static_cast<std::uint16_t>(partial));
  packet.offload.needs_checksum = true;
  PacketBatch out;
  ASSERT_TRUE(fragment(std::move(packet), 576, 0, out));
  for (const Packet& piece : out) EXPECT_EQ(piece.offload, Offload{});
  EXPECT_EQ(checksum_add(as_bytes(reassembled(out, 576).payload), partial), 0xFFFFU);
}

TEST(Fragment, OnlyIpv4WithoutDontFragmentMayBeCut) {
  Packet packet = ip_packet("10.0.0.2", "10.0.0.3");
  EXPECT_TRUE(may_be_fragmented(packet));
  packet.mutable_bytes()[6] = 0x40;
  EXPECT_FALSE(may_be_fragmented(packet));
  EXPECT_FALSE(may_be_fragmented(ip_packet("fd00::2", "fd00::3")));
}

// ---- IPv6 ----

// As a receiver would put them together: in order, and everything that must be true of each checked on the way.
std::string payload_of(const PacketBatch& fragments, std::size_t mtu, std::size_t headers,
                       std::uint32_t identification) {
  std::string payload;
  for (const Packet& part : fragments) {
    const ByteView bytes = part.bytes();
    EXPECT_LE(bytes.size(), mtu);
    EXPECT_TRUE(parse_ip(bytes));
    const std::uint16_t field = load_be16(&bytes[headers + 2]);
    EXPECT_EQ(field & 0xFFF8U, payload.size());
    EXPECT_EQ(field & 1U, &part == &fragments.back() ? 0U : 1U);
    EXPECT_EQ(load_be32(&bytes[headers + 4]), identification);
    EXPECT_EQ(bytes[headers], kProtocolUdp) << "what the fragments are of";
    payload += std::string(bytes.begin() + static_cast<std::ptrdiff_t>(headers) + 8, bytes.end());
  }
  return payload;
}

TEST(Fragment, OfIpv6HaveAFragmentHeaderEachAndAreTheWholeTogether) {
  for (const std::size_t size : {1400U, 2000U, 65000U}) {
    for (const std::size_t mtu : {1280U, 1281U, 1420U}) {
      Packet packet = ip_packet("fd00::2", "fd00::3", counting(size));
      packet.mutable_bytes()[6] = kProtocolUdp;
      packet.may_fragment = true;
      packet.source = {.slot = 4, .generation = 2};
      if (packet.size() <= mtu) continue;
      PacketBatch out;
      ASSERT_TRUE(fragment(std::move(packet), mtu, 77, out));
      EXPECT_EQ(payload_of(out, mtu, 40, 77), counting(size));
      for (const Packet& part : out) {
        EXPECT_EQ(part.bytes()[6], 44);
        EXPECT_EQ(part.source.slot, 4U);
      }
    }
  }
}

TEST(Fragment, OfIpv6HaveWhatRoutersReadInFrontOfThemAndTheRestInside) {
  // Hop-by-hop options, destination options, a routing header; then destination options for the last one alone.
  const std::string head = std::string("\x3C\0\x01\x04\0\0\0\0", 8) + std::string("\x2B\0\x01\x04\0\0\0\0", 8) +
                           std::string("\x3C\0\0\0\0\0\0\0", 8);
  const std::string last = std::string("\x11\0\x01\x04\0\0\0\0", 8);
  Packet packet = ip_packet("fd00::2", "fd00::3", head + last + counting(3000));
  packet.mutable_bytes()[6] = 0;
  packet.may_fragment = true;
  PacketBatch out;
  ASSERT_TRUE(fragment(std::move(packet), 1280, 5, out));
  ASSERT_EQ(out.size(), 3U);
  for (const Packet& part : out) {
    EXPECT_EQ(part.bytes()[40 + 16], 44) << "the routing header announces it";
    EXPECT_EQ(part.bytes()[40 + 24], 60);
  }
}

TEST(Fragment, OfIpv6IsOnlyWhatMayBe) {
  Packet packet = ip_packet("fd00::2", "fd00::3", counting(2000));
  EXPECT_FALSE(may_be_fragmented(packet));
  packet.may_fragment = true;
  EXPECT_TRUE(may_be_fragmented(packet));
  EXPECT_TRUE(may_be_fragmented(packet.clone()));
  PacketBatch out;
  EXPECT_FALSE(fragment(std::move(packet), 55, 0, out)) << "no room for 8 bytes";
  EXPECT_TRUE(out.empty());
}

}  // namespace
}  // namespace penstock
