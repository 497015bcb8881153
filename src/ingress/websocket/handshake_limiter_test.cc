#include "ingress/websocket/handshake_limiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/bytes.h"
#include "test/support/manual_loop.h"

namespace penstock::ingress {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Settings = HandshakeLimiter::Settings;
using Ticket = HandshakeLimiter::Ticket;

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }

class HandshakeLimiterTest : public testing::Test {
 protected:
  HandshakeLimiter& make(Settings settings) {
    held.clear();
    made = std::make_unique<HandshakeLimiter>(std::move(settings));
    return *made;
  }
  // A handshake that goes on until `held` is cleared; false where it was refused.
  bool begin(HandshakeLimiter& limiter, std::string_view address) {
    auto ticket = limiter.enter(loop, ip(address));
    if (ticket) held.push_back(std::move(*ticket));
    return ticket.has_value();
  }
  std::optional<Limit> refusal(HandshakeLimiter& limiter, std::string_view address) {
    auto ticket = limiter.enter(loop, ip(address));
    return ticket ? std::nullopt : std::optional(ticket.error());
  }
  void fail(HandshakeLimiter& limiter, std::string_view address, int times) {
    for (int i = 0; i < times; ++i) limiter.login_failed(ip(address), loop.now());
  }
  Duration wait(const HandshakeLimiter& limiter, std::string_view address) {
    return limiter.blocked_for(ip(address), loop.now());
  }

  test::ManualLoop loop;
  std::unique_ptr<HandshakeLimiter> made;
  std::vector<Ticket> held;  // destroyed before the limiter
};

// ---- how many ----

TEST_F(HandshakeLimiterTest, AnAddressHasSoManyHandshakesUnderWayAndAnotherAddressHasItsOwn) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 3});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(begin(limiter, "192.0.2.1"));
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshakes_per_address);
  EXPECT_EQ(refusal(limiter, "192.0.2.2"), std::nullopt);
  held.pop_back();
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), std::nullopt);
  EXPECT_EQ(limiter.counters().of(Limit::handshakes_per_address), 1U);
}

TEST_F(HandshakeLimiterTest, AnIpv6NetworkOf64BitsIsOneAddress) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 1});
  EXPECT_TRUE(begin(limiter, "2001:db8:1:2::1"));
  EXPECT_EQ(refusal(limiter, "2001:db8:1:2:ffff:ffff:ffff:ffff"), Limit::handshakes_per_address);
  EXPECT_EQ(refusal(limiter, "2001:db8:1:3::1"), std::nullopt);
}

TEST_F(HandshakeLimiterTest, AnIpv4MappedAddressIsTheIpv4Address) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 1});
  EXPECT_TRUE(begin(limiter, "::ffff:192.0.2.1"));
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshakes_per_address);
  EXPECT_EQ(refusal(limiter, "::ffff:192.0.2.2"), std::nullopt);
  fail(limiter, "192.0.2.9", 6);
  EXPECT_GT(wait(limiter, "::ffff:192.0.2.9"), Duration{});
}

TEST_F(HandshakeLimiterTest, AnIpv4AddressIsNotTheIpv6NetworkWithTheSameBytes) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 1});
  EXPECT_TRUE(begin(limiter, "32.1.13.184"));
  EXPECT_TRUE(begin(limiter, "2001:db8::"));
}

TEST_F(HandshakeLimiterTest, ExemptAddressesAndThoseWithoutOneCountTowardsTheTotalOnly) {
  HandshakeLimiter& limiter =
      make({.handshakes = 100,
            .handshakes_per_address = 1,
            .handshake_rate = 1,
            .failed_logins = 1,
            .exempt = {Prefix::parse("10.0.0.0/8").value(), Prefix::parse("fd00::/8").value()}});
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(begin(limiter, "10.1.2.3") && begin(limiter, "fd00::1") && begin(limiter, "::ffff:10.1.2.3"));
    EXPECT_TRUE(begin(limiter, "0.0.0.0") && begin(limiter, "::"));
    fail(limiter, "10.1.2.3", 1);
    fail(limiter, "0.0.0.0", 1);
  }
  EXPECT_EQ(limiter.handshakes(), 50U);
  EXPECT_EQ(limiter.known_addresses(), 0U);
  EXPECT_EQ(wait(limiter, "10.1.2.3"), Duration{});
  EXPECT_EQ(wait(limiter, "0.0.0.0"), Duration{});
}

