#include "config/client_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Result<ClientConfig> load(std::string_view text, const std::string& name = "client.yaml",
                          std::vector<std::string> overrides = {}) {
  return client_config_from_text(text, name, overrides, UserEnvironment{.root = true});
}

std::string refusal(std::string_view text, std::vector<std::string> overrides = {}) {
  const auto config = load(text, "client.yaml", std::move(overrides));
  return config ? "accepted" : config.error().message;
}

TEST(ClientConfig, DefaultsNeedOnlyAGatewayAndAToken) {
  const auto config = load("server: {url: \"wss://vpn.example.org\"}\nauth: {token: secret}\n");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->server.urls, ElementsAre(GatewayUrl{"vpn.example.org", 443, "/"}));
  EXPECT_TRUE(config->server.verify_tls);
  EXPECT_EQ(config->server.ca_file, "");
  EXPECT_EQ(config->server.pin, "");
  EXPECT_FALSE(config->server.proxy);
  EXPECT_EQ(config->auth.token, "secret");
  EXPECT_EQ(config->vpn.interface_name, "VPN");
  EXPECT_EQ(config->vpn.mtu, 1420);
  EXPECT_THAT(config->vpn.routes, IsEmpty());
  EXPECT_TRUE(config->vpn.exclude_lan);
  EXPECT_FALSE(config->vpn.kill_switch);
  EXPECT_EQ(config->performance.nice, -10);
  EXPECT_EQ(config->performance.congestion_control, "auto");
  EXPECT_EQ(config->reconnect.min_backoff, 1s);
  EXPECT_EQ(config->reconnect.max_backoff, 60s);
  EXPECT_EQ(config->reconnect.connect_timeout, 10s);
  EXPECT_EQ(config->reconnect.dead_after, 30s);
}

