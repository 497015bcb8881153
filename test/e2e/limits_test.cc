// A whole gateway in memory and those who come to its door: how many, how fast, how often wrong, and through whom.
//
// Strangers speak plain HTTP and WebSocket byte by byte, so that what they send and hear is in plain sight.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/log_gate.h"
#include "gateway/status.h"
#include "session/outer.h"
#include "test/support/network.h"
#include "tls/test_certificates.h"
#include "websocket/frame.h"

namespace penstock {
namespace {

using ingress::Arrival;
using ingress::Limit;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using test::ip;
using test::ip_packet;
using test::MemorySocket;
using test::Network;
using test::TestClient;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr Arrival kUnixSocket{.plain_http = true, .trusted_proxy = true};

class Stranger {
 public:
  // Either direction of its wire holds `capacity` bytes.
  explicit Stranger(Network& net, std::string_view address = "203.0.113.1", Arrival arrival = {},
                    std::size_t capacity = 65536)
      : net_(&net) {
    auto [near, far] = test::memory_socket_pair(
        net.home(), net.home(),
        {.capacity = capacity, .endpoints = {Endpoint{ip(address), 4711}, Endpoint{ip("192.0.2.2"), 443}}});
    socket_ = std::move(near);
    net.core->accept(std::move(far), arrival);
    net.run();
  }
  Stranger& say(std::string_view bytes) {
    for (ByteView rest = as_bytes(bytes); !rest.empty();) {
      const auto wrote = socket_->write(rest);
      if (!wrote) break;
      rest = rest.subspan(wrote->value_or(0));
      net_->run();
    }
    return *this;
  }
  Stranger& upgrade(std::string_view fields = "") {
    return say(
        "GET / HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
        std::string(fields) + "\r\n");
  }
  Stranger& send(std::string_view text, websocket::Opcode opcode = websocket::Opcode::text) {
    ByteQueue frame;
    websocket::append_frame(frame, websocket::Role::client, opcode, as_bytes(text), net_->random);
    return say(as_text(frame.view()));
  }
  Stranger& log_in(std::string_view token) {
    return send(R"({"type":"auth","client":"penstock/test","token":")" + std::string(token) + "\"}");
  }
  // All that came since the last time. Frames of a server are not masked: what stands in them can be read.
  std::string heard() {
    std::array<std::uint8_t, 4096> bytes{};
    std::string all;
    while (!gone_) {
      const auto got = socket_->read(bytes);
      gone_ = !got || *got == 0U;
      if (gone_ || !*got) break;
      all += as_text(ByteView(bytes).first(**got));
    }
    return all;
  }
  bool gone() {
    heard();
    return gone_;
  }

 private:
  Network* net_;
  std::unique_ptr<MemorySocket> socket_;
  bool gone_ = false;
};

class LimitsTest : public testing::TestWithParam<int> {
 protected:
  // A gateway with these further settings.
  Network& gateway(const std::string& more = "", const std::string& server = "") {
    net_ = std::make_unique<Network>(
        "server: {tls_cert: unused, tls_key: unused" + (server.empty() ? "" : ", " + server) +
            "}\nvpn: {subnet: 10.100.0.0/24, tun: off}\nauth: {tokens: [a-token, b-token]}\n" + more,
        GetParam());
    return *net_;
  }
  std::uint64_t count(std::string_view name) {
    for (const auto& [limit, times] : net_->core->limits()) {
      if (limit == name) return times;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  // Whom status shows to be logged in.
  std::vector<std::string> outers() {
    std::vector<std::string> list;
    for (const auto& session : net_->core->registry().sessions()) list.push_back(session::outer_name(session.outer));
    return list;
  }
  std::string status() { return gateway::status_json(*net_->core, net_->config, {}, net_->home().now()); }
  // How many lines of the log begin with these words.
  std::size_t lines(std::string_view words) {
    const std::string needle = "msg=\"" + std::string(words);
    const std::string text = logs.text();
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(needle, at)) != std::string::npos; ++at) ++found;
    return found;
  }
  // So many logins with a wrong token, one after the other.
  void fail_logins(Network& net, std::string_view address, int times) {
    for (int i = 0; i < times; ++i) {
      Stranger stranger(net, address);
      EXPECT_THAT(stranger.upgrade().log_in("wrong").heard(), HasSubstr("invalid token"));
    }
  }

