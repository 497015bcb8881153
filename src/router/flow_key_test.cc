#include "router/flow_key.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "router/access_testing.h"

namespace penstock::router {
namespace {

constexpr const char* kAlice = "10.0.0.2";
constexpr const char* kBob = "10.0.0.3";
constexpr const char* kAlice6 = "fd00::2";
constexpr const char* kBob6 = "fd00::3";

TEST(FlowKey, NamesTheTwoEndsAndThePortsOfTcpAndUdp) {
  const auto there = flow_of(tcp(kAlice, 4000, kBob, 22, kTcpSyn)).value();
  EXPECT_EQ(there.role, FlowRole::message);
  EXPECT_EQ(there.key.from, AddressBits::of(test::ip(kAlice)));
  EXPECT_EQ(there.key.from_port, 4000);
  EXPECT_EQ(there.key.to_port, 22);
  EXPECT_EQ(there.tcp_flags, kTcpSyn);
  EXPECT_EQ(there.key.reversed(), flow_of(tcp(kBob, 22, kAlice, 4000))->key);
  EXPECT_NE(there.key, flow_of(udp(kAlice, 4000, kBob, 22))->key);
  EXPECT_EQ(flow_of(udp(kAlice6, 5, kBob6, 6))->key.reversed(), flow_of(udp(kBob6, 6, kAlice6, 5))->key);
}

TEST(FlowKey, AnEchoReplyIsTheReverseOfItsRequest) {
  for (const auto& [alice, bob] : {std::pair(kAlice, kBob), std::pair(kAlice6, kBob6)}) {
    const auto request = flow_of(ping(alice, bob, 77)).value();
    const auto reply = flow_of(pong(bob, alice, 77)).value();
    EXPECT_EQ(request.role, FlowRole::echo_request);
    EXPECT_EQ(reply.role, FlowRole::echo_reply);
    EXPECT_EQ(reply.key.reversed(), request.key);
    EXPECT_NE(flow_of(ping(bob, alice, 77))->key.reversed(), request.key)
        << "a request of the other side answers nothing";
  }
}

TEST(FlowKey, AnErrorNamesThePacketThatItQuotes) {
  const auto about = [](const Packet& packet, const char* from, const char* to) {
    return flow_of(unreachable_about(from, to, packet));
  };
  for (const Packet& packet : test::batch_of(tcp(kAlice, 4000, kBob, 22), udp(kAlice, 4000, kBob, 53),
                                             ping(kAlice, kBob, 77), pong(kAlice, kBob, 77))) {
    const auto error = about(packet, kBob, kAlice).value();
    EXPECT_EQ(error.role, FlowRole::error);
    EXPECT_EQ(error.quoted, flow_of(packet)->key);
  }
  const Packet packet6 = udp(kAlice6, 4000, kBob6, 53);
  EXPECT_EQ(about(packet6, kBob6, kAlice6)->quoted, flow_of(packet6)->key);
  EXPECT_FALSE(about(unreachable_about(kAlice, kBob, packet6), kBob, kAlice)) << "no error about an error";
  EXPECT_FALSE(flow_of(unreachable_about(kBob, kAlice, packet6))) << "another family is quoted";
  EXPECT_EQ(flow_of(icmp(kAlice, kBob, 13, std::string(16, '\0')))->role, FlowRole::other_control);
}

TEST(FlowKey, ALaterFragmentHasNoPortsButItsDatagram) {
  const std::string payload = big_endian(4000) + big_endian(53) + std::string(20, 'x');
  const auto first = flow_of(fragment(kAlice, kBob, kProtocolUdp, 9, 0, true, payload)).value();
  const auto later = flow_of(fragment(kAlice, kBob, kProtocolUdp, 9, 24, false, "the rest")).value();
  EXPECT_EQ(first.role, FlowRole::message);
  EXPECT_TRUE(first.fragment);
  EXPECT_EQ(later.role, FlowRole::later_fragment);
  EXPECT_EQ(later.key.to_port, 0);
  EXPECT_EQ(first.datagram, 9U);
  EXPECT_EQ(later.datagram, 9U);
}

TEST(FlowKey, WhatIsCutShortOrHidesItsHeaderIsNoFlow) {
  EXPECT_FALSE(flow_of(test::ip_packet(kAlice, kBob, "abc", kProtocolUdp)));
  EXPECT_FALSE(flow_of(test::ip_packet(kAlice, kBob, std::string(19, 'x'), kProtocolTcp)));
  EXPECT_FALSE(flow_of(icmp(kAlice, kBob, 8, "")));
  EXPECT_FALSE(flow_of(icmp(kAlice, kBob, 3, std::string(20, '\0'))));
  // RFC 1858: flags in a fragment of their own, or laid over those of the first.
  EXPECT_FALSE(flow_of(fragment(kAlice, kBob, kProtocolTcp, 9, 0, true, std::string(8, 'x'))));
  EXPECT_FALSE(flow_of(fragment(kAlice, kBob, kProtocolTcp, 9, 8, false, std::string(40, 'x'))));
}

TEST(FlowKey, RandomBytesAreReadWithinTheirBounds) {
  SeededRandom random(7);
  for (int i = 0; i < 50000; ++i) {
    const bool v6 = random.next32() % 2 != 0;
    std::string payload(random.next32() % 90, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(payload.data()), payload.size()});
    constexpr std::array<std::uint8_t, 8> kProtocols{1, 6, 17, 58, 0, 43, 44, 60};
    Packet packet = test::ip_packet(v6 ? kAlice6 : kAlice, v6 ? kBob6 : kBob, payload, kProtocols[random.next32() % 8]);
    if (!v6 && random.next32() % 4 == 0)
      store_be16(&packet.mutable_bytes()[6], static_cast<std::uint16_t>(random.next32()));
    if (payload.size() > 1 && random.next32() % 2 == 0) packet.mutable_bytes()[v6 ? 40 : 20] = v6 ? 1 : 3;
    flow_of(packet);  // the sanitizers say the rest
  }
}

}  // namespace
}  // namespace penstock::router
