// Configuration as JSON, the one form that a build without yaml-cpp reads. What the keys mean is tested in YAML.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/random.h"
#include "config/client_config.h"
#include "config/server_config.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(JsonConfig, AClientsFileIsRead) {
  SystemRandom random;
  const auto directory =
      std::filesystem::path(::testing::TempDir()) / ("penstock-json-config-" + std::to_string(random.next64()));
  std::filesystem::create_directory(directory);
  const auto file = directory / "home.json";
  std::ofstream(file) << R"({
    "server": {"urls": ["wss://a.example/", "wss://[2001:db8::1]:8443/vpn"], "ca_file": "ca.pem"},
    "auth": {"token": "0123"},
    "vpn": {"mtu": 1300, "routes": ["192.168.50.0/24"]},
    "reconnect": {"dead_after": "9s"}
  })";
  const auto config = load_client_config(file);
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->server.urls,
              ElementsAre(GatewayUrl{"a.example", 443, "/"}, GatewayUrl{"2001:db8::1", 8443, "/vpn"}));
  EXPECT_EQ(config->auth.token, "0123");
  EXPECT_EQ(config->vpn.mtu, 1300);
  EXPECT_EQ(config->reconnect.dead_after, 9s);
  EXPECT_FALSE(config->paths.state_dir.empty());
}

TEST(JsonConfig, MistakesHaveTheirPlaces) {
  const auto config = client_config_from_text(
      "{\"server\": {\"url\": \"wss://a.example/\"},\n\"auth\": {\"tocken\": 1}}", "home.json", {}, {.home = "home"});
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("home.json:2:"));
  EXPECT_THAT(config.error().message, HasSubstr("tocken"));
}

TEST(JsonConfig, AGatewaysFileIsReadToo) {
  const auto config =
      server_config_from_text(R"({"server": {"tls_cert": "cert.pem", "tls_key": "key.pem"}, "vpn": {"tun": false}})",
                              "server.json", {}, {.root = true});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_FALSE(config->vpn.tun);
}

}  // namespace
}  // namespace penstock
