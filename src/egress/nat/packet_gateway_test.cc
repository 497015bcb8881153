#include "egress/nat/packet_gateway.h"

#include <gtest/gtest.h>

#include "egress/nat/nat_exit.h"
#include "egress/nat/nat_packets_testing.h"
#include "egress/nat/nat_testing.h"
#include "egress/nat/numbered_ports.h"
#include "net/datagram_testing.h"
#include "packet/fragment.h"
#include "tun/fake_device.h"

namespace penstock::egress {
namespace {

using test::ip;

class PacketGatewayTest : public testing::Test, public StandInInside {
 protected:
  PacketGatewayTest() { EXPECT_TRUE(gateway_.start(*this)); }

  void send(Packet packet, bool may_fragment = false) {
    packet.may_fragment = may_fragment;
    std::vector<OutboundPacket> batch;
    batch.push_back({std::move(packet), {.index = 1, .generation = 1}});
    gateway_.send_outbound(batch);
    EXPECT_TRUE(batch.empty());
  }
  // Something that is read behind whatever else waits.
  void await_all() {
    device_.inject(last_.clone());
    runner_.run();
    ASSERT_FALSE(arrived_.empty());
    arrived_.pop_back();
  }
  // Lets the loop turn once more.
  void turn() {
    runner_.loop().post([this] { runner_.loop().post([this] { runner_.enough(); }); });
    runner_.run();
  }

  const Endpoint outer_ = end("192.0.2.77:40000");
  const Endpoint server_ = end("198.51.100.2:53");
  const Endpoint outer6_ = end("[2001:db8::77]:40000");
  const Endpoint server6_ = end("[2001:db8:1::2]:53");
  const Packet last_ = udp_packet(server_, outer_, "the last");

  net::LoopRunner runner_;
  tun::FakeDevice device_;
  SeededRandom random_{1};
  int lost_ = 0;
  PacketBatch arrived_;
  PacketGateway gateway_{runner_.loop(), device_, random_, {.first = 1, .second = 2}, [this](const Error& error) {
                           EXPECT_EQ(error.code, ErrorCode::closed);
                           ++lost_;
                           runner_.enough();
                         }};

