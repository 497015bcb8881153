#include "router/session.h"

#include <gtest/gtest.h>

#include "test/support/packets.h"

namespace penstock::router {
namespace {

using test::batch_of;
using test::ip_packet;

class FakeLink final : public SessionLink {
 public:
  void packets_waiting() override { ++woken; }
  void end(std::string_view reason) override { ended = reason; }
  void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(true); }
  int woken = 0;
  std::string ended;
};

// A source that has `left` packets of 1000 bytes and sends as many as it has credit for.
class WaitingSource final : public CreditWaiter {
 public:
  WaitingSource(Port& port, int packets) : left(packets), port_(&port) {}
  ~WaitingSource() { port_->cancel_wait(*this); }
  void on_credit() override {
    PacketBatch batch;
    // Half of a turn's worth at a time, so that sources have to take turns.
    for (int turn = 0; turn < 2 && left > 0; ++turn, --left)
      batch.push_back(ip_packet("10.0.0.9", "10.0.0.2", std::string(980, static_cast<char>('0' + left % 10))));
    if (port_->credit() < batch.size() * Packet::footprint_of(1000)) {
      left += static_cast<int>(batch.size());
      batch.clear();
    }
    sent += batch.size();
    if (!batch.empty()) port_->send(batch);
    if (left > 0) port_->wait_for_credit(*this);
  }
  int left;
  std::size_t sent = 0;

 private:
  Port* port_;
};

class SessionTest : public testing::Test {
 protected:
  DropCounters drops;
  std::shared_ptr<Usage> usage = std::make_shared<Usage>();
  ManualClock clock;
  Session session{
      {.id = {.slot = 1, .generation = 1}, .name = "bob", .prefixes = {}, .queue_bytes = 10000, .usage = usage},
      drops,
      clock};
  FakeLink link;
};

TEST_F(SessionTest, WithoutALinkPacketsAreCountedAsDetached) {
  auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2"), ip_packet("10.0.0.9", "10.0.0.2"));
  session.send(batch);
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(drops.of(Drop::session_detached), 2U);
  EXPECT_EQ(session.credit(), 0U);
}

TEST_F(SessionTest, TheLinkIsWokenOnceForManyPackets) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  for (int i = 0; i < 3; ++i) {
    auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2"));
    session.send(batch);
  }
  EXPECT_EQ(link.woken, 1);
}

TEST_F(SessionTest, DownIsChargedWhenAPacketLeavesTheQueueNotBefore) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2", std::string(80, 'x')));
  session.send(batch);
  EXPECT_EQ(session.meter().snapshot({}).down.bytes, 0U);
  EXPECT_GT(usage->queued_bytes.load(), 0U);
  PacketBatch taken;
  session.take(taken, 100000);
  EXPECT_EQ(taken.size(), 1U);
  EXPECT_EQ(session.meter().snapshot({}).down, (Traffic{.packets = 1, .bytes = 100}));
  EXPECT_EQ(usage->queued_bytes.load(), 0U);
}

TEST_F(SessionTest, ASlowReaderLosesPacketsAndNeverGrows) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  for (int i = 0; i < 1000; ++i) {
    auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2", std::string(980, 'x')));
    session.send(batch);
  }
  EXPECT_LE(session.queued_bytes(), 10000U);
  EXPECT_GT(drops.of(Drop::queue_full), 900U);
}

TEST_F(SessionTest, AQueueIsBoundedInPacketsToo) {
  Session few({.id = {.slot = 2, .generation = 1},
               .name = "carol",
               .prefixes = {},
               .queue_bytes = 1000000,
               .queue_packets = 10,
               .usage = usage},
              drops, clock);
  ASSERT_TRUE(few.attach(link, 1, ""));
  for (int i = 0; i < 25; ++i) {
    auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2", "x"));
    few.send(batch);
  }
  EXPECT_EQ(drops.of(Drop::queue_full), 15U);
  EXPECT_EQ(few.credit(), 0U);
  PacketBatch taken;
  few.take(taken, 1000000);
  EXPECT_EQ(taken.size(), 10U);
  EXPECT_GT(few.credit(), 0U);
}

TEST_F(SessionTest, ASuperPacketIsChargedAsThePacketsThatItStandsFor) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  auto batch = batch_of(test::super_packet("10.0.0.9", "10.0.0.2", 1500, 600));
  session.send(batch);
  PacketBatch taken;
  session.take(taken, 100000);
  EXPECT_EQ(taken.size(), 1U);
  EXPECT_EQ(session.meter().snapshot({}).down, (Traffic{.packets = 3, .bytes = 1500 + 3 * 40}));
}

