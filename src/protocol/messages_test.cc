#include "protocol/messages.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace penstock::protocol {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
Prefix prefix(const char* text) { return *Prefix::parse(text); }

// Every message with every field, and with none of the extensions; the text is what docs/PROTOCOL.md promises.
TEST(Messages, AreWrittenExactlySoAndReadBack) {
  const AuthResponse plain{.success = true,
                           .assigned_ip = ip("10.100.0.2"),
                           .subnet = prefix("10.100.0.0/24"),
                           .server_ip = ip("10.100.0.1"),
                           .mtu = 1420};
  AuthResponse full = plain;
  full.assigned_ip6 = ip("fd00::2");
  full.subnet6 = prefix("fd00::/64");
  full.server_ip6 = ip("fd00::1");
  full.routes = {prefix("0.0.0.0/0"), prefix("::/0")};
  full.exclude = {prefix("192.168.0.0/16")};
  full.dns = DnsSettings{.servers = {ip("10.100.0.1")}, .search = {"lan"}, .split = {"corp.example"}};
  full.lease = "opaque";
  full.keepalive_seconds = 15;
  full.grace_seconds = 300;
  full.gateways = {"wss://b.example/"};
  full.sites = {prefix("192.168.7.0/24")};
  full.receive = Receive{};
  full.resumed = true;
  const Receive receive{.max_packet = 65535, .gso = {"tcp4", "udp6"}, .batch_bytes = 262144, .mtu = 1420};

  const struct {
    ControlMessage message;
    const char* json;
  } cases[] = {
      {Auth{.token = "secret"}, R"({"type":"auth","token":"secret"})"},
      {Auth{}, R"({"type":"auth","token":""})"},
      {Auth{.user = "ann", .password = "pw", .client = "penstock/1.0 linux", .receive = receive},
       R"({"type":"auth","user":"ann","password":"pw","client":"penstock/1.0 linux",)"
       R"("receive":{"max_packet":65535,"gso":["tcp4","udp6"],"batch_bytes":262144,"mtu":1420}})"},
      {Reconnect{.token = "secret", .previous_ip = ip("10.100.0.2")},
       R"({"type":"reconnect","token":"secret","previous_ip":"10.100.0.2"})"},
      {Reconnect{.lease = "opaque", .client = "penstock/1.0 linux"},
       R"({"type":"reconnect","lease":"opaque","client":"penstock/1.0 linux"})"},
      {plain, R"({"type":"auth_response","success":true,"assigned_ip":"10.100.0.2","subnet":"10.100.0.0/24",)"
              R"("server_ip":"10.100.0.1","mtu":1420})"},
      {full,
       R"({"type":"auth_response","success":true,"assigned_ip":"10.100.0.2","subnet":"10.100.0.0/24",)"
       R"("server_ip":"10.100.0.1","mtu":1420,"assigned_ip6":"fd00::2","subnet6":"fd00::/64","server_ip6":"fd00::1",)"
       R"("routes":["0.0.0.0/0","::/0"],"exclude":["192.168.0.0/16"],)"
       R"("dns":{"servers":["10.100.0.1"],"search":["lan"],"split":["corp.example"]},"lease":"opaque",)"
       R"("keepalive":15,"grace":300,"gateways":["wss://b.example/"],"sites":["192.168.7.0/24"],)"
       R"("receive":{"max_packet":65535,"gso":[],"batch_bytes":65536,"mtu":1420},"resumed":true})"},
      {AuthResponse{.success = false, .error = "invalid token"},
       R"({"type":"auth_response","success":false,"error":"invalid token"})"},
      {Ping{}, R"({"type":"ping"})"},
      {Pong{}, R"({"type":"pong"})"},
      {ErrorMessage{"unknown type \"x\""}, R"({"type":"error","error":"unknown type \"x\""})"},
      {ConfigEvent{}, R"({"type":"config","routes":[],"exclude":[]})"},
      {ConfigEvent{.routes = {prefix("10.0.0.0/8")}, .exclude = {}, .dns = DnsSettings{}},
       R"({"type":"config","routes":["10.0.0.0/8"],"exclude":[],"dns":{"servers":[],"search":[],"split":[]}})"},
      {ConfigEvent{.sites = {prefix("fd07::/64")}},
       R"({"type":"config","routes":[],"exclude":[],"sites":["fd07::/64"]})"},
      {Notice{"80 % used"}, R"({"type":"notice","text":"80 % used"})"},
      {Goodbye{.reason = "shutting down"}, R"({"type":"goodbye","reason":"shutting down"})"},
      {Goodbye{.reason = "upgrade", .reconnect_after_seconds = 5},
       R"({"type":"goodbye","reason":"upgrade","reconnect_after":5})"},
  };
  for (const auto& [message, json] : cases) {
    EXPECT_EQ(to_json(message), json);
    const auto parsed = parse_control(json);
    ASSERT_TRUE(parsed) << json << ": " << parsed.error().message;
    EXPECT_TRUE(*parsed == message) << json;
  }
}