  log::Capture logs;

 private:
  std::unique_ptr<Network> net_;
};

// ---- failed logins ----

TEST_P(LimitsTest, WhoFailsTooOftenIsToldAtTheUpgradeWhenToComeAgainAndLaterEachTime) {
  Network& net = gateway();
  fail_logins(net, "203.0.113.1", 6);
  for (const int wait : {1, 2, 4, 8}) {
    Stranger blocked(net);
    const std::string answer = blocked.upgrade().heard();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 429 "));
    EXPECT_THAT(answer, HasSubstr("\r\nRetry-After: " + std::to_string(wait) + "\r\n"));
    EXPECT_THAT(Stranger(net, "203.0.113.2").upgrade().log_in("a-token").heard(), HasSubstr(R"("success":true)"));
    net.advance(seconds(wait));
    fail_logins(net, "203.0.113.1", 1);
  }
  EXPECT_EQ(count("login_blocked"), 4U);
  EXPECT_EQ(net.core->limiter().blocked_addresses(net.home().now()), 1U);
  net.advance(minutes(20));
  EXPECT_THAT(Stranger(net).upgrade().log_in("a-token").heard(), HasSubstr(R"("success":true)"));
}

TEST_P(LimitsTest, TheLogNamesTheAddressThatIsBlockedAndForHowLongAndTheStatusToo) {
  Network& net = gateway();
  fail_logins(net, "203.0.113.1", 5);
  EXPECT_THAT(logs.text(), Not(HasSubstr("address blocked")));
  fail_logins(net, "203.0.113.1", 1);
  EXPECT_THAT(logs.text(),
              HasSubstr("level=warn msg=\"address blocked after failed logins\" address=203.0.113.1 for=1s "
                        "failures=6"));
  fail_logins(net, "2001:db8::1", 6);
  EXPECT_THAT(logs.text(), HasSubstr("address=2001:db8::/64 for=1s"));
  EXPECT_THAT(status(), HasSubstr(R"("addresses_blocked_now":2,"blocked":[{"address":")"));
  EXPECT_THAT(status(), HasSubstr(R"({"address":"203.0.113.1","seconds_left":1.0,"failures":6})"));
  net.advance(seconds(1));
  EXPECT_THAT(status(), HasSubstr(R"("blocked":[])"));
}

TEST_P(LimitsTest, BruteForceFromManyAddressesFillsNeitherLogNorStatus) {
  Network& net = gateway();
  for (int n = 0; n < 100; ++n) fail_logins(net, "203.0.113." + std::to_string(n), 6);
  EXPECT_EQ(lines("login refused"), LogGate::kLines);
  EXPECT_EQ(lines("address blocked"), LogGate::kLines);
  EXPECT_EQ(net.core->registry().totals().logins_refused, 600U) << "every one is counted";
  EXPECT_THAT(status(), HasSubstr(R"("addresses_blocked_now":100)"));
  net.advance(LogGate::kWindow);
  EXPECT_THAT(logs.text(), HasSubstr("msg=\"more logins refused\" count=580"));
  EXPECT_THAT(logs.text(), HasSubstr("msg=\"more addresses blocked\" count=80"));
}

TEST_P(LimitsTest, NoStrangersNoiseHidesThatAClientIsRefused) {
  Network& net = gateway("limits: {sessions_per_token: 1}");
  for (int n = 0; n < 20; ++n) fail_logins(net, "203.0.113." + std::to_string(n), 2);
  net.add_client("a-token");
  net.add_client("a-token");
  EXPECT_THAT(logs.text(), HasSubstr("too many sessions of this token"));
}

TEST_P(LimitsTest, WhoBecomesExemptIsServedAtOnceAlsoWhereItIsBlocked) {
  Network& net = gateway();
  fail_logins(net, "203.0.113.1", 6);
  EXPECT_THAT(Stranger(net).upgrade().heard(), HasSubstr("429"));
  net.core->set_exempt({Prefix::parse("203.0.113.0/24").value()});
  EXPECT_THAT(Stranger(net).upgrade().log_in("a-token").heard(), HasSubstr(R"("success":true)"));
  EXPECT_THAT(status(), HasSubstr(R"("blocked":[])"));
}

TEST_P(LimitsTest, ALoginThatWasUnderWayWhenItsAddressWasBlockedIsRefusedUnheard) {
  Network& net = gateway();
  Stranger early(net);
  early.upgrade();
  fail_logins(net, "203.0.113.1", 6);
  EXPECT_THAT(early.log_in("a-token").heard(), HasSubstr("too many failed logins: try again in 1 s"));
  EXPECT_TRUE(net.core->registry().sessions().empty());
  EXPECT_EQ(count("login_blocked"), 1U);
}

TEST_P(LimitsTest, AnIpv6SubscriberCannotTryAgainFromTheNextAddress) {
  Network& net = gateway();
  for (int i = 1; i <= 6; ++i) fail_logins(net, "2001:db8::" + std::to_string(i), 1);
  EXPECT_THAT(Stranger(net, "2001:db8::1:2:3:4").upgrade().heard(), HasSubstr("429"));
  EXPECT_THAT(Stranger(net, "2001:db8:0:1::1").upgrade().heard(), HasSubstr("101"));
}

TEST_P(LimitsTest, ALeaseThatIsVoidIsNoFailedLogin) {
  Network& net = gateway();
  for (int i = 0; i < 10; ++i) {
    Stranger returning(net);
    returning.upgrade().send(R"({"type":"reconnect","client":"penstock/test","lease":"AAAA"})");
    EXPECT_THAT(returning.heard(), HasSubstr(R"("success":false)"));
  }
  EXPECT_THAT(Stranger(net).upgrade().heard(), HasSubstr("101"));
}

TEST_P(LimitsTest, WhoSaysAnythingButALoginIsTurnedAwayAndThatIsAFailedOne) {
  Network& net = gateway();
  Stranger chatty(net);
  chatty.upgrade();
  for (int i = 0; i < 40; ++i) chatty.send("hello?");
  EXPECT_THAT(chatty.heard(), HasSubstr("too many messages before the login"));
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Stranger(net).upgrade().send("\x45", websocket::Opcode::binary).heard(), HasSubstr("log in first"));
  }
  EXPECT_THAT(Stranger(net).upgrade().heard(), HasSubstr("429"));
}

