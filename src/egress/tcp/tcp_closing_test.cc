// How connections end: by either side, one half at a time, together, by force, and by silence.
#include <gtest/gtest.h>

#include "egress/tcp/tcp_script_testing.h"

namespace penstock::egress::testing {
namespace {

const Says plain{.mss = 1460};
const Says stamped{.mss = 1460, .scale = 7, .sack = true, .ts = true};

class TcpClosing : public TcpScript {
 protected:
  explicit TcpClosing(const TcpTerminator::Settings& settings = {}) : TcpScript(settings) {}

  // Nobody is left, and the server's socket was closed as it should be.
  void expect_over() {
    EXPECT_TRUE(server.was_closed()) << "not broken off";
    expect_gone();
  }
  void expect_broken_off() {
    EXPECT_TRUE(server.was_aborted());
    expect_gone();
  }
  void expect_gone() {
    EXPECT_EQ(world.terminator.connections(), 0U);
    EXPECT_EQ(world.terminator.timers(), 0U);
    EXPECT_TRUE(world.was_closed(client.ends));
    EXPECT_EQ(world.gone.size(), 1U) << "told once";
  }
  // Time that is waited out after the last word: RFC 9293 section 3.4.2 has four minutes at most.
  void expect_time_wait() {
    EXPECT_EQ(world.terminator.connections(), 1U);
    EXPECT_FALSE(server.is_open()) << "the server has nothing to wait for";
    after(4min + 1s);
    client.expects_nothing();
    expect_over();
  }
};

// ---- four orders ----

TEST_F(TcpClosing, TheClientEndsFirst) {
  client.opens(plain);
  client.sends(kAck | kFin, {.data = 100});
  server.heard(100);
  EXPECT_TRUE(server.saw_the_end());
  client.expects_ack(102);
  server.says(500);  // its half goes on
  client.expects_data(1, 500);
  client.acks(501);
  server.ends();
  client.expects(kAck | kFin, {.seq = 501, .ack = 102});
  EXPECT_EQ(world.terminator.connections(), 1U) << "LAST-ACK";
  client.acks(502);
  client.expects_nothing();
  expect_over();  // RFC 9293 section 3.6: who ends second waits for nothing
}

TEST_F(TcpClosing, WhenTheGatewayGoesBothAreReset) {
  client.opens();
  server.says(100);
  client.expects_data(1, 100);
  world.terminator.end_all();
  client.expects_reset(101);
  EXPECT_TRUE(world.streams.closed.at(client.stream).aborted);
  EXPECT_TRUE(world.was_closed(client.ends));
  EXPECT_EQ(world.terminator.connections(), 0U);
}

// What was on its way to a socket that is closed already is answered by the number of its FIN, and not of the next
// byte.
TEST_F(TcpClosing, AResetFromBehindAnEndIsTaken) {
  client.opens();
  client.sends(kAck | kFin);
  client.drain();
  client.sends(kRst, {.seq = client.next() - 1});
  EXPECT_EQ(world.terminator.connections(), 0U);
  EXPECT_TRUE(world.streams.closed.at(client.stream).aborted);
}

TEST_F(TcpClosing, TheServerEndsFirst) {
  client.opens(plain);
  server.says(100);
  server.ends();
  client.expects_data(1, 100);
  if (client.received() == 101) client.expects(kAck | kFin, {.seq = 101});
  client.acks(102);
  client.sends(kAck, {.data = 300});  // its half goes on
  server.heard(300);
  client.expects_ack(301);
  client.sends(kAck | kFin);
  client.expects(kAck, {.seq = 102, .ack = 302});
  expect_time_wait();
}

TEST_F(TcpClosing, BothEndAtOnce) {
  client.opens(plain);  // RFC 9293 figure 13
  server.ends();
  client.expects(kAck | kFin, {.seq = 1, .ack = 1});
  client.sends(kAck | kFin, {.ack = 1});  // it has not seen the other
  client.expects(kAck, {.seq = 2, .ack = 2});
  EXPECT_TRUE(server.saw_the_end());
  client.acks(2);
  client.expects_nothing();
  expect_time_wait();
}

TEST_F(TcpClosing, TheAnswerToAnEndIsAnEnd) {
  client.opens(plain);
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin, {.data = 10});  // with the last data, and the ACK of the other's
  server.heard(10);
  EXPECT_TRUE(server.saw_the_end());
  client.expects(kAck, {.seq = 2, .ack = 12});
  expect_time_wait();
}

TEST_F(TcpClosing, TheServerMayEndWithItsLastBytes) {
  client.opens(plain);
  world.together([&] {
    server.says(100);
    world.streams.end_of_server(client.stream);
  });
  const auto segments = client.expects_data(1, 100);
  if (!segments.back().has(kFin)) client.expects(kAck | kFin, {.seq = 101});
  EXPECT_EQ(client.received(), 102U);
}

TEST_F(TcpClosing, AnEndThatCameBeforeTheClientWasThere) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  server.says(100);
  server.ends();
  client.sends(kSyn | kAck, plain);
  client.drain();
  EXPECT_EQ(client.received(), 102U);
}