TEST_F(HandshakeLimiterTest, AClientThatAProxyNamesLaterIsCountedFromThenOn) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 1});
  auto first = limiter.enter(loop, std::nullopt).value();
  auto second = limiter.enter(loop, std::nullopt).value();
  EXPECT_EQ(limiter.known_addresses(), 0U);
  EXPECT_TRUE(first.claim(ip("192.0.2.1")));
  EXPECT_EQ(second.claim(ip("192.0.2.1")), std::unexpected(Limit::handshakes_per_address));
  first = Ticket();
  EXPECT_EQ(limiter.handshakes(), 1U);
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), std::nullopt);
}

// ---- the oldest makes room ----

TEST_F(HandshakeLimiterTest, AtTheBoundTheOldestHandshakeMakesRoom) {
  HandshakeLimiter& limiter = make({.handshakes = 3});
  std::vector<int> evicted;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(begin(limiter, "192.0.2." + std::to_string(i + 1)));
    held.back().on_evicted([&evicted, i] { evicted.push_back(i); });
  }
  EXPECT_EQ(limiter.handshakes(), 3U);
  EXPECT_TRUE(evicted.empty()) << "it is told on its loop, not in the call that took its place";
  loop.run_until_idle();
  EXPECT_THAT(evicted, testing::ElementsAre(0, 1));
  EXPECT_EQ(limiter.counters().of(Limit::handshakes_full), 2U);
  held.clear();
  EXPECT_EQ(limiter.handshakes(), 0U);
}

TEST_F(HandshakeLimiterTest, OneThatEndedMeanwhileIsNotToldAndOneThatIsToldMayEndItself) {
  HandshakeLimiter& limiter = make({.handshakes = 1});
  auto gone = std::make_unique<Ticket>(limiter.enter(loop, ip("192.0.2.1")).value());
  gone->on_evicted([] { ADD_FAILURE() << "it has ended"; });
  auto told = std::make_unique<Ticket>(limiter.enter(loop, ip("192.0.2.2")).value());
  told->on_evicted([&] { told.reset(); });
  gone.reset();
  const auto last = limiter.enter(loop, ip("192.0.2.3")).value();
  loop.run_until_idle();
  EXPECT_FALSE(told);
  EXPECT_EQ(limiter.handshakes(), 1U);
}

TEST_F(HandshakeLimiterTest, WhoHasSaidNothingMakesRoomBeforeWhoHas) {
  HandshakeLimiter& limiter = make({.handshakes = 3});
  std::vector<int> evicted;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(begin(limiter, "192.0.2." + std::to_string(i + 1)));
    held.back().on_evicted([&evicted, i] { evicted.push_back(i); });
  }
  held[0].has_spoken();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(begin(limiter, "192.0.3." + std::to_string(i + 1)));
  loop.run_until_idle();
  EXPECT_THAT(evicted, testing::ElementsAre(1, 2)) << "a flood of silence costs no one who speaks";
  for (auto& ticket : held) ticket.has_spoken();
  ASSERT_TRUE(begin(limiter, "192.0.2.9"));
  held.back().has_spoken();
  ASSERT_TRUE(begin(limiter, "192.0.2.10"));
  loop.run_until_idle();
  EXPECT_THAT(evicted, testing::ElementsAre(1, 2, 0)) << "where nobody is silent it is the oldest";
}
TEST_F(HandshakeLimiterTest, WhatIsEvictedIsNoLongerUnderWayForItsAddressAndCannotClaimAnother) {
  HandshakeLimiter& limiter = make({.handshakes = 2, .handshakes_per_address = 1});
  ASSERT_TRUE(begin(limiter, "192.0.2.1"));
  auto unnamed = limiter.enter(loop, std::nullopt).value();
  ASSERT_TRUE(begin(limiter, "192.0.2.2"));
  EXPECT_TRUE(begin(limiter, "192.0.2.1")) << "its first one was evicted";
  EXPECT_TRUE(unnamed.claim(ip("192.0.2.1"))) << "evicted too: nothing is counted for it any more";
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshakes_per_address);
}

