#include "config/server_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Line 1 of every file here, so that the cases begin with line 2.
constexpr std::string_view kServer = "server: {tls_cert: cert.pem, tls_key: key.pem}\n";

Result<ServerConfig> load(std::string_view yaml, std::vector<std::string> overrides = {}) {
  return server_config_from_text(std::string(kServer) + std::string(yaml), "server.yaml", overrides,
                                 UserEnvironment{.root = true});
}

std::string refusal(std::string_view yaml, std::vector<std::string> overrides = {}) {
  const auto config = load(yaml, std::move(overrides));
  return config ? "accepted" : config.error().message;
}

std::string record(const std::string& name, const std::string& rest) {
  return "    - {name: " + name + ", sha256: " + to_hex(sha256(as_bytes(name))) + rest + "}\n";
}

TEST(ServerConfig, DefaultsNeedOnlyACertificate) {
  const auto config = load("");
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->server.listen_addr.size(), 1U);
  EXPECT_EQ(config->server.listen_addr[0].to_string(), "[::]:443");
  EXPECT_EQ(config->server.tls_cert, "cert.pem");
  EXPECT_EQ(config->server.path, "/");
  EXPECT_FALSE(config->server.public_url);
  EXPECT_EQ(config->vpn.subnet.to_string(), "10.100.0.0/24");
  EXPECT_EQ(config->vpn.server_ip.to_string(), "10.100.0.1");
  EXPECT_FALSE(config->vpn.subnet6);
  EXPECT_FALSE(config->vpn.server_ip6);
  EXPECT_EQ(config->vpn.mtu, 1420);
  EXPECT_TRUE(config->vpn.tun);
  EXPECT_EQ(config->vpn.interface_name, "tun0");
  EXPECT_EQ(config->vpn.offload, OffloadMode::automatic);
  EXPECT_THAT(config->auth.tokens, IsEmpty());
  EXPECT_EQ(config->session.grace, 5min);
  EXPECT_EQ(config->session.keepalive, 20s);
  EXPECT_EQ(config->session.link_timeout, 60s);
  EXPECT_EQ(config->session.queue, 8388608U);
  EXPECT_EQ(config->session.queue_packets, 4096U);
  EXPECT_EQ(config->session.queue_messages, 256U);
  EXPECT_THAT(config->server.listen_http, IsEmpty());
  EXPECT_EQ(config->limits.handshakes, 2048U);
  EXPECT_EQ(config->limits.handshakes_per_address, 64U);
  EXPECT_EQ(config->limits.handshake_rate, 50U);
  EXPECT_EQ(config->limits.failed_logins, 5U);
  EXPECT_EQ(config->limits.max_retry_after, 5min);
  EXPECT_EQ(config->limits.sessions_per_token, 64U);
  EXPECT_EQ(config->limits.open_files, 0U);
  EXPECT_EQ(config->process.user, "penstock");
  EXPECT_FALSE(config->process.user_given);
  EXPECT_TRUE(config->process.seccomp);
  EXPECT_FALSE(config->lan.isolate);
  EXPECT_TRUE(config->lan.discovery);
  EXPECT_EQ(config->lan.discovery_rate, 20U);
  EXPECT_EQ(config->performance.loops, 1);
  EXPECT_EQ(config->performance.nice, -10);
  EXPECT_EQ(config->performance.congestion_control, "auto");
  EXPECT_EQ(config->logging.level, log::Level::info);
  EXPECT_EQ(config->logging.statistics_interval, 1min);
  EXPECT_TRUE(config->paths.state_dir.string().starts_with("/var/lib/penstock/server-"));
  EXPECT_THAT(config->reserved, IsEmpty());
}

constexpr std::string_view kFullYaml = R"(
server:
  listen_addr: ["0.0.0.0:8443", "[::1]:8443"]
  tls_cert: /etc/cert.pem
  tls_key: /etc/key.pem
  public_url: wss://vpn.example.org:8443/vpn
  path: /vpn
  listen_http: ["127.0.0.1:8080", "unix:/run/penstock/http.sock"]
  proxies: [10.0.0.0/8]
