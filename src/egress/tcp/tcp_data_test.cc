// What goes to and fro in an open connection where nothing is lost: order, acknowledgements, windows, sizes.
#include <gtest/gtest.h>

#include "egress/tcp/tcp_script_testing.h"

namespace penstock::egress::testing {
namespace {

const Says plain{.mss = 1460};
const Says sack{.mss = 1460, .sack = true};
const Says stamped{.mss = 1460, .scale = 7, .sack = true, .ts = true};

// ---- from the client ----

class TcpReceiving : public TcpScript {
 protected:
  // The client says what it may, in segments of a super-packet's size.
  void fill_the_window() {
    while (client.next() != client.right_edge()) {
      const std::size_t most = client.right_edge() - client.next();
      client.sends(kAck, {.data = std::min<std::size_t>(most, 14'000)});
      client.drain();
    }
  }
};

TEST_F(TcpReceiving, DataInOrderReachesTheServerAndIsAcknowledged) {
  client.opens(plain);
  client.sends(kAck | kPsh, {.data = 100});
  server.heard(100);
  client.expects_ack(101);
  client.sends(kAck, {.data = 14'000});  // a super-packet
  server.heard(14'100);
  client.expects_ack_now(14'101);
}

TEST_F(TcpReceiving, EverySecondFullSegmentIsAcknowledgedAtOnce) {
  client.opens(plain);  // RFC 9293 section 3.8.6.3, RFC 5681 section 4.2
  client.sends(kAck, {.data = 1460});
  client.sends(kAck, {.data = 1460});
  client.expects_ack_now(2921);
  client.sends(kAck, {.data = 1460});
  client.sends(kAck, {.data = 1460});
  client.expects_ack_now(5841);
}

TEST_F(TcpReceiving, ASingleSegmentIsAcknowledgedSoon) {
  client.opens(plain);  // RFC 9293 section 3.8.6.3: within half a second
  for (std::uint32_t at = 1; at < 100; at += 10) {
    client.sends(kAck, {.data = 10});
    EXPECT_LE(client.waits(1s), 0.06);
    client.expects_ack_now(at + 10);
    after(1s);
    client.expects_nothing();
  }
}

TEST_F(TcpReceiving, AnAcknowledgementRidesOnAnswers) {
  client.opens(plain);
  client.sends(kAck, {.data = 10});
  server.says(100);
  for (const Seen& seen : client.expects_data(1, 100)) EXPECT_EQ(seen.ack, 11U);
  client.acks(101);
  after(1s);
  client.expects_nothing();
}

TEST_F(TcpReceiving, WhatIsOutOfOrderWaitsAndIsAcknowledgedAtOnce) {
  client.opens(sack);  // RFC 5681 section 4.2, RFC 2018 section 4
  client.sends(kAck, {.seq = 101, .data = 100});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0, .sacks = {{{101, 201}}}});
  server.heard(0);
  client.sends(kAck, {.seq = 201, .data = 100});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0, .sacks = {{{101, 301}}}});
  client.sends(kAck, {.seq = 1, .data = 100});
  server.heard(300);
  const Seen all = client.expects(kAck, {.seq = 1, .ack = 301});  // a gap that fills: at once
  EXPECT_TRUE(all.sacks().empty());
}

TEST_F(TcpReceiving, AGapThatFillsInPartIsAcknowledgedAtOnce) {
  client.opens(sack);  // RFC 5681 section 4.2
  client.sends(kAck, {.seq = 201, .data = 100});
  client.expects(kAck, {.ack = 1, .sacks = {{{201, 301}}}});
  client.sends(kAck, {.seq = 1, .data = 100});
  client.expects(kAck, {.ack = 101, .sacks = {{{201, 301}}}});
  server.heard(100);
}

TEST_F(TcpReceiving, TheMostRecentBlockStandsFirst) {
  client.opens(sack);  // RFC 2018 section 4
  client.sends(kAck, {.seq = 301, .data = 100});
  client.sends(kAck, {.seq = 501, .data = 100});
  client.sends(kAck, {.seq = 101, .data = 100});
  client.drain();
  client.sends(kAck, {.seq = 701, .data = 100});
  // The first is the one that came last; the order of the others is advice alone.
  auto blocks = client.expects(kAck, {.ack = 1}).sacks();
  EXPECT_EQ(blocks.at(0), (SackBlock{701, 801}));
  EXPECT_EQ(blocks.size(), 4U);
  client.sends(kAck, {.seq = 401, .data = 50});  // a block that grows is the most recent
  blocks = client.expects(kAck, {.ack = 1}).sacks();
  EXPECT_EQ(blocks.at(0), (SackBlock{301, 451}));
  EXPECT_EQ(blocks.size(), 4U);
  client.sends(kAck, {.seq = 1, .data = 800});
  client.expects_ack_now(801);
  server.heard(800);
}

TEST_F(TcpReceiving, ThreeBlocksFitBesideTimestamps) {
  client.opens(stamped);  // RFC 2018 section 3
  for (const std::uint32_t seq : {101U, 301U, 501U, 701U}) client.sends(kAck, {.seq = seq, .data = 100});
  client.loses(3);
  const auto blocks = client.expects(kAck, {.ack = 1}).sacks();
  EXPECT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks.at(0), (SackBlock{701, 801}));
}

TEST_F(TcpReceiving, WithoutSackTheGapIsToldByRepetition) {
  client.opens(plain);  // RFC 5681 section 4.2: a duplicate for each
  for (const std::uint32_t seq : {101U, 201U, 301U}) {
    client.sends(kAck, {.seq = seq, .data = 100});
    client.expects(kAck, {.seq = 1, .ack = 1, .data = 0, .sacks = {{}}});
  }
  client.sends(kAck, {.seq = 1, .data = 100});
  client.expects_ack_now(401);
  server.heard(400);
}

TEST_F(TcpReceiving, WhatCameBeforeIsAcknowledgedAtOnceAndDropped) {
  client.opens(sack);  // RFC 9293 section 3.10.7.4; RFC 2883 lets the block name what came twice
  client.sends(kAck, {.data = 300});
  client.expects_ack(301);
  client.sends(kAck, {.seq = 1, .data = 300});
  const Seen again = client.expects(kAck, {.seq = 1, .ack = 301});
  EXPECT_TRUE(again.sacks().empty() || again.sacks() == (std::vector<SackBlock>{{1, 301}}));
  client.sends(kAck, {.seq = 101, .data = 100});
  client.expects(kAck, {.seq = 1, .ack = 301});
  server.heard(300);
}

TEST_F(TcpReceiving, WhatLiesBeyondTheWindowIsAcknowledgedAndDropped) {
  client.opens(plain);  // RFC 9293 section 3.10.7.4
  const std::uint32_t edge = client.right_edge();
  client.sends(kAck, {.seq = edge, .text = "beyond"});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0});
  client.sends(kAck, {.seq = edge + 1'000'000, .text = "far beyond"});
  client.expects(kAck, {.seq = 1, .ack = 1, .data = 0});
  server.heard(0);
  EXPECT_GE(world.counters().out_of_window, 2U);
}

TEST_F(TcpReceiving, OverlapsOnBothSidesAreCut) {
  client.opens(sack);
  client.sends(kAck, {.seq = 101, .data = 100});
  client.sends(kAck, {.seq = 301, .data = 100});
  client.drain();
  client.sends(kAck, {.seq = 51, .data = 300});  // before, over, between and into
  client.expects(kAck, {.ack = 1, .sacks = {{{51, 401}}}});
  client.sends(kAck, {.seq = 1, .data = 60});
  client.expects_ack_now(401);
  client.sends(kAck, {.seq = 351, .data = 100});  // half of it is old
  client.expects_ack(451);
  server.heard(450);
}

TEST_F(TcpReceiving, SequenceNumbersOfTheClientWrap) {
  ScriptClient far{world, "10.100.0.2:40001", "192.0.2.1:80", 0xFFFF'FF00};
  ScriptServer its{far};
  far.opens(sack);
  far.sends(kAck, {.seq = 201, .data = 100});
  far.expects(kAck, {.ack = 1, .sacks = {{{201, 301}}}});  // across it
  far.sends(kAck, {.seq = 101, .data = 100});
  far.expects(kAck, {.ack = 1, .sacks = {{{101, 301}}}});
  far.sends(kAck, {.seq = 1, .data = 100});
  far.expects_ack_now(301);
  far.sends(kAck | kFin, {.data = 100});
  far.expects_ack(402);
  its.heard(400);
  EXPECT_TRUE(its.saw_the_end());
}

TEST_F(TcpReceiving, AnOldTimestampIsDroppedAndAcknowledged) {
  client.opens(stamped);  // RFC 7323 section 5.3
  client.sends(kAck, {.data = 100, .stamps = TcpTimestamps{5000, client.last_stamp_seen()}});
  client.expects_ack(101);
  client.sends(kAck, {.text = std::string(100, 'x'), .stamps = TcpTimestamps{4999, client.last_stamp_seen()}});
  client.expects(kAck, {.seq = 1, .ack = 101, .echo = 5000});
  server.heard(100);
  client.sends(kRst, {.seq = 101, .stamps = TcpTimestamps{4999, 0}});  // section 5.2: of a RST it is not asked
  EXPECT_TRUE(server.was_aborted());
}

TEST_F(TcpReceiving, ASegmentWithoutItsTimestampIsDropped) {
  client.opens(stamped);  // RFC 7323 section 3.2
  client.sends(kAck, {.text = "no stamp", .unstamped = true});
  server.heard(0);
  client.drain();
  EXPECT_TRUE(server.is_open());
}

TEST_F(TcpReceiving, TheTimestampThatIsEchoedIsOfWhatTheAckIsFor) {
  client.opens(stamped);  // RFC 7323 section 4.3
  const auto at = [&](std::uint32_t seq, std::uint32_t value) {
    client.sends(kAck, {.seq = seq, .data = 100, .stamps = TcpTimestamps{value, client.last_stamp_seen()}});
  };
  at(1, 5000);
  client.expects_ack(101);
  at(201, 5010);  // (B) beyond a gap: of the last that was in order
  client.expects(kAck, {.ack = 101, .echo = 5000});
  at(101, 5020);  // (C) what fills it
  client.expects(kAck, {.ack = 301, .echo = 5020});
  at(301, 5030);
  const bool at_once = !client.has_seen_nothing();
  if (at_once) client.expects(kAck, {.ack = 401, .echo = 5030});
  at(401, 5040);  // (A) of two the earlier, where they are acknowledged together
  client.waits(1s);
  client.expects(kAck, {.ack = 501, .echo = at_once ? 5040U : 5030U});
}

TEST_F(TcpReceiving, AFullServerClosesTheWindowAndRoomOpensIt) {
  client.opens(plain);
  server.has_room(1000);
  fill_the_window();  // that its right edge never goes back is checked of each segment
  const std::uint32_t said = client.right_edge() - 1;
  EXPECT_GT(said, 1000U);
  client.waits(100ms);
  client.drain();
  server.heard(1000);
  client.sends(kAck, {.text = "?"});                     // does it not take a byte?
  client.expects(kAck, {.ack = said + 1, .window = 0});  // RFC 9293 section 3.8.6.1
  server.heard(1000);

  server.has_room(SIZE_MAX);
  server.heard(said);
  const Seen update = client.expects(kAck, {.ack = said + 1, .data = 0});
  EXPECT_GE(update.window, 1460U);
  client.sends(kAck, {.seq = said + 1, .data = 1460});
  server.heard(said + 1460);
}

TEST_F(TcpReceiving, ALittleRoomDoesNotOpenTheWindow) {
  client.opens(plain);  // RFC 9293 section 3.8.6.2.2: not before a segment or half of it fits
  server.has_room(0);
  fill_the_window();
  client.drain();
  for (std::size_t i = 0; i < 10; ++i) {
    server.has_room(10);
    for (const Seen& seen : client.drain()) EXPECT_EQ(seen.window, 0U) << to_text(seen);
  }
}

TEST_F(TcpReceiving, AnAckOfWhatWasNotSentIsAnswered) {
  client.opens(plain);  // RFC 9293 section 3.10.7.4, RFC 5961 section 5
  client.acks(5000);
  client.expects(kAck, {.seq = 1, .ack = 1});
  client.sends(kAck, {.ack = 5000, .text = "not taken"});
  server.heard(0);
  client.drain();
  client.sends(kAck, {.seq = 1, .ack = 1, .data = 10});
  server.heard(10);
}

// ---- to the client ----

class TcpSending : public TcpScript {
 protected:
  // The server's next `size` bytes, all received and acknowledged as they come.
  void transfers(std::size_t size) {
    const std::uint32_t until = client.received() + static_cast<std::uint32_t>(size);
    server.says(size);
    for (int turns = 0; client.received() != until && turns < 100'000; ++turns) {
      if (client.has_seen_nothing() && client.waits(10s) >= 10) break;
      client.drain();
      client.acks(client.received());
      client.packets.clear();
    }
    EXPECT_EQ(client.received(), until);
  }
};

TEST_F(TcpSending, DataStaysWithTheServerUntilTheClientHasIt) {
  client.opens(plain);
  server.says(3000);
  client.expects_data(1, 3000);
  EXPECT_EQ(server.waiting(), 3000U);
  client.acks(1001);
  EXPECT_EQ(server.waiting(), 2000U);
  client.acks(3001);
  EXPECT_EQ(server.waiting(), 0U);
  after(10min);
  client.expects_nothing();
}

TEST_F(TcpSending, NothingGoesBeyondTheWindow) {
  client.window = 4000;
  client.opens({.mss = 1000});
  server.says(10'000);
  client.expects_data(1, 4000);
  client.expects_nothing();
  client.acks(4001);
  client.expects_data(4001, 4000);
  client.window = 1000;
  client.acks(8001);
  client.expects_data(8001, 1000);
}

TEST_F(TcpSending, TheWindowIsScaled) {
  client.window = 100;
  client.opens({.mss = 1280, .scale = 7});  // RFC 7323 section 2.3: 12 800
  server.says(50'000);
  client.expects_data(1, 12'800);
  client.expects_nothing();
}

TEST_F(TcpSending, ASegmentLeavesRoomForTimestamps) {
  client.opens(stamped);  // RFC 6691, RFC 7323 appendix A
  server.says(1448 * 4);
  for (const Seen& segment : client.expects_data(1, 1448 * 4)) EXPECT_EQ(segment.data.size(), 1448U);
}

TEST_F(TcpSending, MuchGoesInOnePacketThatAKernelCuts) {
  client.opens(stamped);
  client.packets.clear();
  server.says(1448 * 8);
  ASSERT_EQ(client.packets.size(), 1U);
  EXPECT_EQ(client.packets[0].offload,
            (Offload{.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 1448}));
  client.expects_data(1, 1448 * 8);

  ScriptClient six{world, "[2001:db8::2]:40000", "[2001:db8:1::1]:80"};
  six.opens({.mss = 1400});
  six.packets.clear();
  ScriptServer(six).says(1400 * 8);
  ASSERT_EQ(six.packets.size(), 1U);
  EXPECT_EQ(six.packets[0].offload, (Offload{.gso = Offload::Gso::tcp6, .needs_checksum = true, .segment_size = 1400}));
  six.expects_data(1, 1400 * 8);
}

TEST_F(TcpSending, ALittleIsAnOrdinaryPacket) {
  client.opens(plain);
  client.packets.clear();
  server.says(1460);
  ASSERT_EQ(client.packets.size(), 1U);
  EXPECT_EQ(client.packets[0].offload.gso, Offload::Gso::none);
  client.expects(kAck | kPsh, {.seq = 1, .data = 1460});
}

TEST_F(TcpSending, TheLastOfWhatThereIsIsPushed) {
  client.opens(plain);  // RFC 9293 section 3.9.1.2
  server.says(5000);
  const auto segments = client.expects_data(1, 5000);
  EXPECT_TRUE(segments.back().has(kPsh));
}

TEST_F(TcpSending, AClosedWindowIsAskedAboutAtGrowingIntervals) {
  client.opens(plain);
  client.window = 0;
  client.acks(1);
  client.drain();
  server.says(1000);
  client.expects_nothing();
  // RFC 9293 section 3.8.6.1: first after a retransmission timeout, then ever more rarely.
  double last = 0;
  for (int i = 0; i < 8; ++i) {
    const double waited = client.waits();
    EXPECT_GE(waited, i == 0 ? 0.19 : last * 1.5) << i;
    EXPECT_LE(waited, 120);
    last = waited;
    for (const Seen& probe : client.drain()) EXPECT_LE(probe.data.size(), 1U);
    client.acks(1);
    client.expects_nothing();
  }
  client.window = 5000;
  client.acks(client.received());
  const std::uint32_t rest = client.received();
  client.expects_data(rest, 1001 - rest);
}

TEST_F(TcpSending, AClosedWindowMayStayClosedForHours) {
  client.opens(plain);  // RFC 9293 section 3.8.6.1: as long as the client answers
  client.window = 0;
  client.acks(1);
  server.says(1000);
  client.drain();
  for (double time = 0; time < 7200;) {
    time += client.waits();
    client.drain();
    client.sends(kAck, {.ack = 1});
  }
  EXPECT_TRUE(server.is_open());
  client.window = 5000;
  client.acks(1);
  client.expects_data(1, 1000);
}

TEST_F(TcpSending, ALostWindowUpdateIsFoundOut) {
  client.opens(plain);
  client.window = 1000;
  client.acks(1);
  server.says(3000);
  client.expects_data(1, 1000);
  client.window = 0;
  client.acks(1001);
  client.expects_nothing();
  client.window = 65535;  // and what says so is lost
  EXPECT_LE(client.waits(), 1.1);
  client.drain();
  client.acks(client.received());  // the answer to the probe
  client.expects_data(client.received(), 3001 - client.received());
}

TEST_F(TcpSending, ASillyWindowIsNotUsedWhileSomethingIsUnderWay) {
  client.opens(plain);  // RFC 9293 section 3.8.6.2.1: less than a segment, and than half of the largest window
  server.says(1460 * 2);
  client.expects_data(1, 1460 * 2);
  client.window = 1510;
  client.acks(1461);
  server.says(3000);
  client.expects_nothing();
  client.window = 50;
  client.acks(2921);
  EXPECT_LE(client.waits(), 1.1);  // but after a time
  EXPECT_TRUE(client.gets(2921));
}

TEST_F(TcpSending, NothingIsAskedForWhereNothingWaits) {
  client.window = 4000;
  client.opens({.mss = 1000});
  server.says(4000);  // exactly what fits
  client.expects_data(1, 4000);
  client.window = 0;
  client.acks(4001);
  after(1s);
  client.drain();
  client.window = 4000;
  client.acks(4001);
  client.drain();
  after(1h);
  client.expects_nothing();
}

TEST_F(TcpSending, AClientWhoseWindowsAreAllSmallIsServed) {
  client.window = 50;
  client.opens(plain);
  server.says(200);
  for (std::uint32_t seq = 1; seq < 201; seq += 50) {
    client.expects_data(seq, 50);
    client.acks(seq + 50);
  }
  client.expects_nothing();
}

TEST_F(TcpSending, AnOldSegmentDoesNotChangeTheWindow) {
  client.opens({.mss = 1000});  // RFC 9293 section 3.10.7.4: WL1 and WL2
  client.sends(kAck, {.data = 100});
  client.drain();
  client.window = 2000;
  client.acks(1);
  client.drain();
  client.sends(kAck, {.seq = 50, .data = 10, .window = 3});  // older
  client.drain();
  server.says(2000);
  client.expects_data(1, 2000);
}

TEST_F(TcpSending, OfSegmentsOutOfOrderTheLaterTellsTheWindow) {
  client.opens({.mss = 1000});  // RFC 9293 section 3.10.7.4: WL1
  client.sends(kAck, {.seq = 201, .data = 10, .window = 5000});
  client.sends(kAck, {.seq = 101, .data = 10, .window = 3});
  client.drain();
  server.says(5000);
  client.expects_data(1, 5000);
}

TEST_F(TcpSending, WhatTheQueueHasNoRoomForStaysWithTheServer) {
  client.opens(plain);
  world.grants(0);
  server.says(20'000);
  client.expects_nothing();
  EXPECT_EQ(server.waiting(), 20'000U);
  world.grants(SIZE_MAX);
  client.expects_data(1, 20'000);
}

TEST_F(TcpSending, NoMoreGoesThanTheQueueHasRoomFor) {
  client.opens(plain);  // that each packet fits into what is left is checked where they arrive
  world.grants(5000);
  server.says(20'000);
  const std::size_t some = client.drain().size();
  EXPECT_GE(some, 1U);
  EXPECT_LE(some, 3U);
  client.acks(client.received());
  for (int i = 0; i < 20; ++i) {
    world.grants(5000);
    client.drain();
    client.acks(client.received());
  }
  EXPECT_EQ(client.received(), 20'001U);
}

TEST_F(TcpSending, WhileTheQueueIsFullNobodyIsGivenUp) {
  client.opens(plain);
  server.says(20'000);
  client.loses_all();  // the client's link is away
  world.grants(0);
  after(90min);
  client.expects_nothing();
  EXPECT_TRUE(server.is_open());
  world.grants(SIZE_MAX);
  EXPECT_FALSE(client.has_seen_nothing()) << "it is back: at once";
  for (int i = 0; i < 100 && client.received() != 20'001; ++i) {
    client.drain();
    client.acks(client.received());
    if (client.has_seen_nothing()) client.waits(1s);
  }
  EXPECT_EQ(client.received(), 20'001U);
}

TEST_F(TcpSending, SequenceNumbersOfTheServerWrap) {
  // There is no choosing where they begin: until one is near enough.
  constexpr std::uint32_t kNear = 8 << 20;
  const auto is_near = [](std::uint32_t number) { return number >= 0U - kNear && number < 0U - 20'000; };
  std::uint32_t first = 0;
  int tries = 0;
  for (; tries < 20'000 && !is_near(first); ++tries) {
    client.starts_over(1'000'000);
    client.sends(kSyn, stamped);
    server.accepts();
    client.expects(kSyn | kAck, {.seq = 0, .ack = 1});
    first = client.server_first();
    if (!is_near(first)) client.sends(kRst, {.seq = 1});
  }
  ASSERT_TRUE(is_near(first)) << "in " << tries << " tries";
  client.sends(kAck);
  transfers(0U - first - 10'000);  // up to shortly before
  server.says(20'000);
  client.expects_data(client.received(), 20'000);
  EXPECT_LT(client.server_first() + client.received(), 20'000U);
  client.acks(client.received());
  EXPECT_EQ(server.waiting(), 0U);
  transfers(100'000);
}

TEST_F(TcpSending, AMegabyteGoesEitherWayAtOnce) {
  client.opens(stamped);
  std::uint32_t until = 1'000'001;
  server.says(1'000'000);
  while (client.received() != until || client.next() != until) {
    const std::uint32_t had = client.received() + client.next();
    client.drain();
    client.packets.clear();
    const std::uint32_t most = std::min({until, client.right_edge(), client.next() + 14'000});
    client.sends(kAck, {.data = most - client.next()});
    if (client.received() + client.next() != had || !client.has_seen_nothing()) continue;
    ASSERT_LT(client.waits(), 1);
  }
  server.heard(1'000'000);
  client.expects_ack(until);
  EXPECT_EQ(server.waiting(), 0U);
  EXPECT_EQ(world.counters().retransmitted, 0U);
}

// The socket alone holds back a server whose client is far away: what is not acknowledged lies in it.
TEST_F(TcpSending, ASocketThatHoldsMuchForAFarClientIsWidenedAndAnotherIsNot) {
  client.opens({.mss = 1000});
  server.says(40'000);
  client.expects_data(1, 32'000);  // the initial window
  client.acks(32'001);
  client.expects_data(32'001, 8'000);
  client.acks(40'001);
  EXPECT_EQ(world.streams.at(client.stream).widened, 0U);
  server.says(50'000);
  client.expects_data(40'001, 50'000);
  EXPECT_GE(world.streams.at(client.stream).widened, 100'000U);
}

}  // namespace
}  // namespace penstock::egress::testing