TEST_F(HandshakeLimiterTest, ANewcomerThatIsRefusedEvictsNobody) {
  HandshakeLimiter& limiter = make({.handshakes = 1, .handshakes_per_address = 1});
  ASSERT_TRUE(begin(limiter, "192.0.2.1"));
  held.back().on_evicted([] { ADD_FAILURE(); });
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshakes_per_address);
  loop.run_until_idle();
  EXPECT_EQ(limiter.counters().of(Limit::handshakes_full), 0U);
}

TEST_F(HandshakeLimiterTest, EvictionRunsOnTheLoopOfTheEvicted) {
  test::ManualLoop other;
  HandshakeLimiter& limiter = make({.handshakes = 1});
  bool evicted = false;
  auto ticket = limiter.enter(other, ip("192.0.2.1")).value();
  ticket.on_evicted([&] { evicted = true; });
  const auto newer = limiter.enter(loop, ip("192.0.2.2")).value();
  loop.run_until_idle();
  EXPECT_FALSE(evicted);
  other.run_until_idle();
  EXPECT_TRUE(evicted);
}

TEST_F(HandshakeLimiterTest, AMovedTicketIsOneHandshake) {
  HandshakeLimiter& limiter = make({});
  auto first = limiter.enter(loop, ip("192.0.2.1")).value();
  Ticket second = std::move(first);
  Ticket third;
  third = std::move(second);
  EXPECT_EQ(limiter.handshakes(), 1U);
  third = Ticket();
  EXPECT_EQ(limiter.handshakes(), 0U);
}

// ---- how fast ----

TEST_F(HandshakeLimiterTest, TwoSecondsWorthMayComeAtOnceAndThenAsManyAsTheRateSays) {
  HandshakeLimiter& limiter = make({.handshake_rate = 50});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(refusal(limiter, "192.0.2.1"), std::nullopt) << i;
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshake_rate);
  loop.advance(milliseconds(20));
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), std::nullopt);
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshake_rate);
  loop.advance(minutes(1));
  int granted = 0;
  while (!refusal(limiter, "192.0.2.1")) ++granted;
  EXPECT_EQ(granted, 100) << "what was not used does not add up for ever";
}

TEST_F(HandshakeLimiterTest, WhatIsRefusedCostsNoTokens) {
  HandshakeLimiter& limiter = make({.handshake_rate = 1});
  int granted = 0;
  for (int i = 0; i < 1000; ++i) {
    if (!refusal(limiter, "192.0.2.1")) ++granted;
    loop.advance(milliseconds(10));
  }
  EXPECT_EQ(granted, 2 + 9);
}

// ---- failed logins ----

TEST_F(HandshakeLimiterTest, AboveTheBoundEveryFurtherFailureDoublesTheWaitUpToTheLongest) {
  HandshakeLimiter& limiter = make({.failed_logins = 5, .max_retry_after = minutes(5)});
  fail(limiter, "192.0.2.1", 5);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), Duration{});
  for (const int expected : {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300}) {
    fail(limiter, "192.0.2.1", 1);
    EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(expected));
  }
  EXPECT_EQ(wait(limiter, "192.0.2.2"), Duration{});
  EXPECT_EQ(limiter.blocked_addresses(loop.now()), 1U);
  loop.advance(seconds(299));
  EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(1));
  loop.advance(seconds(1));
  EXPECT_EQ(wait(limiter, "192.0.2.1"), Duration{});
  EXPECT_EQ(limiter.blocked_addresses(loop.now()), 0U);
}

