// Whole gateways and clients in memory: the virtual LAN, resumption, takeover, backoff.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/network.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using test::ip;
using test::ip_packet;
using test::Network;
using test::payload_of;
using test::TestClient;

constexpr const char* kServer = R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, subnet6: "fd00:1::/64", tun: off}
auth: {tokens: [a-token, b-token]}
)";

// The configuration with the hash of `token` in place of the one that stands there.
std::string with_token(std::string config, const std::string& token) {
  const auto at = config.find("sha256: ") + 8;
  return config.replace(at, 64, to_hex(sha256(as_bytes(token))));
}

class LanTest : public testing::TestWithParam<int> {
 protected:
  Network net{kServer, GetParam()};
  log::Capture logs;
};

TEST_P(LanTest, TwoClientsReachEachOtherByTheirInnerAddresses) {
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  ASSERT_TRUE(alice.connected() && bob.connected());
  EXPECT_EQ(alice.status().address, ip("10.100.0.2"));
  EXPECT_EQ(bob.status().address, ip("10.100.0.3"));
  alice.tunnel.inject(ip_packet("10.100.0.2", "10.100.0.3", "over four"));
  alice.tunnel.inject(ip_packet("fd00:1::2", "fd00:1::3", "over six"));
  net.run();
  ASSERT_EQ(bob.tunnel.written.size(), 2U);
  EXPECT_EQ(payload_of(bob.tunnel.written[0]), "over four");
  EXPECT_EQ(payload_of(bob.tunnel.written[1]), "over six");
  EXPECT_EQ(net.core->registry().totals().up.packets, 2U);
  EXPECT_EQ(net.core->registry().totals().down.packets, 2U);
}

TEST_P(LanTest, SuperPacketsThatAreWrittenAsTheyLieKeepTheirPlaceAmongTheOthers) {
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  bob.tunnel.kinds = {Offload::Gso::tcp4};
  std::vector<std::size_t> sizes;
  for (const std::size_t payload : {10000U, 65000U, 11000U, 64000U, 63000U, 12000U}) {
    Packet packet = test::super_packet("10.100.0.2", "10.100.0.3", payload, 1300);
    sizes.push_back(packet.size());
    alice.tunnel.inject(std::move(packet));
  }
  net.run();
  std::vector<std::size_t> written;
  for (const Packet& packet : bob.tunnel.written) {
    written.push_back(packet.size());
    EXPECT_EQ(packet.offload.segment_size, 1300);
  }
  EXPECT_EQ(written, sizes);
  EXPECT_EQ(bob.status().down_packets, alice.status().up_packets);
  EXPECT_EQ(bob.status().down_bytes, alice.status().up_bytes);
}

TEST_P(LanTest, TheGatewayAnswersPingOnItsOwnAddressWithoutATunDevice) {
  TestClient& alice = net.add_client("a-token");
  alice.tunnel.inject(test::echo_request("10.100.0.2", "10.100.0.1"));
  net.run();
  ASSERT_EQ(alice.tunnel.written.size(), 1U);
  EXPECT_EQ(alice.tunnel.written[0].bytes()[20], 0);
}

TEST_P(LanTest, TheInterfaceGetsAddressesOfBothFamiliesAndTheSmallerMtu) {
  TestClient& alice = net.add_client("a-token", "vpn: {mtu: 1300}");
  ASSERT_EQ(alice.tunnel.settings.size(), 1U);
  EXPECT_THAT(alice.tunnel.settings[0].addresses,
              testing::ElementsAre(std::pair(ip("10.100.0.2"), 24), std::pair(ip("fd00:1::2"), 64)));
  EXPECT_EQ(alice.tunnel.settings[0].mtu, 1300);
}

TEST_P(LanTest, AKilledGatewayComesBackAndItsClientsHaveTheirAddressesAgainWithoutAHand) {
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  net.kill_gateway();
  net.advance(seconds(1));
  EXPECT_FALSE(alice.connected() || bob.connected());
  net.start_gateway();
  net.advance(seconds(10));
  ASSERT_TRUE(alice.connected() && bob.connected());
  EXPECT_EQ(alice.status().address, ip("10.100.0.2"));
  EXPECT_EQ(bob.status().address, ip("10.100.0.3"));
  EXPECT_EQ(alice.status().resumed, 1U);
  EXPECT_EQ(alice.tunnel.settings.size(), 1U) << "an interface that is right already is not touched";
  bob.tunnel.inject(ip_packet("10.100.0.3", "10.100.0.2", "back"));
  net.run();
  EXPECT_EQ(alice.tunnel.written.size(), 1U);
}

