#include "egress/local/local_host.h"

#include <gtest/gtest.h>

#include "packet/super_packet.h"
#include "test/support/manual_loop.h"
#include "test/support/packets.h"

namespace penstock::egress {
namespace {

class SinkPort final : public router::Port {
 public:
  void send(PacketBatch& batch) override {
    for (Packet& packet : batch) packets.push_back(std::move(packet));
    batch.clear();
  }
  std::size_t credit() const override { return 0; }
  PacketBatch packets;
};

class LocalHostTest : public testing::Test {
 protected:
  LocalHostTest() {
    client_id = shard.router().add_port(client);
    shard.router().set_routes(router::RouteTable()
                                  .with(Prefix::parse("10.0.0.1").value(), host.id())
                                  .with(Prefix::parse("10.0.0.2").value(), client_id));
  }
  void send(Packet packet) {
    auto batch = test::batch_of(std::move(packet));
    shard.router().deliver(host.id(), batch);
  }
  test::ManualLoop loop;
  router::Shard shard{0, loop};
  SinkPort client;
  router::PortId client_id;
  LocalHost host{shard};
};

TEST_F(LocalHostTest, APingIsAnswered) {
  send(test::echo_request("10.0.0.2", "10.0.0.1"));
  ASSERT_EQ(client.packets.size(), 1U);
  EXPECT_EQ(client.packets[0].bytes()[20], 0) << "an ICMP echo reply";
}

TEST_F(LocalHostTest, WhoKnocksElsewhereIsToldSoAtALimitedRate) {
  for (std::uint32_t i = 0; i < 2 * LocalHost::kErrorsPerSecond; ++i)
    send(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(8, '\0')));
  EXPECT_EQ(client.packets.size(), LocalHost::kErrorsPerSecond);
  EXPECT_EQ(client.packets[0].bytes()[20], 3) << "ICMP destination unreachable";
  EXPECT_EQ(shard.router().drops().of(router::Drop::not_answered), LocalHost::kErrorsPerSecond);
  loop.advance(std::chrono::seconds(1));
  send(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(8, '\0')));
  EXPECT_EQ(client.packets.size(), LocalHost::kErrorsPerSecond + 1);
}

TEST_F(LocalHostTest, ASuperPacketIsToldOnceAboutTheFirstPacketThatItStandsForAndCountsAsAllOfThem) {
  const Packet super = test::super_packet("10.0.0.2", "10.0.0.1", 40'000, 1360);
  send(super.clone());
  ASSERT_EQ(client.packets.size(), 1U);
  const ByteView quoted = client.packets[0].bytes().subspan(28);
  EXPECT_EQ(load_be16(&quoted[2]), 1400) << "its own length";
  EXPECT_EQ(internet_checksum(quoted.first(20)), 0);
  PacketBatch parts;
  segment(super.clone(), parts);
  EXPECT_EQ(load_be16(&quoted[36]), load_be16(&parts[0].bytes()[36])) << "its own checksum, finished";
  for (std::uint32_t i = 1; i < LocalHost::kErrorsPerSecond; ++i) send(super.clone());
  EXPECT_EQ(shard.router().drops().of(router::Drop::not_answered), 0U);
  send(super.clone());
  EXPECT_EQ(shard.router().drops().of(router::Drop::not_answered), 30U);
}

TEST_F(LocalHostTest, WhatMustNotBeAnsweredTakesNobodysTurn) {
  for (std::uint32_t i = 0; i < LocalHost::kErrorsPerSecond; ++i) {
    send(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(8, '\0'), 1));
    Packet fragment = test::ip_packet("10.0.0.2", "10.0.0.1", std::string(8, '\0'));
    store_be16(&fragment.mutable_bytes()[6], 5);
    send(std::move(fragment));
  }
  EXPECT_TRUE(client.packets.empty());
  send(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(8, '\0')));
  EXPECT_EQ(client.packets.size(), 1U);
}

}  // namespace
}  // namespace penstock::egress
