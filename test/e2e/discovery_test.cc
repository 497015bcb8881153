// Whole gateways and clients in memory: how machines on the LAN find each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/network.h"

namespace penstock {
namespace {

using std::chrono::seconds;
using test::ip_packet;
using test::Network;
using test::payload_of;
using test::TestClient;

// The payload as it is behind eight bytes of zeros, which are a UDP header here.
Packet datagram(const char* from, const char* to, const std::string& words = "who is there?") {
  return ip_packet(from, to, std::string(8, '\0') + words);
}

std::string config(const std::string& more = "") {
  return R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, subnet6: "fd00:1::/64", tun: off}
auth: {tokens: [a-token, b-token, c-token]}
)" + more;
}

std::vector<std::string> heard(const TestClient& client) {
  std::vector<std::string> words;
  for (const Packet& packet : client.tunnel.written) words.push_back(payload_of(packet).substr(8));
  return words;
}

// Alice, Bob and Carol are .2, .3 and .4, on one event loop or spread over two.
class DiscoveryE2eTest : public testing::TestWithParam<int> {
 protected:
  void begin(const std::string& more = "") {
    net = std::make_unique<Network>(config(more), GetParam());
    alice = &net->add_client("a-token");
    bob = &net->add_client("b-token");
    carol = &net->add_client("c-token");
  }
  log::Capture quiet;
  std::unique_ptr<Network> net;
  TestClient* alice = nullptr;
  TestClient* bob = nullptr;
  TestClient* carol = nullptr;
};

TEST_P(DiscoveryE2eTest, WhatOneSaysToAllEveryOtherHearsOnce) {
  begin();
  alice->tunnel.inject(datagram("10.100.0.2", "224.0.0.251", "mDNS"));
  alice->tunnel.inject(datagram("10.100.0.2", "10.100.0.255", "NetBIOS"));
  alice->tunnel.inject(datagram("10.100.0.2", "255.255.255.255", "a game"));
  alice->tunnel.inject(datagram("fd00:1::2", "ff02::fb", "mDNS over IPv6"));
  net->run();
  for (const TestClient* other : {bob, carol})
    EXPECT_THAT(heard(*other), testing::ElementsAre("mDNS", "NetBIOS", "a game", "mDNS over IPv6"));
  EXPECT_THAT(heard(*alice), testing::IsEmpty());
  EXPECT_EQ(net->core->registry().totals().up.packets, 4U);
  EXPECT_EQ(net->core->registry().totals().down.packets, 8U);
}

TEST_P(DiscoveryE2eTest, SwitchedOffNobodyHearsAnything) {
  begin("lan: {discovery: off}");
  alice->tunnel.inject(datagram("10.100.0.2", "224.0.0.251"));
  alice->tunnel.inject(datagram("10.100.0.2", "10.100.0.255"));
  net->run();
  EXPECT_THAT(heard(*bob), testing::IsEmpty());
  EXPECT_EQ(net->core->drops(router::Drop::discovery_off), 2U);

  net->core->set_discovery({.on = true});
  alice->tunnel.inject(datagram("10.100.0.2", "224.0.0.251"));
  net->run();
  EXPECT_EQ(heard(*bob).size(), 1U) << "it can be switched on while the gateway runs";
}

TEST_P(DiscoveryE2eTest, AStormIsHeldToItsRateAndOnlyItsSenderLosesByIt) {
  begin("lan: {discovery_rate: 10}");
  const auto storm = [&] {
    for (int i = 0; i < 1000; ++i) alice->tunnel.inject(datagram("10.100.0.2", "10.100.0.255", "me"));
    net->run();
  };
  storm();
  EXPECT_EQ(heard(*bob).size(), 20U) << "twice the rate at once";
  net->advance(seconds(1));
  storm();
  EXPECT_EQ(heard(*bob).size(), 30U);
  EXPECT_EQ(net->core->drops(router::Drop::discovery_rate), 1970U);
  bob->tunnel.inject(datagram("10.100.0.3", "10.100.0.255", "and me"));
  net->run();
  EXPECT_EQ(heard(*alice), std::vector<std::string>{"and me"});
}

TEST_P(DiscoveryE2eTest, IsolatedOnlyThoseHearItWhomARuleLetsTheSenderReach) {
  begin("lan: {isolate: on, allow: [{from: token-1, to: token-2}]}");
  alice->tunnel.inject(datagram("10.100.0.2", "224.0.0.251", "from alice"));
  bob->tunnel.inject(datagram("10.100.0.3", "224.0.0.251", "from bob"));
  net->run();
  EXPECT_THAT(heard(*bob), testing::ElementsAre("from alice"));
  EXPECT_THAT(heard(*alice), testing::IsEmpty());
  EXPECT_THAT(heard(*carol), testing::IsEmpty());
  EXPECT_EQ(net->core->drops(router::Drop::access_denied), 0U) << "a copy that was not made is not a drop";
}

TEST_P(DiscoveryE2eTest, TheGatewaysMachineTakesPartThroughItsTunDevice) {
  begin();
  net->device = std::make_unique<tun::FakeDevice>();
  net->kill_gateway();
  net->start_gateway();
  net->advance(seconds(10));
  ASSERT_TRUE(alice->connected() && bob->connected() && carol->connected());

  alice->tunnel.inject(datagram("10.100.0.2", "224.0.0.251", "a query"));
  net->run();
  ASSERT_EQ(net->device->written.size(), 1U);
  EXPECT_EQ(payload_of(net->device->written[0]).substr(8), "a query");

  net->device->inject(datagram("10.100.0.1", "224.0.0.251", "an answer"));
  net->run();
  EXPECT_EQ(net->device->written.size(), 1U) << "what it says does not come back";
  EXPECT_THAT(heard(*alice), testing::ElementsAre("an answer"));
  EXPECT_THAT(heard(*bob), testing::ElementsAre("a query", "an answer"));
  EXPECT_THAT(heard(*carol), testing::ElementsAre("a query", "an answer"));
}

INSTANTIATE_TEST_SUITE_P(Loops, DiscoveryE2eTest, testing::Values(1, 2));

}  // namespace
}  // namespace penstock