TEST_F(HandshakeLimiterTest, OneFailureIsForgivenAMinute) {
  HandshakeLimiter& limiter = make({.failed_logins = 5});
  fail(limiter, "192.0.2.1", 5);
  loop.advance(seconds(59));
  fail(limiter, "192.0.2.1", 1);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(1));

  fail(limiter, "192.0.2.2", 5);
  for (int i = 0; i < 100; ++i) {
    loop.advance(seconds(60));
    fail(limiter, "192.0.2.2", 1);
    EXPECT_EQ(wait(limiter, "192.0.2.2"), Duration{}) << "one a minute is borne for ever";
  }
}

TEST_F(HandshakeLimiterTest, TenThousandFailuresAreForgivenAsSoonAsWhatLeadsToTheLongestWait) {
  HandshakeLimiter& limiter = make({.failed_logins = 5, .max_retry_after = minutes(5)});
  fail(limiter, "192.0.2.1", 10'000);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), minutes(5));
  loop.advance(minutes(10));  // of 15 failures 10 are forgiven
  fail(limiter, "192.0.2.1", 1);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(1));
}

TEST_F(HandshakeLimiterTest, AShorterWaitNeverReplacesALongerOne) {
  HandshakeLimiter& limiter = make({.failed_logins = 5, .max_retry_after = hours(24)});
  fail(limiter, "192.0.2.1", 5 + 16);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(32768));
  loop.advance(minutes(20));
  const auto before = wait(limiter, "192.0.2.1");
  fail(limiter, "192.0.2.1", 1);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), before);
}

TEST_F(HandshakeLimiterTest, TheDoublingDoesNotWrapAround) {
  for (const Duration longest : {Duration(hours(24)), Duration(hours(24 * 365 * 100)), Duration::max() / 4}) {
    HandshakeLimiter& limiter = make({.failed_logins = 0, .max_retry_after = longest});
    Duration last{};
    for (int i = 0; i < 200; ++i) {
      fail(limiter, "192.0.2.1", 1);
      const Duration now = wait(limiter, "192.0.2.1");
      EXPECT_GE(now, last);
      EXPECT_LE(now, longest);
      last = now;
    }
    EXPECT_EQ(last, longest);
  }
}

TEST_F(HandshakeLimiterTest, ALongestWaitOfLessThanASecondIsTheOnlyOne) {
  HandshakeLimiter& limiter = make({.failed_logins = 0, .max_retry_after = milliseconds(300)});
  fail(limiter, "192.0.2.1", 10);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), milliseconds(300));
}

// ---- who is blocked, by name ----

TEST_F(HandshakeLimiterTest, AFailureSaysWhomItBlocksForHowLongAndAfterHowMany) {
  HandshakeLimiter& limiter = make({.failed_logins = 2});
  const auto failed = [&](std::string_view address) { return limiter.login_failed(ip(address), loop.now()); };
  EXPECT_FALSE(failed("192.0.2.1"));
  EXPECT_FALSE(failed("192.0.2.1")) << "two are borne";
  const auto third = failed("::ffff:192.0.2.1");
  ASSERT_TRUE(third);
  EXPECT_EQ(third->name(), "192.0.2.1");
  EXPECT_EQ(third->wait, seconds(1));
  EXPECT_EQ(third->failures, 3U);

  for (const char* address : {"2001:db8:1:2::1", "2001:db8:1:2::2"}) EXPECT_FALSE(failed(address));
  const auto network = failed("2001:db8:1:2:ffff::3");
  ASSERT_TRUE(network);
  EXPECT_EQ(network->name(), "2001:db8:1:2::/64");
}

TEST_F(HandshakeLimiterTest, AFailureThatMakesNobodyWaitLongerIsNoNews) {
  HandshakeLimiter& limiter = make({.failed_logins = 1, .max_retry_after = seconds(2)});
  fail(limiter, "192.0.2.1", 2);
  EXPECT_TRUE(limiter.login_failed(ip("192.0.2.1"), loop.now())) << "two seconds";
  EXPECT_FALSE(limiter.login_failed(ip("192.0.2.1"), loop.now())) << "two seconds are the longest";
}