limits: {handshakes: 100, handshakes_per_address: 10, handshake_rate: 5, failed_logins: 3, max_retry_after: 1m,
         sessions_per_token: 4, open_files: 4096, flows_per_session: 100, flow_rate: 20, exempt: [192.0.2.0/24]}
process: {user: "65500:65501", seccomp: off}
vpn:
  subnet: 10.8.0.0/16
  subnet6: fd00:8::/64
  server_ip: 10.8.1.1
  mtu: 1380
  tun: off
  interface_name: vpn7
  offload: off
auth:
  tokens:
    - plain
    - {name: bob, sha256: 81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9, address: 10.8.0.5,
       address6: "fd00:8::5", groups: [staff], sites: [192.168.1.0/24]}
session: {grace: 1m30s, keepalive: 5s, link_timeout: 15s, queue: 512KB, queue_packets: 1000, queue_messages: 50}
push: {routes: [0.0.0.0/0], exclude: [192.0.2.0/24], dns: {servers: [10.8.1.1], search: [a.example], split: [b.example]}}
lan: {isolate: on, allow: [{from: staff, to: 10.8.0.0/24, ports: [22, "tcp 8000-8100"]}, {from: any, to: bob}], discovery: off,
      discovery_rate: 7}
internet:
  mode: off
  public_ip: 203.0.113.7
  allow: [0.0.0.0/0]
  deny: [{to: 10.0.0.0/8, ports: ["udp 53"]}]
  filtering: address
  udp_timeout: 10m
  forward: ["tcp 2222 -> 10.8.0.5:22"]
dns: {serve: off, upstream: [9.9.9.9, "[2620:fe::fe]:5353"]}
performance: {loops: 2, nice: -5, congestion_control: reno}
logging: {level: debug, format: json, statistics_interval: 0s}
state_dir: /var/lib/x
status_socket: /run/x.sock
)";

constexpr std::string_view kFullJson = R"({
"server": {"listen_addr": ["0.0.0.0:8443", "[::1]:8443"], "tls_cert": "/etc/cert.pem", "tls_key": "/etc/key.pem",
  "public_url": "wss://vpn.example.org:8443/vpn", "path": "/vpn",
  "listen_http": ["127.0.0.1:8080", "unix:/run/penstock/http.sock"], "proxies": ["10.0.0.0/8"]},
"limits": {"handshakes": 100, "handshakes_per_address": 10, "handshake_rate": 5, "failed_logins": 3,
  "max_retry_after": "1m", "sessions_per_token": 4, "open_files": 4096, "flows_per_session": 100, "flow_rate": 20, "exempt": ["192.0.2.0/24"]},
"process": {"user": "65500:65501", "seccomp": false},
"vpn": {"subnet": "10.8.0.0/16", "subnet6": "fd00:8::/64", "server_ip": "10.8.1.1", "mtu": 1380, "tun": false,
  "interface_name": "vpn7", "offload": "off"},
"auth": {"tokens": ["plain", {"name": "bob",
  "sha256": "81B637D8FCD2C6DA6359E6963113A1170DE795E4B725B84D1E0B4CFD9EC58CE9", "address": "10.8.0.5",
  "address6": "fd00:8::5", "groups": ["staff"], "sites": ["192.168.1.0/24"]}]},
"session": {"grace": "1m30s", "keepalive": "5s", "link_timeout": "15s", "queue": "512KB", "queue_packets": 1000,
  "queue_messages": 50},
"push": {"routes": ["0.0.0.0/0"], "exclude": ["192.0.2.0/24"],
  "dns": {"servers": ["10.8.1.1"], "search": ["a.example"], "split": ["b.example"]}},
"lan": {"isolate": true, "allow": [{"from": "staff", "to": "10.8.0.0/24", "ports": [22, "tcp 8000-8100"]},
  {"from": "any", "to": "bob"}], "discovery": false, "discovery_rate": 7},
"internet": {"mode": false, "public_ip": "203.0.113.7", "allow": ["0.0.0.0/0"],
  "deny": [{"to": "10.0.0.0/8", "ports": ["udp 53"]}], "forward": ["tcp 2222 -> 10.8.0.5:22"],
  "filtering": "address", "udp_timeout": "10m"},