// ---- the client's end ----

TEST_F(TcpClosing, AnEndWaitsBehindDataThatTheServerHasNoRoomFor) {
  client.opens(plain);
  server.has_room(100);
  client.sends(kAck | kFin, {.data = 1000});
  client.expects_ack(1002);
  server.heard(100);
  EXPECT_FALSE(server.saw_the_end());
  server.has_room(500);
  server.heard(600);
  EXPECT_FALSE(server.saw_the_end());
  server.has_room(SIZE_MAX);
  server.heard(1000);
  EXPECT_TRUE(server.saw_the_end());
}

TEST_F(TcpClosing, BothHaveEndedAndTheServerStillHasToReadAll) {
  client.opens(plain);
  server.has_room(100);
  client.sends(kAck | kFin, {.data = 1000});
  server.ends();
  client.drain();
  client.acks(2);
  after(10min);
  EXPECT_TRUE(server.is_open()) << "900 bytes of an honest client wait";
  server.has_room(SIZE_MAX);
  after(5min);
  server.heard(1000);
  EXPECT_TRUE(server.saw_the_end());
  expect_over();
}

TEST_F(TcpClosing, AnEndBehindAGapWaits) {
  client.opens(plain);
  client.sends(kAck | kFin, {.seq = 101, .data = 100});
  client.expects(kAck, {.ack = 1});
  EXPECT_FALSE(server.saw_the_end());
  client.sends(kAck, {.seq = 1, .data = 100});
  client.expects_ack_now(202);
  server.heard(200);
  EXPECT_TRUE(server.saw_the_end());
}

TEST_F(TcpClosing, AnEndThatIsRepeatedIsAcknowledgedAgain) {
  client.opens(plain);
  client.sends(kAck | kFin);
  client.expects_ack(2);
  client.sends(kAck | kFin, {.seq = 1});
  client.expects(kAck, {.seq = 1, .ack = 2});
  EXPECT_TRUE(server.is_open());
}

TEST_F(TcpClosing, NothingFollowsAnEnd) {
  client.opens(plain);
  client.sends(kAck | kFin, {.data = 10});
  client.sends(kAck, {.seq = 12, .text = "more"});
  client.sends(kAck, {.seq = 5, .data = 100});
  server.heard(10);
  EXPECT_TRUE(server.saw_the_end());
  client.drain();
}

TEST_F(TcpClosing, AHalfClosedConnectionHasAllTheTimeThereIs) {
  client.opens(plain);
  client.sends(kAck | kFin);
  after(1h);
  client.drain();
  server.says(100);
  client.expects_data(1, 100);
}

// ---- the server's end ----

TEST_F(TcpClosing, AnEndThatIsLostIsSentAgain) {
  client.opens(plain);
  server.ends();
  client.loses(1);
  EXPECT_NEAR(client.waits(), 0.2, 0.03);
  client.expects(kAck | kFin, {.seq = 1});
  client.loses_all();
  EXPECT_NEAR(client.waits(), 0.4, 0.05);
  client.expects(kAck | kFin, {.seq = 1});
  client.acks(2);
  after(1min);
  client.expects_nothing();
}

TEST_F(TcpClosing, AnEndBehindLostDataComesWithIt) {
  client.opens(plain);
  server.says(3000);
  server.ends();
  client.loses_all();
  for (int i = 0; i < 10 && client.received() != 3002; ++i) {
    client.waits(5s);
    client.drain();
    client.acks(client.received());
  }
  EXPECT_EQ(client.received(), 3002U);
}

TEST_F(TcpClosing, AnEndThatNobodyAcknowledgesIsGivenUp) {
  client.opens(plain);
  server.ends();
  after(1h);
  client.drain();
  expect_broken_off();
  EXPECT_EQ(world.counters().timed_out, 1U);
}

TEST_F(TcpClosing, AnEndBehindAClosedWindowComesLater) {
  client.opens(plain);
  client.window = 100;
  client.acks(1);
  server.says(200);
  server.ends();
  client.expects_data(1, 100);
  client.window = 0;
  client.acks(101);
  client.expects_nothing();
  client.window = 1000;
  client.acks(101);
  client.drain();
  EXPECT_EQ(client.received(), 202U);
}

// ---- after both ----

TEST_F(TcpClosing, AnEndThatIsRepeatedInTimeWaitIsAcknowledged) {
  client.opens(plain);
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin);
  client.loses_all();
  after(1s);
  client.sends(kAck | kFin, {.seq = 1});  // RFC 9293 section 3.10.7.4
  client.expects(kAck, {.seq = 2, .ack = 2});
  client.sends(kAck, {.seq = 2});
  client.expects_nothing();
}

