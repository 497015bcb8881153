// Happy eyeballs in memory: names and connections that do what the test says, on a clock that it moves.
#include "net/connect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"

namespace penstock::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

IpAddress ip(const char* text) { return IpAddress::parse(text).value(); }

class FakeResolver final : public Resolver {
 public:
  std::unique_ptr<Lookup> resolve(const std::string& host, Family family, Done done) override {
    hosts.push_back(host);
    return std::make_unique<FakeLookup>(*this, family, std::move(done));
  }
  void answer(Family family, Result<std::vector<IpAddress>> result) {
    const auto found =
        std::ranges::find_if(waiting_, [&](const FakeLookup* lookup) { return lookup->family == family; });
    ASSERT_NE(found, waiting_.end());
    Done done = std::move((*found)->done);
    waiting_.erase(found);
    done(std::move(result));
  }
  std::size_t waiting() const { return waiting_.size(); }

  std::vector<std::string> hosts;

 private:
  struct FakeLookup final : Lookup {
    FakeLookup(FakeResolver& in, Family of, Done then) : resolver(in), family(of), done(std::move(then)) {
      resolver.waiting_.push_back(this);
    }
    ~FakeLookup() override { std::erase(resolver.waiting_, this); }
    FakeLookup(const FakeLookup&) = delete;
    FakeLookup& operator=(const FakeLookup&) = delete;
    FakeResolver& resolver;
    Family family;
    Done done;
  };
  std::vector<FakeLookup*> waiting_;
};

class FakeSockets final : public SocketFactory {
 public:
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override {
    log.push_back(to.to_string());
    return std::make_unique<FakeAttempt>(*this, loop, to, std::move(done));
  }
  void succeed(const std::string& to) {
    FakeAttempt& attempt = find(to);
    auto [near, far] = test::memory_socket_pair(attempt.loop, attempt.loop, {.endpoints = {Endpoint{}, attempt.to}});
    Done done = std::move(attempt.done);
    done(std::move(near));
  }
  void refuse(const std::string& to, const std::string& why = "Connection refused") {
    Done done = std::move(find(to).done);
    done(fail(ErrorCode::unavailable, why));
  }
  std::vector<std::string> open() const {
    std::vector<std::string> all;
    all.reserve(open_.size());
    for (const FakeAttempt* attempt : open_) all.push_back(attempt->to.to_string());
    return all;
  }

  std::vector<std::string> log;  // every attempt that was begun

 private:
  struct FakeAttempt final : Attempt {
    FakeAttempt(FakeSockets& in, EventLoop& on, const Endpoint& peer, Done then)
        : sockets(in), loop(on), to(peer), done(std::move(then)) {
      sockets.open_.push_back(this);
    }
    ~FakeAttempt() override { std::erase(sockets.open_, this); }
    FakeAttempt(const FakeAttempt&) = delete;
    FakeAttempt& operator=(const FakeAttempt&) = delete;
    FakeSockets& sockets;
    EventLoop& loop;
    Endpoint to;
    Done done;
  };
  FakeAttempt& find(const std::string& to) {
    const auto found =
        std::ranges::find_if(open_, [&](const FakeAttempt* attempt) { return attempt->to.to_string() == to; });
    PENSTOCK_ASSERT(found != open_.end());
    return **found;
  }
  std::vector<FakeAttempt*> open_;
};

class ConnectorTest : public testing::Test {
 protected:
  void connect(const std::string& host = "vpn.example.org", Duration within = seconds(10)) {
    connector_->connect(host, 443, within, [this](auto result) {
      EXPECT_FALSE(result_) << "called back twice";
      result_ = std::move(result);
    });
  }
  void answer6(std::vector<IpAddress> addresses) { resolver_.answer(Family::ipv6, std::move(addresses)); }
  void answer4(std::vector<IpAddress> addresses) { resolver_.answer(Family::ipv4, std::move(addresses)); }
  static auto no_such_host() { return fail(ErrorCode::not_found, "cannot resolve vpn.example.org: no such host"); }
  std::string error() const { return result_ && !*result_ ? result_->error().message : "no error"; }
  std::string winner() const { return result_ && *result_ ? (**result_)->peer().to_string() : "nobody"; }

  test::ManualLoop loop_;
  FakeResolver resolver_;
  FakeSockets sockets_;
  std::unique_ptr<Connector> connector_ = std::make_unique<Connector>(loop_, resolver_, sockets_);
  std::optional<Result<std::unique_ptr<StreamSocket>>> result_;
};

TEST_F(ConnectorTest, FamiliesTakeTurnsStartingWithIpv6AndAQuarterSecondApart) {
  connect();
  answer6({ip("2001:db8::1"), ip("2001:db8::2"), ip("2001:db8::3")});
  answer4({ip("192.0.2.1")});
  EXPECT_THAT(sockets_.log, ElementsAre("[2001:db8::1]:443"));
  loop_.advance(Connector::kAttemptDelay - milliseconds(1));
  EXPECT_THAT(sockets_.log, ElementsAre("[2001:db8::1]:443"));
  loop_.advance(milliseconds(1));
  EXPECT_THAT(sockets_.log, ElementsAre("[2001:db8::1]:443", "192.0.2.1:443"));
  loop_.advance(2 * Connector::kAttemptDelay);
  EXPECT_THAT(sockets_.log,
              ElementsAre("[2001:db8::1]:443", "192.0.2.1:443", "[2001:db8::2]:443", "[2001:db8::3]:443"));

  sockets_.succeed("[2001:db8::2]:443");
  EXPECT_EQ(winner(), "[2001:db8::2]:443");
  EXPECT_THAT(sockets_.open(), IsEmpty()) << "the losers are closed";
  EXPECT_EQ(loop_.timers(), 0U);
}