TEST_F(HandshakeLimiterTest, TheListHasThoseWhoWaitLongestAndNoMoreThanAskedFor) {
  HandshakeLimiter& limiter = make({});
  for (int n = 1; n <= 9; ++n) fail(limiter, "192.0.2." + std::to_string(n), 5 + n);
  ASSERT_TRUE(begin(limiter, "192.0.2.8")) << "one that is under way counts too";
  const auto names = [&](std::size_t most) {
    std::vector<std::string> list;
    for (const auto& blocked : limiter.blocked(loop.now(), most)) list.push_back(blocked.name());
    return list;
  };
  EXPECT_THAT(names(3), testing::ElementsAre("192.0.2.9", "192.0.2.8", "192.0.2.7"));
  EXPECT_EQ(names(32).size(), 9U);
  EXPECT_THAT(names(0), testing::IsEmpty());
  loop.advance(seconds(129));
  const auto left = limiter.blocked(loop.now(), 32);
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].wait, seconds(127));
  EXPECT_EQ(left[0].failures, 12U) << "two of 14 are forgiven";
}

// ---- another list of those that are exempt ----

TEST_F(HandshakeLimiterTest, WhoBecomesExemptIsServedAtOnceAndItsFailuresAreForgotten) {
  HandshakeLimiter& limiter = make({.handshakes_per_address = 1});
  ASSERT_TRUE(begin(limiter, "192.0.2.1"));
  for (const char* address : {"192.0.2.1", "192.0.2.2", "192.0.2.3", "203.0.113.1", "2001:db8::1"})
    fail(limiter, address, 6);
  limiter.set_exempt({Prefix::parse("192.0.2.0/24").value(), Prefix::parse("2001:db8::/32").value()});
  EXPECT_EQ(wait(limiter, "192.0.2.1"), Duration{});
  EXPECT_EQ(wait(limiter, "2001:db8::1"), Duration{});
  EXPECT_TRUE(begin(limiter, "192.0.2.1"));
  EXPECT_EQ(limiter.blocked_addresses(loop.now()), 1U);
  EXPECT_EQ(limiter.blocked(loop.now(), 32).front().name(), "203.0.113.1");
  EXPECT_EQ(limiter.known_addresses(), 2U) << "the one that is blocked and the one under way";
  held.clear();

  limiter.set_exempt({});
  EXPECT_EQ(wait(limiter, "192.0.2.1"), Duration{}) << "forgotten is forgotten";
  EXPECT_TRUE(begin(limiter, "192.0.2.1"));
  EXPECT_EQ(refusal(limiter, "192.0.2.1"), Limit::handshakes_per_address) << "but it is counted again";
}

TEST_F(HandshakeLimiterTest, OneExemptAddressOfAnIpv6NetworkIsServedAndTheOthersWaitOn) {
  HandshakeLimiter& limiter = make({});
  fail(limiter, "2001:db8::1", 6);
  limiter.set_exempt({Prefix::parse("2001:db8::1/128").value()});
  EXPECT_EQ(wait(limiter, "2001:db8::1"), Duration{});
  EXPECT_EQ(wait(limiter, "2001:db8::2"), seconds(1));
}

// ---- what is remembered ----

TEST_F(HandshakeLimiterTest, AnAddressIsForgottenWhenThereIsNothingToRemember) {
  HandshakeLimiter& limiter = make({.handshake_rate = 1});
  ASSERT_TRUE(begin(limiter, "192.0.2.1"));
  loop.advance(seconds(5));
  EXPECT_EQ(limiter.known_addresses(), 1U) << "under way";
  held.clear();
  EXPECT_EQ(limiter.known_addresses(), 0U) << "its tokens are back";

  EXPECT_EQ(refusal(limiter, "192.0.2.2"), std::nullopt);
  EXPECT_EQ(limiter.known_addresses(), 1U) << "its token is not back yet";
  loop.advance(seconds(1));
  EXPECT_EQ(refusal(limiter, "192.0.2.3"), std::nullopt);
  EXPECT_EQ(limiter.known_addresses(), 1U) << "only the newcomer";

  fail(limiter, "192.0.2.4", 6);
  loop.advance(minutes(5));
  EXPECT_EQ(refusal(limiter, "192.0.2.5"), std::nullopt);
  EXPECT_EQ(limiter.known_addresses(), 2U) << "one failure is not forgiven yet";
  loop.advance(minutes(1));
  EXPECT_EQ(refusal(limiter, "192.0.2.5"), std::nullopt);
  EXPECT_EQ(limiter.known_addresses(), 1U);
}

