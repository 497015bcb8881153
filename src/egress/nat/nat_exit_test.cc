#include "egress/nat/nat_exit.h"

#include <gtest/gtest.h>

#include "egress/nat/nat_packets_testing.h"
#include "egress/nat/nat_testing.h"
#include "packet/fragment.h"
#include "packet/hop_limit.h"
#include "test/support/manual_loop.h"

namespace penstock::egress {
namespace {

using test::ip;

constexpr SessionId kAlice{.slot = 1, .generation = 1};
constexpr SessionId kBob{.slot = 2, .generation = 1};

class Member final : public router::Port {
 public:
  void send(PacketBatch& batch) override {
    for (Packet& packet : batch) packets.push_back(std::move(packet));
    batch.clear();
  }
  std::size_t credit() const override { return 1 << 20; }
  PacketBatch packets;
};

class RecordingGateway final : public ExternalGateway {
 public:
  Result<void> start(Inside& inside) override {
    inside_ = &inside;
    return {};
  }
  void send_outbound(std::vector<OutboundPacket>& batch) override {
    for (OutboundPacket& one : batch) sent.push_back(std::move(one.packet));
    batch.clear();
  }
  void stop() override { inside_ = nullptr; }
  void arrives(Packet packet) {
    PacketBatch batch;
    batch.push_back(std::move(packet));
    arrive(batch);
  }
  void arrive(PacketBatch& batch) {
    inside_->from_outside(batch);
    EXPECT_TRUE(batch.empty());
  }
  PacketBatch sent;

 private:
  Inside* inside_ = nullptr;
};

// Packets of members have a hop limit of 64, so those that have passed have 63.
Packet hopped(Packet packet) {
  EXPECT_TRUE(decrement_hop_limit(packet.mutable_bytes()));
  return packet;
}

class NatExitTest : public testing::Test {
 protected:
  NatExitTest() {
    router::RouteTable routes;
    routes = routes.with(Prefix::parse("10.100.0.2").value(), shard_.router().add_port(alice_));
    routes = routes.with(Prefix::parse("10.100.0.3").value(), shard_.router().add_port(bob_));
    shard_.router().set_routes(routes.with(Prefix::parse("0.0.0.0/0").value(), exit_.id()));
    EXPECT_TRUE(exit_.start());
  }
  void send(Packet packet, SessionId source = kAlice) {
    packet.source = source;
    PacketBatch batch;
    batch.push_back(std::move(packet));
    exit_.send(batch);
  }
  // The type and code of the only ICMP error that Alice was told.
  std::pair<int, int> told() {
    EXPECT_EQ(alice_.packets.size(), 1U);
    if (alice_.packets.size() != 1) return {-1, -1};
    const ByteView bytes = std::as_const(alice_.packets[0]).bytes();
    EXPECT_EQ(parse_ip(bytes)->source, ip("10.100.0.1"));
    return {bytes[20], bytes[21]};
  }

  const Endpoint alices_ = end("10.100.0.2:1000");
  const Endpoint bobs_ = end("10.100.0.3:1000");
  const Endpoint server_ = end("93.184.216.34:53");
  const Endpoint outer_ = end("192.0.2.1:40000");  // the first that is given out

