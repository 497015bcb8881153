// Real sockets, on loopback; what stands inside is a test.
#include "egress/nat/socket_gateway.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "egress/nat/nat_packets_testing.h"
#include "egress/nat/nat_testing.h"
#include "net/datagram_testing.h"
#include "net/own_namespace_testing.h"

namespace penstock::egress {
namespace {

using test::ip;

// A gateway on the loop of its thread, with a test inside.
struct Outside final : StandInInside {
  explicit Outside(const IpAddress& address)
      : gateway(runner.loop(), random, {.external4 = address, .external6 = {}, .udp = {}}) {
    EXPECT_TRUE(gateway.start(*this));
  }

  void send(Binding to, Packet packet) {
    std::vector<OutboundPacket> batch;
    batch.push_back({std::move(packet), to});
    gateway.send_outbound(batch);
    EXPECT_TRUE(batch.empty());
  }
  // The first that arrives; where none does, one that nobody would send.
  Packet await_arrival() {
    if (arrived.empty()) runner.run();
    if (arrived.empty()) return test::ip_packet("0.0.0.0", "0.0.0.0", std::string(64, '\0'), 0);
    return std::move(arrived.front());
  }
  net::UdpSocket server() { return net::UdpSocket::create(runner.loop(), {ip("127.0.0.1"), 0}).value(); }

  void from_outside(PacketBatch& batch) override {
    for (Packet& packet : batch) arrived.push_back(std::move(packet));
    batch.clear();
    runner.enough();
  }

  net::LoopRunner runner;
  net::DatagramArena arena;
  SeededRandom random{1};
  SocketGateway gateway;
  PacketBatch arrived;
  const Binding binding{.index = 3, .generation = 9};
};

class SocketGatewayTest : public testing::Test {
 protected:
  // In a network of its own, where 192.0.2.1 is this machine's and everybody may ping.
  template <typename Body>
  void in_a_network_of_its_own(Body body) {
    std::string why;
    const bool ran = net::OwnNamespace::run(why, [&] {
      ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/ping_group_range", "0 2147483647"));
      ASSERT_TRUE(net::OwnNamespace::shell("ip address add 192.0.2.1/32 dev lo"));
      Outside outside(ip("192.0.2.1"));
      body(outside);
    });
    if (!ran) GTEST_SKIP() << why;
  }

  Outside outside_{ip("127.0.0.1")};
  SocketGateway& gateway_ = outside_.gateway;
  const Binding binding_ = outside_.binding;
};

TEST_F(SocketGatewayTest, ADatagramGoesOutFromItsOwnPortAndTheAnswerComesInAsAPacketToIt) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  EXPECT_EQ(outer.address, ip("127.0.0.1"));
  outside_.send(binding_, udp_packet(outer, server.local(), "question"));
  const auto asked = net::receive_count(outside_.runner, server, outside_.arena, 1);
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].text, "question");
  EXPECT_EQ(asked[0].from, outer);
  EXPECT_EQ(asked[0].ttl, 64);

  net::Outgoing answer = net::outgoing(outer, "answer");
  net::send_one(server, answer);
  Packet packet = outside_.await_arrival();
  EXPECT_TRUE(packet.offload.needs_checksum);
  finish_checksum(packet);
  store_be16(&packet.mutable_bytes()[4], 0);  // the identification, which is anything
  store_be16(&packet.mutable_bytes()[10], 0);
  store_be16(&packet.mutable_bytes()[10], internet_checksum(packet.bytes().first(20)));
  EXPECT_TRUE(same_bytes(packet, udp_packet(server.local(), outer, "answer")));
}

TEST_F(SocketGatewayTest, APortWhereNobodyListensIsReportedAsTheNetworkWould) {
  const Endpoint nobody = outside_.server().local();  // closed again
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  outside_.send(binding_, udp_packet(outer, nobody, "question"));
  Packet packet = outside_.await_arrival();
  const IpView view = parse_ip(packet.bytes()).value();
  ASSERT_EQ(view.protocol, kProtocolIcmp);
  EXPECT_EQ(view.destination, outer.address);
  const ByteView icmp = std::as_const(packet).bytes().subspan(20);
  EXPECT_EQ(checksum_finish(checksum_add(icmp)), 0);
  EXPECT_EQ(icmp[0], 3);
  EXPECT_EQ(icmp[1], 3);
  const IpView quoted = parse_ip(icmp.subspan(8)).value();
  EXPECT_EQ(quoted.source, outer.address);
  EXPECT_EQ(load_be16(&icmp[28]), outer.port);
  EXPECT_EQ(load_be16(&icmp[30]), nobody.port);
  EXPECT_EQ(as_text(icmp.subspan(36)), "question");
}