TEST(ClientConfig, YamlAndJsonSayTheSame) {
  const auto yaml = load(R"(
server:
  urls: [wss://a.example/, "wss://[2001:db8::1]:8443/vpn"]
  verify_tls: no
  ca_file: ca.pem
  pin: sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
  proxy: http://me:pw@proxy:3128
auth: {token: 0123}
vpn: {interface_name: vpn0, mtu: 1300, routes: [0.0.0.0/0, "::/0"], exclude: [10.0.0.0/8], exclude_lan: off, kill_switch: off}
performance: {nice: 4, congestion_control: system}
reconnect: {min_backoff: 100ms, max_backoff: 5s, connect_timeout: 3s, dead_after: 9s}
logging: {level: warn}
state_dir: /var/lib/x
)");
  const auto json = load(R"({
"server": {"urls": ["wss://a.example/", "wss://[2001:db8::1]:8443/vpn"], "verify_tls": false, "ca_file": "ca.pem",
  "pin": "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "proxy": "http://me:pw@proxy:3128"},
"auth": {"token": "0123"},
"vpn": {"interface_name": "vpn0", "mtu": 1300, "routes": ["0.0.0.0/0", "::/0"], "exclude": ["10.0.0.0/8"],
  "exclude_lan": false, "kill_switch": false},
"performance": {"nice": 4, "congestion_control": "system"}, "reconnect": {"min_backoff": "100ms", "max_backoff": "5s", "connect_timeout": "3s", "dead_after": "9s"},
"logging": {"level": "warn"},
"state_dir": "/var/lib/x"})",
                         "client.json");
  for (const auto* config : {&yaml, &json}) {
    ASSERT_TRUE(*config) << config->error().message;
    const ClientConfig& c = **config;
    EXPECT_THAT(c.server.urls, ElementsAre(GatewayUrl{"a.example", 443, "/"}, GatewayUrl{"2001:db8::1", 8443, "/vpn"}));
    EXPECT_FALSE(c.server.verify_tls);
    EXPECT_EQ(c.server.ca_file, "ca.pem");
    EXPECT_EQ(c.server.pin, "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    EXPECT_EQ(c.server.proxy, (ProxyUrl{"proxy", 3128, "me:pw"}));
    EXPECT_FALSE(c.server.proxy_from_environment);
    EXPECT_EQ(c.auth.token, "0123") << "a token is what is written, not a number";
    EXPECT_EQ(c.vpn.interface_name, "vpn0");
    EXPECT_EQ(c.vpn.mtu, 1300);
    EXPECT_EQ(c.vpn.routes.size(), 2U);
    EXPECT_EQ(c.vpn.exclude.size(), 1U);
    EXPECT_FALSE(c.vpn.exclude_lan);
    EXPECT_THAT(c.reserved, testing::ElementsAre("vpn.exclude", "vpn.exclude_lan"));
    EXPECT_EQ(c.performance.nice, 4);
    EXPECT_EQ(c.performance.congestion_control, "system");
    EXPECT_EQ(c.reconnect.min_backoff, 100ms);
    EXPECT_EQ(c.reconnect.dead_after, 9s);
    EXPECT_EQ(c.logging.level, log::Level::warn);
    EXPECT_EQ(c.paths.state_dir, "/var/lib/x");
  }
}

TEST(ClientConfig, AProxyOfTheEnvironmentCountsUnlessTheFileSpeaksOfProxies) {
  constexpr std::string_view kStart = "auth: {token: t}\nserver: {url: \"wss://h\"";
  EXPECT_TRUE(load(std::string(kStart) + "}")->server.proxy_from_environment);
  const auto none = load(std::string(kStart) + ", proxy: none}");
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_FALSE(none->server.proxy_from_environment);
  EXPECT_FALSE(none->server.proxy);
}

TEST(ClientConfig, MistakesAreNamedWithPlacePathAndWayOut) {
  EXPECT_EQ(refusal(""),
            "client.yaml: server.url: required, but not given (or server.urls, a list)\n"
            "client.yaml: auth.token: required, but not given");
  const std::string auth = "auth: {token: hunter2}\n";
  struct Case {
    const char* yaml;
    const char* message;
  };
  for (const auto& [yaml, message] : {
           Case{"server: {url: \"ws://h\"}",
                "client.yaml:2:15: server.url: expected a URL such as wss://vpn.example.org/, got \"ws://h\""},
           Case{"server: {url: \"wss://h\", urls: [\"wss://i\"]}",
                "client.yaml:2:32: server.urls: give either server.url or server.urls, not both"},
           Case{"server: {urls: []}",
                "client.yaml:2:16: server.urls: needs at least one URL such as wss://vpn.example.org/"},
           Case{"server: {url: \"wss://h\", pin: abc}",
                "client.yaml:2:31: server.pin: expected a pin: sha256// and 44 characters of base64, got \"abc\""},
           Case{"server: {url: \"wss://h\", pin: sha256//abcd}",
                "client.yaml:2:31: server.pin: expected a pin: sha256// and 44 characters of base64, got "
                "\"sha256//abcd\""},
           Case{"server: {url: \"wss://h\", proxy: \"socks5://hunter2@p\"}",
                "client.yaml:2:33: server.proxy: expected a proxy such as http://proxy.example.org:3128 or "
                "http://user:password@10.0.0.1:3128"},
           Case{"server: {url: \"wss://h\", proxy: \"http://me:hunter%zz@p:3128\"}",
                "client.yaml:2:33: server.proxy: a \"%\" in the user or password must be followed by two hex digits; "
                "the percent sign itself is %25"},
           Case{"server: {url: \"wss://h\", proxy: \"http://me:hunter%4@p:3128\"}",
                "client.yaml:2:33: server.proxy: a \"%\" in the user or password must be followed by two hex digits; "
                "the percent sign itself is %25"},
           Case{"server: {url: \"wss://h\", proxy: \"http://me:hunter%25%4a%4A@p:3128\"}", "accepted"},
           Case{"server: {url: \"wss://h\"}\nreconnect: {min_backoff: 2m}",
                "client.yaml:3:26: reconnect.min_backoff: must not be longer than "
                "reconnect.max_backoff"},
           Case{"server: {url: \"wss://h\"}\nvpn: {kill_switch: on}",
                "client.yaml:3:20: vpn.kill_switch: is not available in this version; without it, remove this key"},
           Case{"server: {url: \"wss://h\", verify: no}",
                "client.yaml:2:26: server.verify: unknown key; did you mean \"verify_tls\"?"},
           Case{"server: {url: \"wss://h\", verify_tsl: no}",
                "client.yaml:2:26: server.verify_tsl: unknown key; did you mean \"verify_tls\"?"},
       }) {
    EXPECT_EQ(refusal(auth + yaml), message) << yaml;
  }
  EXPECT_EQ(refusal("server: {url: \"wss://h\"}\nauth: {token: [hunter2]}"),
            "client.yaml:2:15: auth.token: expected text, got a list");
  EXPECT_EQ(refusal("server: {url: \"wss://h\"}\n", {"auth.token=hunter2", "auth.x=1"}), "--set auth.x: unknown key");
}

}  // namespace
}  // namespace penstock
