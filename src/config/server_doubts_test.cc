#include "config/server_doubts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

HttpListen http(const char* address) { return {.address = *Endpoint::parse(address), .unix_path = {}}; }

TEST(ServerDoubts, ThereAreNoneAboutTheDefaults) { EXPECT_THAT(doubts_about(ServerConfig()), IsEmpty()); }

TEST(ServerDoubts, PlainHttpWhereAllClientsWouldLookLikeOne) {
  ServerConfig config;
  ServerConfig::Server& server = config.server;
  server.listen_http = {HttpListen{.address = {}, .unix_path = "/run/penstock/http.sock"}};
  EXPECT_THAT(doubts_about(config), IsEmpty()) << "a Unix socket's peer is believed";
  server.listen_http.push_back(http("127.0.0.1:8080"));
  EXPECT_THAT(doubts_about(config),
              ElementsAre("server.listen_http has 127.0.0.1:8080 but server.proxies does not have 127.0.0.1: all "
                          "clients behind a proxy there look like one, and share its limits; set server.proxies: "
                          "[127.0.0.1]"));
  server.proxies = {*Prefix::parse("10.0.0.0/8")};
  EXPECT_EQ(doubts_about(config).size(), 1U);
  server.proxies.push_back(*Prefix::parse("127.0.0.0/8"));
  EXPECT_THAT(doubts_about(config), IsEmpty());
  server.listen_http.push_back(http("[::1]:8080"));
  EXPECT_THAT(doubts_about(config), ElementsAre(HasSubstr("set server.proxies: [::1]")));
}

TEST(ServerDoubts, ProxiesThatAreEverybody) {
  ServerConfig config;
  config.server.proxies = {*Prefix::parse("10.0.0.0/8"), *Prefix::parse("0.0.0.0/0"), *Prefix::parse("::/0")};
  EXPECT_THAT(doubts_about(config),
              ElementsAre(AllOf(HasSubstr("server.proxies has 0.0.0.0/0"), HasSubstr("anybody may claim to be any")),
                          HasSubstr("server.proxies has ::/0")));
}

TEST(ServerDoubts, OneAddressThatMayTakeAllHandshakes) {
  ServerConfig config;
  config.limits.handshakes = config.limits.handshakes_per_address;
  EXPECT_THAT(doubts_about(config), IsEmpty()) << "whoever sets both alike has thought of it";
  config.limits.handshakes = 10;
  EXPECT_THAT(doubts_about(config),
              ElementsAre(AllOf(HasSubstr("limits.handshakes (10)"), HasSubstr("limits.handshakes_per_address (64)"))));
}

}  // namespace
}  // namespace penstock