TEST_F(SocketGatewayTest, ASuperPacketGoesOutWhole) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  Packet packet = udp_packet(outer, server.local(), std::string(3500, 'x'));
  packet.offload = {.gso = Offload::Gso::udp4, .needs_checksum = true, .segment_size = 1000};
  outside_.send(binding_, std::move(packet));
  std::size_t bytes = 0;
  for (const auto& one : net::receive_bytes(outside_.runner, server, outside_.arena, 3500)) {
    bytes += one.text.size();
    EXPECT_TRUE(one.segment_size == 1000 || one.text.size() <= 1000);
  }
  EXPECT_EQ(bytes, 3500U);
}

TEST_F(SocketGatewayTest, WhatIsForAMappingThatHasGoneIsCountedAndNotSent) {
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  gateway_.release(Transport::udp, outer, binding_);
  outside_.send(binding_, udp_packet(outer, end("127.0.0.1:9")));
  const Binding next{.index = binding_.index, .generation = binding_.generation + 1};
  ASSERT_TRUE(gateway_.acquire(Transport::udp, Family::ipv4, next));
  outside_.send(binding_, udp_packet(outer, end("127.0.0.1:9")));
  EXPECT_EQ(gateway_.counters().closed, 2U);
  EXPECT_EQ(gateway_.sockets(), 1U);
}

TEST_F(SocketGatewayTest, WhatTheSystemWillNotSendIsCountedAndTheNextGoesOut) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  std::vector<OutboundPacket> batch;
  batch.push_back({udp_packet(outer, end("198.51.100.9:9")), binding_});  // nothing leaves the machine from 127.0.0.1
  batch.push_back({udp_packet(outer, server.local(), "next"), binding_});
  gateway_.send_outbound(batch);
  EXPECT_EQ(gateway_.counters().refused, 1U);
  const auto got = net::receive_count(outside_.runner, server, outside_.arena, 1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].text, "next");
}

// A socket would send it with a good checksum, and nobody could tell any more.
TEST_F(SocketGatewayTest, WhatNoReceiverWouldBelieveIsNotSent) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  const auto broken = [&](std::size_t at) {
    Packet packet = udp_packet(outer, server.local(), "broken");
    packet.mutable_bytes()[at] ^= 0x40;
    outside_.send(binding_, std::move(packet));
  };
  broken(8);   // the hop limit, and so the header's checksum
  broken(25);  // the length, larger than the packet
  broken(30);  // the data
  EXPECT_EQ(gateway_.counters().malformed, 3U);
  Packet without = udp_packet(outer, server.local(), "without");
  store_be16(&without.mutable_bytes()[26], 0);
  outside_.send(binding_, std::move(without));
  const auto got = net::receive_count(outside_.runner, server, outside_.arena, 1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].text, "without") << "IPv4 may have no checksum";
}

TEST_F(SocketGatewayTest, WhatLiesBehindTheDatagramInItsPacketIsNotOfIt) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  const Packet datagram = udp_packet(outer, server.local(), "all");
  Packet packet = Packet::copy_of(as_bytes(std::string(as_text(datagram.bytes())) + "more"));
  store_be16(&packet.mutable_bytes()[2], static_cast<std::uint16_t>(packet.size()));
  store_be16(&packet.mutable_bytes()[10], 0);
  store_be16(&packet.mutable_bytes()[10], internet_checksum(packet.bytes().first(20)));
  outside_.send(binding_, std::move(packet));
  const auto got = net::receive_count(outside_.runner, server, outside_.arena, 1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].text, "all");
}

TEST_F(SocketGatewayTest, AFamilyWithoutAnAddressHasNoOutside) {
  EXPECT_FALSE(gateway_.acquire(Transport::udp, Family::ipv6, binding_));
  EXPECT_FALSE(gateway_.acquire(Transport::tcp, Family::ipv6, binding_));
}