TEST_F(TcpClosing, ANewSynInTimeWaitOpensAnew) {
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    TcpWorld other({}, seed);
    ScriptClient from{other};
    ScriptServer to{from};
    from.opens(plain);
    to.ends();
    from.expects(kAck | kFin, {.seq = 1});
    from.sends(kAck | kFin);
    from.drain();
    const std::uint32_t first = from.server_first();
    from.starts_over(1'000'000 + 5000);  // RFC 9293 section 3.10.7.4: larger than what was seen
    from.sends(kSyn, plain);
    ASSERT_TRUE(to.is_open());
    to.accepts();
    from.expects(kSyn | kAck, {.seq = 0, .ack = 1});
    EXPECT_TRUE(before(first + 1, from.server_first())) << "its own are larger too: section 3.6.1, MAY-2";
    from.sends(kAck, {.data = 10});
    to.heard(10);
    EXPECT_EQ(other.terminator.connections(), 1U);
  }
}

TEST_F(TcpClosing, AnOldSynInTimeWaitIsAcknowledgedAndNoMore) {
  client.opens(plain);
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin);
  client.drain();
  client.sends(kSyn, {.seq = 0, .mss = 1460});
  client.expects(kAck, {.seq = 2, .ack = 2});
  EXPECT_EQ(world.streams.last(), 1);
}

TEST_F(TcpClosing, ANewerTimestampOpensAnewToo) {
  client.opens(stamped);  // RFC 6191 section 2
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin);
  client.drain();
  after(2s);
  client.starts_over(1000);  // below the old ones
  client.sends(kSyn, stamped);
  ASSERT_TRUE(server.is_open());
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
}

TEST_F(TcpClosing, AResetInTimeWaitDoesNotEndItBeforeItsTime) {
  client.opens(plain);  // RFC 1337; closing at once is what RFC 9293 has: both are well
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin);
  client.drain();
  client.sends(kRst, {.seq = 2});
  client.expects_nothing();
  after(5min);
  expect_over();
}

// ---- by force ----

TEST_F(TcpClosing, AResetAtTheExactPlaceBreaksOff) {
  client.opens(plain);  // RFC 5961 section 3.2
  client.sends(kAck, {.data = 100});
  client.drain();
  client.sends(kRst);
  client.expects_nothing();
  expect_broken_off();
  server.heard(100);
  EXPECT_EQ(world.counters().reset_by_client, 1U);
}

TEST_F(TcpClosing, AResetMayAcknowledge) {
  client.opens(plain);
  server.says(100);
  client.expects_data(1, 100);
  client.sends(kRst | kAck, {.ack = 101});
  client.expects_nothing();
  expect_broken_off();
}

TEST_F(TcpClosing, AServerThatResetsWithDataUnderWayResetsBehindIt) {
  client.opens(plain);
  server.says(500);
  client.expects_data(1, 500);
  server.resets();
  client.expects_reset(501);
  expect_broken_off();
}

TEST_F(TcpClosing, AServerThatResetsTakesWhatTheClientStillSays) {
  client.opens(plain);
  server.has_room(0);
  client.sends(kAck, {.data = 1000});
  client.expects_ack(1001);
  server.resets();
  client.expects_reset(1);
  expect_broken_off();
}

TEST_F(TcpClosing, AResetElsewhereInTheWindowIsChallenged) {
  client.opens(plain);  // RFC 5961 section 3.2
  client.sends(kRst, {.seq = 100});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0});
  EXPECT_TRUE(server.is_open());
  client.sends(kRst, {.seq = 1});  // whom it was meant for answers with this
  expect_broken_off();
}

TEST_F(TcpClosing, AResetBeyondTheWindowIsNothing) {
  client.opens(plain);  // RFC 5961 section 3.2
  client.sends(kRst, {.seq = client.right_edge() + 1000});
  client.sends(kRst, {.seq = 0});
  client.sends(kRst, {.seq = 0U - 5000});
  client.expects_nothing();
  EXPECT_TRUE(server.is_open());
}

TEST_F(TcpClosing, ASynInTheWindowIsChallenged) {
  client.opens(plain);  // RFC 5961 section 4
  client.sends(kSyn, {.seq = 100, .mss = 1460});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0});
  after(5s);
  client.sends(kSyn, {.seq = 0U - 100'000, .mss = 1460});  // and wherever else it is
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0});
  EXPECT_TRUE(server.is_open());
  EXPECT_EQ(world.streams.last(), 1);
}