TEST_F(ConnectorTest, IPv4WaitsAMomentForIpv6ToResolve) {
  connect();
  answer4({ip("192.0.2.1")});
  EXPECT_THAT(sockets_.log, IsEmpty());
  answer6({ip("2001:db8::1")});
  EXPECT_THAT(sockets_.log, ElementsAre("[2001:db8::1]:443"));
}

TEST_F(ConnectorTest, IPv4GoesFirstWhenIpv6IsLateAndIpv6JoinsTheRace) {
  connect();
  answer4({ip("192.0.2.1"), ip("192.0.2.2")});
  loop_.advance(Connector::kResolutionDelay);
  EXPECT_THAT(sockets_.log, ElementsAre("192.0.2.1:443"));
  answer6({ip("2001:db8::1")});
  loop_.advance(Connector::kAttemptDelay);
  EXPECT_THAT(sockets_.log, ElementsAre("192.0.2.1:443", "[2001:db8::1]:443"));
}

TEST_F(ConnectorTest, ANameWithoutIpv6IsTriedAtOnce) {
  connect();
  answer4({ip("192.0.2.1")});
  resolver_.answer(Family::ipv6, no_such_host());
  EXPECT_THAT(sockets_.log, ElementsAre("192.0.2.1:443"));
}

TEST_F(ConnectorTest, AFailedAttemptIsFollowedAtOnceAndTheLastOneTellsAll) {
  connect();
  answer6({ip("2001:db8::5")});
  answer4({ip("203.0.113.5")});
  sockets_.refuse("[2001:db8::5]:443", "Network is unreachable");
  EXPECT_THAT(sockets_.open(), ElementsAre("203.0.113.5:443"));
  sockets_.refuse("203.0.113.5:443");
  EXPECT_EQ(error(),
            "cannot connect to vpn.example.org: [2001:db8::5]:443: Network is unreachable; 203.0.113.5:443: Connection "
            "refused");
  EXPECT_EQ(result_->error().code, ErrorCode::unavailable);
  EXPECT_EQ(loop_.timers(), 0U);
}

TEST_F(ConnectorTest, AllAttemptsHavingFailedItStillWaitsForTheOtherFamily) {
  connect();
  answer6({ip("2001:db8::5")});
  sockets_.refuse("[2001:db8::5]:443");
  EXPECT_FALSE(result_);
  answer4({ip("203.0.113.5")});
  sockets_.succeed("203.0.113.5:443");
  EXPECT_EQ(winner(), "203.0.113.5:443");
}

TEST_F(ConnectorTest, AnAddressIsNotLookedUpWithOrWithoutBrackets) {
  for (const char* host : {"2001:db8::9", "[2001:db8::9]"}) {
    connect(host);
    EXPECT_THAT(resolver_.hosts, IsEmpty());
    EXPECT_THAT(sockets_.open(), ElementsAre("[2001:db8::9]:443"));
  }
  sockets_.refuse("[2001:db8::9]:443");
  EXPECT_EQ(error(), "cannot connect to 2001:db8::9: [2001:db8::9]:443: Connection refused");
}

TEST_F(ConnectorTest, AnUnknownNameSaysWhatTheResolverSaid) {
  connect();
  resolver_.answer(Family::ipv6, no_such_host());
  EXPECT_FALSE(result_);
  resolver_.answer(Family::ipv4,
                   fail(ErrorCode::unavailable, "cannot resolve vpn.example.org: the name server is out"));
  EXPECT_EQ(error(), "cannot resolve vpn.example.org: the name server is out") << "the more telling of the two";
}

TEST_F(ConnectorTest, TheDeadlineEndsItAndSaysHowFarItCame) {
  connect();
  answer6({ip("2001:db8::5")});
  answer4({ip("203.0.113.5")});
  sockets_.refuse("[2001:db8::5]:443");
  loop_.advance(seconds(10));
  EXPECT_EQ(error(),
            "cannot connect to vpn.example.org within 10 s: [2001:db8::5]:443: Connection refused; 203.0.113.5:443: no "
            "answer");
  EXPECT_EQ(result_->error().code, ErrorCode::timed_out);
  EXPECT_THAT(sockets_.open(), IsEmpty());

  result_.reset();
  connect("vpn.example.org", milliseconds(1500));
  loop_.advance(milliseconds(1500));
  EXPECT_EQ(error(), "cannot connect to vpn.example.org within 1500 ms: its name was not resolved in that time");
  EXPECT_EQ(resolver_.waiting(), 0U);
}

TEST_F(ConnectorTest, DestroyingItCancelsEverythingSilently) {
  connect();
  answer6({ip("2001:db8::5")});
  connector_.reset();
  EXPECT_EQ(resolver_.waiting(), 0U);
  EXPECT_THAT(sockets_.open(), IsEmpty());
  loop_.advance(seconds(60));
  EXPECT_FALSE(result_);
}

TEST_F(ConnectorTest, ItsCallbackMayConnectAgainOrDestroyIt) {
  int calls = 0;
  connector_->connect("192.0.2.1", 443, seconds(10), [&](auto) {
    ++calls;
    connector_->connect("192.0.2.2", 443, seconds(10), [&](auto) {
      ++calls;
      connector_.reset();
    });
  });
  sockets_.refuse("192.0.2.1:443");
  sockets_.succeed("192.0.2.2:443");
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace penstock::net
