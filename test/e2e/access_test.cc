// Whole gateways and clients in memory: access rules, and the subnets behind clients.
//
//   alice 10.100.0.2 --+
//   home  10.100.0.3 --+-- gateway       behind home: 10.50.0.0/24 and fd50::/64
//   carol 10.100.0.4 --+

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/network.h"

namespace penstock {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using test::echo_request;
using test::ip_packet;
using test::Network;
using test::TestClient;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Prefix prefix(const char* text) { return Prefix::parse(text).value(); }

std::string token(const std::string& name, const std::string& more = "") {
  return "  - {name: " + name + ", sha256: " + to_hex(sha256(as_bytes(name + "-token"))) + more + "}\n";
}

std::string config(const std::string& lan, const std::string& homes_sites = "10.50.0.0/24, 'fd50::/64'") {
  return R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, subnet6: "fd00:1::/64", tun: off}
push: {routes: [10.77.0.0/16]}
)" + lan +
         "\nauth:\n tokens:\n" + token("alice", ", groups: [staff]") +
         token("home", homes_sites.empty() ? "" : ", sites: [" + homes_sites + "]") + token("carol");
}

// On one event loop or spread over two.
class AccessE2eTest : public testing::TestWithParam<int> {
 protected:
  void begin(const std::string& lan) {
    net = std::make_unique<Network>(config(lan), GetParam());
    alice = &net->add_client("alice-token");
    home = &net->add_client("home-token");
    carol = &net->add_client("carol-token");
    ASSERT_TRUE(alice->connected() && home->connected() && carol->connected());
  }
  // As SIGHUP.
  void reload(const std::string& text) {
    const ServerConfig read = server_config_from_text(text, "server.yaml").value();
    net->core->set_access(read.lan);
    net->core->set_credentials(auth::Authenticator::create(gateway::credentials_of(read.auth.tokens)).value());
    net->run();
  }
  bool passes(TestClient& from, TestClient& to, Packet packet) {
    const std::size_t before = to.tunnel.written.size();
    from.tunnel.inject(std::move(packet));
    net->run();
    return to.tunnel.written.size() > before;
  }
  std::uint64_t drops(router::Drop reason) { return net->core->drops(reason); }

  log::Capture logs;
  std::unique_ptr<Network> net;
  TestClient* alice = nullptr;
  TestClient* home = nullptr;
  TestClient* carol = nullptr;
};

TEST_P(AccessE2eTest, AnIsolatedLanLetsOnlyThroughWhatARuleAllowsAndItsAnswers) {
  begin("lan: {isolate: true, allow: [{from: staff, to: home}]}");
  EXPECT_TRUE(passes(*alice, *home, echo_request("10.100.0.2", "10.100.0.3")));
  EXPECT_FALSE(passes(*home, *alice, echo_request("10.100.0.3", "10.100.0.2")));
  EXPECT_FALSE(passes(*carol, *home, echo_request("10.100.0.4", "10.100.0.3")));
  EXPECT_EQ(drops(router::Drop::access_denied), 2U);
  EXPECT_TRUE(passes(*carol, *carol, echo_request("10.100.0.4", "10.100.0.1"))) << "the gateway answers";

  reload(config("lan: {isolate: true, allow: [{from: carol, to: home}]}"));
  EXPECT_FALSE(passes(*alice, *home, echo_request("10.100.0.2", "10.100.0.3")));
  EXPECT_TRUE(passes(*carol, *home, echo_request("10.100.0.4", "10.100.0.3")));
  reload(config(""));
  EXPECT_TRUE(passes(*home, *alice, echo_request("10.100.0.3", "10.100.0.2")));
  EXPECT_TRUE(alice->connected() && home->connected() && carol->connected()) << "nobody lost a connection by it";
}

