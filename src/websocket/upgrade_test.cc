#include "websocket/upgrade.h"

#include <gtest/gtest.h>

#include <string>

namespace penstock::websocket {
namespace {

// RFC 6455 section 1.3.
constexpr const char* kKey = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char* kAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

std::string request_with(const std::string& first_line, const std::string& more = "") {
  return first_line +
         "\r\nHost: vpn.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
         more + "\r\n";
}

using Parsed = std::expected<std::optional<UpgradeRequest>, HttpRefusal>;

Parsed parse(const std::string& wire) {
  UpgradeParser parser;
  ByteQueue in;
  in.append(as_bytes(wire));
  return parser.next(in);
}

int status_of(const std::string& wire) {
  const auto parsed = parse(wire);
  if (!parsed) return parsed.error().status;
  if (!*parsed) return 0;
  const auto accepted = accept_upgrade(**parsed, "/");
  return accepted ? 101 : accepted.error().status;
}

TEST(UpgradeParser, ReadsARequestAndLeavesWhatFollows) {
  UpgradeParser parser;
  ByteQueue in;
  in.append(as_bytes(request_with("GET /vpn?x=1 HTTP/1.1", "X-Odd:\t value \t\r\nEmpty:\r\n") + "\x82\x01x"));
  const auto request = parser.next(in);
  ASSERT_TRUE(request && *request);
  EXPECT_EQ((*request)->method, "GET");
  EXPECT_EQ((*request)->target, "/vpn?x=1");
  EXPECT_EQ((*request)->host, "vpn.example");
  EXPECT_EQ((*request)->find("x-odd"), "value");
  EXPECT_EQ((*request)->find("empty"), "");
  EXPECT_EQ((*request)->find("absent"), std::nullopt);
  EXPECT_EQ(as_text(in.view()), "\x82\x01x");
  EXPECT_FALSE(parser.next(in)->has_value()) << "once";
}

TEST(UpgradeParser, AnyPiecesGiveTheSameRequest) {
  const std::string wire = request_with("GET / HTTP/1.1");
  for (std::size_t cut = 0; cut < wire.size(); ++cut) {
    UpgradeParser parser;
    ByteQueue in;
    in.append(as_bytes(wire.substr(0, cut)));
    const auto early = parser.next(in);
    ASSERT_TRUE(early && !*early) << cut;
    in.append(as_bytes(wire.substr(cut)));
    const auto request = parser.next(in);
    ASSERT_TRUE(request && *request) << cut;
    EXPECT_EQ((*request)->find("sec-websocket-key"), kKey);
    EXPECT_TRUE(in.empty());
  }
}

TEST(Upgrade, WhatIsAnswered) {
  const std::string headers = "Host: h\r\n";
  const std::string get = "GET / HTTP/1.1";
  const struct {
    const char* name;
    std::string wire;
    int status;
  } cases[] = {
      {"an upgrade", request_with(get), 101},
      {"a query", request_with("GET /?a=b HTTP/1.1"), 101},
      {"an absolute target", request_with("GET https://vpn.example/ HTTP/1.1"), 101},
      {"an absolute target without a path", request_with("GET wss://vpn.example HTTP/1.1"), 101},
      {"an absolute target with a query only", request_with("GET https://vpn.example?x=/y HTTP/1.1"), 101},
      {"Content-Length: 0", request_with(get, "Content-Length: 0\r\n"), 101},
      {"bytes above 127 in a value", request_with(get, "X: caf\xC3\xA9\r\n"), 101},

      {"another path", request_with("GET /other HTTP/1.1"), 404},
      {"an absolute target with another path", request_with("GET https://vpn.example/other HTTP/1.1"), 404},
      {"authority form", request_with("CONNECT vpn.example:443 HTTP/1.1"), 404},
      {"asterisk form", request_with("OPTIONS * HTTP/1.1"), 404},
      {"POST", request_with("POST / HTTP/1.1"), 404},
      {"HEAD", request_with("HEAD / HTTP/1.1"), 404},
      {"HTTP/1.0", request_with("GET / HTTP/1.0"), 404},
      {"a browser", get + "\r\nHost: h\r\nAccept: */*\r\n\r\n", 404},
      {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 404},
      {"no Connection", get + "\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", 404},
      {"another upgrade", get + "\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 404},

      {"no version", get + "\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n", 426},
      {"version 8",
       get + "\r\nHost: h\r\nUpgrade: x, websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n", 426},

      {"no key", get + "\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
       400},
      {"a short key",
       get + "\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n\r\n",
       400},
      {"a key that is no base64",
       get + "\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBs_SBub25jZQ==\r\n\r\n",
       400},
      {"two keys", request_with(get, std::string("Sec-WebSocket-Key: ") + kKey + "\r\n"), 400},
      {"two versions", request_with(get, "Sec-WebSocket-Version: 13\r\n"), 400},
      {"two hosts", request_with(get, "HOST: other\r\n"), 400},
      {"no host", get + "\r\n\r\n", 400},
      {"a body", request_with(get, "Content-Length: 5\r\n"), 400},
      {"two lengths", request_with(get, "Content-Length: 0\r\nContent-Length: 5\r\n"), 400},
      {"an empty length", request_with(get, "Content-Length:\r\n"), 400},
      {"chunks", request_with(get, "Transfer-Encoding: chunked\r\n"), 400},
      {"a folded line", get + "\r\n" + headers + "X: a\r\n b\r\n\r\n", 400},
      {"a space before the colon", get + "\r\n" + headers + "X : a\r\n\r\n", 400},
      {"no name", get + "\r\n" + headers + ": a\r\n\r\n", 400},
      {"no colon", get + "\r\n" + headers + "X\r\n\r\n", 400},
      {"a bare line feed", get + "\n" + headers + "\r\n", 400},
      {"a bare carriage return", get + "\r\n" + headers + "X: a\rb\r\n\r\n", 400},
      {"a NUL", get + "\r\n" + headers + std::string("X: a\0b\r\n\r\n", 10), 400},
      {"a DEL", get + "\r\n" + headers + "X: a\x7F\r\n\r\n", 400},
      {"an odd name", get + "\r\n" + headers + "X(y): a\r\n\r\n", 400},
      {"an empty line first", "\r\n" + request_with(get), 400},
      {"no target", "GET HTTP/1.1\r\n" + headers + "\r\n", 400},
      {"two spaces", "GET  / HTTP/1.1\r\n" + headers + "\r\n", 400},
      {"a space in the target", "GET /a b HTTP/1.1\r\n" + headers + "\r\n", 400},
      {"an odd method", "G@T / HTTP/1.1\r\n" + headers + "\r\n", 400},
      {"HTTP/0.9", "GET /\r\n", 400},
      {"TLS inside TLS", std::string("\x16\x03\x01\x02\0\x01\0", 7), 400},
      {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 400},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"lower case http", "GET / http/1.1\r\n" + headers + "\r\n", 400},
  };
  for (const auto& [name, wire, status] : cases) EXPECT_EQ(status_of(wire), status) << name;
}

TEST(Upgrade, HeadsAreBounded) {
  const std::string start = "GET / HTTP/1.1\r\nHost: h\r\n";
  const auto padded = [&](std::size_t size) {
    return start + "X: " + std::string(size - start.size() - 7, 'x') + "\r\n\r\n";
  };
  EXPECT_EQ(status_of(padded(kMaxHead)), 404);
  EXPECT_EQ(status_of(padded(kMaxHead + 1)), 431);
  EXPECT_EQ(status_of(start + "X: " + std::string(kMaxHead, 'x')), 431) << "before the line ends";
  EXPECT_EQ(status_of("GET /" + std::string(kMaxHead, 'x')), 414);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(100000, 'x')), 404)
      << "what follows the head does not count";