 private:
  void from_outside(PacketBatch& batch) override {
    EXPECT_LE(batch.size(), PacketGateway::kBatch);
    for (Packet& packet : batch) {
      if (same_bytes(packet, last_)) runner_.enough();
      arrived_.push_back(std::move(packet));
    }
    batch.clear();
  }
};

TEST_F(PacketGatewayTest, PacketsPassBothWaysAsTheyAre) {
  send(udp_packet(outer_, server_, "question"));
  ASSERT_EQ(device_.written.size(), 1U);
  EXPECT_TRUE(same_bytes(device_.written[0], udp_packet(outer_, server_, "question")));
  device_.inject(udp_packet(server_, outer_, "answer"));
  await_all();
  ASSERT_EQ(arrived_.size(), 1U);
  EXPECT_TRUE(same_bytes(arrived_[0], udp_packet(server_, outer_, "answer")));
}

TEST_F(PacketGatewayTest, SuperPacketsAndPartialChecksumsPassAsTheyAre) {
  Packet super = udp_packet(outer_, server_, std::string(3500, 'x'));
  super.offload = {.gso = Offload::Gso::udp4, .needs_checksum = true, .segment_size = 1000};
  const Offload offload = super.offload;
  device_.inject(super.clone());
  send(std::move(super));
  EXPECT_EQ(device_.written.at(0).offload, offload);
  await_all();
  EXPECT_EQ(arrived_.at(0).offload, offload);
}

TEST_F(PacketGatewayTest, WhatTheDeviceRefusesIsCountedAsThePacketsThatItStandsFor) {
  device_.refuse_writes = true;
  Packet super = udp_packet(outer_, server_, std::string(3500, 'x'));
  super.offload = {.gso = Offload::Gso::udp4, .needs_checksum = true, .segment_size = 1000};
  send(std::move(super));
  EXPECT_EQ(gateway_.counters().refused, 4U);
}

TEST_F(PacketGatewayTest, WhatIsNoIpDoesNotComeIn) {
  Packet cut = udp_packet(server_, outer_);
  cut.truncate(19);
  device_.inject(std::move(cut));
  Packet nothing_known = udp_packet(server_, outer_);
  nothing_known.mutable_bytes()[0] = 0x55;
  device_.inject(std::move(nothing_known));
  await_all();
  EXPECT_TRUE(arrived_.empty());
  EXPECT_EQ(gateway_.counters().malformed, 2U);
}

TEST_F(PacketGatewayTest, FragmentsComeInAsTheWholeThatTheyAre) {
  PacketBatch fragments;
  ASSERT_TRUE(fragment(udp_packet(server_, outer_, std::string(3000, 'x')), 1400, 0, fragments));
  for (Packet& one : fragments) device_.inject(std::move(one));
  await_all();
  ASSERT_EQ(arrived_.size(), 1U);
  EXPECT_TRUE(same_bytes(arrived_[0], udp_packet(server_, outer_, std::string(3000, 'x'))));
}

// By the kernel's words for it the fragments are put together again here.
TEST_F(PacketGatewayTest, Ipv6ThatCameInFragmentsGoesOutInFragmentsThatPassEverywhere) {
  const std::string text(3000, 'x');
  send(udp_packet(outer6_, server6_, text), true);
  ASSERT_EQ(device_.written.size(), 3U);
  Reassembler reassembler({}, {.first = 1, .second = 2});
  std::optional<Packet> whole;
  for (Packet& one : device_.written) {
    EXPECT_LE(one.size(), 1280U);
    const IpView view = parse_ip(std::as_const(one).bytes()).value();
    EXPECT_TRUE(view.fragment);
    whole = reassembler.add(std::move(one), view, TimePoint{});
  }
  ASSERT_TRUE(whole);
  EXPECT_TRUE(same_bytes(*whole, udp_packet(outer6_, server6_, text)));

  device_.written.clear();
  send(udp_packet(outer6_, server6_, text));
  EXPECT_EQ(device_.written.size(), 1U) << "its sender is to be told that it is too big";
  send(udp_packet(outer_, server_, text), true);
  EXPECT_EQ(device_.written.size(), 2U) << "IPv4 is cut by whoever has to";
}

TEST_F(PacketGatewayTest, ADeviceThatIsGoneIsToldOnceAndTakesNothing) {
  device_.remove();
  runner_.run();
  EXPECT_EQ(lost_, 1);
  send(udp_packet(outer_, server_));
  EXPECT_EQ(gateway_.counters().refused, 1U);
  gateway_.stop();
  turn();
  EXPECT_EQ(lost_, 1);
}

TEST_F(PacketGatewayTest, AfterStopNothingGoesInOrOutAndStartBeginsAnew) {
  gateway_.stop();
  send(udp_packet(outer_, server_));
  EXPECT_TRUE(device_.written.empty());
  EXPECT_EQ(gateway_.counters().stopped, 1U);
  device_.inject(udp_packet(server_, outer_, "waits"));
  turn();
  EXPECT_TRUE(arrived_.empty());
  ASSERT_TRUE(gateway_.start(*this));
  await_all();
  EXPECT_EQ(arrived_.size(), 1U);
}

// ---- TCP, which only passes here ----

// Numbers, and what is told of them.
class ToldPorts final : public ExternalPorts {
 public:
  explicit ToldPorts(Random& random) : numbers_({.addresses = {ip("192.0.2.77")}, .udp = {}, .tcp = {}}, random) {}
  std::expected<Endpoint, NoPort> acquire(Transport transport, Family family, Binding binding) override {
    return numbers_.acquire(transport, family, binding);
  }
  void release(Transport transport, const Endpoint& external, Binding binding) override {
    numbers_.release(transport, external, binding);
  }
  void ended(Transport, const Endpoint& external, const Endpoint& remote) override {
    told.emplace_back(external, remote);
  }
  std::size_t held() const { return numbers_.held(Transport::tcp, Family::ipv4); }
  std::vector<std::pair<Endpoint, Endpoint>> told;

 private:
  NumberedPorts numbers_;
};

class TcpByPacketsTest : public testing::Test {
 protected:
  TcpByPacketsTest() {
    router::RouteTable routes;
    routes = routes.with(Prefix::parse("10.100.0.2").value(), shard_.router().add_port(client_));
    shard_.router().set_routes(routes.with(Prefix::parse("0.0.0.0/0").value(), exit_.id()));
    EXPECT_TRUE(exit_.start());
  }
  void send(Packet packet) {
    packet.source = kAlice;
    PacketBatch batch;
    batch.push_back(std::move(packet));
    exit_.send(batch);
  }
  // What the client gets of what the device brings.
  std::optional<Packet> comes(Packet packet) {
    device_.inject(std::move(packet));
    Packet behind_it = udp_packet(server_, alice_);
    behind_it.truncate(19);
    device_.inject(std::move(behind_it));
    await_malformed(gateway_.counters().malformed + 1);
    runner_.run();
    return got();
  }
  void await_malformed(std::uint64_t count) {
    if (gateway_.counters().malformed == count) return runner_.enough();
    runner_.loop().post([this, count] { await_malformed(count); });
  }
  std::optional<Packet> got() {
    if (client_.packets.empty()) return std::nullopt;
    Packet first = std::move(client_.packets.front());
    client_.packets.erase(client_.packets.begin());
    return first;
  }
  // The outer end that the last packet came from.
  Endpoint outer() {
    const ByteView bytes = std::as_const(device_.written.back()).bytes();
    const IpView view = parse_ip(bytes).value();
    return {view.source, ports_of(bytes, view)->source};
  }
  static std::uint8_t flags_of(const Packet& packet) { return packet.bytes()[20 + 13]; }