TEST_F(TcpClosing, AClientThatForgotTheConnectionGetsRidOfIt) {
  client.opens(plain);  // RFC 9293 section 3.5.1: its SYN is challenged, and it answers with RST
  client.sends(kSyn, {.seq = 5000, .mss = 1460});
  const Seen challenge = client.expects(kAck, {.seq = 1, .ack = 1});
  client.sends(kRst, {.seq = challenge.ack});
  expect_broken_off();
  client.starts_over(1'005'000);
  client.opens(plain);
}

TEST_F(TcpClosing, AServerThatResetsResetsTheClient) {
  client.opens(plain);
  server.says(500);
  client.expects_data(1, 500);
  client.acks(501);
  server.resets();
  client.expects_reset(501);  // RFC 9293 section 3.10.7.4: <SEQ=SND.NXT>
  client.expects_nothing();
  expect_broken_off();
  EXPECT_EQ(world.counters().reset_by_server, 1U);
  client.sends(kAck, {.data = 10});
  client.expects(kRst, {.seq = 501});
}

TEST_F(TcpClosing, AServerThatResetsAfterItsEndResetsTheClient) {
  client.opens(plain);
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.acks(2);
  server.resets();  // as when what the client still says meets nobody
  client.expects_reset(2);
  expect_broken_off();
}

TEST_F(TcpClosing, AClientThatResetsWhileDataWaitsTakesItAlong) {
  client.opens(plain);
  server.has_room(0);
  client.sends(kAck, {.data = 1000});
  client.drain();
  client.sends(kRst);
  expect_broken_off();
}

TEST_F(TcpClosing, AbortIsSilent) {
  client.opens(plain);
  server.says(500);
  client.expects_data(1, 500);
  world.terminator.abort(client.ends);
  world.settle();
  after(1h);
  client.expects_nothing();
  EXPECT_FALSE(server.is_open());
  EXPECT_TRUE(server.was_aborted());
  EXPECT_TRUE(world.gone.empty()) << "who aborts knows";
  EXPECT_EQ(world.terminator.connections(), 0U);
  EXPECT_EQ(world.terminator.timers(), 0U);
  world.terminator.abort(client.ends);  // there is none
}

TEST_F(TcpClosing, AbortBeforeTheServerAnswers) {
  client.sends(kSyn, plain);
  world.terminator.abort(client.ends);
  world.settle();
  EXPECT_TRUE(world.streams.open.empty());
  client.expects_nothing();
  EXPECT_EQ(world.terminator.timers(), 0U);
}

TEST_F(TcpClosing, WhatEndsTakesNoWordsFromWhoeverComesNext) {
  client.opens(plain);
  client.sends(kRst);
  client.starts_over(7'000'000);
  client.sends(kAck, {.seq = 1, .ack = 10, .data = 10});
  client.expects(kRst, {.seq = 10});
}

// ---- by silence ----

class TcpKeepalive : public TcpClosing {
 protected:
  TcpKeepalive() : TcpClosing({.keepalive = 10min}) {}
};

TEST_F(TcpKeepalive, ASilentClientIsAskedWhetherItLives) {
  client.opens(stamped);
  for (int i = 0; i < 5; ++i) {
    EXPECT_NEAR(client.waits(1h), 600, 5);  // RFC 9293 section 3.8.4
    const Seen probe = client.expects(kAck, {.seq = 0, .ack = 1});
    EXPECT_LE(probe.data.size(), 1U);
    client.acks(1);
    client.expects_nothing();
  }
  EXPECT_TRUE(server.is_open());
}

TEST_F(TcpKeepalive, WhoeverSpeaksIsNotAsked) {
  client.opens(plain);
  for (int i = 0; i < 20; ++i) {
    after(9min);
    client.sends(kAck, {.data = 10});
    client.expects_ack(client.next());
  }
  client.expects_nothing();
}

TEST_F(TcpKeepalive, AClientThatIsGoneIsForgotten) {
  client.opens(plain);
  after(10min + 5s);
  EXPECT_EQ(client.drain().size(), 1U);
  after(30min);
  EXPECT_GE(client.drain().size(), 3U) << "it is asked more than once";
  expect_broken_off();
  EXPECT_EQ(world.counters().timed_out, 1U);
  EXPECT_EQ(world.counters().reset_by_server, 0U);
}

TEST_F(TcpKeepalive, AClientThatDoesNotKnowItAnyMoreSaysSo) {
  client.opens(plain);
  client.waits(1h);
  client.expects(kAck, {.seq = 0});
  client.sends(kRst, {.seq = 1});
  expect_broken_off();
  EXPECT_EQ(world.counters().reset_by_client, 1U);
}

TEST_F(TcpKeepalive, AHalfClosedConnectionIsAskedToo) {
  client.opens(plain);
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.acks(2);
  EXPECT_NEAR(client.waits(1h), 600, 5);
  client.expects(kAck, {.seq = 1, .ack = 1});
  after(30min);
  client.drain();
  expect_broken_off();
}

}  // namespace
}  // namespace penstock::egress::testing
