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
  std::size_t credit() const override { return room; }
  void grant() { grant_credit(); }
  PacketBatch packets;
  std::size_t room = std::size_t{1} << 20;
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
  void reached(std::span<const std::pair<Endpoint, Endpoint>> conversations) override {
    reached_again.assign(conversations.begin(), conversations.end());
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
  Inside& inside() { return *inside_; }
  PacketBatch sent;
  std::vector<std::pair<Endpoint, Endpoint>> reached_again;

 private:
  Inside* inside_ = nullptr;
};

class Waiter final : public router::CreditWaiter {
 public:
  void on_credit() override { ++told; }
  int told = 0;
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
  send(test::ip_packet("10.100.0.2", "93.184.216.34", "a tunnel", 47));
  EXPECT_EQ(told(), std::pair(3, 13));
  EXPECT_EQ(exit_.counters().not_translatable, 1U);
}

TEST_F(NatExitTest, AConnectionGoesOutAndItsAnswersComeBack) {
  send(tcp_segment(alices_, server_, kTcpSyn));
  ASSERT_EQ(gateway_.sent.size(), 1U);
  EXPECT_TRUE(same_bytes(gateway_.sent[0], hopped(tcp_segment(outer_, server_, kTcpSyn))));
  gateway_.arrives(tcp_segment(server_, outer_, kTcpSyn | kTcpAck));
  ASSERT_EQ(alice_.packets.size(), 1U);
  EXPECT_TRUE(same_bytes(alice_.packets[0], hopped(tcp_segment(server_, alices_, kTcpSyn | kTcpAck))));
}

// The RST that a segment with an acknowledgement of 0 is owed.
void expect_reset(const Packet& packet, const Endpoint& from, const Endpoint& to) {
  const IpView view = parse_ip(packet.bytes()).value();
  EXPECT_EQ(view.source, from.address);
  EXPECT_EQ(view.destination, to.address);
  const auto reset = parse_tcp(packet.bytes(), view);
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->source, from.port);
  EXPECT_EQ(reset->destination, to.port);
  EXPECT_EQ(reset->flags, kTcpRst);
}

TEST_F(NatExitTest, WhatBelongsToNoConnectionIsResetUnlessItIsARstItself) {
  send(tcp_packet(alices_, server_));
  ASSERT_EQ(alice_.packets.size(), 1U);
  expect_reset(alice_.packets[0], server_, alices_);
  send(tcp_segment(alices_, server_, kTcpRst));
  Packet bad = tcp_packet(alices_, server_);
  bad.mutable_bytes().back() ^= 1;
  send(std::move(bad));
  EXPECT_EQ(alice_.packets.size(), 1U);
  EXPECT_EQ(exit_.counters().no_connection, 3U);
  EXPECT_TRUE(gateway_.sent.empty());

  send(tcp_segment(alices_, server_, kTcpSyn));
  gateway_.arrives(tcp_packet(end("93.184.216.35:53"), outer_));
  EXPECT_EQ(exit_.counters().unasked, 1U) << "a stranger is told nothing";
  EXPECT_EQ(gateway_.sent.size(), 1U);
}

TEST_F(NatExitTest, WhoeverSpeaksToAForwardOfAConnectionThatNobodyKnowsIsToldSo) {
  const Endpoint outside = end("192.0.2.1:2222");
  exit_.forward(Transport::tcp, outside, alices_);
  gateway_.arrives(tcp_packet(server_, outside));
  ASSERT_EQ(gateway_.sent.size(), 1U);
  expect_reset(gateway_.sent[0], outside, server_);
  gateway_.arrives(tcp_segment(server_, outside, kTcpRst));
  EXPECT_EQ(gateway_.sent.size(), 1U);

  // A member by way of its own outer end.
  send(tcp_segment(bobs_, outside, kTcpSyn), kBob);
  EXPECT_EQ(alice_.packets.size(), 1U);
  send(tcp_packet(bobs_, outside), kBob);
  ASSERT_EQ(bob_.packets.size(), 1U);
  expect_reset(bob_.packets[0], outside, bobs_);
  EXPECT_EQ(gateway_.sent.size(), 1U);
  EXPECT_EQ(exit_.counters().no_connection, 3U);
}

