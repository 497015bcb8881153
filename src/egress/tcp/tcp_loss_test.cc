// What happens to segments that a client does not get: how long until they are sent again, and which.
#include <gtest/gtest.h>

#include "egress/tcp/tcp_script_testing.h"

namespace penstock::egress::testing {
namespace {

const Says plain{.mss = 1000};
const Says sack{.mss = 1000, .sack = true};

class TcpLoss : public TcpScript {
 protected:
  // Opens with a round trip of 100 ms: the timeout is 300 ms then (RFC 6298 section 2.2).
  void opens_far_away(const Says& offer) {
    client.sends(kSyn, offer);
    server.accepts();
    after(100ms);
    client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
    client.sends(kAck);
    client.drain();
  }
  // `count` segments of 1000 bytes arrive at the client, which says nothing yet.
  void gets_segments(std::size_t count) {
    server.says(count * 1000);
    client.expects_data(client.received(), count * 1000);
  }
  // `count` are sent, and of them those numbered (from 0) in `lost` do not arrive.
  void loses_segments(std::size_t count, const std::vector<std::size_t>& lost) {
    server.says(count * 1000);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::ranges::find(lost, i) != lost.end()) {
        client.loses(1);
      } else {
        client.expects(kAck, {.seq = static_cast<std::uint32_t>(1 + i * 1000), .data = 1000});
      }
    }
    client.expects_nothing();
  }
  std::uint64_t repeated() const { return world.counters().retransmitted; }
};

// ---- time ----

TEST_F(TcpLoss, WhatIsLostIsSentAgainAfterTheTimeoutThatWasMeasured) {
  opens_far_away(plain);
  server.says(500);
  client.loses(1);
  EXPECT_NEAR(client.waits(), 0.3, 0.03);  // RFC 6298 section 2.2
  client.expects(kAck, {.seq = 1, .data = 500});
  EXPECT_EQ(repeated(), 1U);
  client.acks(501);
  EXPECT_EQ(server.waiting(), 0U);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpLoss, TheTimeoutDoublesUntilAMinute) {
  opens_far_away(plain);
  server.says(500);
  client.loses(1);
  double timeout = 0.3;  // RFC 6298 sections 5.5 and 2.5
  for (int i = 0; i < 10; ++i) {
    EXPECT_NEAR(client.waits(), timeout, 0.03 + timeout * 0.02) << i;
    client.expects(kAck, {.seq = 1, .data = 500});
    timeout = std::min(timeout * 2, 60.0);
  }
}

TEST_F(TcpLoss, AClientThatWasAwayAndIsBackGetsWhatWasLostAtOnce) {
  opens_far_away(plain);
  server.says(500);
  client.loses(1);
  for (int i = 0; i < 6; ++i) {
    client.waits();
    client.loses(1);
  }
  client.is_back();
  client.expects(kAck, {.seq = 1, .data = 500});
  EXPECT_NEAR(client.waits(), 0.6, 0.06) << "and with the patience of the beginning";
  client.expects(kAck, {.seq = 1, .data = 500});
  client.acks(501);
  client.is_back();
  client.expects_nothing();
}

TEST_F(TcpLoss, AfterAResumeTheWayIsTriedInFullAgain) {
  client.opens({.mss = 1400});
  server.says(1400);
  client.loses(1);
  client.is_told_undeliverable(1, 1000);
  const auto segments = client.expects_data(1, 1400);
  EXPECT_EQ(segments.front().data.size(), 960U);
  client.acks(1401);
  client.is_back();
  server.says(1400);
  EXPECT_EQ(client.expects_data(1401, 1400).front().data.size(), 1400U);
}

TEST_F(TcpLoss, TheTimeoutIsNeverShorterThanAFifthOfASecond) {
  client.opens(plain);  // no time passes at all
  server.says(500);
  client.loses(1);
  EXPECT_NEAR(client.waits(), 0.2, 0.02);
  client.expects(kAck, {.seq = 1, .data = 500});
}

TEST_F(TcpLoss, EachAckOfNewDataStartsTheTimeoutAnew) {
  opens_far_away(plain);  // RFC 6298 section 5.3
  gets_segments(3);
  after(200ms);
  client.acks(1001);
  after(200ms);
  client.acks(2001);
  client.expects_nothing();
  EXPECT_GE(client.waits(), 0.29);
  client.expects(kAck, {.seq = 2001, .data = 1000});
}