"dns": {"serve": false, "upstream": ["9.9.9.9", "[2620:fe::fe]:5353"]},
"performance": {"loops": 2, "nice": -5, "congestion_control": "reno"},
"logging": {"level": "debug", "format": "json", "statistics_interval": "0s"},
"state_dir": "/var/lib/x", "status_socket": "/run/x.sock"})";

void expect_full(const ServerConfig& config) {
  EXPECT_EQ(config.server.listen_addr.size(), 2U);
  EXPECT_EQ(config.server.tls_key, "/etc/key.pem");
  EXPECT_EQ(config.server.public_url, (GatewayUrl{"vpn.example.org", 8443, "/vpn"}));
  EXPECT_EQ(config.server.path, "/vpn");
  EXPECT_THAT(config.server.proxies, ElementsAre(Prefix::parse("10.0.0.0/8").value()));
  ASSERT_EQ(config.server.listen_http.size(), 2U);
  EXPECT_EQ(config.server.listen_http[0].to_string(), "127.0.0.1:8080");
  EXPECT_EQ(config.server.listen_http[1].to_string(), "unix:/run/penstock/http.sock");
  EXPECT_EQ(config.limits.handshakes, 100U);
  EXPECT_EQ(config.limits.handshakes_per_address, 10U);
  EXPECT_EQ(config.limits.handshake_rate, 5U);
  EXPECT_EQ(config.limits.failed_logins, 3U);
  EXPECT_EQ(config.limits.max_retry_after, 1min);
  EXPECT_EQ(config.limits.sessions_per_token, 4U);
  EXPECT_EQ(config.limits.open_files, 4096U);
  EXPECT_EQ(config.limits.flows_per_session, 100U);
  EXPECT_EQ(config.limits.flow_rate, 20U);
  EXPECT_THAT(config.limits.exempt, ElementsAre(Prefix::parse("192.0.2.0/24").value()));
  EXPECT_EQ(config.process.user, "65500:65501");
  EXPECT_TRUE(config.process.user_given);
  EXPECT_FALSE(config.process.seccomp);
  EXPECT_EQ(config.vpn.subnet.to_string(), "10.8.0.0/16");
  EXPECT_EQ(config.vpn.server_ip.to_string(), "10.8.1.1");
  EXPECT_EQ(config.vpn.server_ip6->to_string(), "fd00:8::101");
  EXPECT_EQ(config.vpn.mtu, 1380);
  EXPECT_FALSE(config.vpn.tun);
  EXPECT_EQ(config.vpn.interface_name, "vpn7");
  EXPECT_EQ(config.vpn.offload, OffloadMode::off);

  TokenRecord plain{.name = "token-1", .sha256 = sha256(as_bytes("plain"))};
  TokenRecord bob{.name = "bob", .sha256 = sha256(as_bytes("bob"))};
  bob.address = IpAddress::parse("10.8.0.5").value();
  bob.address6 = IpAddress::parse("fd00:8::5").value();
  bob.single = true;
  bob.groups = {"staff"};
  bob.sites = {Prefix::parse("192.168.1.0/24").value()};
  EXPECT_THAT(config.auth.tokens, ElementsAre(plain, bob));

  EXPECT_EQ(config.session.grace, 90s);
  EXPECT_EQ(config.session.keepalive, 5s);
  EXPECT_EQ(config.session.link_timeout, 15s);
  EXPECT_EQ(config.session.queue, 512000U);
  EXPECT_EQ(config.session.queue_packets, 1000U);
  EXPECT_EQ(config.session.queue_messages, 50U);
  EXPECT_THAT(config.push.routes, ElementsAre(Prefix()));
  EXPECT_THAT(config.push.dns.servers, ElementsAre(config.vpn.server_ip));
  EXPECT_THAT(config.push.dns.split, ElementsAre("b.example"));
  EXPECT_TRUE(config.lan.isolate);
  EXPECT_FALSE(config.lan.discovery);
  EXPECT_EQ(config.lan.discovery_rate, 7U);
  const Prefix ten = Prefix::parse("10.8.0.0/24").value();
  EXPECT_THAT(config.lan.allow,
              ElementsAre(LanConfig::Rule{{.name = "staff"},
                                          {.prefix = ten, .name = ""},
                                          {{PortProtocol::any, 22, 22}, {PortProtocol::tcp, 8000, 8100}}},
                          LanConfig::Rule{{}, {.name = "bob"}, {}}));
  EXPECT_EQ(config.internet.mode, InternetConfig::Mode::off);
  EXPECT_EQ(config.internet.public_ip->to_string(), "203.0.113.7");
  EXPECT_THAT(config.internet.allow, ElementsAre(InternetConfig::Rule{Prefix(), {}}));
  EXPECT_THAT(config.internet.deny,
              ElementsAre(InternetConfig::Rule{Prefix::parse("10.0.0.0/8").value(), {{PortProtocol::udp, 53, 53}}}));
  EXPECT_EQ(config.internet.filtering, InternetConfig::Filtering::address);
  EXPECT_EQ(config.internet.udp_timeout, 10min);
  EXPECT_THAT(config.internet.forward,
              ElementsAre(InternetConfig::Forward{PortProtocol::tcp, 2222, Endpoint::parse("10.8.0.5:22").value()}));
  EXPECT_FALSE(config.dns.serve);
  EXPECT_THAT(config.dns.upstream,
              ElementsAre(Endpoint::parse("9.9.9.9:53").value(), Endpoint::parse("[2620:fe::fe]:5353").value()));
  EXPECT_EQ(config.performance.loops, 2);
  EXPECT_EQ(config.performance.nice, -5);
  EXPECT_EQ(config.performance.congestion_control, "reno");
  EXPECT_EQ(config.logging.level, log::Level::debug);
  EXPECT_EQ(config.logging.format, log::Format::json);
  EXPECT_EQ(config.logging.statistics_interval, 0s);
  EXPECT_EQ(config.paths.state_dir, "/var/lib/x");
  EXPECT_EQ(config.paths.status_socket, "/run/x.sock");
  EXPECT_THAT(config.reserved, ElementsAre("push.exclude", "push.dns"));
}