TEST_P(LimitsTest, SessionsOfATokenAreCountedAndWhoHasOneComesBack) {
  Network& net = gateway("limits: {sessions_per_token: 2}");
  TestClient& first = net.add_client("a-token");
  net.add_client("a-token");
  TestClient& third = net.add_client("a-token");
  EXPECT_FALSE(third.connected());
  EXPECT_THAT(third.status().last_error, HasSubstr("too many sessions of this token (limits.sessions_per_token is 2)"));
  EXPECT_TRUE(net.add_client("b-token").connected());
  first.wire->reset();
  net.advance(seconds(3));
  EXPECT_TRUE(first.connected());
  EXPECT_GE(count("sessions_per_token"), 1U);
  EXPECT_EQ(count("login_blocked"), 0U) << "it is not the client's fault";
}

// ---- handshakes ----

TEST_P(LimitsTest, AtTheBoundTheOldestThatIsSilentMakesRoomAndElseTheOldestOfAll) {
  Network& net = gateway("limits: {handshakes: 3}");
  Stranger upgraded(net, "203.0.113.1");
  upgraded.upgrade();
  Stranger silent(net, "203.0.113.2");
  Stranger third(net, "203.0.113.3");
  Stranger fourth(net, "203.0.113.4");
  EXPECT_TRUE(silent.gone());
  EXPECT_FALSE(upgraded.gone() || third.gone() || fourth.gone());
  third.upgrade();
  fourth.upgrade();
  Stranger fifth(net, "203.0.113.5");
  EXPECT_TRUE(upgraded.gone()) << "nobody is silent";
  EXPECT_FALSE(third.gone() || fourth.gone() || fifth.gone());
  EXPECT_EQ(count("handshakes_full"), 2U);
  EXPECT_EQ(net.core->connections(), 3U);
  EXPECT_TRUE(net.add_client("a-token").connected());
}

