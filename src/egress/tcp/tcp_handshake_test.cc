// How connections begin, from clients and towards them.
#include <gtest/gtest.h>

#include "egress/tcp/tcp_script_testing.h"

namespace penstock::egress::testing {
namespace {

class TcpHandshake : public TcpScript {
 protected:
  // What nobody is left of: the client, its socket, timers.
  void expect_forgotten() {
    EXPECT_EQ(world.terminator.connections(), 0U);
    EXPECT_EQ(world.terminator.timers(), 0U);
    EXPECT_TRUE(world.was_closed(client.ends));
    EXPECT_TRUE(world.streams.open.empty());
  }
};

const Says modern{.mss = 1460, .scale = 7, .sack = true, .ts = true};

TEST_F(TcpHandshake, TheSynIsAnsweredOnceTheServerTookTheConnection) {
  client.sends(kSyn, modern);
  EXPECT_EQ(world.streams.at(client.stream).to, client.ends.server);
  after(900ms);
  client.expects_nothing();
  server.accepts();
  const Seen answer = client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  EXPECT_TRUE(answer.options.mss);
  EXPECT_TRUE(answer.options.window_scale);
  EXPECT_TRUE(answer.options.sack_permitted);
  EXPECT_EQ(answer.options.timestamps->echo, 1000U) << "RFC 7323 section 3.2: the value of the SYN";
  client.sends(kAck);
  client.sends(kAck, {.data = 10});
  server.heard(10);
  EXPECT_EQ(world.counters().opened, 1U);
}

TEST_F(TcpHandshake, ASynThatIsRepeatedMeanwhileIsNoSecondConnection) {
  client.sends(kSyn, modern);
  after(1s);
  client.sends(kSyn, modern);
  after(2s);
  client.sends(kSyn, modern);
  client.expects_nothing();
  EXPECT_EQ(world.streams.last(), 1);
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.expects_nothing();
}

TEST_F(TcpHandshake, ASynThatIsRepeatedAfterTheAnswerIsAnsweredAgain) {
  client.sends(kSyn, modern);
  server.accepts();
  client.loses_all();
  client.sends(kSyn, modern);  // RFC 9293 section 3.10.7.4, and 3.8.1: what was lost is repeated
  client.waits(3s);
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.sends(kAck);
  client.sends(kAck, {.data = 10});
  server.heard(10);
}

TEST_F(TcpHandshake, ARefusedConnectionIsReset) {
  client.sends(kSyn, modern);
  server.refuses(StreamError::refused);
  client.expects(kRst | kAck, {.seq = 0, .ack = 1});  // RFC 9293 section 3.10.7.1
  client.expects_nothing();
  EXPECT_EQ(world.counters().refused, 1U);
  expect_forgotten();
}

TEST_F(TcpHandshake, AConnectionThatIsRefusedAtOnceIsResetToo) {
  world.streams.refuses_at_once = StreamError::refused;
  client.sends(kSyn, modern);
  client.expects(kRst | kAck, {.seq = 0, .ack = 1});
  EXPECT_EQ(world.counters().refused, 1U);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpHandshake, WhatCannotBeReachedIsAnIcmpErrorAboutTheSyn) {
  // RFC 1122 section 3.2.2.1; the codes of prohibited: RFC 1812 section 5.2.7.1, RFC 4443 section 3.1.
  struct Case {
    StreamError error;
    std::uint8_t code4;
    std::uint8_t code6;
  };
  for (const auto& [error, code4, code6] :
       {Case{StreamError::network, 0, 0}, Case{StreamError::host, 1, 3}, Case{StreamError::prohibited, 13, 1}}) {
    for (const bool at_once : {false, true}) {
      for (const bool v4 : {true, false}) {
        TcpWorld other;
        ScriptClient from{other, v4 ? "10.100.0.2:40000" : "[2001:db8::2]:40000",
                          v4 ? "192.0.2.1:80" : "[2001:db8:1::1]:80"};
        ScriptServer to{from};
        if (at_once) other.streams.refuses_at_once = error;
        from.sends(kSyn, modern);
        if (!at_once) to.refuses(error);
        from.expects_icmp(v4 ? 3 : 1, v4 ? code4 : code6);
        from.expects_nothing();
        EXPECT_EQ(other.counters().refused, 1U);
        EXPECT_EQ(other.terminator.connections(), 0U);
      }
    }
  }
}

TEST_F(TcpHandshake, AServerThatDoesNotAnswerIsSilence) {
  client.sends(kSyn, modern);
  after(2min);
  server.refuses(StreamError::timed_out);
  client.expects_nothing();
  EXPECT_EQ(world.counters().timed_out, 1U);
  expect_forgotten();
}

TEST_F(TcpHandshake, WithoutSocketsThereIsNoNetwork) {
  world.streams.refuses_at_once = StreamError::exhausted;
  client.sends(kSyn, modern);
  client.expects_icmp(3, 0);
  EXPECT_EQ(world.counters().exhausted, 1U);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpHandshake, TheSynAckIsRepeatedAtGrowingIntervalsAndGivenUp) {
  client.sends(kSyn, modern);
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  // RFC 6298 sections 2.1 and 5.5.
  EXPECT_NEAR(client.waits(), 1, 0.1);
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  EXPECT_NEAR(client.waits(), 2, 0.1);
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  EXPECT_NEAR(client.waits(), 4, 0.1);
  after(5min);
  client.drain();
  EXPECT_TRUE(server.was_aborted());
  EXPECT_EQ(world.counters().timed_out, 1U);
  expect_forgotten();
}

TEST_F(TcpHandshake, TheClientThatLeavesInBetweenTakesTheSocketWithIt) {
  client.sends(kSyn, modern);
  client.sends(kRst, {.seq = 1});
  client.expects_nothing();
  EXPECT_TRUE(world.streams.open.empty());
  expect_forgotten();
}

TEST_F(TcpHandshake, AResetInPlaceOfTheThirdStepTakesItToo) {
  client.sends(kSyn, modern);
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.sends(kRst, {.seq = 1});
  client.expects_nothing();
  EXPECT_TRUE(server.was_aborted());
  EXPECT_EQ(world.counters().reset_by_client, 1U);
  expect_forgotten();
}

TEST_F(TcpHandshake, AServerThatResetsBeforeTheThirdStepResetsTheClient) {
  client.sends(kSyn, modern);
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  server.resets();
  client.expects_reset(1);
  EXPECT_EQ(world.counters().reset_by_server, 1U);
  expect_forgotten();
}

TEST_F(TcpHandshake, AServerThatSaysAllAndEndsBeforeTheThirdStep) {
  client.sends(kSyn, modern);
  server.accepts();
  server.says(500);
  server.ends();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.expects_nothing();
  client.sends(kAck);
  client.drain();
  EXPECT_EQ(client.received(), 502U);
}

TEST_F(TcpHandshake, AClientThatNamesNoMssGetsTheLeastThatEverybodyTakes) {
  // RFC 9293 section 3.7.1: 536 for IPv4, 1220 for IPv6. That no segment is larger is checked of each.
  client.opens({});
  server.says(2000);
  EXPECT_EQ(client.expects_data(1, 2000).front().data.size(), 536U);

  ScriptClient six{world, "[2001:db8::2]:40000", "[2001:db8:1::1]:80"};
  six.opens({});
  ScriptServer(six).says(4000);
  EXPECT_EQ(six.expects_data(1, 4000).front().data.size(), 1220U);
}

TEST_F(TcpHandshake, ATinyMssDoesNotKeepAClientOut) {
  client.sends(kSyn, {.mss = 1, .ts = true});
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  EXPECT_EQ(world.terminator.connections(), 1U);
}

TEST_F(TcpHandshake, OptionsAreUsedWhereTheyWereOfferedAlone) {
  // RFC 7323 sections 2.2 and 3.2, RFC 2018 section 2.
  for (unsigned offered = 0; offered < 8; ++offered) {
    TcpWorld other;
    ScriptClient from{other};
    ScriptServer to{from};
    Says offer{.mss = 1460, .sack = (offered & 1) != 0, .ts = (offered & 2) != 0};
    if ((offered & 4) != 0) offer.scale = 3;
    from.sends(kSyn, offer);
    to.accepts();
    const Seen answer = from.expects(kSyn | kAck, {.seq = 0, .ack = 1});
    EXPECT_EQ(answer.options.sack_permitted, offer.sack);
    EXPECT_EQ(answer.options.timestamps.has_value(), offer.ts);
    EXPECT_EQ(answer.options.window_scale.has_value(), offer.scale.has_value());
    from.sends(kAck);
    from.drain();
    to.says(100);
    from.expects_data(1, 100);  // timestamps on all or on none is checked of each
  }
}

TEST_F(TcpHandshake, WindowsOfSynsAreNotScaled) {
  // RFC 7323 section 2.2: a window of 1000 stays one, though the scale is 7.
  client.window = 1000;
  client.sends(kSyn, {.mss = 512, .scale = 7});
  server.accepts();
  const Seen answer = client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  EXPECT_GT(answer.window, 1000U) << "as large as it is, unscaled";
  client.sends(kAck, {.window = 8});  // 1024
  client.drain();
  server.says(3000);
  client.expects_data(1, 1024);
  client.expects_nothing();
}

TEST_F(TcpHandshake, AScaleBeyondFourteenIsFourteen) {
  client.window = 1;
  client.opens({.mss = 1024, .scale = 200});  // RFC 7323 section 2.3
  server.says(20'000);
  client.expects_data(1, 16'384);
  client.expects_nothing();
}

TEST_F(TcpHandshake, DataInTheSynIsKeptOrAskedForAgain) {
  client.sends(kSyn, {.data = 100, .mss = 1460});
  server.accepts();
  const Seen answer = client.expects(kSyn | kAck, {.seq = 0});
  EXPECT_TRUE(answer.ack == 1 || answer.ack == 101) << answer.ack;
  client.sends(kAck, {.seq = answer.ack});
  client.sends(kAck, {.seq = answer.ack, .data = 201 - answer.ack});
  server.heard(200);
  client.expects_ack(201);
}

TEST_F(TcpHandshake, DataAndEndMayComeWithTheThirdStep) {
  client.sends(kSyn, modern);
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.sends(kAck | kFin, {.data = 50});
  server.heard(50);
  EXPECT_TRUE(server.saw_the_end());
  client.expects_ack(52);
}

TEST_F(TcpHandshake, AnAckOfWhatWasNotSentIsResetAndTheConnectionLivesOn) {
  client.sends(kSyn, {.mss = 1460});
  server.accepts();
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.sends(kAck, {.ack = 5});  // RFC 9293 section 3.10.7.4, SYN-RECEIVED: <SEQ=SEG.ACK><CTL=RST>
  client.expects_reset(5);
  client.expects_nothing();
  EXPECT_TRUE(server.is_open());
  client.sends(kAck);
  client.sends(kAck, {.data = 10});
  server.heard(10);
}

TEST_F(TcpHandshake, ABadAckBeforeTheServerAnsweredOpensNothing) {
  client.sends(kSyn, {.mss = 1460});
  client.sends(kAck, {.seq = 1, .ack = 77, .data = 10});
  client.drain();
  server.accepts();
  client.drain();
  EXPECT_TRUE(world.streams.at(client.stream).heard.empty());
}

TEST_F(TcpHandshake, TheServerThatSpeaksFirstIsHeard) {
  client.sends(kSyn, modern);
  server.accepts();
  server.says(500);
  client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
  client.expects_nothing();
  client.sends(kAck);
  client.expects_data(1, 500);
}

TEST_F(TcpHandshake, UrgentDataIsDeliveredInLine) {
  client.opens({.mss = 1460});
  client.sends(kAck | kUrg, {.data = 100, .urgent = 50});  // RFC 9293 section 3.8.5; RFC 6093 section 5
  client.sends(kAck, {.data = 100});
  server.heard(200);
  client.expects_ack(201);
}

TEST_F(TcpHandshake, StraySegmentsAreReset) {
  // RFC 9293 section 3.10.7.1.
  client.sends(kAck, {.seq = 7, .ack = 9, .data = 10});
  client.expects(kRst, {.seq = 9});
  client.sends(kFin, {.seq = 7, .data = 10});
  client.expects(kRst | kAck, {.seq = 0, .ack = 18});
  client.sends(kSyn | kAck, {.seq = 7, .ack = 20});
  client.expects(kRst, {.seq = 20});
  client.sends(kRst, {.seq = 7});
  client.sends(kRst | kAck, {.seq = 7, .ack = 3});
  client.expects_nothing();
  EXPECT_EQ(world.counters().no_connection, 3U);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpHandshake, NonsenseOpensNothing) {
  client.sends(kSyn | kRst, {.mss = 1460});
  client.expects_nothing();
  client.sends(kSyn | kAck, {.ack = 3, .mss = 1460});
  client.expects(kRst, {.seq = 3});
  client.sends(0, {.seq = 5, .data = 10});
  client.expects(kRst | kAck, {.seq = 0, .ack = 15});
  EXPECT_EQ(world.streams.last(), 0);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

// ---- towards the client ----

class TcpForward : public TcpHandshake {};

TEST_F(TcpForward, AStreamFromOutsideIsASynToTheClient) {
  ASSERT_TRUE(client.is_called());
  const Seen syn = client.expects(kSyn, {.seq = 0});
  EXPECT_TRUE(syn.options.mss && syn.options.window_scale && syn.options.sack_permitted && syn.options.timestamps);
  client.sends(kSyn | kAck, modern);
  client.expects(kAck, {.seq = 1, .ack = 1});
  server.says(100);
  client.expects_data(1, 100);
  client.sends(kAck, {.data = 10});
  server.heard(10);
  EXPECT_EQ(world.counters().accepted, 1U);
}

TEST_F(TcpForward, WhatTheClientOffersHolds) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  client.window = 3000;
  client.sends(kSyn | kAck, {.mss = 1000});
  client.expects(kAck, {.seq = 1, .ack = 1});
  server.says(5000);
  for (const Seen& segment : client.expects_data(1, 3000)) {
    EXPECT_EQ(segment.data.size(), 1000U);
    EXPECT_FALSE(segment.options.timestamps);
  }
  client.expects_nothing();
}

TEST_F(TcpForward, AClientThatRefusesResetsTheOutside) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  client.sends(kRst | kAck, {.seq = 0, .ack = 1});  // RFC 9293 section 3.10.7.3
  client.expects_nothing();
  EXPECT_TRUE(server.was_aborted());
  expect_forgotten();
}

TEST_F(TcpForward, ARefusalOfAnotherSynIsNone) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  client.sends(kRst | kAck, {.seq = 0, .ack = 9});
  client.sends(kRst, {.seq = 0});
  EXPECT_TRUE(server.is_open());
  client.drain();
  client.sends(kSyn | kAck, {.seq = 0, .ack = 9, .mss = 1460});
  client.expects_reset(9);  // RFC 9293 section 3.10.7.3
  client.sends(kSyn | kAck, {.mss = 1460});
  client.expects(kAck, {.seq = 1, .ack = 1});
}

TEST_F(TcpForward, AClientThatIsSilentResetsTheOutsideAfterSomeSyns) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  EXPECT_NEAR(client.waits(), 1, 0.1);  // RFC 6298 sections 2.1 and 5.5
  client.expects(kSyn, {.seq = 0});
  EXPECT_NEAR(client.waits(), 2, 0.1);
  client.expects(kSyn, {.seq = 0});
  EXPECT_TRUE(server.is_open());
  after(5min);
  client.drain();
  EXPECT_TRUE(server.was_aborted());
  EXPECT_EQ(world.counters().timed_out, 1U);
  expect_forgotten();
}

TEST_F(TcpForward, ASimultaneousOpenIsRefused) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  client.sends(kSyn, {.mss = 1460});
  EXPECT_TRUE(client.expects(kRst | kAck, {.ack = 1}).has(kRst));
  EXPECT_TRUE(server.was_aborted());
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpForward, ACallerThatLeavesBeforeTheClientAnsweredIsForgotten) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  server.resets();
  client.drain();
  client.sends(kSyn | kAck, {.mss = 1460});
  client.expects_reset(1);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpForward, ASecondCallBetweenTheSameEndsIsRefused) {
  ASSERT_TRUE(client.is_called());
  client.expects(kSyn, {.seq = 0});
  EXPECT_FALSE(client.is_called());
  EXPECT_TRUE(world.streams.closed.contains(client.stream)) << "the stream is closed";
  client.expects_nothing();
  EXPECT_EQ(world.terminator.connections(), 1U);
}

}  // namespace
}  // namespace penstock::egress::testing