TEST_F(TcpLoss, OldAcksDoNotPutTheTimeoutOff) {
  opens_far_away(plain);  // RFC 6298 section 5.3: new data alone
  gets_segments(1);
  after(200ms);
  client.acks(1);
  client.expects_nothing();
  EXPECT_LE(client.waits(), 0.13);
  client.expects(kAck, {.seq = 1, .data = 1000});
}

TEST_F(TcpLoss, AfterAnAckTheTimeoutIsWhatItWas) {
  opens_far_away(plain);
  server.says(500);
  client.loses(1);
  for (int i = 0; i < 4; ++i) {
    client.waits();
    client.expects(kAck, {.seq = 1, .data = 500});
  }
  client.acks(501);
  server.says(500);
  client.loses(1);
  EXPECT_LE(client.waits(), 0.63);  // RFC 6298 section 5.7; the backed off one would be 4.8
}

TEST_F(TcpLoss, WhatWasSentTwiceIsNotMeasured) {
  opens_far_away(plain);  // Karn: RFC 6298 section 3
  server.says(500);
  client.loses(1);
  client.waits();
  client.expects(kAck, {.seq = 1, .data = 500});
  after(500ms);
  client.acks(501);  // 0.8 s after the first, 0.5 s after the second
  server.says(500);
  client.loses(1);
  EXPECT_LE(client.waits(), 0.63);
}