  test::ManualLoop loop_;
  router::Shard shard_{0, loop_};
  Member alice_;
  Member bob_;
  RecordingGateway gateway_;
  StandInPorts ports_{{ip("192.0.2.1")}, 40000, 40999};
  NatExit exit_{
      shard_,
      {.nat = {}, .fragments = {}, .inner4 = ip("10.100.0.1"), .inner6 = {}},
      {.table = {1, 2}, .fragments = {}},
      ExitPolicy({.allow = {}, .deny = {}, .own = {ip("10.100.0.1"), ip("192.0.2.1")}, .networks = {}, .exempt = {}}),
      gateway_,
      ports_};
};

TEST_F(NatExitTest, AQuestionGoesOutAndItsAnswerComesBackOneHopEachWay) {
  send(udp_packet(alices_, server_));
  ASSERT_EQ(gateway_.sent.size(), 1U);
  EXPECT_TRUE(same_bytes(gateway_.sent[0], hopped(udp_packet(outer_, server_))));
  gateway_.arrives(udp_packet(server_, outer_, "answer"));
  ASSERT_EQ(alice_.packets.size(), 1U);
  EXPECT_TRUE(same_bytes(alice_.packets[0], hopped(udp_packet(server_, alices_, "answer"))));
  EXPECT_FALSE(alice_.packets[0].source) << "what comes by an exit is no member's";
}

// Three datagrams of four bytes each way.
TEST_F(NatExitTest, DatagramsOfAConversationThatComeTogetherGoOnTogether) {
  const auto three = [](const Endpoint& from, const Endpoint& to) {
    PacketBatch batch;
    for (std::uint16_t i = 0; i < 3; ++i) {
      Packet& packet = batch.emplace_back(udp_packet(from, to));
      const MutableByteView header = packet.mutable_bytes().first(20);
      store_be16(&header[4], i);
      store_be16(&header[10], 0);
      store_be16(&header[10], internet_checksum(header));
      packet.source = kAlice;
    }
    return batch;
  };
  PacketBatch out = three(alices_, server_);
  exit_.send(out);
  ASSERT_EQ(gateway_.sent.size(), 1U);
  EXPECT_EQ(segments_of(gateway_.sent[0]), 3U);
  EXPECT_EQ(parse_ip(std::as_const(gateway_.sent[0]).bytes())->source, outer_.address);
  EXPECT_EQ(exit_.nat().table().mappings(), 1U);

  PacketBatch in = three(server_, outer_);
  gateway_.arrive(in);
  ASSERT_EQ(alice_.packets.size(), 1U);
  EXPECT_EQ(segments_of(alice_.packets[0]), 3U);
  EXPECT_EQ(parse_ip(std::as_const(alice_.packets[0]).bytes())->destination, alices_.address);
}

TEST_F(NatExitTest, WhoComesFromOutsideWithAnAddressFromInsideIsDropped) {
  send(udp_packet(alices_, server_));
  for (const char* inside : {"10.100.0.3:53", "10.100.0.2:53"}) gateway_.arrives(udp_packet(end(inside), outer_));
  EXPECT_EQ(exit_.counters().spoofed, 2U);
  EXPECT_TRUE(alice_.packets.empty());
}

TEST_F(NatExitTest, WhereNobodyMayGoIsToldSoAndNothingIsRemembered) {
  send(udp_packet(alices_, end("127.0.0.1:53")));
  EXPECT_EQ(told(), std::pair(3, 13)) << "communication administratively prohibited";
  EXPECT_EQ(exit_.counters().denied[static_cast<std::size_t>(Denied::loopback)], 1U);
  EXPECT_EQ(exit_.nat().table().flows(), 0U);
  EXPECT_TRUE(gateway_.sent.empty());
}

TEST_F(NatExitTest, ThePolicyHoldsForConversationsThatAreUnderWay) {
  send(udp_packet(alices_, server_));
  exit_.set_policy(ExitPolicy({.allow = {},
                               .deny = {{.to = Prefix::host(server_.address), .ports = {}}},
                               .own = {},
                               .networks = {},
                               .exempt = {}}));
  send(udp_packet(alices_, server_));
  EXPECT_EQ(gateway_.sent.size(), 1U);
}

TEST_F(NatExitTest, AHopLimitThatEndsHereIsToldInTheGatewaysName) {
  Packet last = udp_packet(alices_, server_);
  last.mutable_bytes()[8] = 1;
  send(std::move(last));
  EXPECT_EQ(told(), std::pair(11, 0));
  EXPECT_EQ(exit_.counters().hop_limit, 1U);
  EXPECT_TRUE(gateway_.sent.empty());
}

TEST_F(NatExitTest, FragmentsGoOutAsTheWholeThatTheyAre) {
  PacketBatch fragments;
  ASSERT_TRUE(fragment(udp_packet(alices_, server_, std::string(3000, 'x')), 1420, 0, fragments));
  ASSERT_EQ(fragments.size(), 3U);
  for (Packet& one : fragments) send(std::move(one));
  ASSERT_EQ(gateway_.sent.size(), 1U);
  EXPECT_TRUE(same_bytes(gateway_.sent[0], hopped(udp_packet(outer_, server_, std::string(3000, 'x')))));
}

TEST_F(NatExitTest, WhatIsNotTranslatedIsToldAtOnce) {
  send(tcp_packet(alices_, server_));
  EXPECT_EQ(told(), std::pair(3, 13));
  EXPECT_EQ(exit_.counters().not_translatable, 1U);
}

TEST_F(NatExitTest, WithoutAnOuterEndTheNetworkIsUnreachable) {
  ports_.refuse = true;
  send(udp_packet(alices_, server_));
  EXPECT_EQ(told(), std::pair(3, 0));
  EXPECT_EQ(exit_.counters().no_outside, 1U);
}

TEST_F(NatExitTest, WhatNobodyAskedForIsDroppedInSilence) {
  gateway_.arrives(udp_packet(server_, outer_));
  EXPECT_EQ(exit_.counters().unasked, 1U);
  EXPECT_TRUE(alice_.packets.empty());
  EXPECT_TRUE(gateway_.sent.empty());
}

TEST_F(NatExitTest, MembersMeetByTheirOuterEndsWithoutTheInternet) {
  send(udp_packet(alices_, server_));
  send(udp_packet(bobs_, server_), kBob);
  const Endpoint bobs_outer = end("192.0.2.1:40001");
  gateway_.sent.clear();
  send(udp_packet(bobs_, outer_), kBob);  // Bob speaks to Alice's outer end: now she may answer
  EXPECT_TRUE(alice_.packets.empty());
  send(udp_packet(alices_, bobs_outer));
  ASSERT_EQ(bob_.packets.size(), 1U);
  EXPECT_TRUE(same_bytes(bob_.packets[0], hopped(udp_packet(outer_, bobs_))));
  EXPECT_TRUE(gateway_.sent.empty());
}

TEST_F(NatExitTest, AnErrorFromTheNetworkReachesWhoSent) {
  send(udp_packet(alices_, server_));
  gateway_.arrives(error_packet(ip("203.0.113.77"), outer_.address, gateway_.sent[0]));
  ASSERT_EQ(alice_.packets.size(), 1U);
  const IpView view = parse_ip(std::as_const(alice_.packets[0]).bytes()).value();
  EXPECT_EQ(view.source, ip("203.0.113.77")) << "this is what traceroute shows";
  EXPECT_EQ(view.destination, alices_.address);
}

TEST_F(NatExitTest, WhatASessionHadGoesWithItAndWhatIsSilentGoesByItself) {
  send(udp_packet(alices_, server_));
  send(udp_packet(bobs_, server_), kBob);
  exit_.forget(kAlice);
  EXPECT_EQ(ports_.held(), 1U);
  loop_.advance(std::chrono::minutes(5) + std::chrono::seconds(3));
  EXPECT_EQ(ports_.held(), 0U);
}

}  // namespace
}  // namespace penstock::egress