TEST(ServerConfig, YamlAndJsonSayTheSame) {
  const auto yaml = server_config_from_text(kFullYaml, "server.yaml");
  ASSERT_TRUE(yaml) << yaml.error().message;
  expect_full(*yaml);
  const auto json = server_config_from_text(kFullJson, "server.json");
  ASSERT_TRUE(json) << json.error().message;
  expect_full(*json);
  const auto both = server_config_from_text(kFullJson, "server.yaml");
  ASSERT_TRUE(both) << both.error().message;
  expect_full(*both);
}

TEST(ServerConfig, MistakesAreNamedWithPlacePathAndWayOut) {
  struct Case {
    const char* yaml;
    const char* message;
  };
  for (const auto& [yaml, message] : {
           Case{"vpn:\n  subnt: 10.0.0.0/24\n", "server.yaml:3:3: vpn.subnt: unknown key; did you mean \"subnet\"?"},
           Case{"link_timeout: 1s\n",
                "server.yaml:2:1: link_timeout: unknown key; did you mean \"session.link_timeout\"?"},
           Case{"vpn: {subnet: x}", "server.yaml:2:15: vpn.subnet: expected a prefix such as 10.100.0.0/24, got \"x\""},
           Case{"vpn: {subnet: 10.0.0.0/31}",
                "server.yaml:2:15: vpn.subnet: must be an IPv4 prefix from /8 to /30, not 10.0.0.0/31"},
           Case{"vpn: {subnet: \"fd00::/24\"}",
                "server.yaml:2:15: vpn.subnet: must be an IPv4 prefix from /8 to /30, not fd00::/24"},
           Case{"vpn: {subnet6: \"2001:db8::/64\"}",
                "server.yaml:2:16: vpn.subnet6: must be a prefix of fd00::/8 from /64 to /112, not 2001:db8::/64"},
           Case{"vpn: {subnet6: \"fd00::/48\"}",
                "server.yaml:2:16: vpn.subnet6: must be a prefix of fd00::/8 from /64 to /112, not fd00::/48"},
           Case{"vpn: {server_ip: 10.1.0.1}",
                "server.yaml:2:18: vpn.server_ip: 10.1.0.1 is not in vpn.subnet 10.100.0.0/24"},
           Case{"vpn: {server_ip: 10.100.0.0}",
                "server.yaml:2:18: vpn.server_ip: 10.100.0.0 is the network address of vpn.subnet 10.100.0.0/24"},
           Case{"vpn: {server_ip: 10.100.0.255}",
                "server.yaml:2:18: vpn.server_ip: 10.100.0.255 is the broadcast address of vpn.subnet 10.100.0.0/24"},
           Case{"vpn: {mtu: 500}", "server.yaml:2:12: vpn.mtu: expected a number from 576 to 65535, got \"500\""},
           Case{"vpn: {mtu: 1000, subnet6: \"fd00::/64\"}",
                "server.yaml:2:12: vpn.mtu: must be 1280 or more, which IPv6 needs (vpn.subnet6 is set)"},
           Case{"vpn: {tun: maybe}", "server.yaml:2:12: vpn.tun: expected on or off, got \"maybe\""},
           Case{"vpn: {offload: \"no\"}", "server.yaml:2:16: vpn.offload: expected auto, gso, uso or off, got \"no\""},
           Case{"vpn: {interface_name: a-very-long-name}",
                "server.yaml:2:23: vpn.interface_name: expected an interface name of 1 to 15 characters such as tun0, "
                "got \"a-very-long-name\""},
           Case{
               "session: {grace: 5}",
               "server.yaml:2:18: session.grace: expected a duration such as 30s or 1m30s, got \"5\"; a number needs a "
               "unit, for example 5s"},
           Case{"session: {keepalive: 2m}",
                "server.yaml:2:22: session.keepalive: session.keepalive must be shorter than session.link_timeout, or "
                "silence ends every link"},
           Case{"session: {queue: 1KiB}",
                "server.yaml:2:18: session.queue: expected a size from 64KiB to 1GiB, got \"1KiB\""},
           Case{"auth: {tokens: hunter2}",
                "server.yaml:2:16: auth.tokens: expected a list, got a single value; write [value]"},
           Case{"logging: {level: loud}",
                "server.yaml:2:18: logging.level: expected debug, info, warn or error, got \"loud\""},
           Case{"internet: {mode: on}",
                "server.yaml:2:18: internet.mode: expected userspace, kernel or off, got \"on\""},
           Case{"internet: {mode: kernel}\nvpn: {tun: off}",
                "server.yaml:2:18: internet.mode: kernel takes a TUN device: leave vpn.tun on, or choose userspace"},
           Case{"internet: {udp_timeout: 30s}",
                "server.yaml:2:25: internet.udp_timeout: expected a duration from 2m to 12h, got \"30s\""},
           Case{"internet: {forward: [\"sctp 1 -> 10.100.0.5:22\"]}",
                "server.yaml:2:22: internet.forward[0]: expected a forward such as \"tcp 2222 -> 10.100.0.5:22\", got "
                "\"sctp 1 -> 10.100.0.5:22\""},
           Case{"internet: {forward: [tcp 1 -> 10.100.0.5:22, tcp 1 -> 10.100.0.6:22]}",
                "server.yaml:2:21: internet.forward: port 1 is forwarded twice"},
           Case{"internet: {deny: [{to: 10.0.0.0/8, ports: [0]}]}",
                "server.yaml:2:44: internet.deny[0].ports[0]: expected a port such as 443, 8000-8100 or \"tcp 443\", "
                "got "
                "\"0\""},
           Case{"lan: {isolate: on, allow: [{from: a}]}", "server.yaml:2:28: lan.allow[0].to: required, but not given"},
           Case{"lan: {isolate: on, allow: [{from: 10.0.0.0/33, to: any}]}",
                "server.yaml:2:35: lan.allow[0].from: \"10.0.0.0/33\": the length after the slash must be 0 to 32"},
           Case{"limits: {handshakes: 0}",
                "server.yaml:2:22: limits.handshakes: expected a number from 1 to 1000000, got \"0\""},
           Case{"limits: {open_files: 10}",
                "server.yaml:2:22: limits.open_files: a gateway needs at least 64; 0 is as many as the system allows"},
           Case{"process: {user: a b}",
                "server.yaml:2:17: process.user: expected a user such as penstock, or numbers up to 4294967294 such as "
                "65500 or 65500:65500, got \"a b\""},
           Case{"process: {user: \"65500:65500\", group: www-data}",
                "server.yaml:2:39: process.group: process.user names a group already: leave one of them out"},
           Case{"process: {group: \"1:2\"}",
                "server.yaml:2:18: process.group: expected a group such as www-data, or a number up to 4294967294, got "
                "\"1:2\""},
           Case{"auth: {tokens: [{name: any, sha256: "
                "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90}]}",
                "server.yaml:2:24: auth.tokens[0].name: \"any\" means everybody in the rules of lan.allow: choose "
                "another name"},
           Case{"auth: {tokens: [{name: a, sha256: "
                "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90, groups: [any]}]}",
                "server.yaml:2:110: auth.tokens[0].groups[0]: \"any\" means everybody in the rules of lan.allow: "
                "choose another name"},
           Case{"dns: {upstream: [dns.example]}",
                "server.yaml:2:18: dns.upstream[0]: expected an address such as 9.9.9.9 or 9.9.9.9:53, got "
                "\"dns.example\""},
           Case{"dns: {upstream: [10.100.0.1]}",
                "server.yaml:2:17: dns.upstream: 10.100.0.1 is this gateway: it would ask itself"},
           Case{"push: {dns: {split: [a.example]}}",
                "server.yaml:2:21: push.dns.split: names domains, but push.dns.servers has no server to ask for them"},
           Case{"performance: {congestion_control: BBR v3}",
                "server.yaml:2:35: performance.congestion_control: expected auto, system, or the name of a congestion "
                "control such as bbr, got \"BBR v3\""},
           Case{"performance: {nice: -21}",
                "server.yaml:2:21: performance.nice: expected a number from -20 to 19, got \"-21\""},
           Case{"performance: {loops: 0}",
                "server.yaml:2:22: performance.loops: expected a number from 1 to 256, got \"0\""},
           Case{"vpn: {mtu: 1400\n", "server.yaml:3:1: not valid YAML: end of map flow not found"},
       }) {
    EXPECT_EQ(refusal(yaml), message) << yaml;
  }
}