TEST_P(LanTest, ACutWireIsNoticedWithinThirtySecondsByTheClientAndSixtyByTheGateway) {
  TestClient& alice = net.add_client("a-token");
  alice.wire->cut();
  alice.reachable = false;
  net.advance(seconds(30));
  EXPECT_FALSE(alice.connected());
  EXPECT_THAT(logs.text(), testing::HasSubstr("connection lost"));
  net.advance(seconds(30));
  EXPECT_FALSE(net.core->registry().sessions()[0].attached);
  alice.reachable = true;
  net.advance(seconds(60));
  EXPECT_TRUE(alice.connected());
  EXPECT_EQ(alice.status().address, ip("10.100.0.2"));
}

TEST_P(LanTest, ALinkThatMovedToAnotherNetworkTakesItsSessionOverWhileTheOldOneIsStillThoughtAlive) {
  TestClient& alice = net.add_client("a-token");
  alice.wire->cut();
  net.advance(seconds(33));  // the client has noticed, the gateway has not
  ASSERT_TRUE(alice.connected());
  EXPECT_EQ(alice.status().address, ip("10.100.0.2"));
  EXPECT_EQ(net.core->registry().sessions().size(), 1U);
  EXPECT_EQ(net.core->registry().totals().sessions_resumed, 1U);
}

TEST_P(LanTest, AClientThatIsStartedAgainResumesByTheLeaseOnItsDisk) {
  TestClient& alice = net.add_client("a-token");
  alice.restart();
  alice.client->start();
  net.run();
  ASSERT_TRUE(alice.connected());
  EXPECT_EQ(alice.status().address, ip("10.100.0.2"));
  EXPECT_EQ(net.core->registry().sessions().size(), 1U);
}

TEST_P(LanTest, ALeaseThatIsRefusedIsReplacedByTheTokenAtOnce) {
  TestClient& alice = net.add_client("a-token");
  alice.lease.lease = "forged";
  alice.restart();
  alice.client->start();
  net.advance(seconds(1));
  EXPECT_TRUE(alice.connected());
  EXPECT_NE(alice.lease.lease, "forged");
}

TEST_P(LanTest, RetriesDoubleUpToTheCapAndStartOverAfterSuccess) {
  TestClient& alice = net.add_client("a-token", "reconnect: {min_backoff: 1s, max_backoff: 8s}");
  net.kill_gateway();
  net.advance(minutes(3));
  const auto attempts = alice.status().attempts;
  net.advance(seconds(80));
  // At the cap every delay is 4 to 8 s.
  EXPECT_GE(alice.status().attempts - attempts, 9U);
  EXPECT_LE(alice.status().attempts - attempts, 21U);
  EXPECT_THAT(logs.text(), testing::HasSubstr("Connection failed, retrying in "));
  net.start_gateway();
  net.advance(seconds(9));
  ASSERT_TRUE(alice.connected());
  net.kill_gateway();
  net.start_gateway();
  net.advance(seconds(3));
  EXPECT_TRUE(alice.connected()) << "the first delay is a second again";
}

TEST_P(LanTest, AWrongTokenIsSaidClearlyAndTriedOn) {
  TestClient& mallory = net.add_client("wrong-token");
  EXPECT_FALSE(mallory.connected());
  EXPECT_THAT(mallory.status().last_error, testing::HasSubstr("invalid token"));
  net.advance(minutes(2));
  EXPECT_GT(mallory.status().attempts, 3U);
  EXPECT_THAT(logs.text(), testing::Not(testing::HasSubstr("wrong-token")));
}

constexpr const char* kSingle = R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, subnet6: "fd00:1::/64", tun: off}
auth: {tokens: [{name: shared, single: true, sha256: fb1d1c2ceb0dd55ea2f1ebbed2f4c42ad1a4e7f3cf2f9b1ec7a5c2dd5a7a4f8e}]}
)";

TEST_P(LanTest, AReplacedClientStaysAwayAndComesBackWhenTheOtherIsGone) {
  Network single(with_token(kSingle, "shared-token"), GetParam());
  TestClient& older = single.add_client("shared-token");
  TestClient& newer = single.add_client("shared-token");
  ASSERT_TRUE(newer.connected());
  single.advance(minutes(5));
  EXPECT_FALSE(older.connected());
  EXPECT_TRUE(newer.connected()) << "the two must not take turns";
  EXPECT_THAT(older.status().last_error, testing::HasSubstr("another machine uses this token now"));
  newer.client->stop([] {});
  single.advance(minutes(2));
  EXPECT_TRUE(older.connected());
}