TEST_F(HandshakeLimiterTest, AFloodFromManyAddressesIsRememberedWithinBoundsAndForgotten) {
  HandshakeLimiter& limiter = make({});
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    std::array<std::uint8_t, 16> network{0x20, 0x01, 0x0d, 0xb8};
    store_be32(&network[4], i);
    ASSERT_TRUE(limiter.enter(loop, IpAddress::v4(0x0B000000 + i)));
    ASSERT_TRUE(limiter.enter(loop, IpAddress::from_bytes(network)));
    ASSERT_LE(limiter.known_addresses(), HandshakeLimiter::kMostIdle);
  }
  EXPECT_EQ(limiter.known_addresses(), HandshakeLimiter::kMostIdle);
  loop.advance(minutes(1));
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(limiter.enter(loop, std::nullopt));
  EXPECT_EQ(limiter.known_addresses(), 0U) << "forgotten little by little, by whatever comes";
}

TEST_F(HandshakeLimiterTest, HandshakesWashAwayNoFailedLoginAndFailedLoginsTheOldest) {
  HandshakeLimiter& limiter = make({.failed_logins = 5, .max_retry_after = minutes(5)});
  fail(limiter, "192.0.2.1", 14);
  for (std::uint32_t i = 0; i < 100'000; ++i) ASSERT_TRUE(limiter.enter(loop, IpAddress::v4(0x0B000000 + i)));
  EXPECT_EQ(limiter.known_addresses(), HandshakeLimiter::kMostIdle);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), seconds(256));
  for (std::uint32_t i = 0; i < HandshakeLimiter::kMostIdle; ++i)
    limiter.login_failed(IpAddress::v4(0x0C000000 + i), loop.now());
  EXPECT_EQ(limiter.known_addresses(), HandshakeLimiter::kMostIdle);
  EXPECT_EQ(wait(limiter, "192.0.2.1"), Duration{});
}

TEST_F(HandshakeLimiterTest, AddressesWithHandshakesUnderWayAreNeverForgotten) {
  HandshakeLimiter& limiter = make({.handshakes = 100'000, .handshakes_per_address = 1});
  for (std::uint32_t i = 0; i < 40'000; ++i) {
    auto ticket = limiter.enter(loop, IpAddress::v4(0x0B000000 + i));
    ASSERT_TRUE(ticket);
    held.push_back(std::move(*ticket));
  }
  EXPECT_EQ(refusal(limiter, "11.0.0.0"), Limit::handshakes_per_address);
  held.clear();
  EXPECT_LE(limiter.known_addresses(), HandshakeLimiter::kMostIdle);
  EXPECT_EQ(limiter.handshakes(), 0U);
}

TEST_F(HandshakeLimiterTest, ManyThreadsMayAskAtOnce) {
  HandshakeLimiter& limiter = make({.handshakes = 64, .handshakes_per_address = 16});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&limiter] {
      test::ManualLoop own;
      std::vector<Ticket> tickets;
      for (std::uint32_t i = 0; i < 5000; ++i) {
        const IpAddress address = IpAddress::v4(0x0B000000 + i % 37);
        if (auto ticket = limiter.enter(own, address)) tickets.push_back(std::move(*ticket));
        if (tickets.size() > 20) tickets.clear();
        limiter.login_failed(address, own.now());
        (void)limiter.blocked_for(address, own.now());
        if (i % 500 == 0) limiter.set_exempt({Prefix(IpAddress::v4(0x0B000000 + i % 7), 30)});
        if (i % 500 == 0) (void)limiter.blocked(own.now(), 5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(limiter.handshakes(), 0U);
}

}  // namespace
}  // namespace penstock::ingress
