#include "client/core/connect_exchange.h"

#include <gtest/gtest.h>

#include <string>

namespace penstock::client {
namespace {

ConnectExchange exchange_with(const std::string& credentials = "", const std::string& host = "vpn.example.org") {
  ProxyUrl url = *ProxyUrl::parse("http://proxy.test:3128");
  url.credentials = credentials;
  return {{.url = url, .setting = "server.proxy"}, host, 443};
}

// "more", "open" or the refusal's message, for an exchange whose request has been sent.
std::string outcome(ConnectExchange exchange, const std::string& answer, ErrorCode* code = nullptr) {
  exchange.output().clear();
  const auto progress = exchange.receive(as_bytes(answer));
  if (!progress && code != nullptr) *code = progress.error().code;
  if (!progress) return progress.error().message;
  return *progress == ConnectExchange::Progress::open ? "open" : "more";
}

TEST(ConnectExchange, AsksForTheGatewayByName) {
  EXPECT_EQ(as_text(exchange_with().output().view()),
            "CONNECT vpn.example.org:443 HTTP/1.1\r\nHost: vpn.example.org:443\r\n\r\n");
  EXPECT_EQ(as_text(exchange_with("", "2001:db8::17").output().view()),
            "CONNECT [2001:db8::17]:443 HTTP/1.1\r\nHost: [2001:db8::17]:443\r\n\r\n");
}

TEST(ConnectExchange, SendsBasicCredentials) {
  const auto header = [](const std::string& credentials) {
    ConnectExchange exchange = exchange_with(credentials);
    const std::string request(as_text(exchange.output().view()));
    const std::string name = "Proxy-Authorization: ";
    const std::size_t at = request.find(name) + name.size();
    return request.substr(at, request.find('\r', at) - at);
  };
  // RFC 7617 section 2.
  EXPECT_EQ(header("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(header("Aladdin:open%20sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(header("user:p%40ss:w%3Ard"), "Basic dXNlcjpwQHNzOnc6cmQ=") << "user:p@ss:w:rd";
  EXPECT_EQ(header("user:100%"), "Basic dXNlcjoxMDAl");
  EXPECT_EQ(header("user:%zz%4"), "Basic dXNlcjolenolNA==");
  EXPECT_EQ(header("user"), "Basic dXNlcjo=");
}

TEST(ConnectExchange, TheWayIsOpenAfterA2xx) {
  EXPECT_EQ(outcome(exchange_with(), "HTTP/1.1 200 Connection established\r\n\r\n"), "open");
  EXPECT_EQ(outcome(exchange_with(), "HTTP/1.0 200 OK\r\nProxy-Agent: tinyproxy\r\nContent-Length: 99\r\n\r\n"),
            "open");
  EXPECT_EQ(outcome(exchange_with(), "HTTP/1.1 204\r\n\r\n"), "open");
  EXPECT_EQ(outcome(exchange_with(), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), "open");
  EXPECT_EQ(outcome(exchange_with(), "HTTP/1.1 200 OK\r\nA: b\r\n"), "more");
  EXPECT_EQ(outcome(exchange_with(), ""), "more");
}

TEST(ConnectExchange, AnyPiecesGiveTheSame) {
  ConnectExchange exchange = exchange_with();
  exchange.output().clear();
  const std::string answer = "HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\n\r\n";
  for (std::size_t i = 0; i < answer.size(); ++i) {
    const auto progress = exchange.receive(as_bytes(answer.substr(i, 1)));
    ASSERT_TRUE(progress);
    EXPECT_EQ(*progress == ConnectExchange::Progress::open, i + 1 == answer.size()) << i;
  }
}

TEST(ConnectExchange, RefusalsSayWhatToDo) {
  const std::string who = "the proxy proxy.test:3128 (server.proxy)";
  const struct {
    std::string answer;
    std::string credentials;
    ErrorCode code;
    std::string message;
  } cases[] = {
      {"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", "", ErrorCode::unauthenticated,
       " wants a user and a password: write server.proxy as http://user:password@host:port"},
      {"HTTP/1.1 407 Auth\r\n\r\n", "user:secret", ErrorCode::unauthenticated,
       " refused the user and password of server.proxy"},
      {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n", "user:secret",
       ErrorCode::unauthenticated, " refused the user and password of server.proxy"},
      {"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n", "user:secret",
       ErrorCode::unauthenticated,
       " wants a login by Negotiate, NTLM, and only Basic is spoken here: ask whoever runs it to allow "
       "vpn.example.org:443 without a login"},
      {"HTTP/1.1 403 Forbidden\r\n\r\n", "", ErrorCode::permission_denied,
       " answered 403 Forbidden: it does not let us through to vpn.example.org:443; whoever runs it must allow CONNECT "
       "there"},
      {"HTTP/1.1 502 Bad\x01Gateway\r\n\r\n", "", ErrorCode::protocol_error,
       " did not answer in HTTP: is server.proxy the address of an HTTP proxy?"},
      {"HTTP/1.1 502 Bad\xFFGateway\r\n\r\n", "", ErrorCode::unavailable,
       " answered 502 Bad?Gateway: it could not reach vpn.example.org:443 (is server.url right?)"},
      {"HTTP/1.1 405 Method Not Allowed\r\n\r\n", "", ErrorCode::protocol_error,
       " answered 405 Method Not Allowed to CONNECT vpn.example.org:443: is server.proxy the address of a proxy that "
       "takes CONNECT?"},
      {"HTTP/1.1 302\r\nLocation: http://login.test/\r\n\r\n", "", ErrorCode::protocol_error,
       " answered 302 to CONNECT vpn.example.org:443: is server.proxy the address of a proxy that takes CONNECT?"},
      {"SSH-2.0-OpenSSH_9.2\r\n", "", ErrorCode::protocol_error,
       " did not answer in HTTP: is server.proxy the address of an HTTP proxy?"},
      {"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03", "", ErrorCode::protocol_error,
       " speaks out of turn: it answered before it was asked, or sent more than its answer"}};
  for (const auto& c : cases) {
    ErrorCode code{};
    EXPECT_EQ(outcome(exchange_with(c.credentials), c.answer, &code), who + c.message);
    EXPECT_EQ(code, c.code) << c.answer;
  }
  EXPECT_TRUE(
      outcome(exchange_with(), "HTTP/1.1 200 " + std::string(websocket::kMaxHead, 'x')).ends_with("an HTTP proxy?"));
  // The request is still on its way: this is the answer to somebody else's.
  EXPECT_FALSE(exchange_with().receive(as_bytes("HTTP/1.1 200 OK\r\n\r\n")));
}

}  // namespace
}  // namespace penstock::client