TEST(ServerConfig, MistakesInTheServerSection) {
  const auto refusal_of = [](std::string_view yaml) {
    const auto config = server_config_from_text(yaml, "server.yaml");
    return config ? "accepted" : config.error().message;
  };
  EXPECT_EQ(refusal_of(""),
            "server.yaml: server.tls_cert: required, but not given\n"
            "server.yaml: server.tls_key: required, but not given");
  EXPECT_EQ(refusal_of("vpn:\n\nserver:\n  listen_addr: x\n  tls_cert: a\n"),
            "server.yaml:3:1: server.tls_key: required, but not given\n"
            "server.yaml:4:16: server.listen_addr: expected an address with a port such as 0.0.0.0:443, got \"x\"");
  EXPECT_EQ(refusal_of("server: {tls_cert: a, tls_key: b, listen_addr: [], path: vpn, public_url: \"http://x\"}"),
            "server.yaml:1:58: server.path: expected a path such as / or /vpn, got \"vpn\"\n"
            "server.yaml:1:75: server.public_url: expected a URL such as wss://vpn.example.org/, got \"http://x\"");
}

TEST(ServerConfig, PlainHttpStaysOnTheMachineAndNeedsNoCertificate) {
  const auto load = [](std::string_view yaml) { return server_config_from_text(yaml, "server.yaml"); };
  const auto config = load("server: {listen_addr: [], listen_http: \"[::1]:8080\"}");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->server.listen_http[0].to_string(), "[::1]:8080");
  EXPECT_TRUE(config->server.tls_cert.empty());

  EXPECT_EQ(load("server: {listen_addr: []}").error().message,
            "server.yaml:1:23: server.listen_addr: needs at least one address (or server.listen_http one)");
  EXPECT_EQ(load("server: {listen_addr: [], listen_http: \"0.0.0.0:8080\"}").error().message,
            "server.yaml:1:40: server.listen_http: plain HTTP is for loopback addresses and Unix sockets alone, not "
            "0.0.0.0:8080");
  EXPECT_EQ(load("server: {listen_addr: [], listen_http: \"unix:http.sock\"}").error().message,
            "server.yaml:1:40: server.listen_http: expected a loopback address such as 127.0.0.1:8080, or unix: and "
            "the full path of a socket, got \"unix:http.sock\"");
}

