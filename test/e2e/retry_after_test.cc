// A client whose gateways answer 429 and 503: it comes back when they said, and not before.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "test/support/network.h"

namespace penstock::test {
namespace {

using namespace std::chrono_literals;

// Gateways that answer every upgrade with a page of the test's, told apart by their port.
class Pages final : public net::SocketFactory {
 public:
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override {
    tries[to.port].push_back(loop.now());
    loop.post([this, &loop, port = to.port, done = std::move(done)]() mutable {
      auto [near, far] = memory_socket_pair(loop, loop);
      static_cast<void>(far->write(as_bytes(pages[port])));
      far->shutdown_write();
      gone_.push_back(std::move(far));
      done(std::move(near));
    });
    return std::make_unique<Attempt>();
  }
  std::map<std::uint16_t, std::string> pages;
  std::map<std::uint16_t, std::vector<TimePoint>> tries;

 private:
  std::vector<std::unique_ptr<MemorySocket>> gone_;
};

class RetryAfter : public testing::Test {
 protected:
  void start(const std::string& urls) {
    config_ =
        client_config_from_text("{server: {urls: [" + urls + "]}, auth: {token: a-token}}", "client.yaml").value();
    client_ = std::make_unique<client::Client>(config_, client::Surroundings{.loop = loop_,
                                                                             .random = random_,
                                                                             .resolver = resolver_,
                                                                             .sockets = pages_,
                                                                             .tunnel = tunnel_,
                                                                             .lease = lease_,
                                                                             .tls = nullptr,
                                                                             .software = "penstock/test"});
    client_->start();
    loop_.run_until_idle();
  }
  static std::string page(const std::string& status, const std::string& retry_after) {
    return "HTTP/1.1 " + status + "\r\nRetry-After: " + retry_after + "\r\nContent-Length: 0\r\n\r\n";
  }

  ManualLoop loop_;
  SeededRandom random_{1};
  LiteralResolver resolver_{loop_};
  FakeTunnel tunnel_{loop_};
  MemoryLease lease_;
  Pages pages_;
  ClientConfig config_;
  std::unique_ptr<client::Client> client_;
};

TEST_F(RetryAfter, TheGatewayIsLeftAloneForAsLongAsItAsks) {
  pages_.pages[443] = page("429 Too Many Requests", "90");
  start("\"wss://gateway.test/\"");
  loop_.advance(89s);
  EXPECT_EQ(pages_.tries[443].size(), 1U);
  EXPECT_NE(client_->status().last_error.find("429"), std::string::npos);
  loop_.advance(2s);
  EXPECT_EQ(pages_.tries[443].size(), 2U);
}

TEST_F(RetryAfter, OneLineSaysWhatHappenedAndWhenTheNextAttemptIs) {
  const log::Capture logs;
  pages_.pages[443] = page("429 Too Many Requests", "90");
  start("\"wss://gateway.test/\"");
  EXPECT_EQ(std::ranges::count(logs.text(), '\n'), 1) << logs.text();
  EXPECT_TRUE(logs.contains("Connection failed, retrying in 90s")) << logs.text();
  EXPECT_TRUE(
      logs.contains("the server answered 429 Too Many Requests: too many failed logins or connections from this "
                    "address; it asks to be left alone for 90s"))
      << logs.text();
}

TEST_F(RetryAfter, ADateCountsToo) {
  // A ManualLoop's calendar begins 50 years of 365 days after 1970.
  pages_.pages[443] = page("503 Service Unavailable", "Fri, 20 Dec 2019 00:02:00 GMT");
  start("\"wss://gateway.test/\"");
  loop_.advance(119s);
  EXPECT_EQ(pages_.tries[443].size(), 1U);
  loop_.advance(2s);
  EXPECT_EQ(pages_.tries[443].size(), 2U);
}

TEST_F(RetryAfter, NobodyIsObeyedForLongerThanTenMinutes) {
  pages_.pages[443] = page("503 Service Unavailable", "999999");
  start("\"wss://gateway.test/\"");
  loop_.advance(599s);
  EXPECT_EQ(pages_.tries[443].size(), 1U);
  loop_.advance(2s);
  EXPECT_EQ(pages_.tries[443].size(), 2U);
}

TEST_F(RetryAfter, OtherGatewaysAreTriedMeanwhile) {
  pages_.pages[443] = page("429 Too Many Requests", "300");
  pages_.pages[8443] = page("500 Internal Server Error", "300");  // not a status that may ask
  start("\"wss://one.test/\", \"wss://two.test:8443/\"");
  loop_.advance(290s);
  EXPECT_EQ(pages_.tries[443].size(), 1U);
  EXPECT_GT(pages_.tries[8443].size(), 3U) << "by backoff alone";
  loop_.advance(80s);
  EXPECT_GE(pages_.tries[443].size(), 2U);
}

}  // namespace
}  // namespace penstock::test