TEST(Messages, UnknownFieldsOrderAndNullsDoNotMatter) {
  const auto parsed = parse_control(
      R"( { "x": [1, {"y": null}], "previous_ip": null, "token" : "t\u00e9", "type": "reconnect", "lease": null } )");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::get<Reconnect>(*parsed), (Reconnect{.token = "t\xC3\xA9"}));
  const auto empty = parse_control(R"({"type":"reconnect","token":"t","previous_ip":""})");
  ASSERT_TRUE(empty);
  EXPECT_EQ(std::get<Reconnect>(*empty).previous_ip, std::nullopt);
}

TEST(Messages, WhatIsWrongIsNamed) {
  const struct {
    const char* json;
    const char* words;
  } cases[] = {
      {"", "the message is not JSON"},
      {"hello", "the message is not JSON"},
      {R"({"type":"ping"} x)", "the message is not JSON"},
      {R"({"type":"ping")", "the message is not JSON"},
      {"{\"type\":\"p\xFF\"}", "the message is not JSON"},
      {R"(["ping"])", "the message is not a JSON object"},
      {"5", "the message is not a JSON object"},
      {"{}", R"("type" must be a string)"},
      {R"({"type":5})", R"("type" must be a string)"},
      {R"({"type":"x"})", R"(unknown type "x")"},
      {R"({"type":"Ping"})", R"(unknown type "Ping")"},
      {R"({"type":"auth","token":5})", R"(auth: "token" must be a string)"},
      {R"({"type":"auth","receive":5})", R"(auth: "receive" must be an object)"},
      {R"({"type":"auth","receive":{"mtu":"x"}})",
       R"(auth: "receive.mtu" must be a whole number from 0 to 4294967295)"},
      {R"({"type":"auth","receive":{"mtu":-1}})", R"(auth: "receive.mtu" must be a whole number from 0 to 4294967295)"},
      {R"({"type":"auth","receive":{"mtu":4294967296}})",
       R"(auth: "receive.mtu" must be a whole number from 0 to 4294967295)"},
      {R"({"type":"auth","receive":{"mtu":1.5}})",
       R"(auth: "receive.mtu" must be a whole number from 0 to 4294967295)"},
      {R"({"type":"auth","receive":{"gso":["tcp4",7]}})", R"(auth: "receive.gso[1]" must be a string)"},
      {R"({"type":"auth","receive":{"gso":"tcp4"}})", R"(auth: "receive.gso" must be an array)"},
      {R"({"type":"reconnect","token":"t","previous_ip":"10.0.0"})",
       R"(reconnect: "previous_ip" must be an IP address)"},
      {R"({"type":"reconnect","token":"t","previous_ip":7})", R"(reconnect: "previous_ip" must be a string)"},
      {R"({"type":"auth_response"})", R"(auth_response: "success" is missing)"},
      {R"({"type":"auth_response","success":1})", R"(auth_response: "success" must be true or false)"},
      {R"({"type":"auth_response","success":true})", R"(auth_response: "assigned_ip" is missing)"},
      {R"({"type":"auth_response","success":true,"assigned_ip":"fd00::2","subnet":"10.0.0.0/8","server_ip":"10.0.0.1","mtu":1420})",
       R"(auth_response: "assigned_ip" must be IPv4)"},
      {R"({"type":"auth_response","success":true,"assigned_ip":"10.0.0.2","subnet":"10.0.0.0","server_ip":"10.0.0.1"})",
       R"(auth_response: "mtu" is missing)"},
      {R"({"type":"auth_response","success":true,"assigned_ip":"10.0.0.2","subnet":"10.0.0.0/8","server_ip":"10.0.0.1","mtu":575})",
       R"(auth_response: "mtu" must be at least 576)"},
      {R"({"type":"auth_response","success":true,"assigned_ip":"10.0.0.2","subnet":"10.0.0.0/8","server_ip":"10.0.0.1","mtu":65536})",
       R"(auth_response: "mtu" must be at most 65535)"},
      {R"({"type":"auth","receive":{"batch_bytes":0}})", R"(auth: "receive.batch_bytes" must be at least 576)"},
      {R"({"type":"config","routes":["10.0.0.1/8"]})", R"(config: "routes[0]" must be a prefix such as "10.0.0.0/8")"},
      {R"({"type":"config","dns":{"servers":["x"]}})", R"(config: "dns.servers[0]" must be an IP address)"},
      {R"({"type":"goodbye","reconnect_after":"5"})",
       R"(goodbye: "reconnect_after" must be a whole number from 0 to 4294967295)"},
  };
  for (const auto& [json, words] : cases) {
    const auto parsed = parse_control(json);
    ASSERT_FALSE(parsed) << json;
    EXPECT_EQ(parsed.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(parsed.error().message, words) << json;
  }
}

TEST(Messages, ABrokenErrorIsStillAnErrorSoThatItIsNotAnswered) {
  for (const char* json :
       {R"({"type":"error"})", R"({"type":"error","error":5})", R"({"type":"error","error":null})"}) {
    const auto parsed = parse_control(json);
    ASSERT_TRUE(parsed) << json;
    EXPECT_EQ(std::get<ErrorMessage>(*parsed).error, "");
  }
}

TEST(Messages, DepthIsBounded) {
  const auto nested = [](int depth) {
    const auto levels = static_cast<std::size_t>(depth);
    return R"({"type":"ping","x":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  EXPECT_TRUE(parse_control(nested(7)));
  const auto deep = parse_control(nested(8));
  ASSERT_FALSE(deep);
  EXPECT_EQ(deep.error().message, "the message is nested too deeply or has too many values");
  EXPECT_FALSE(parse_control(nested(1'000'000)));
  EXPECT_FALSE(parse_control(std::string(1'000'000, '[')));
}

// A parser's time grows faster than such a text: it never gets there.
TEST(Messages, TheNumberOfValuesIsBounded) {
  const auto values = [](int count) {
    std::string list;
    for (int i = 0; i < count; ++i) list += list.empty() ? "{}" : ",{}";
    return R"({"type":"ping","x":[)" + list + "]}";
  };
  EXPECT_TRUE(parse_control(values(500)));
  EXPECT_FALSE(parse_control(values(1000)));
  EXPECT_TRUE(parse_control(R"({"type":"ping","x":")" + std::string(5000, ',') + R"(\"[[[[[[[[[["})")) << "only text";
}

TEST(Messages, LongTypesAreCut) {
  const auto parsed = parse_control(R"({"type":")" + std::string(5000, 'x') + "\"}");
  ASSERT_FALSE(parsed);
  EXPECT_LT(parsed.error().message.size(), 250U);
}

TEST(Messages, AControlCharacterInATypeForgesNoLogLine) {
  const auto parsed = parse_control(R"({"type":"x\r\nlevel=error"})");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message, "unknown type \"x??level=error\"");
}