TEST_P(LimitsTest, WhoIsLoggedInIsNoHandshakeAnyMore) {
  Network& net = gateway("limits: {handshakes: 1}");
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  Stranger stranger(net);
  EXPECT_TRUE(alice.connected() && bob.connected());
  EXPECT_EQ(net.core->limiter().handshakes(), 1U);
}

TEST_P(LimitsTest, AnAddressHasSoManyHandshakesAndSoManyASecondUnlessItIsExempt) {
  Network& net = gateway("limits: {handshakes_per_address: 2, handshake_rate: 2, exempt: [198.51.100.0/24]}");
  {
    Stranger one(net);
    Stranger two(net);
    EXPECT_TRUE(Stranger(net).gone());
    EXPECT_FALSE(one.gone() || two.gone());
    EXPECT_EQ(count("handshakes_per_address"), 1U);
  }
  net.run();
  EXPECT_FALSE(Stranger(net).gone());
  EXPECT_FALSE(Stranger(net).gone());
  EXPECT_TRUE(Stranger(net).gone()) << "the fifth within two seconds";
  EXPECT_EQ(count("handshake_rate"), 1U);
  std::vector<std::unique_ptr<Stranger>> swarm;
  for (int i = 0; i < 20; ++i) swarm.push_back(std::make_unique<Stranger>(net, "198.51.100.7"));
  for (const auto& stranger : swarm) EXPECT_FALSE(stranger->gone());
}

TEST_P(LimitsTest, WhoNeverBeginsOrNeverEndsIsLeftAfterTenSecondsAndCounted) {
  Network& net = gateway();
  Stranger silent(net);
  Stranger slow(net);
  Stranger upgraded(net);
  upgraded.upgrade();
  for (const char byte : std::string_view("GET / HTTP/1.1\r\nHost: gateway.")) {
    slow.say({&byte, 1});
    net.advance(milliseconds(200));
  }
  EXPECT_FALSE(silent.gone());
  net.advance(seconds(14 - 6));
  EXPECT_TRUE(silent.gone() && slow.gone());
  EXPECT_THAT(upgraded.heard(), HasSubstr("no login in time"));
  EXPECT_EQ(count("login_timeout"), 3U);
  EXPECT_EQ(net.core->limiter().handshakes(), 0U);
  EXPECT_EQ(net.core->connections(), 0U);
  EXPECT_THAT(Stranger(net).upgrade().heard(), HasSubstr("101")) << "none of them was a failed login";
}