TEST_P(AccessE2eTest, TheSubnetBehindAClientIsPushedToOthersAndReachedByWayOfIt) {
  begin("");
  const std::vector<Prefix> sites{prefix("10.50.0.0/24"), prefix("fd50::/64")};
  EXPECT_THAT(alice->tunnel.settings.back().routes,
              ElementsAre(prefix("10.77.0.0/16"), prefix("10.50.0.0/24"), prefix("fd50::/64")));
  EXPECT_THAT(alice->tunnel.settings.back().sites, IsEmpty());
  EXPECT_THAT(home->tunnel.settings.back().routes, ElementsAre(prefix("10.77.0.0/16")));
  EXPECT_EQ(home->tunnel.settings.back().sites, sites);

  EXPECT_TRUE(passes(*alice, *home, ip_packet("10.100.0.2", "10.50.0.9")));
  EXPECT_TRUE(passes(*home, *alice, ip_packet("10.50.0.9", "10.100.0.2")));
  EXPECT_TRUE(passes(*alice, *home, ip_packet("fd00:1::2", "fd50::9")));
  EXPECT_TRUE(passes(*home, *alice, ip_packet("fd50::9", "fd00:1::2")));
  EXPECT_FALSE(passes(*home, *alice, ip_packet("10.51.0.9", "10.100.0.2")));
  EXPECT_FALSE(passes(*alice, *home, ip_packet("10.50.0.9", "10.100.0.3")));
  EXPECT_EQ(drops(router::Drop::spoofed_source), 2U);
}

TEST_P(AccessE2eTest, WhileItsClientIsAwayASiteLeadsNowhere) {
  begin("");
  home->reachable = false;
  home->wire->cut();
  net->advance(minutes(10));
  ASSERT_TRUE(alice->connected());
  EXPECT_FALSE(passes(*alice, *home, ip_packet("10.100.0.2", "10.50.0.9")));
  EXPECT_EQ(drops(router::Drop::no_session), 1U);
  home->reachable = true;
  net->advance(minutes(2));
  ASSERT_TRUE(home->connected());
  EXPECT_TRUE(passes(*alice, *home, ip_packet("10.100.0.2", "10.50.0.9")));
}

TEST_P(AccessE2eTest, SitesThatChangeReachLivingClientsAtOnce) {
  begin("");
  reload(config("", "10.60.0.0/24"));
  EXPECT_THAT(alice->tunnel.settings.back().routes, ElementsAre(prefix("10.77.0.0/16"), prefix("10.60.0.0/24")));
  EXPECT_THAT(home->tunnel.settings.back().sites, ElementsAre(prefix("10.60.0.0/24")));
  EXPECT_TRUE(passes(*alice, *home, ip_packet("10.100.0.2", "10.60.0.9")));
  EXPECT_TRUE(passes(*home, *alice, ip_packet("10.60.0.9", "10.100.0.2")));
  EXPECT_FALSE(passes(*alice, *home, ip_packet("10.100.0.2", "10.50.0.9")));
  EXPECT_FALSE(passes(*home, *alice, ip_packet("10.50.0.9", "10.100.0.2")));
  const std::size_t configured = carol->tunnel.settings.size();
  reload(config("", ""));
  EXPECT_THAT(carol->tunnel.settings.back().routes, ElementsAre(prefix("10.77.0.0/16")));
  EXPECT_THAT(home->tunnel.settings.back().sites, IsEmpty());
  reload(config("", ""));
  EXPECT_EQ(carol->tunnel.settings.size(), configured + 1) << "told only of what is new";
  EXPECT_TRUE(alice->connected() && home->connected() && carol->connected());
}

TEST_P(AccessE2eTest, ASiteIsItsOwnerToTheRules) {
  begin("lan: {isolate: true, allow: [{from: staff, to: 10.50.0.0/24}, {from: home, to: carol}]}");
  EXPECT_TRUE(passes(*alice, *home, echo_request("10.100.0.2", "10.50.0.9")));
  EXPECT_FALSE(passes(*alice, *home, echo_request("10.100.0.2", "10.100.0.3")));
  EXPECT_TRUE(passes(*home, *carol, echo_request("10.50.0.9", "10.100.0.4")));
}

TEST_P(AccessE2eTest, ANameInARuleThatNobodyHasIsAWarning) {
  begin("lan: {isolate: true, allow: [{from: stuff, to: home}]}");
  EXPECT_THAT(logs.text(), HasSubstr("stuff"));
}

INSTANTIATE_TEST_SUITE_P(Loops, AccessE2eTest, testing::Values(1, 2));

}  // namespace
}  // namespace penstock