  std::string many = start;
  for (std::size_t i = 1; i < kMaxHeaders; ++i) many += "X: y\r\n";
  EXPECT_EQ(status_of(many + "\r\n"), 404);
  EXPECT_EQ(status_of(many + "X: y\r\n\r\n"), 431);
}

TEST(Upgrade, ARefusalStays) {
  UpgradeParser parser;
  ByteQueue in;
  in.append(as_bytes("nonsense\r\n"));
  EXPECT_EQ(parser.next(in).error().status, 400);
  in.append(as_bytes(request_with("GET / HTTP/1.1")));
  EXPECT_EQ(parser.next(in).error().status, 400);
}

TEST(Upgrade, TheAnswerHoldsTheAcceptKey) {
  EXPECT_EQ(accept_key(kKey), kAccept);
  EXPECT_EQ(accept_upgrade(**parse(request_with("GET / HTTP/1.1")), "/").value(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
}

TEST(Upgrade, TheErrorPageIsThatOfADullWebServer) {
  EXPECT_EQ(http_response({.status = 404, .reason = "another path than /secret"}),
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n"
            "404 Not Found\n");
  EXPECT_EQ(http_response({.status = 503}, {{"Retry-After", "30"}}),
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 30\r\nContent-Type: text/plain\r\n"
            "Content-Length: 24\r\n\r\n503 Service Unavailable\n");
  EXPECT_EQ(http_response({.status = 426}),
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Connection: Upgrade, close\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\n"
            "426 Upgrade Required\n");
}

TEST(Upgrade, AnAnswerToHeadHasNoBody) {
  const auto request = parse("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = http_response(accept_upgrade(**request, "/").error());
  EXPECT_TRUE(answer.ends_with("Content-Length: 14\r\n\r\n")) << answer;
  const auto refused = parse("HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
  EXPECT_TRUE(http_response(refused.error()).ends_with("\r\n\r\n"));
}

TEST(Upgrade, APathThatIsNotTheRightOneLooksLikeAnyOther) {
  const auto wrong = parse(request_with("GET /wrong HTTP/1.1"));
  const auto browser = parse("GET /right HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(http_response(accept_upgrade(**wrong, "/right").error()),
            http_response(accept_upgrade(**browser, "/right").error()));
}

Result<std::optional<UpgradeResponse>> parse_response(const std::string& wire) {
  ResponseParser parser;
  ByteQueue in;
  in.append(as_bytes(wire));
  return parser.next(in);
}

TEST(Client, AsksAndUnderstandsOurOwnAnswer) {
  SeededRandom random(1);
  const std::string key = new_key(random);
  const std::string wire = upgrade_request("vpn.example:8443", "/vpn?x", key);
  const auto request = parse(wire);
  ASSERT_TRUE(request && *request);
  EXPECT_EQ((*request)->host, "vpn.example:8443");
  const std::string answer = accept_upgrade(**request, "/vpn").value();

  ResponseParser parser;
  ByteQueue in;
  for (std::size_t i = 0; i + 1 < answer.size(); ++i) {
    in.append(as_bytes(answer.substr(i, 1)));
    ASSERT_FALSE(parser.next(in)->has_value());
  }
  in.append(as_bytes(answer.substr(answer.size() - 1) + "\x82"));
  const auto response = parser.next(in);
  ASSERT_TRUE(response && *response);
  EXPECT_EQ(in.size(), 1U) << "the first frame stays";
  EXPECT_TRUE(check_response(**response, key));
  EXPECT_FALSE(check_response(**response, new_key(random))) << "another key";
  EXPECT_FALSE(parser.next(in)->has_value()) << "once";
}

TEST(Client, SkipsInterimResponses) {
  const auto response = parse_response("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200\r\nA: b\r\n\r\n");
  ASSERT_TRUE(response && *response);
  EXPECT_EQ((*response)->status, 200);
  EXPECT_EQ((*response)->phrase, "");
  EXPECT_EQ((*response)->find("x"), std::nullopt);
  EXPECT_EQ((*response)->find("a"), "b");
}

TEST(Client, RefusesWhatIsNoHttp) {
  for (const std::string& wire :
       {std::string("SSH-2.0-OpenSSH_9.2\r\n"), std::string("HTTP/2 200\r\n"), std::string("HTTP/1.1 20\r\n"),
        std::string("HTTP/1.1 2000 OK\r\n"), std::string("HTTP/1.1 x00 OK\r\n"), std::string("HTTP/1.1 099 OK\r\n"),
        std::string("HTTP/1.1 200 OK\n\n"), std::string("HTTP/1.1 200 OK\r\nbroken\r\n\r\n"), std::string("\x15\x03"),
        "HTTP/1.1 200 " + std::string(kMaxHead, 'x')}) {
    const auto response = parse_response(wire);
    ASSERT_FALSE(response) << wire.substr(0, 40);
    EXPECT_EQ(response.error().code, ErrorCode::protocol_error);
    EXPECT_NE(response.error().message.find("server.url"), std::string::npos);
  }
}

TEST(Client, SaysWhatCameInstead) {
  const std::string good = std::string("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ") + kAccept;
  const struct {
    std::string head;
    ErrorCode code;
    const char* words;
  } cases[] = {
      {"HTTP/1.1 404 Not Found", ErrorCode::not_found, "the server answered 404 Not Found: is server.url right?"},
      {"HTTP/1.1 200 OK", ErrorCode::protocol_error, "answered 200 OK instead of a WebSocket"},
      {"HTTP/1.1 301 Moved\r\nLocation: https://other/", ErrorCode::protocol_error,
       "301 Moved and points to https://other/"},
      {"HTTP/1.1 403 Forbidden", ErrorCode::protocol_error, "something in front of the gateway"},
      {"HTTP/1.1 503", ErrorCode::unavailable, "answered 503: it cannot serve anybody for now"},
      {"HTTP/1.1 429 Slow\xFF", ErrorCode::unavailable,
       "429 Slow?: too many failed logins or connections from this address"},
      {"HTTP/1.1 101 Switching", ErrorCode::protocol_error, "something other than a WebSocket"},
      {"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade", ErrorCode::protocol_error,
       "Sec-WebSocket-Accept"},
      {"HTTP/1.1 101 S\r\n" + good + "\r\nSec-WebSocket-Extensions: permessage-deflate", ErrorCode::protocol_error,
       "not offered"},
      {"HTTP/1.1 101 S\r\n" + good + "\r\nSec-WebSocket-Protocol: chat", ErrorCode::protocol_error, "not offered"},
  };
  for (const auto& [head, code, words] : cases) {
    const auto response = parse_response(head + "\r\n\r\n");
    ASSERT_TRUE(response && *response) << head;
    const auto checked = check_response(**response, kKey);
    ASSERT_FALSE(checked) << head;
    EXPECT_EQ(checked.error().code, code) << head;
    EXPECT_NE(checked.error().message.find(words), std::string::npos) << checked.error().message;
  }
  EXPECT_TRUE(check_response(**parse_response("HTTP/1.1 101 S\r\n" + good + "\r\n\r\n"), kKey));
}

}  // namespace
}  // namespace penstock::websocket
