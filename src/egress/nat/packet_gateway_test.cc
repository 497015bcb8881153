#include "egress/nat/packet_gateway.h"

#include <gtest/gtest.h>

#include "egress/nat/nat_packets_testing.h"
#include "net/datagram_testing.h"
#include "packet/fragment.h"
#include "tun/fake_device.h"

namespace penstock::egress {
namespace {

using test::ip;

class PacketGatewayTest : public testing::Test, public ExternalGateway::Inside {
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

}  // namespace
}  // namespace penstock::egress