  struct Client final : router::Port {
    void send(PacketBatch& batch) override {
      for (Packet& packet : batch) packets.push_back(std::move(packet));
      batch.clear();
    }
    std::size_t credit() const override { return std::size_t{1} << 20; }
    PacketBatch packets;
  };

  static constexpr SessionId kAlice{.slot = 1, .generation = 1};
  const Endpoint alice_ = end("10.100.0.2:1000");
  const Endpoint server_ = end("93.184.216.34:443");

  net::LoopRunner runner_;
  tun::FakeDevice device_;
  SeededRandom random_{1};
  Client client_;
  ToldPorts ports_{random_};
  PacketGateway gateway_{runner_.loop(), device_, random_, {.first = 1, .second = 2}, [](const Error&) {}};
  router::Shard shard_{0, runner_.loop()};
  NatExit exit_{shard_,
                {.nat = {.bounds = {.flows = 8, .flows_of_owner = 4}}, .fragments = {}, .inner4 = {}, .inner6 = {}},
                {.table = {1, 2}, .fragments = {}},
                ExitPolicy({}),
                gateway_,
                ports_};
};

TEST_F(TcpByPacketsTest, AConnectionPassesFromItsSynOn) {
  send(tcp_segment(alice_, server_, kTcpSyn));
  ASSERT_EQ(device_.written.size(), 1U);
  const Endpoint outer = this->outer();
  EXPECT_EQ(outer.address, ip("192.0.2.77"));
  const auto answer = comes(tcp_segment(server_, outer, kTcpSyn | kTcpAck));
  ASSERT_TRUE(answer);
  EXPECT_EQ(parse_ip(answer->bytes())->destination, alice_.address);
  EXPECT_EQ(flags_of(*answer), kTcpSyn | kTcpAck);

  Packet data = tcp_packet(alice_, server_, std::string(3500, 'x'));
  write_partial_checksum(data.mutable_bytes(), transport_of(data.bytes()).value());
  data.offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 1000};
  send(std::move(data));
  ASSERT_EQ(device_.written.size(), 2U);
  PacketBatch segments;
  segment(std::move(device_.written[1]), segments);
  ASSERT_EQ(segments.size(), 4U);
  for (const Packet& one : segments) {
    EXPECT_EQ(ports_of(one.bytes(), parse_ip(one.bytes()).value()), (Ports{outer.port, server_.port}));
    EXPECT_TRUE(has_good_checksums(one, transport_of(one.bytes()).value()));
  }
  EXPECT_TRUE(comes(tcp_packet(server_, outer)));
  EXPECT_FALSE(comes(tcp_packet(end("93.184.216.35:443"), outer))) << "nobody has spoken to that one";
  EXPECT_TRUE(ports_.told.empty());
}

TEST_F(TcpByPacketsTest, WhatBelongsToNoConnectionIsAnsweredWithARstAndDoesNotGoOut) {
  send(tcp_packet(alice_, server_));
  EXPECT_TRUE(device_.written.empty());
  auto reset = got();
  ASSERT_TRUE(reset);
  EXPECT_EQ(parse_ip(reset->bytes())->source, server_.address);
  EXPECT_NE(flags_of(*reset) & kTcpRst, 0);
  EXPECT_EQ(ports_.held(), 0U);
}

TEST_F(TcpByPacketsTest, WhatIsDisplacedAndWhatASessionHadIsToldOfByItsEnds) {
  std::vector<std::pair<Endpoint, Endpoint>> conversations;
  for (std::uint16_t port = 1; port <= 5; ++port) {
    send(tcp_segment({alice_.address, port}, server_, kTcpSyn));
    conversations.emplace_back(outer(), server_);
  }
  ASSERT_EQ(ports_.told.size(), 1U) << "a session has room for four";
  EXPECT_EQ(ports_.told[0], conversations[0]);
  EXPECT_FALSE(comes(tcp_segment(server_, conversations[0].first, kTcpSyn | kTcpAck)));
  exit_.forget(kAlice);
  EXPECT_EQ(ports_.told, conversations);
  EXPECT_EQ(ports_.held(), 0U);
}

}  // namespace
}  // namespace penstock::egress
