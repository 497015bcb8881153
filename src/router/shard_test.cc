#include "router/shard.h"

#include <gtest/gtest.h>

#include "test/support/manual_loop.h"
#include "test/support/packets.h"

namespace penstock::router {
namespace {

using test::batch_of;
using test::ip_packet;

class FakeLink final : public SessionLink {
 public:
  void packets_waiting() override {}
  void end(std::string_view reason) override { ended = reason; }
  void probe(Duration, std::move_only_function<void(bool)>) override {}
  std::string ended;
};

SessionSpec spec(std::uint32_t slot, const char* address) {
  return {.id = {.slot = slot, .generation = 1},
          .name = "client",
          .prefixes = {Prefix::parse(address).value()},
          .queue_bytes = std::size_t{64} << 20,
          .usage = std::make_shared<Usage>()};
}

// Alice (10.0.0.2) lives on shard 0, Bob (10.0.0.3) on shard 1.
class ShardTest : public testing::Test {
 protected:
  ShardTest() {
    shards.push_back(std::make_unique<Shard>(0, loop0));
    shards.push_back(std::make_unique<Shard>(1, loop1));
    Shard::connect(shards);
    alice = shards[0]->open_session(spec(0, "10.0.0.2"));
    bob = shards[1]->open_session(spec(1, "10.0.0.3"));
    const auto routes =
        RouteTable().with(Prefix::parse("10.0.0.2").value(), alice).with(Prefix::parse("10.0.0.3").value(), bob);
    for (auto& shard : shards) shard->router().set_routes(routes);
    shards[1]->session(bob)->attach(bobs_link, 1, "");
  }
  void alice_sends(PacketBatch batch) { shards[0]->router().from_session(*shards[0]->session(alice), batch); }

  test::ManualLoop loop0;
  test::ManualLoop loop1;
  FakeLink bobs_link;
  std::vector<std::unique_ptr<Shard>> shards;
  PortId alice;
  PortId bob;
};

TEST_F(ShardTest, APacketForASessionOfAnotherLoopCrossesInARing) {
  alice_sends(batch_of(ip_packet("10.0.0.2", "10.0.0.3", "one"), ip_packet("10.0.0.2", "10.0.0.3", "two")));
  EXPECT_FALSE(shards[1]->session(bob)->has_packets()) << "nothing happens on the other loop before it runs";
  loop1.run_until_idle();
  PacketBatch taken;
  shards[1]->session(bob)->take(taken, 1000);
  ASSERT_EQ(taken.size(), 2U);
  EXPECT_EQ(test::payload_of(taken[0]), "one");
  EXPECT_EQ(test::payload_of(taken[1]), "two");
}

TEST_F(ShardTest, WhatGoesToEverybodyReachesTheSessionsOfAllLoopsButItsSender) {
  const PortId carol = shards[0]->open_session(spec(2, "10.0.0.4"));
  const PortId dave = shards[1]->open_session(spec(3, "10.0.0.5"));
  const PortId away = shards[1]->open_session(spec(4, "10.0.0.6"));
  FakeLink alices;
  FakeLink carols;
  FakeLink daves;
  shards[0]->session(alice)->attach(alices, 1, "");
  shards[0]->session(carol)->attach(carols, 1, "");
  shards[1]->session(dave)->attach(daves, 1, "");
  for (auto& shard : shards) shard->set_discovery({.on = true});
  alice_sends(batch_of(ip_packet("10.0.0.2", "224.0.0.251", "8 bytes of UDP, and then: who is there?")));
  loop1.run_until_idle();

  for (const auto& [shard, id] : {std::pair(0, carol), std::pair(1, bob), std::pair(1, dave)}) {
    Session* session = shards[static_cast<std::size_t>(shard)]->session(id);
    PacketBatch taken;
    session->take(taken, 1000);
    ASSERT_EQ(taken.size(), 1U) << session->id().slot;
    EXPECT_EQ(test::payload_of(taken[0]), "8 bytes of UDP, and then: who is there?");
    EXPECT_EQ(taken[0].source, shards[0]->session(alice)->id());
    EXPECT_EQ(taken[0].bytes()[8], 64) << "the TTL as it was";
    EXPECT_EQ(session->meter().snapshot({}).down.packets, 1U);
  }
  EXPECT_FALSE(shards[0]->session(alice)->has_packets());
  EXPECT_EQ(shards[0]->session(alice)->meter().snapshot({}).up.packets, 1U);
  EXPECT_FALSE(shards[1]->session(away)->has_packets());
  for (auto& shard : shards) EXPECT_EQ(shard->router().drops().of(Drop::session_detached), 0U) << "nobody lost a thing";
}

TEST_F(ShardTest, AFullRingDropsAndCounts) {
  for (std::size_t i = 0; i < Shard::kRingCapacity + 10; ++i) alice_sends(batch_of(ip_packet("10.0.0.2", "10.0.0.3")));
  EXPECT_EQ(shards[0]->router().drops().of(Drop::crossing_full), 10U);
  loop1.run_until_idle();
  PacketBatch taken;
  shards[1]->session(bob)->take(taken, std::size_t{1} << 30);
  EXPECT_EQ(taken.size(), Shard::kRingCapacity);
}

TEST_F(ShardTest, LargePacketsFillARingInBytesBeforeTheyFillItInNumber) {
  const std::string large(60000, 'x');
  for (int i = 0; i < 1000; ++i) alice_sends(batch_of(ip_packet("10.0.0.2", "10.0.0.3", large)));
  const auto dropped = shards[0]->router().drops().of(Drop::crossing_full);
  EXPECT_GE((1000 - dropped) * 60000, Shard::kRingBytes * 8 / 10);
  EXPECT_LE((1000 - dropped) * 60000, Shard::kRingBytes);
  loop1.run_until_idle();
  alice_sends(batch_of(ip_packet("10.0.0.2", "10.0.0.3", large)));
  EXPECT_EQ(shards[0]->router().drops().of(Drop::crossing_full), dropped) << "there is room again";
}

TEST_F(ShardTest, ASessionThatEndsWhilePacketsCrossIsNotMissedByAStranger) {
  alice_sends(batch_of(ip_packet("10.0.0.2", "10.0.0.3")));
  shards[1]->close_session(bob, "gone");
  EXPECT_EQ(bobs_link.ended, "gone");
  const PortId carol = shards[1]->open_session(spec(2, "10.0.0.4"));
  EXPECT_EQ(carol.slot, bob.slot);
  loop1.run_until_idle();
  EXPECT_EQ(shards[1]->router().drops().of(Drop::session_gone), 1U);
  EXPECT_EQ(shards[1]->session(bob), nullptr);
}

}  // namespace
}  // namespace penstock::router