TEST_F(TcpLoss, WhatWasSentTwiceBeforeATimeoutIsNotMeasuredEither) {
  opens_far_away(plain);
  loses_segments(10, {0});
  after(50ms);
  for (int i = 0; i < 3; ++i) client.acks(1);
  EXPECT_TRUE(client.gets(1));
  after(280ms);
  client.acks(10'001);
  server.says(500);
  client.loses(1);
  EXPECT_LE(client.waits(), 0.33);
}

TEST_F(TcpLoss, AnAckInTheMiddleMakesThingsWellAgain) {
  opens_far_away(plain);
  server.says(2000);
  client.loses_all();
  for (int i = 0; i < 4; ++i) {
    client.waits();
    client.expects(kAck, {.seq = 1, .data = 1000});
  }
  client.acks(1001);
  client.loses(1);                  // the second follows
  EXPECT_LE(client.waits(), 0.63);  // RFC 6298 section 5.7
  client.expects(kAck, {.seq = 1001, .data = 1000});
}

TEST_F(TcpLoss, TimestampsMeasureWhatWasSentTwice) {
  opens_far_away({.mss = 1012, .ts = true});  // RFC 7323 section 4.1
  for (int i = 0; i < 20; ++i) {
    server.says(500);
    // It comes after half a second, whatever is sent again meanwhile.
    const std::uint32_t echo = client.last_stamp_seen();
    after(1s);
    client.drain();
    client.sends(kAck, {.stamps = TcpTimestamps{client.stamp(), echo}});
    client.drain();
  }
  server.says(500);
  client.loses(1);
  EXPECT_GE(client.waits(), 0.8);
}

TEST_F(TcpLoss, ASynAckThatWasLostMakesItCareful) {
  client.sends(kSyn, plain);
  server.accepts();
  client.loses(1);
  client.waits();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.sends(kAck);
  server.says(500);
  client.loses(1);
  EXPECT_GE(client.waits(), 0.9);  // RFC 6298 section 5.7: nothing was measured; it has three seconds
}

TEST_F(TcpLoss, AClientThatNeverAnswersIsGivenUp) {
  opens_far_away(plain);
  server.says(500);
  double waited = 0;
  while (server.is_open() && waited < 7200) {
    waited += client.waits();
    client.loses_all();
  }
  EXPECT_GE(waited, 100);  // RFC 9293 section 3.8.3: R2 is at least 100 s
  EXPECT_LE(waited, 3600);
  EXPECT_TRUE(server.was_aborted());
  EXPECT_TRUE(world.was_closed(client.ends));
  EXPECT_EQ(world.counters().timed_out, 1U);
  EXPECT_EQ(world.terminator.connections(), 0U);
  EXPECT_EQ(world.terminator.timers(), 0U);
}

TEST_F(TcpLoss, AfterATimeoutItBeginsWithOneSegment) {
  opens_far_away(plain);  // RFC 5681 section 3.1
  server.says(20'000);
  client.loses_all();
  client.waits();
  EXPECT_EQ(client.drain().size(), 1U);
  client.acks(1001);
  const auto next = client.drain();
  EXPECT_GE(next.size(), 1U);
  EXPECT_LE(next.size(), 3U);
  EXPECT_EQ(next.front().seq, 1001U);
}

TEST_F(TcpLoss, AfterATimeoutAllThatWasLostComes) {
  opens_far_away(plain);
  server.says(20'000);
  client.loses_all();
  double waited = client.waits();
  while (client.received() != 20'001 && waited < 2) {
    client.drain();
    client.acks(client.received());
    if (client.received() != 20'001) waited += client.waits();
  }
  EXPECT_EQ(client.received(), 20'001U);
  EXPECT_LT(waited, 0.35) << "one timeout is enough";
  EXPECT_EQ(server.waiting(), 0U);
}

TEST_F(TcpLoss, AfterATimeoutEachRoundTripCarriesTwiceAsMuch) {
  opens_far_away(plain);  // RFC 5681 section 3.1: slow start
  server.says(30'000);
  client.loses_all();
  client.waits();
  int rounds = 0;
  for (; client.received() != 30'001 && rounds < 40; ++rounds) {
    const std::vector<Seen> round = client.drain();
    after(50ms);
    for (const Seen& seen : round) client.acks(std::min(seen.end(), client.received()));
  }
  EXPECT_LE(rounds, 7) << "1, 2, 4, 8, 15 segments";
}

TEST_F(TcpLoss, ATimeoutThatCameTooEarlyIsTakenBack) {
  opens_far_away({.mss = 1012, .ts = true});  // RFC 3522 section 3.2
  server.says(10'000);
  const std::uint32_t echo = client.last_stamp_seen();
  client.expects_data(1, 10'000);
  client.waits();
  EXPECT_TRUE(client.gets(1));
  // The answers to the first copies were late alone.
  client.sends(kAck, {.ack = 1001, .stamps = TcpTimestamps{client.stamp(), echo}});
  client.sends(kAck, {.ack = 2001, .stamps = TcpTimestamps{client.stamp(), echo}});
  client.expects_nothing();
  EXPECT_EQ(repeated(), 1U);
  client.acks(10'001);
  server.says(20'000);
  EXPECT_EQ(client.drain().size(), 20U) << "as much as before";
}

// ---- repeated ACKs ----

TEST_F(TcpLoss, ThreeRepeatedAcksSendTheFirstSegmentAgain) {
  opens_far_away(plain);
  loses_segments(10, {0});
  client.acks(1);
  client.acks(1);
  EXPECT_FALSE(client.gets(1)) << "two are a reordering";
  client.acks(1);  // RFC 5681 section 3.2
  EXPECT_TRUE(client.gets(1));
  EXPECT_EQ(repeated(), 1U);
  client.acks(10'001);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpLoss, ReorderingBelowThreeRepeatsNothing) {
  opens_far_away(sack);
  gets_segments(10);
  client.acks(1, {{1001, 2001}});
  client.acks(1, {{1001, 3001}});
  client.acks(3001);
  client.acks(3001, {{4001, 5001}});
  client.acks(3001, {{4001, 6001}});
  client.acks(10'001);
  after(1min);
  client.expects_nothing();
  EXPECT_EQ(repeated(), 0U);
}

TEST_F(TcpLoss, AcksThatSayMoreThanThatAreNoRepetitions) {
  opens_far_away(plain);  // RFC 5681 section 2: the same window, no data
  gets_segments(10);
  for (std::uint16_t i = 1; i <= 5; ++i) {
    client.window = static_cast<std::uint16_t>(60'000 - i);
    client.acks(1);
  }
  for (int i = 0; i < 5; ++i) client.sends(kAck, {.ack = 1, .data = 10});
  client.drain();
  EXPECT_EQ(repeated(), 0U);
}

TEST_F(TcpLoss, APartialAckSendsTheNextHoleAtOnce) {
  opens_far_away(plain);  // RFC 6582 section 3.2
  loses_segments(10, {0, 4, 7});
  for (int i = 0; i < 7; ++i) client.acks(1);
  EXPECT_TRUE(client.gets(1));
  client.acks(4001);
  EXPECT_TRUE(client.gets(4001));
  client.acks(7001);
  EXPECT_TRUE(client.gets(7001));
  client.acks(10'001);
  EXPECT_EQ(repeated(), 3U);
  EXPECT_EQ(server.waiting(), 0U);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpLoss, RepeatedAcksOfARecoveryBeginNoOther) {
  opens_far_away(plain);  // RFC 6582 section 3.2, step 1: `recover`
  loses_segments(10, {0});
  for (int i = 0; i < 9; ++i) client.acks(1);
  EXPECT_TRUE(client.gets(1));
  EXPECT_EQ(repeated(), 1U);
}

// ---- SACK ----

TEST_F(TcpLoss, WhatWasSackedAboveThreeSegmentsMakesALoss) {
  opens_far_away(sack);  // RFC 6675 section 4, IsLost(): more than two segments' bytes, in a single ACK
  loses_segments(10, {0});
  client.acks(1, {{1001, 4001}});
  EXPECT_TRUE(client.gets(1));
  EXPECT_EQ(repeated(), 1U);
  client.acks(10'001);
  EXPECT_EQ(server.waiting(), 0U);
}

TEST_F(TcpLoss, HolesAreFilledInOneRoundTripAndNothingElseIsRepeated) {
  opens_far_away(sack);  // RFC 6675 section 5
  loses_segments(12, {0, 2, 4});
  client.acks(1, {{1001, 2001}});
  client.acks(1, {{3001, 4001}, {1001, 2001}});
  std::vector<Seen> again = client.drain();
  for (std::uint32_t end = 6001; end <= 12'001; end += 1000) {
    client.acks(1, {{5001, end}, {3001, 4001}, {1001, 2001}});
    for (Seen& seen : client.drain()) again.push_back(std::move(seen));
  }
  std::vector<std::uint32_t> places;
  for (const Seen& seen : again) places.push_back(seen.seq);
  EXPECT_EQ(places, (std::vector<std::uint32_t>{1, 2001, 4001}));
  EXPECT_EQ(repeated(), 3U);
  client.acks(12'001);
  EXPECT_EQ(server.waiting(), 0U);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpLoss, ARetransmissionThatIsLostTooWaitsForTheTimeout) {
  opens_far_away(sack);
  loses_segments(10, {0});
  client.acks(1, {{1001, 5001}});
  client.loses(1);
  const double waited = client.waits();
  EXPECT_LE(waited, 0.65);
  EXPECT_TRUE(client.gets(1));
  client.acks(10'001);
  EXPECT_EQ(server.waiting(), 0U);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpLoss, ATimeoutDoesNotRepeatWhatWasSacked) {
  opens_far_away(sack);  // RFC 2018 section 5.1 would have it forgotten; RFC 6675 section 5.1 keeps it
  loses_segments(4, {0, 1});
  client.acks(1, {{2001, 4001}});
  client.drain();
  client.waits();
  EXPECT_TRUE(client.gets(1));
  client.acks(1001, {{2001, 4001}});
  EXPECT_TRUE(client.gets(1001) || client.received() == 4001);
  client.acks(4001);
  EXPECT_EQ(server.waiting(), 0U);
  EXPECT_LE(repeated(), 3U);
}

TEST_F(TcpLoss, WhatAClientSackedAndThrewAwayIsSentAgainInTheEnd) {
  opens_far_away(sack);  // RFC 2018 section 8: it may
  server.says(5000);
  client.loses_all();
  client.acks(1, {{1001, 5001}});
  client.loses_all();
  double waited = 0;
  while (client.received() != 5001 && waited < 30) {
    waited += client.waits(30s);
    client.drain();
    client.acks(client.received());
  }
  EXPECT_EQ(client.received(), 5001U);
}

TEST_F(TcpLoss, NonsenseInSackBlocksIsPassedOver) {
  opens_far_away(sack);
  gets_segments(5);
  client.acks(1, {{90'001, 95'001}});  // never sent
  client.acks(1, {{3001, 2001}});      // backwards
  client.acks(1001, {{1, 501}});       // a duplicate (RFC 2883)
  client.acks(1001, {{1, 0x8000'0000}});
  client.expects_nothing();
  EXPECT_EQ(repeated(), 0U);
  client.acks(5001);
  EXPECT_EQ(server.waiting(), 0U);
}

TEST_F(TcpLoss, SackBlocksOfAClientThatDidNotAskForThemAreNone) {
  opens_far_away(plain);
  loses_segments(10, {0});
  client.acks(1, {{1001, 9001}});  // one repeated ACK, no more
  EXPECT_FALSE(client.gets(1));
}

TEST_F(TcpLoss, ALossHalvesAndGrowthGoesOn) {
  opens_far_away(sack);
  server.says(200'000);
  const std::size_t first = client.drain().size();
  EXPECT_GE(first, 10U);  // RFC 6928
  EXPECT_LE(first, 64U);
  const auto got = static_cast<std::uint32_t>(first * 1000 + 1);
  client.acks(got);
  const std::size_t second = client.drain().size();
  EXPECT_GT(second, first) << "slow start: RFC 5681 section 3.1";
  EXPECT_LE(second, 2 * first + 1);
}

// ---- the way's largest packet ----

class TcpPathMtu : public TcpLoss {};

TEST_F(TcpPathMtu, APacketThatIsTooBigIsSentAgainAtOnceAndSmaller) {
  client.opens({.mss = 1460});  // RFC 1191 section 6.4
  server.says(1460 * 3);
  client.loses_all();
  client.is_told_undeliverable(1, 1300);
  ASSERT_FALSE(client.has_seen_nothing());
  std::size_t got = 0;
  while (client.received() != 1460 * 3 + 1 && ++got < 20) {
    for (const Seen& seen : client.drain()) EXPECT_LE(seen.data.size(), 1260U) << to_text(seen);
    client.acks(client.received());
    if (client.has_seen_nothing()) client.waits(1s);
  }
  EXPECT_EQ(client.received(), 1460U * 3 + 1);
  server.says(5000);
  EXPECT_EQ(client.expects_data(4381, 5000).front().data.size(), 1260U);
}

TEST_F(TcpPathMtu, ItCountsTheHeadersOfIpv6AndTimestamps) {
  ScriptClient six{world, "[2001:db8::2]:40000", "[2001:db8:1::1]:80"};
  ScriptServer its{six};
  six.opens({.mss = 1440, .ts = true});
  its.says(1428);
  six.loses_all();
  six.is_told_undeliverable(1, 1400);
  EXPECT_EQ(six.expects_data(1, 1328).front().data.size(), 1328U);  // 1400 - 40 - 20 - 12
}

TEST_F(TcpPathMtu, WhatEveryWayTakesIsTheLeast) {
  client.opens({.mss = 1460});  // below 576 nothing honest is (RFC 1191 section 3 has 68, for links that nobody has)
  server.says(1460);
  client.loses_all();
  client.is_told_undeliverable(1, 100);
  client.drain();
  client.waits(1s);
  client.drain();
  client.acks(client.received());
  client.drain();
  client.acks(1461);
  server.says(5000);
  EXPECT_GE(client.drain().at(0).data.size(), 536U);

  ScriptClient six{world, "[2001:db8::2]:40000", "[2001:db8:1::1]:80"};
  ScriptServer its{six};
  six.opens({.mss = 1440});
  its.says(1440);
  six.loses_all();
  six.is_told_undeliverable(1, 600);  // RFC 8200 section 5: 1280
  six.drain();
  six.waits(1s);
  six.drain();
  six.acks(1441);
  its.says(5000);
  EXPECT_GE(six.drain().at(0).data.size(), 1220U);
}

TEST_F(TcpPathMtu, ALargerPacketThanIsSentIsNoNews) {
  client.opens({.mss = 1000});
  server.says(1000);
  client.expects_data(1, 1000);
  client.is_told_undeliverable(1, 1500);
  client.expects_nothing();
  EXPECT_EQ(repeated(), 0U);
}

TEST_F(TcpPathMtu, WhatIsToldOfNoSegmentOfOursIsALie) {
  client.opens({.mss = 1460});  // RFC 5927 section 4
  server.says(1460);
  client.expects_data(1, 1460);
  client.acks(1461);
  client.is_told_undeliverable(1, 1300);       // was acknowledged
  client.is_told_undeliverable(90'001, 1300);  // was never sent
  client.expects_nothing();
  server.says(1460);
  client.expects(kAck, {.seq = 1461, .data = 1460});
}

TEST_F(TcpPathMtu, AClientThatIsNotReachableForAWhileIsNotGivenUp) {
  client.opens({.mss = 1460});  // RFC 1122 section 4.2.3.9: a soft error; RFC 5927 section 5
  server.says(1460);
  client.loses_all();
  client.is_told_undeliverable(1, 0);
  EXPECT_TRUE(server.is_open());
  client.waits();
  client.expects_data(1, 1460);
  client.acks(1461);
  EXPECT_EQ(server.waiting(), 0U);
}

TEST_F(TcpPathMtu, WhatIsToldOfNobodyIsIgnored) {
  client.is_told_undeliverable(1, 1300);
  client.is_told_undeliverable(1, 0);
  client.expects_nothing();
  EXPECT_EQ(world.terminator.connections(), 0U);
}

}  // namespace
}  // namespace penstock::egress::testing