TEST(Messages, TextThatIsNoUtf8StillMakesJson) {
  const auto parsed = parse_control(to_json(ErrorMessage{"bad \xFF byte"}));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::get<ErrorMessage>(*parsed).error, "bad \xEF\xBF\xBD byte");
}

// Whatever is cut or flipped in an auth message, the refusal does not repeat its secrets.
TEST(Messages, NoRefusalHoldsACredential) {
  const std::string json =
      R"({"type":"auth","token":"S3CRET","user":"S3CRET","password":"S3CRET","client":"c","receive":{"mtu":1280}})";
  SeededRandom random(3);
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string broken = json;
    for (std::uint32_t i = 0; i < 1 + random.next32() % 3; ++i) {
      const std::size_t at = random.next32() % broken.size();
      if (random.next32() % 2 == 0) {
        broken.erase(at, 1 + random.next32() % 5);
      } else {
        broken[at] = R"("{}[]:,\5x)"[random.next32() % 10];
      }
      if (broken.empty()) broken = " ";
    }
    const auto parsed = parse_control(broken);
    if (parsed) continue;
    ++refused;
    if (!parsed.error().message.starts_with("unknown type")) {
      EXPECT_EQ(parsed.error().message.find("CRE"), std::string::npos) << broken;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace penstock::protocol