TEST_P(LanTest, AReplacedClientWhoseLeaseIsWorthNothingAnyMoreUsesItsToken) {
  Network single(with_token(kSingle, "shared-token"), GetParam());
  TestClient& older = single.add_client("shared-token");
  TestClient& newer = single.add_client("shared-token");
  newer.client->stop([] {});
  single.kill_gateway();
  single.lease_key = {8};
  single.start_gateway();
  single.advance(minutes(3));
  EXPECT_TRUE(older.connected());
}

TEST_P(LanTest, AnMtuTooSmallForIpv6LeavesIpv6OutAndOneSession) {
  TestClient& alice = net.add_client("a-token", "vpn: {mtu: 1000}");
  ASSERT_TRUE(alice.connected());
  EXPECT_THAT(alice.tunnel.settings[0].addresses, testing::ElementsAre(std::pair(ip("10.100.0.2"), 24)));
  EXPECT_EQ(net.core->registry().sessions().size(), 1U);
}

TEST_P(LanTest, RoutesThatMayCutOffTheWayBackAreWithdrawnAfterSomeFailures) {
  TestClient& alice = net.add_client("a-token", "vpn: {routes: [198.51.100.0/24]}");
  ASSERT_EQ(alice.tunnel.settings.back().routes.size(), 1U);
  net.kill_gateway();
  net.advance(seconds(30));
  EXPECT_TRUE(alice.tunnel.settings.back().routes.empty());
  EXPECT_FALSE(alice.tunnel.settings.back().addresses.empty());
  net.start_gateway();
  net.advance(minutes(2));
  ASSERT_TRUE(alice.connected());
  EXPECT_EQ(alice.tunnel.settings.back().routes.size(), 1U);
}

TEST_P(LanTest, AnOrderlyStopSaysGoodbyeAndKeepsTheAddresses) {
  TestClient& alice = net.add_client("a-token");
  bool stopped = false;
  net.core->stop(seconds(2), [&] { stopped = true; });
  net.advance(milliseconds(200));
  EXPECT_TRUE(stopped);
  EXPECT_FALSE(alice.connected());
  EXPECT_THAT(logs.text(), testing::HasSubstr("the gateway is shutting down"));
}

TEST_P(LanTest, AClientThatStopsClosesItsLinkAndLeavesItsSessionForTheGraceTime) {
  TestClient& alice = net.add_client("a-token");
  bool stopped = false;
  alice.client->stop([&] { stopped = true; });
  net.run();
  EXPECT_TRUE(stopped);
  ASSERT_EQ(net.core->registry().sessions().size(), 1U);
  EXPECT_FALSE(net.core->registry().sessions()[0].attached);
}

TEST_P(LanTest, ASlowReaderDoesNotGrowTheGatewayNorDelayTheOthers) {
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  TestClient& carol = net.add_client("b-token");
  bob.wire->cut();  // takes nothing, says nothing
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 50; ++i) alice.tunnel.inject(ip_packet("10.100.0.2", "10.100.0.3", std::string(1380, 'x')));
    alice.tunnel.inject(ip_packet("10.100.0.2", "10.100.0.4", "to carol"));
    net.run();
  }
  EXPECT_EQ(carol.tunnel.written.size(), 200U);
  for (const auto& session : net.core->registry().sessions()) EXPECT_LE(session.queued_bytes, 1024U * 1024);
}

TEST_P(LanTest, AnInterfaceThatDisappearsEndsTheClient) {
  TestClient& alice = net.add_client("a-token");
  std::optional<Error> failure;
  alice.client->on_failure([&](Error error) { failure = std::move(error); });
  alice.tunnel.remove();
  net.run();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->message, "the interface is gone");
}

TEST_P(LanTest, TwelveClientsReachEachOtherInARing) {
  std::vector<TestClient*> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(&net.add_client(i % 2 == 0 ? "a-token" : "b-token"));
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const auto from = clients[i]->status().address->to_string();
    const auto to = clients[(i + 1) % clients.size()]->status().address->to_string();
    clients[i]->tunnel.inject(ip_packet(from, to, from));
  }
  net.run();
  for (const TestClient* client : clients) EXPECT_EQ(client->tunnel.written.size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Loops, LanTest, testing::Values(1, 2),
                         [](const auto& loops) { return loops.param == 1 ? "OnOneLoop" : "OnTwoLoops"; });

}  // namespace
}  // namespace penstock