TEST_F(NatExitTest, AConnectionToAMembersForwardThatNobodyServesIsRefusedAtOnce) {
  const Endpoint outside = end("192.0.2.1:2222");
  exit_.forward(Transport::tcp, outside, alices_);
  send(tcp_segment(bobs_, outside, kTcpSyn), kBob);
  send(tcp_segment(alices_, outer_, kTcpRst | kTcpAck));
  ASSERT_EQ(bob_.packets.size(), 1U);
  EXPECT_TRUE(same_bytes(bob_.packets[0], hopped(tcp_segment(outside, bobs_, kTcpRst | kTcpAck))));
}

TEST_F(NatExitTest, WhatTheGatewaySaysIsOverIsForgotten) {
  send(tcp_segment(alices_, server_, kTcpSyn));
  gateway_.inside().closed(outer_, server_);
  EXPECT_EQ(exit_.nat().table().flows(), 0U);
  EXPECT_EQ(ports_.held(), 0U);
  EXPECT_TRUE(ports_.told.empty());
  gateway_.inside().closed(outer_, server_);  // again
}

TEST_F(NatExitTest, AConnectionThatHasBecomeForbiddenEndsForBoth) {
  send(tcp_segment(alices_, server_, kTcpSyn));
  gateway_.sent.clear();
  exit_.set_policy(ExitPolicy({.allow = {},
                               .deny = {{.to = Prefix::parse("93.184.216.0/24").value(), .ports = {}}},
                               .own = {ip("192.0.2.1")},
                               .networks = {},
                               .exempt = {}}));
  send(tcp_packet(alices_, server_));
  ASSERT_EQ(alice_.packets.size(), 1U);
  expect_reset(alice_.packets[0], server_, alices_);
  EXPECT_EQ(ports_.told.size(), 1U) << "whoever ends it outside";
  EXPECT_EQ(exit_.nat().table().flows(), 0U);
  EXPECT_TRUE(gateway_.sent.empty());
  alice_.packets.clear();
  send(tcp_segment(alices_, server_, kTcpSyn));
  EXPECT_EQ(told(), std::pair(3, 13)) << "a new one is prohibited";
}

TEST_F(NatExitTest, WhenAMemberIsReachedAgainTheGatewayIsToldOfItsConnectionsAlone) {
  exit_.reached(kAlice);
  EXPECT_TRUE(gateway_.reached_again.empty());
  send(udp_packet(alices_, server_));
  send(tcp_segment(bobs_, server_, kTcpSyn), kBob);
  send(tcp_segment(alices_, server_, kTcpSyn));
  exit_.reached(kAlice);
  const auto* mapping = exit_.nat().table().find_inner(MappingTable::End::of(alices_, Transport::tcp));
  ASSERT_NE(mapping, nullptr);
  const Endpoint outer = mapping->external_end().endpoint();
  EXPECT_EQ(gateway_.reached_again, (std::vector{std::pair(outer, server_)}));
}

TEST_F(NatExitTest, TheCreditOfAnOuterEndIsThatOfThePortBehindIt) {
  ExternalGateway::Inside& inside = gateway_.inside();
  send(tcp_segment(alices_, server_, kTcpSyn));
  alice_.room = 5000;
  EXPECT_EQ(inside.credit(outer_, Transport::tcp), 5000U);
  EXPECT_EQ(inside.credit(outer_, Transport::udp), SIZE_MAX) << "nobody has that";
  Waiter waiter;
  Waiter other;
  const router::PortId at = inside.wait_for_credit(outer_, Transport::tcp, waiter);
  EXPECT_EQ(shard_.router().port(at), &alice_);
  EXPECT_EQ(inside.wait_for_credit(outer_, Transport::tcp, other), at);
  inside.cancel_wait(at, other);
  alice_.grant();
  EXPECT_EQ(waiter.told, 1);
  EXPECT_EQ(other.told, 0);

  EXPECT_FALSE(inside.wait_for_credit(end("192.0.2.1:40500"), Transport::tcp, waiter));
  inside.cancel_wait({}, waiter);
  shard_.router().remove_port(at);
  EXPECT_EQ(inside.credit(outer_, Transport::tcp), SIZE_MAX) << "whoever is gone is waited for by nobody";
  EXPECT_FALSE(inside.wait_for_credit(outer_, Transport::tcp, waiter));
  inside.cancel_wait(at, waiter);
  auto routes = shard_.router().routes();
  shard_.router().set_routes(routes.with(Prefix::host(alices_.address), {.shard = 1, .slot = 0, .generation = 1}));
  EXPECT_EQ(inside.credit(outer_, Transport::tcp), SIZE_MAX) << "of another shard nothing is known";
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
