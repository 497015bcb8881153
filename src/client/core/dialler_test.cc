// Connecting in memory, by a proxy whose every word the test writes.
#include "client/core/dialler.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"

namespace penstock::client {
namespace {

using namespace std::chrono_literals;

// Finds 192.0.2.2 for every name, and remembers the names.
class FakeResolver final : public net::Resolver {
 public:
  explicit FakeResolver(EventLoop& loop) : loop_(loop) {}
  std::unique_ptr<Lookup> resolve(const std::string& host, Family family, Done done) override {
    if (family == Family::ipv4) names.push_back(host);
    loop_.post([family, done = std::move(done)]() mutable {
      if (family == Family::ipv4) return done(std::vector{IpAddress::v4(0xC0000202)});
      done(fail(ErrorCode::not_found, "no address of this family"));
    });
    return std::make_unique<Lookup>();
  }
  std::vector<std::string> names;

 private:
  EventLoop& loop_;
};

class FakeSockets final : public net::SocketFactory {
 public:
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override {
    dialled.push_back(to.to_string());
    if (silent) return std::make_unique<Attempt>();
    loop.post([this, &loop, done = std::move(done)]() mutable {
      if (refuse) return done(fail(ErrorCode::unavailable, "Connection refused"));
      auto [near, end] = test::memory_socket_pair(loop, loop, wire);
      far = std::move(end);
      done(std::move(near));
    });
    return std::make_unique<Attempt>();
  }
  std::vector<std::string> dialled;
  std::unique_ptr<test::MemorySocket> far;  // the proxy's or gateway's end of the latest connection
  test::MemorySocketOptions wire;
  bool refuse = false;
  bool silent = false;
};

class DiallerTest : public testing::Test {
 protected:
  void connect(bool by_proxy = true) {
    std::optional<ProxyChoice> proxy;
    if (by_proxy) proxy = {.url = *ProxyUrl::parse("http://user:secret@proxy.test:3128"), .setting = "https_proxy"};
    dialler_.connect(*GatewayUrl::parse("wss://vpn.example.org/"), proxy, 10s, [this](auto socket) {
      ++calls_;
      result_ = std::move(socket);
    });
    EXPECT_EQ(calls_, 0) << "never inside connect()";
    loop_.run_until_idle();
  }
  void answer(const std::string& text) {
    ASSERT_TRUE(sockets_.far);
    ASSERT_EQ(sockets_.far->write(as_bytes(text)).value(), text.size());
    loop_.run_until_idle();
  }
  std::string heard() {
    std::string text;
    std::array<std::uint8_t, 512> block{};
    while (true) {
      const auto got = sockets_.far->read(block);
      if (!got || !*got || **got == 0) return text;
      text += as_text({block.data(), **got});
    }
  }
  // Of the refusal; "" where there is none.
  std::string error() const { return calls_ == 1 && !result_ ? result_.error().message : ""; }