TEST_P(LimitsTest, AClientHelloThatIsTooLongEndsTheConnectionBeforeAnythingIsMadeForIt) {
  Network& net = gateway();
  const tls::TestDirectory directory;
  const auto certificate = tls::make_test_certificate(directory.path());
  net.core->set_tls(tls::ServerContext::create(certificate.cert_path, certificate.key_path).value());
  net.run();
  using namespace std::string_view_literals;
  for (const auto hello : {"\x16\x03\x01\x02\x00\x01\x02\x00\x00"sv, "\x16\x03\x01\x00\x03\x01\x00\x00\x10"sv,
                           "\x16\x03\x01\x50\x00\x01\x00\x4f\xfc"sv}) {
    EXPECT_TRUE(Stranger(net).say(hello).gone());
  }
  Stranger partial(net);
  EXPECT_EQ(partial.say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"sv).heard(), "");
  EXPECT_FALSE(partial.say(std::string(500, 'x')).gone());
  EXPECT_NE(partial.say(std::string(12, 'x')).heard(), "") << "an alert: now TLS has begun, and it was no ClientHello";
  EXPECT_EQ(Stranger(net).upgrade().heard().substr(0, 4), "") << "plain HTTP is not spoken here";
  EXPECT_THAT(Stranger(net, "203.0.113.1", {.plain_http = true}).upgrade().heard(), HasSubstr("101"));
}

// ---- who it really is ----

TEST_P(LimitsTest, AProxysHeaderNamesTheClientWhoIsCountedAndShown) {
  Network& net = gateway("limits: {handshakes_per_address: 1}", "proxies: [192.0.2.10/32]");
  Stranger first(net, "192.0.2.10");
  first.say("PROXY TCP4 203.0.113.9 192.0.2.2 56324 443\r\n").upgrade();
  EXPECT_TRUE(Stranger(net, "192.0.2.10").say("PROXY TCP4 203.0.113.9 192.0.2.2 56325 443\r\n").gone());
  EXPECT_EQ(count("handshakes_per_address"), 1U);
  EXPECT_FALSE(Stranger(net, "192.0.2.10").say("PROXY TCP4 203.0.113.8 192.0.2.2 56324 443\r\n").gone());
  first.log_in("a-token");
  EXPECT_THAT(outers(), testing::ElementsAre("203.0.113.9:56324"));
  EXPECT_THAT(logs.text(), HasSubstr("outer=203.0.113.9:56324"));
}

TEST_P(LimitsTest, AProxysHeaderMayComeByteByByte) {
  Network& net = gateway("", "proxies: [192.0.2.10/32]");
  Stranger slow(net, "192.0.2.10");
  for (const char byte : std::string_view("PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\n")) slow.say({&byte, 1});
  slow.upgrade().log_in("a-token");
  EXPECT_THAT(outers(), testing::ElementsAre("[2001:db8::9]:56324"));
}

TEST_P(LimitsTest, AStrangersWordOnWhoItIsIsNotBelieved) {
  Network& net = gateway("", "proxies: [192.0.2.10/32]");
  EXPECT_EQ(Stranger(net).say("PROXY TCP4 203.0.113.9 192.0.2.2 56324 443\r\n").upgrade().heard(), "");
  Stranger(net, "203.0.113.7").upgrade("X-Forwarded-For: 198.51.100.1\r\n").log_in("a-token");
  EXPECT_THAT(logs.text(), HasSubstr("outer=203.0.113.7:4711"));
  EXPECT_THAT(logs.text(), Not(HasSubstr("198.51.100.1")));
}

TEST_P(LimitsTest, AProxyHeaderFromOneThatIsNotTrustedIsCountedAndTheLogSaysHowToTrustIt) {
  Network& net = gateway("", "proxies: [192.0.2.10/32]");
  const auto remedy = [](const std::string& address) {
    return HasSubstr("proxy=" + address +
                     ":4711 reason=\"it sends a PROXY header and is not in server.proxies: if it is a "
                     "proxy of yours, add " +
                     address + " there\"");
  };
  using namespace std::string_view_literals;
  Stranger slow(net, "192.0.2.11");
  for (const char byte : "PROXY"sv) slow.say({&byte, 1});
  EXPECT_FALSE(slow.gone());
  EXPECT_TRUE(slow.say(" ").gone());
  EXPECT_THAT(logs.text(), remedy("192.0.2.11"));
  EXPECT_TRUE(Stranger(net, "192.0.2.12").say("\r\n\r\n\0\r\nQUIT\n"sv).gone());
  EXPECT_THAT(logs.text(), remedy("192.0.2.12"));

  // Under TLS as well; and whom a trusted proxy has named is a stranger like others.
  const tls::TestDirectory directory;
  const auto certificate = tls::make_test_certificate(directory.path());
  net.core->set_tls(tls::ServerContext::create(certificate.cert_path, certificate.key_path).value());
  net.run();
  EXPECT_TRUE(Stranger(net, "192.0.2.13").say("PROXY UNKNOWN\r\n").gone());
  EXPECT_THAT(logs.text(), remedy("192.0.2.13"));
  EXPECT_TRUE(Stranger(net, "192.0.2.10").say("PROXY TCP4 192.0.2.14 192.0.2.2 4711 443\r\nPROXY UNKNOWN\r\n").gone());
  EXPECT_THAT(logs.text(), remedy("192.0.2.14"));
  EXPECT_EQ(count("proxy_header"), 4U);

  for (int n = 0; n < 100; ++n) EXPECT_TRUE(Stranger(net, "198.51.100.1").say("PROXY UNKNOWN\r\n").gone());
  EXPECT_EQ(lines("proxy refused"), LogGate::kLines);
  net.advance(LogGate::kWindow);
  EXPECT_THAT(logs.text(), HasSubstr("msg=\"more proxies refused\" count=84"));
}

TEST_P(LimitsTest, WhoWasGoneBeforeItWasAcceptedIsNobodyAndMakesNoNoise) {
  Network& net = gateway("", "proxies: [192.0.2.10/32]");
  EXPECT_TRUE(Stranger(net, "0.0.0.0").say("PROXY UNKNOWN\r\n").gone());
  EXPECT_EQ(count("proxy_header"), 0U);
  EXPECT_EQ(logs.text(), "");
}

TEST_P(LimitsTest, BehindAProxyEachClientHasItsOwnLimits) {
  Network& net = gateway("limits: {handshakes_per_address: 1}", "proxies: [192.0.2.10/32]");
  const auto behind = [&](std::string_view client) {
    auto stranger = std::make_unique<Stranger>(net, "192.0.2.10");
    stranger->upgrade("X-Forwarded-For: 6.6.6.6, " + std::string(client) + "\r\n");
    return stranger;
  };
  const auto first = behind("203.0.113.1");
  EXPECT_THAT(first->heard(), HasSubstr("101"));
  EXPECT_THAT(behind("203.0.113.1")->heard(), testing::AllOf(HasSubstr("429"), HasSubstr("Retry-After: 1\r\n")));
  for (int i = 0; i < 6; ++i) behind("203.0.113.2")->log_in("wrong");
  EXPECT_THAT(behind("203.0.113.2")->heard(), HasSubstr("429"));
  EXPECT_THAT(behind("203.0.113.3")->heard(), HasSubstr("101"));
  first->log_in("a-token");
  EXPECT_THAT(outers(), testing::ElementsAre("203.0.113.1")) << "the proxy names no port";
  EXPECT_THAT(logs.text(), HasSubstr("session attached"));
  EXPECT_THAT(logs.text(), testing::AllOf(HasSubstr("outer=203.0.113.1 "), HasSubstr("outer=203.0.113.2 ")));
}

TEST_P(LimitsTest, HeadersOfHttpAreBelievedOnlyOfTheProxyThatTheProxysHeaderNames) {
  Network& net = gateway("", "proxies: [192.0.2.10/32, 192.0.2.11/32]");
  Stranger chain(net, "192.0.2.10");
  chain.say("PROXY TCP4 192.0.2.11 192.0.2.2 1 443\r\n").upgrade("Forwarded: for=203.0.113.5\r\n").log_in("a-token");
  Stranger liar(net, "192.0.2.10");
  liar.say("PROXY TCP4 203.0.113.6 192.0.2.2 1 443\r\n").upgrade("Forwarded: for=198.51.100.1\r\n").log_in("b-token");
  EXPECT_THAT(outers(), testing::UnorderedElementsAre("203.0.113.5", "203.0.113.6:1"));
}

TEST_P(LimitsTest, WhoComesThroughAUnixSocketIsAProxyAndNothingIsCountedForItself) {
  Network& net = gateway("limits: {handshakes_per_address: 1}");
  std::vector<std::unique_ptr<Stranger>> many;
  for (int i = 0; i < 5; ++i) many.push_back(std::make_unique<Stranger>(net, "0.0.0.0", kUnixSocket));
  for (const auto& stranger : many) EXPECT_THAT(stranger->upgrade().heard(), HasSubstr("101"));
  Stranger named(net, "0.0.0.0", kUnixSocket);
  named.upgrade("X-Forwarded-For: 203.0.113.5\r\n").log_in("a-token");
  EXPECT_THAT(outers(), testing::ElementsAre("203.0.113.5"));
}

TEST_P(LimitsTest, AProxyThatSaysNothingSensibleIsRefusedCountedAndNamedInTheLog) {
  Network& net = gateway("", "proxies: [192.0.2.10/32]");
  EXPECT_TRUE(Stranger(net, "192.0.2.10").say("PROXY TCP4 nonsense\r\n").gone());
  EXPECT_THAT(
      Stranger(net, "192.0.2.10").upgrade("Forwarded: for=203.0.113.5\r\nX-Forwarded-For: 203.0.113.6\r\n").heard(),
      StartsWith("HTTP/1.1 400 "));
  EXPECT_EQ(count("proxy_header"), 2U);
  EXPECT_THAT(logs.text(), HasSubstr("proxy=192.0.2.10:4711"));
}

// ---- those who are in ----

TEST_P(LimitsTest, AClientThatAsksAndNeverReadsIsEndedAndCounted) {
  Network& net = gateway("session: {queue_messages: 16}");
  TestClient& alice = net.add_client("a-token");
  TestClient& bob = net.add_client("b-token");
  Stranger deaf(net, "203.0.113.1", {}, 2048);
  deaf.upgrade().log_in("a-token");
  ASSERT_EQ(net.core->registry().sessions().size(), 3U);
  for (int i = 0; i < 1000; ++i) deaf.send(R"({"type":"ping"})");
  net.advance(seconds(3));
  EXPECT_TRUE(deaf.gone());
  EXPECT_EQ(count("queue_messages"), 1U);
  alice.tunnel.inject(ip_packet("10.100.0.2", "10.100.0.3", "undisturbed"));
  net.run();
  EXPECT_EQ(bob.tunnel.written.size(), 1U);
}

TEST_P(LimitsTest, SmallPacketsFillTheQueueOfOneWhoDoesNotReadByTheirNumber) {
  Network& net = gateway("session: {queue_packets: 100}");
  TestClient& alice = net.add_client("a-token");
  Stranger deaf(net, "203.0.113.1", {}, 2048);
  deaf.upgrade().log_in("b-token");
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 100; ++i) alice.tunnel.inject(ip_packet("10.100.0.2", "10.100.0.3", "small"));
    net.run();
  }
  EXPECT_GT(count("queue_full"), 5000U);
  EXPECT_GT(net.core->registry().sessions()[1].queued_bytes, 0U);
  EXPECT_LE(net.core->registry().sessions()[1].queued_bytes, 100 * Packet::footprint_of(25));
}

INSTANTIATE_TEST_SUITE_P(Loops, LimitsTest, testing::Values(1, 2),
                         [](const auto& loops) { return loops.param == 1 ? "OnOneLoop" : "OnTwoLoops"; });

}  // namespace
}  // namespace penstock