TEST_F(SocketGatewayTest, APingGoesOutUnderItsOwnIdentifierAndItsAnswerComesIn) {
  in_a_network_of_its_own([](Outside& outside) {
    const auto outer = outside.gateway.acquire(Transport::echo, Family::ipv4, outside.binding);
    ASSERT_TRUE(outer);
    outside.send(outside.binding, echo_packet(outer->address, ip("127.0.0.1"), outer->port));
    const Packet packet = outside.await_arrival();
    const ByteView icmp = packet.bytes().subspan(20);
    EXPECT_EQ(icmp[0], 0);
    EXPECT_EQ(load_be16(&icmp[4]), outer->port);
    EXPECT_EQ(checksum_finish(checksum_add(icmp)), 0);
  });
}

TEST_F(SocketGatewayTest, WhereNoRouteLeadsTheSenderIsToldSo) {
  in_a_network_of_its_own([](Outside& outside) {
    const auto outer = outside.gateway.acquire(Transport::udp, Family::ipv4, outside.binding);
    ASSERT_TRUE(outer);
    outside.send(outside.binding, udp_packet(*outer, end("198.51.100.9:9")));
    const Packet packet = outside.await_arrival();
    EXPECT_EQ(parse_ip(packet.bytes())->destination, outer->address);
    EXPECT_EQ(packet.bytes()[20], 3);
    EXPECT_EQ(packet.bytes()[21], 0) << "network unreachable";
  });
}

TEST_F(SocketGatewayTest, WhatIsTooBigForTheWayIsToldWithTheSizeThatPasses) {
  in_a_network_of_its_own([](Outside& outside) {
    net::OwnNamespace::set_loopback_mtu(1400);
    const auto outer = outside.gateway.acquire(Transport::udp, Family::ipv4, outside.binding);
    ASSERT_TRUE(outer);
    Packet large = udp_packet(*outer, end("127.0.0.1:9"), std::string(1373, 'x'));
    large.mutable_bytes()[6] = 0x40;  // DF
    store_be16(&large.mutable_bytes()[10], 0);
    store_be16(&large.mutable_bytes()[10], internet_checksum(large.bytes().first(20)));
    outside.send(outside.binding, std::move(large));
    const Packet packet = outside.await_arrival();
    EXPECT_EQ(packet.bytes()[20], 3);
    EXPECT_EQ(packet.bytes()[21], 4) << "fragmentation needed";
    EXPECT_EQ(load_be16(&packet.bytes()[26]), 1400);
  });
}

// For each turn of the loop, the segments that came in during it.
struct Turns final : StandInInside {
  explicit Turns(net::LoopRunner& of) : runner(of) { next(); }

  void next() {
    segments.push_back(0);
    if (all == awaited) return runner.enough();
    runner.loop().post([this] { next(); });
  }
  void from_outside(PacketBatch& batch) override {
    for (const Packet& packet : batch) {
      segments.back() += segments_of(packet);
      all += segments_of(packet);
    }
    batch.clear();
  }

  net::LoopRunner& runner;
  std::vector<std::size_t> segments;
  std::size_t all = 0;
  std::size_t awaited = ~std::size_t{0};
};

// Eight super-datagrams of 64 wait at each of four ports, four times what a turn reads.
TEST_F(SocketGatewayTest, ATurnOfTheLoopReadsABoundedPartOfWhatWaitsAndNothingIsForgotten) {
  net::UdpSocket server = outside_.server();
  for (std::uint32_t i = 0; i < 4; ++i) {
    const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, {.index = i, .generation = 1}).value();
    const std::string text(6400, 'x');
    for (int sent = 0; sent < 8; ++sent) {
      net::Outgoing super = net::outgoing(outer, text);
      super.segment_size = 100;
      net::send_one(server, super);
    }
  }
  Turns turns(outside_.runner);
  turns.awaited = 4 * SocketGateway::kSegmentsPerTurn;
  ASSERT_TRUE(gateway_.start(turns));
  outside_.runner.run();
  EXPECT_EQ(turns.all, turns.awaited);
  // What the loop calls a turn may have the end of one and the beginning of the next.
  EXPECT_LE(std::ranges::max(turns.segments), 2 * SocketGateway::kSegmentsPerTurn);
}

TEST_F(SocketGatewayTest, AfterStopNothingComesIn) {
  net::UdpSocket server = outside_.server();
  const Endpoint outer = gateway_.acquire(Transport::udp, Family::ipv4, binding_).value();
  gateway_.stop();
  net::Outgoing unasked = net::outgoing(outer, "x");
  net::send_one(server, unasked);
  outside_.runner.settle(std::chrono::milliseconds(50));
  EXPECT_TRUE(outside_.arrived.empty());
}

}  // namespace
}  // namespace penstock::egress