  test::ManualLoop loop_;
  FakeResolver resolver_{loop_};
  FakeSockets sockets_;
  Dialler dialler_{loop_, resolver_, sockets_};
  int calls_ = 0;
  Result<std::unique_ptr<net::StreamSocket>> result_;
};

TEST_F(DiallerTest, WithoutAProxyTheGatewayIsDialled) {
  connect(false);
  EXPECT_EQ(resolver_.names, std::vector<std::string>{"vpn.example.org"});
  EXPECT_EQ(sockets_.dialled, std::vector<std::string>{"192.0.2.2:443"});
  ASSERT_EQ(calls_, 1);
  EXPECT_TRUE(*result_);
  EXPECT_EQ(heard(), "");
}

TEST_F(DiallerTest, TheProxyIsAskedAndThenEveryByteIsTheGateways) {
  connect();
  EXPECT_EQ(resolver_.names, std::vector<std::string>{"proxy.test"}) << "the gateway's name is the proxy's to look up";
  EXPECT_EQ(sockets_.dialled, std::vector<std::string>{"192.0.2.2:3128"});
  EXPECT_TRUE(heard().starts_with("CONNECT vpn.example.org:443 HTTP/1.1\r\n"));
  answer("HTTP/1.1 200 Connection est");
  EXPECT_EQ(calls_, 0);
  answer("ablished\r\n\r\n");
  ASSERT_EQ(calls_, 1);
  ASSERT_TRUE(result_ && *result_);

  ASSERT_TRUE((*result_)->write(as_bytes("hello gateway")));
  EXPECT_EQ(heard(), "hello gateway");
  std::string said;
  (*result_)->when_readable([&] {
    std::array<std::uint8_t, 64> block{};
    said = as_text({block.data(), (*result_)->read(block).value().value()});
  });
  answer("hello client");
  EXPECT_EQ(said, "hello client");
  loop_.advance(1min);
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(loop_.timers(), 0U);
}

TEST_F(DiallerTest, ASlowWireIsWaitedFor) {
  sockets_.wire = {.capacity = 10, .max_read = 1, .max_write = 3};
  connect();
  std::string request;
  for (int i = 0; i < 100; ++i) {
    request += heard();
    loop_.run_until_idle();
  }
  EXPECT_TRUE(request.ends_with("Basic dXNlcjpzZWNyZXQ=\r\n\r\n")) << request;
  for (const char c : std::string("HTTP/1.1 200 OK\r\n\r\n")) answer({c});
  ASSERT_EQ(calls_, 1);
  EXPECT_TRUE(result_);
}

TEST_F(DiallerTest, EveryWayToFailNamesTheProxyAndNoPassword) {
  const std::string who = "the proxy proxy.test:3128 (https_proxy)";
  const struct {
    std::string expected;
    std::function<void()> happens;
  } cases[] = {
      {": cannot connect to proxy.test: 192.0.2.2:3128: Connection refused", [&] { sockets_.refuse = true; }},
      {": cannot connect to proxy.test within 10 s: 192.0.2.2:3128: no answer", [&] { sockets_.silent = true; }},
      {" took the connection but did not answer CONNECT within 10s", [] {}},
      {" closed the connection without an answer", [&] { loop_.post([this] { sockets_.far->shutdown_write(); }); }},
      {": connection with 192.0.2.2:443: Connection reset by peer", [&] { sockets_.wire.io->fail_at = 1; }},
  };
  for (const auto& c : cases) {
    sockets_.refuse = sockets_.silent = false;
    sockets_.far.reset();
    sockets_.wire = {};
    sockets_.wire.io = std::make_shared<test::MemoryIo>();
    calls_ = 0;
    const bool ends = c.expected.starts_with(" closed");
    if (!ends) c.happens();
    connect();
    if (ends) c.happens();
    loop_.advance(11s);
    EXPECT_EQ(error(), who + c.expected);
    EXPECT_EQ(error().find("secret"), std::string::npos);
    EXPECT_EQ(loop_.timers(), 0U);
  }
}

// The connection to the proxy breaks at the 1st, 2nd, ... read or write, until there are no more of them to break.
TEST_F(DiallerTest, WhereverTheWireBreaksItEndsOnceAndNothingIsLeft) {
  const std::string words = "HTTP/1.1 200 OK\r\n\r\n";
  for (std::uint64_t n = 1;; ++n) {
    calls_ = 0;
    sockets_.wire = {.capacity = 64, .max_read = 7, .max_write = 40};
    sockets_.wire.io = std::make_shared<test::MemoryIo>();
    sockets_.wire.io->fail_at = n;
    connect();
    for (int i = 0; i < 5; ++i) {
      heard();
      loop_.run_until_idle();
    }
    for (std::size_t at = 0; at < words.size(); at += 5) {
      if (!sockets_.far->write(as_bytes(words.substr(at, 5)))) break;
      loop_.run_until_idle();
    }
    loop_.run_until_idle();
    ASSERT_EQ(calls_, 1) << n;
    EXPECT_EQ(loop_.timers(), 0U) << n;
    if (result_) break;
    EXPECT_FALSE(sockets_.far->peer_is_open()) << n;
    ASSERT_LT(n, 1000U);
  }
}

TEST_F(DiallerTest, TheDeadlineIsForDiallingAndAskingTogether) {
  connect();
  loop_.advance(6s);
  answer("HTTP/1.1 200 ");
  loop_.advance(3999ms);
  EXPECT_EQ(calls_, 0);
  loop_.advance(1ms);
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(result_.error().code, ErrorCode::timed_out);
}

TEST_F(DiallerTest, ARefusalClosesTheConnection) {
  connect();
  answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!");
  EXPECT_NE(error().find("403 Forbidden"), std::string::npos);
  EXPECT_FALSE(sockets_.far->peer_is_open());
}

TEST_F(DiallerTest, WhatWasCancelledNeverCallsBack) {
  connect();
  dialler_.cancel();
  EXPECT_FALSE(sockets_.far->peer_is_open());
  loop_.advance(1min);
  EXPECT_EQ(calls_, 0);
}

TEST_F(DiallerTest, ItsCallbackMayConnectAgain) {
  const auto proxy = ProxyChoice{.url = *ProxyUrl::parse("http://proxy.test:3128"), .setting = "server.proxy"};
  const GatewayUrl gateway = *GatewayUrl::parse("wss://vpn.example.org/");
  dialler_.connect(gateway, proxy, 10s, [&](auto first) {
    EXPECT_FALSE(first);
    dialler_.connect(gateway, proxy, 10s, [&](auto second) {
      ++calls_;
      result_ = std::move(second);
    });
  });
  loop_.run_until_idle();
  answer("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  heard();
  answer("HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(calls_, 1);
  EXPECT_TRUE(result_);
}

}  // namespace
}  // namespace penstock::client
