#include "config/config_kind.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace penstock {
namespace {

int votes(std::string_view yaml) { return votes_for_server(parse_yaml(yaml, "x.yaml").value()); }

class ConfigKindTest : public testing::Test {
 protected:
  ~ConfigKindTest() override { std::filesystem::remove(file_); }
  ConfigKind kind(std::string_view yaml, std::vector<std::string> overrides = {}) {
    std::ofstream(file_) << yaml;
    return kind_of_config(file_, overrides);
  }
  const std::filesystem::path file_ =
      std::filesystem::path(testing::TempDir()) / ("penstock-kind-" + std::to_string(std::random_device()()) + ".yaml");
};

TEST(ConfigKind, KeysAndSectionsThatOnlyOneKindHasAreVotes) {
  EXPECT_EQ(votes("vpn: {mtu: 1400, interface_name: x}\nlogging: {level: info}\nzzz: 1\n"), 0);
  EXPECT_GT(votes("server: {listen_addr: x}\n"), 0);
  EXPECT_GT(votes("session: {zzz: 1}\n"), 0) << "whatever stands in it";
  EXPECT_GT(votes("auth: {tokens: [{sites: 1}]}\n"), 0);
  EXPECT_LT(votes("server: {url: x}\n"), 0);
  EXPECT_LT(votes("auth: {token: x}\n"), 0);
  EXPECT_LT(votes("reconnect: 1\n"), 0);
}

TEST_F(ConfigKindTest, ManyMistakesDoNotHideTheKind) {
  EXPECT_EQ(kind("server: {listen_addr: 1, tls_crt: a, tls_ky: b, pth: c}\nvpm: {x: 1}\nauth: {tokens: 5}\n"),
            ConfigKind::server);
  EXPECT_EQ(kind("server: {url: ws://x, verify: no, pn: a, prxy: b}\nauth: {token: [1]}\nvpm: {x: 1}\n"),
            ConfigKind::client);
}

TEST_F(ConfigKindTest, WithoutSuchAKeyFewerMistakesDecideAndThenItIsAGateways) {
  EXPECT_EQ(kind(""), ConfigKind::server);
  EXPECT_EQ(kind("vpn: {mtu: x}\n"), ConfigKind::server);
  EXPECT_EQ(kind("vpn: {mtu: 1400}\n", {"server.url=wss://h/"}), ConfigKind::client) << "--set counts";
  EXPECT_EQ(kind("no: [yaml"), ConfigKind::server);
  EXPECT_EQ(kind_of_config("/nowhere/x.yaml"), ConfigKind::server);
}

}  // namespace
}  // namespace penstock