TEST(ServerConfig, AnHttpSocketsGroupNeedsASocket) {
  const auto load = [](const std::string& rest) {
    return server_config_from_text("server: {listen_addr: [], " + rest + "}", "server.yaml");
  };
  const auto config = load("listen_http: \"unix:/run/penstock/http.sock\", listen_http_group: www-data");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->server.listen_http_group, "www-data");
  EXPECT_EQ(load("listen_http: \"127.0.0.1:80\", listen_http_group: www-data").error().message,
            "server.yaml:1:75: server.listen_http_group: is for Unix sockets, and server.listen_http has none");
}

TEST(ServerConfig, UsersAndGroupsAreNamesOrNumbersThatThereCanBe) {
  for (const char* user : {"penstock", "0", "65500", "4294967294", "65500:65501", "nobody:daemon", "svc-1$", "1a"})
    EXPECT_EQ(refusal("process: {user: \"" + std::string(user) + "\"}"), "accepted") << user;
  for (const char* user : {"4294967295", "99999999999", "1:99999999999", "1:", ":1", "1:2:3", "a/b"})
    EXPECT_NE(refusal("process: {user: \"" + std::string(user) + "\"}"), "accepted") << user;
  EXPECT_EQ(refusal("process: {group: \"4294967294\"}"), "accepted");
  EXPECT_NE(refusal("process: {group: \"4294967295\"}"), "accepted");
}

