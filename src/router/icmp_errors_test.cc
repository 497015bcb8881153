#include "router/icmp_errors.h"

#include <gtest/gtest.h>

#include <string>

#include "packet/ip_view.h"
#include "packet/super_packet.h"
#include "test/support/packets.h"

namespace penstock::router {
namespace {

using test::ip;
using test::ip_packet;

constexpr SessionId kAlice{.slot = 5, .generation = 1};
constexpr SessionId kBob{.slot = 2, .generation = 1};

class IcmpErrorsTest : public testing::Test {
 protected:
  static Packet sent_by(SessionId sender, const char* from = "10.0.0.2", const char* to = "10.0.0.9") {
    Packet packet = ip_packet(from, to);
    packet.source = sender;
    return packet;
  }
  int said_about(const Packet& packet, int times) {
    int said = 0;
    for (int i = 0; i < times; ++i) said += errors.unreachable(packet, Unreachable::host) ? 1 : 0;
    return said;
  }

  ManualClock clock;
  IcmpErrors errors{ip("10.0.0.1"), ip("fd00::1"), clock};
};

TEST_F(IcmpErrorsTest, ASessionHearsThemFromTheGatewaysAddressOfItsPacketsFamily) {
  for (const bool v6 : {false, true}) {
    const Packet packet = v6 ? sent_by(kAlice, "fd00::2", "fd00::9") : sent_by(kAlice);
    const auto error = errors.time_exceeded(packet);
    ASSERT_TRUE(error);
    const IpView view = *parse_ip(error->bytes());
    EXPECT_EQ(view.source, ip(v6 ? "fd00::1" : "10.0.0.1"));
    EXPECT_EQ(view.destination, parse_ip(packet.bytes())->source);
    EXPECT_FALSE(error->source) << "it is the gateway's own";
  }
}

TEST_F(IcmpErrorsTest, WhoSentByAnExitHearsThemFromTheAddressThatWasAsked) {
  const auto error = errors.too_big(sent_by({}, "192.0.2.9", "10.0.0.3"), 1280);
  ASSERT_TRUE(error);
  const IpView view = *parse_ip(error->bytes());
  EXPECT_EQ(view.source, ip("10.0.0.3"));
  EXPECT_EQ(view.destination, ip("192.0.2.9"));
  EXPECT_EQ(load_be32(&error->bytes()[24]), 1280U);
}

TEST_F(IcmpErrorsTest, WithoutAnAddressOfAFamilyThereAreNoneAboutIt) {
  EXPECT_FALSE(IcmpErrors().unreachable(sent_by(kAlice), Unreachable::host));
  EXPECT_FALSE(IcmpErrors().unreachable(sent_by({}), Unreachable::host));
  IcmpErrors only4(ip("10.0.0.1"), std::nullopt, clock);
  EXPECT_TRUE(only4.unreachable(sent_by(kAlice), Unreachable::host));
  EXPECT_FALSE(only4.unreachable(sent_by(kAlice, "fd00::2", "fd00::9"), Unreachable::host));
  EXPECT_FALSE(only4.unreachable(sent_by({}, "2001:db8::1", "fd00::9"), Unreachable::host));
}

TEST_F(IcmpErrorsTest, ASenderHearsABurstAndThenTenASecondAndTakesNobodyElsesTurn) {
  EXPECT_EQ(said_about(sent_by(kAlice), 1000), 20);
  clock.advance(std::chrono::seconds(1));
  EXPECT_EQ(said_about(sent_by(kAlice), 1000), 10);
  EXPECT_EQ(said_about(sent_by(kBob), 1000), 20);
  clock.advance(std::chrono::hours(1));
  EXPECT_EQ(said_about(sent_by(kAlice), 1000), 20) << "no more than a burst is saved up";
}

TEST_F(IcmpErrorsTest, WhatComesFromExitsIsOneSender) {
  EXPECT_EQ(said_about(sent_by({}, "192.0.2.9"), 1000) + said_about(sent_by({}, "192.0.2.8"), 1000), 200);
  clock.advance(std::chrono::seconds(1));
  EXPECT_EQ(said_about(sent_by({}, "192.0.2.9"), 1000), 100);
  EXPECT_EQ(said_about(sent_by(kAlice), 1000), 20);
}

TEST_F(IcmpErrorsTest, ErrorsAboutErrorsAreNotSent) {
  Packet error = *errors.unreachable(sent_by(kBob, "10.0.0.9", "10.0.0.2"), Unreachable::host);
  error.source = kAlice;
  EXPECT_EQ(said_about(error, 5), 0);
}

TEST_F(IcmpErrorsTest, WhatMustNotBeAnsweredTakesNobodysTurn) {
  for (const SessionId sender : {kAlice, SessionId{}}) {
    Packet error = *errors.unreachable(sent_by(kBob, "10.0.0.9", "10.0.0.2"), Unreachable::host);
    error.source = sender;
    Packet fragment = sent_by(sender);
    store_be16(&fragment.mutable_bytes()[6], 5);
    EXPECT_EQ(said_about(error, 1000) + said_about(fragment, 1000), 0);
    EXPECT_EQ(said_about(sent_by(sender), 1000), sender ? 20 : 200);
  }
}

TEST_F(IcmpErrorsTest, ASuperPacketIsQuotedAsTheFirstPacketThatItStandsFor) {
  for (const bool v6 : {false, true}) {
    std::string segment("\x9C\x40\x00\x50\x12\x34\x56\x78\x00\x00\x00\x00\x50\x10\xFF\xFF\0\0\0\0", 20);
    segment += std::string(40'000, 'x');
    Packet packet = ip_packet(v6 ? "fd00::2" : "10.0.0.2", v6 ? "fd00::9" : "10.0.0.9", segment, kProtocolTcp);
    packet.source = kAlice;
    packet.offload = {
        .gso = v6 ? Offload::Gso::tcp6 : Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 1360};
    const auto error = errors.too_big(packet, 1280);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->size(), v6 ? 1280U : 576U);
    const ByteView quoted = error->bytes().subspan(v6 ? 48 : 28);
    EXPECT_EQ(load_be16(&quoted[v6 ? 4 : 2]), v6 ? 1380 : 1400);
    EXPECT_EQ(quoted[v6 ? 40 : 20], 0x9C) << "with its ports";
    if (!v6) {
      EXPECT_EQ(internet_checksum(quoted.first(20)), 0);
    }
    EXPECT_EQ(error->offload, Offload{});
    EXPECT_EQ(segments_of(packet), 30U) << "and is still what it was";
  }
}

}  // namespace
}  // namespace penstock::router