TEST_F(SessionTest, WhatStoodForTooLongIsDroppedFromTheHeadAndCountedAsDelay) {
  Session slow(
      {.id = {.slot = 2, .generation = 1}, .name = "carol", .prefixes = {}, .queue_bytes = 1000000, .usage = usage},
      drops, clock);
  ASSERT_TRUE(slow.attach(link, 1, ""));
  PacketBatch taken;
  for (int turn = 0; turn < 400; ++turn) {
    auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2", std::string(980, 'x')),
                          ip_packet("10.0.0.9", "10.0.0.2", std::string(980, 'x')));
    slow.send(batch);
    slow.take(taken, 1000);
    taken.clear();
    clock.advance(std::chrono::milliseconds(2));
  }
  EXPECT_GT(drops.of(Drop::queue_delay), 0U);
  EXPECT_EQ(drops.of(Drop::queue_full), 0U);
}

TEST_F(SessionTest, WhileTheBudgetOfAllIsSpentWhoHoldsMostLosesAndWhoHoldsLittleGoesOn) {
  const auto budget = std::make_shared<QueueBudget>(1 << 20);
  const auto open = [&](std::uint32_t slot) {
    return std::make_unique<Session>(SessionSpec{.id = {.slot = slot, .generation = 1},
                                                 .name = "one",
                                                 .prefixes = {},
                                                 .queue_bytes = 4 << 20,
                                                 .queue_budget = budget,
                                                 .usage = usage},
                                     drops, clock);
  };
  FakeLink other;
  auto greedy = open(2);
  auto modest = open(3);
  ASSERT_TRUE(greedy->attach(link, 1, ""));
  ASSERT_TRUE(modest->attach(other, 1, ""));
  const auto send = [](Session& to) {
    auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2", std::string(980, 'x')));
    to.send(batch);
  };
  while (!budget->spent()) send(*greedy);
  send(*modest);
  EXPECT_EQ(drops.of(Drop::queue_full), 0U);
  send(*greedy);
  EXPECT_LE(greedy->queued_bytes(), QueueBudget::kWhenSpent);
  EXPECT_FALSE(budget->spent());
  greedy.reset();
  modest.reset();
  EXPECT_EQ(budget->used(), 0U);
}

TEST_F(SessionTest, ALaterLinkEndsTheOneBeforeAndAnEarlierOneIsTurnedAway) {
  FakeLink newer;
  ASSERT_TRUE(session.attach(link, 1, ""));
  ASSERT_TRUE(session.attach(newer, 3, "taken over"));
  EXPECT_EQ(link.ended, "taken over");
  FakeLink late;
  EXPECT_FALSE(session.attach(late, 2, "no"));
  EXPECT_EQ(session.link(), &newer);
}

TEST_F(SessionTest, ALinkThatDiedBeforeItWasAttachedStillEndsTheOneItOvertook) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  session.end_older_link(2, "taken over");
  EXPECT_EQ(link.ended, "taken over");
  EXPECT_EQ(session.link(), nullptr);
  FakeLink third;
  ASSERT_TRUE(session.attach(third, 3, ""));
  session.end_older_link(2, "late");
  EXPECT_EQ(session.link(), &third);
}

TEST_F(SessionTest, DetachingDropsWhatWaitedAndCountsIt) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  auto batch = batch_of(ip_packet("10.0.0.9", "10.0.0.2"));
  session.send(batch);
  session.detach();
  EXPECT_EQ(drops.of(Drop::session_detached), 1U);
  EXPECT_FALSE(session.has_packets());
}

TEST_F(SessionTest, SourcesThatWaitForCreditShareTheQueueAndLoseNothing) {
  ASSERT_TRUE(session.attach(link, 1, ""));
  WaitingSource first(session, 30);
  WaitingSource second(session, 30);
  first.on_credit();
  second.on_credit();
  while (first.left > 0 || second.left > 0 || session.has_packets()) {
    PacketBatch taken;
    session.take(taken, 4000);
    ASSERT_FALSE(taken.empty()) << "the sources wait for credit and the queue is empty";
    EXPECT_LE(std::max(first.sent, second.sent) - std::min(first.sent, second.sent), 6U) << "one of them starves";
  }
  EXPECT_EQ(drops.of(Drop::queue_full), 0U);
  EXPECT_EQ(session.meter().snapshot({}).down.packets, 60U);
}

}  // namespace
}  // namespace penstock::router