TEST(ServerConfig, FixedAddressesFitTheSubnetAndEachOther) {
  const std::string start = "vpn: {subnet6: \"fd00::/64\"}\nauth:\n  tokens:\n";
  struct Case {
    std::string tokens;
    const char* message;
  };
  for (const auto& [tokens, message] : {
           Case{record("a", ", address: 10.1.0.5"), "tokens[0].address: 10.1.0.5 is not in vpn.subnet 10.100.0.0/24"},
           Case{record("a", ", address: 10.100.0.1"), "tokens[0].address: 10.100.0.1 is the gateway's own address"},
           Case{record("a", ", address: 10.100.0.255"),
                "tokens[0].address: 10.100.0.255 is the broadcast address of vpn.subnet 10.100.0.0/24"},
           Case{record("a", ", address: 10.100.0.5") + record("b", ", address: 10.100.0.5"),
                "tokens[1].address: 10.100.0.5 is fixed for another token too"},
           Case{record("a", ", address: \"fd00::5\""), "tokens[0].address: must be an IPv4 address"},
           Case{record("a", ", address6: \"fd00:1::5\""),
                "tokens[0].address6: fd00:1::5 is not in vpn.subnet6 fd00::/64"},
           Case{record("a", ", address6: \"fd00::1\""), "tokens[0].address6: fd00::1 is the gateway's own address"},
           Case{record("a", ", address6: \"fd00::\""),
                "tokens[0].address6: fd00:: is the routers' address of vpn.subnet6 fd00::/64"},
           Case{record("a", ", sites: [10.0.0.0/8]"), "tokens[0].sites: 10.0.0.0/8 overlaps the VPN's own subnet"},
           Case{record("a", ", sites: [192.168.1.0/24]") + record("b", ", sites: [192.168.1.0/24]"),
                "tokens[1].sites: 192.168.1.0/24 overlaps 192.168.1.0/24, which is a site already"},
           Case{record("a", ", sites: [192.168.0.0/16]") + record("b", ", sites: [192.168.1.0/24]"),
                "tokens[1].sites: 192.168.1.0/24 overlaps 192.168.0.0/16, which is a site already"},
       }) {
    const std::string got = refusal(start + tokens);
    EXPECT_TRUE(got.ends_with(std::string(": auth.") + message)) << got;
    EXPECT_EQ(got.find('\n'), std::string::npos) << got;
  }
  EXPECT_EQ(refusal("auth:\n  tokens:\n" + record("a", ", address6: \"fd00::5\"")),
            "server.yaml:4:101: auth.tokens[0].address6: there is no vpn.subnet6 that it could be in");
  EXPECT_EQ(refusal(start + record("a", ", address: 10.100.0.5") + record("b", ", address: 10.100.0.6")), "accepted");
}

TEST(ServerConfig, TheSubnetBringsItsOwnServerAddress) {
  const auto config = load("vpn: {subnet: 192.168.77.64/26}");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->vpn.server_ip.to_string(), "192.168.77.65");
}

TEST(ServerConfig, QuotedOrNotOffIsTheWord) {
  for (const char* off : {"off", "\"off\"", "Off", "false", "no"}) {
    const auto config = load("vpn: {tun: " + std::string(off) + ", offload: " + off + "}");
    ASSERT_TRUE(config) << off << ": " << config.error().message;
    EXPECT_FALSE(config->vpn.tun) << off;
    EXPECT_EQ(config->vpn.offload, OffloadMode::off) << off;
  }
  EXPECT_EQ(load("vpn: {interface_name: off}")->vpn.interface_name, "off");
  EXPECT_EQ(refusal("lan: {isolate: \"off\"}"),
            "server.yaml:2:16: lan.isolate: expected true or false without quotes, got \"off\"");
}

TEST(ServerConfig, TheCommandLineOverridesTheFile) {
  const auto config = load("vpn: {mtu: 1300}", {"vpn.mtu=1350", "server.listen_addr=[::]:8443", "vpn.tun=off",
                                                "auth.tokens=[\"secret\"]", "vpn.mtu=1360", "state_dir=/tmp/x"});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->vpn.mtu, 1360) << "the last one wins";
  EXPECT_EQ(config->server.listen_addr[0].to_string(), "[::]:8443");
  EXPECT_FALSE(config->vpn.tun);
  EXPECT_EQ(config->auth.tokens.size(), 1U);
  EXPECT_EQ(config->paths.state_dir, "/tmp/x");

  EXPECT_EQ(refusal("", {"vpn.mtu=x"}), "--set vpn.mtu: expected a number from 576 to 65535, got \"x\"");
  EXPECT_EQ(refusal("", {"vpn.mtuu=1"}), "--set vpn.mtuu: unknown key; did you mean \"mtu\"?");
  EXPECT_EQ(refusal("", {"auth.tokens=hunter2"}),
            "--set auth.tokens: expected a list, got a single value; write [value]");
  EXPECT_EQ(refusal("zzz: 1", {"vpn.mtu=x"}),
            "server.yaml:2:1: zzz: unknown key\n"
            "--set vpn.mtu: expected a number from 576 to 65535, got \"x\"");
}

TEST(ServerConfig, ATokenThatYamlTakesForAMapIsNotRepeated) {
  EXPECT_EQ(refusal("auth:\n  tokens:\n    - hunter: two\n"),
            "server.yaml:4:7: auth.tokens[0]: expected a token in quotes, or a section with name and sha256");
}

TEST(ServerConfig, EveryKeyIsKnown) {
  const auto keys = server_config_keys();
  for (const char* key : {"auth.tokens[].sha256", "internet.deny[].to", "lan.allow[].ports", "push.dns.split",
                          "server.listen_addr", "state_dir", "vpn.subnet"}) {
    EXPECT_NE(std::ranges::find(keys, key), keys.end()) << key;
  }
}

}  // namespace
}  // namespace penstock
