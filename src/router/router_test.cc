#include "router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "test/support/packets.h"

namespace penstock::router {
namespace {

using test::batch_of;
using test::ip;
using test::ip_packet;

class SinkPort final : public Port {
 public:
  void send(PacketBatch& batch) override {
    batches.push_back(batch.size());
    for (Packet& packet : batch) packets.push_back(std::move(packet));
    batch.clear();
  }
  std::size_t credit() const override { return 1000; }
  void flood(std::span<const Packet> offered) override { flooded += offered.size(); }
  std::size_t flooded = 0;
  std::vector<std::size_t> batches;
  PacketBatch packets;
};

// Alice is 10.0.0.2, Bob 10.0.0.3; everything outside the subnet goes to `exit`.
class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    exit_id = router.add_port(exit);
    bob_id = router.add_port(bob);
    router.set_routes(RouteTable()
                          .with(Prefix::parse("10.0.0.0/24").value(), kNobody)
                          .with(Prefix::parse("0.0.0.0/0").value(), exit_id)
                          .with(Prefix::parse("10.0.0.3").value(), bob_id)
                          .with(Prefix::parse("10.0.0.99").value(), {.shard = 7, .slot = 1, .generation = 1}));
  }
  void let_discovery_through(std::size_t shards) {
    router.set_discovery({{.on = true, .subnet_broadcast = ip("10.0.0.255")}, std::make_shared<FloodBudget>(), clock},
                         shards);
  }
  static Packet broadcast(const char* from) { return ip_packet(from, "10.0.0.255", std::string(20, '\xEE')); }
  void from_alice(PacketBatch batch) { router.from_session(alice, batch); }
  std::uint64_t drops(Drop reason) const { return router.drops().of(reason); }

  ManualClock clock;
  std::vector<std::pair<PortId, std::size_t>> crossed;
  Router router{0, [this](PortId to, PacketBatch& batch) { crossed.emplace_back(to, batch.size()); },
                [this](Task task) { later.push_back(std::move(task)); }};
  std::vector<Task> later;
  SinkPort exit;
  SinkPort bob;
  PortId exit_id;
  PortId bob_id;
  DropCounters unused;
  Session alice{{.id = {.slot = 5, .generation = 1},
                 .name = "alice",
                 .prefixes = {Prefix::parse("10.0.0.2").value()},
                 .queue_bytes = 10000,
                 .usage = std::make_shared<Usage>()},
                unused};
};

TEST_F(RouterTest, APacketGoesToThePortOfItsDestinationWithItsSenderNoted) {
  from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.3", "hi")));
  ASSERT_EQ(bob.packets.size(), 1U);
  EXPECT_EQ(test::payload_of(bob.packets[0]), "hi");
  EXPECT_EQ(bob.packets[0].source, alice.id());
  EXPECT_EQ(alice.meter().snapshot({}).up, (Traffic{.packets = 1, .bytes = 22}));
}

TEST_F(RouterTest, ASpoofedSourceIsDroppedBeforeItIsCharged) {
  from_alice(batch_of(ip_packet("10.0.0.4", "10.0.0.3")));
  EXPECT_TRUE(bob.packets.empty());
  EXPECT_EQ(drops(Drop::spoofed_source), 1U);
  EXPECT_EQ(alice.meter().snapshot({}).up.packets, 0U);
}

TEST_F(RouterTest, AnAddressOfTheSubnetThatNobodyHasDoesNotFollowTheDefaultRoute) {
  from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.50"), ip_packet("10.0.0.2", "192.0.2.9")));
  EXPECT_EQ(drops(Drop::no_session), 1U);
  EXPECT_EQ(router.last_unmatched(), ip("10.0.0.50"));
  ASSERT_EQ(exit.packets.size(), 1U);
}

TEST_F(RouterTest, WhatCameFromAnExitNeverGoesBackToIt) {
  auto batch = batch_of(ip_packet("192.0.2.9", "198.51.100.1"), ip_packet("192.0.2.9", "10.0.0.3"));
  router.from_exit(exit_id, batch);
  EXPECT_TRUE(exit.packets.empty());
  EXPECT_EQ(drops(Drop::no_route), 1U);
  EXPECT_EQ(bob.packets.size(), 1U);
}

TEST_F(RouterTest, PacketsInARowToOnePortStayOneBatch) {
  from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.3"), ip_packet("10.0.0.2", "10.0.0.3"),
                      ip_packet("10.0.0.2", "192.0.2.9"), ip_packet("10.0.0.2", "10.0.0.3")));
  EXPECT_THAT(bob.batches, testing::ElementsAre(2, 1));
  EXPECT_THAT(exit.batches, testing::ElementsAre(1));
}

TEST_F(RouterTest, APortOfAnotherShardIsCrossedTo) {
  from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.99")));
  ASSERT_EQ(crossed.size(), 1U);
  EXPECT_EQ(crossed[0].first.shard, 7);
}

TEST_F(RouterTest, TheNameOfARemovedPortFindsNothingEvenWhenItsSlotIsTakenAgain) {
  router.remove_port(bob_id);
  SinkPort stranger;
  const PortId id = router.add_port(stranger);
  EXPECT_EQ(id.slot, bob_id.slot);
  from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.3")));
  EXPECT_TRUE(stranger.packets.empty());
  EXPECT_EQ(drops(Drop::session_gone), 1U);
}

TEST_F(RouterTest, GroupsAndBroadcastsAreNotRouted) {
  from_alice(batch_of(ip_packet("10.0.0.2", "224.0.0.251"), ip_packet("10.0.0.2", "255.255.255.255")));
  EXPECT_EQ(drops(Drop::multicast), 2U);
}

TEST_F(RouterTest, WhatGoesToEverybodyIsOfferedToThePortsOfThisShardAndCrossesOnceToEachOther) {
  let_discovery_through(3);
  from_alice(batch_of(broadcast("10.0.0.2"), broadcast("10.0.0.2"), ip_packet("10.0.0.2", "10.0.0.3")));
  EXPECT_EQ(bob.flooded, 2U);
  EXPECT_EQ(exit.flooded, 2U);
  EXPECT_EQ(bob.packets.size(), 1U);
  EXPECT_THAT(crossed, testing::ElementsAre(std::pair(everybody_on(1), 2U), std::pair(everybody_on(2), 2U)));
}

TEST_F(RouterTest, WhatAnotherShardSaysToEverybodyStaysOnThisOne) {
  let_discovery_through(3);
  auto batch = batch_of(broadcast("10.0.0.77"));
  router.deliver(everybody_on(0), batch);
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(bob.flooded, 1U);
  EXPECT_TRUE(crossed.empty());
}

TEST_F(RouterTest, ManyPortsHearItInSlicesOfWhichEachIsATurnOfTheLoop) {
  let_discovery_through(1);
  std::vector<SinkPort> crowd(2 * Router::kFloodSlice);
  for (SinkPort& port : crowd) router.add_port(port);
  const auto heard = [&] {
    std::vector<std::size_t> count(3);
    for (const SinkPort& port : crowd)
      if (port.flooded < count.size()) ++count[port.flooded];
    return count;
  };
  from_alice(batch_of(broadcast("10.0.0.2")));
  EXPECT_EQ(bob.flooded, 1U);
  EXPECT_EQ(heard()[1], Router::kFloodSlice - 2) << "the exit and bob are the other two";
  from_alice(batch_of(broadcast("10.0.0.2")));
  EXPECT_EQ(bob.flooded, 1U) << "the second comes after the first";
  router.remove_port(bob_id);
  for (std::size_t turn = 0; turn < later.size(); ++turn) std::exchange(later[turn], nullptr)();
  EXPECT_EQ(heard()[2], crowd.size());
  EXPECT_EQ(later.size(), 5U) << "twice three slices, the first of them at once";
  EXPECT_EQ(bob.flooded, 1U);
}

TEST_F(RouterTest, ASubnetBehindAClientDoesNotSpeakToEverybody) {
  let_discovery_through(1);
  Session site({.id = {.slot = 6, .generation = 1},
                .prefixes = {Prefix::parse("10.0.0.6").value(), Prefix::parse("192.168.7.0/24").value()},
                .queue_bytes = 10000,
                .usage = std::make_shared<Usage>()},
               unused);
  auto batch = batch_of(broadcast("10.0.0.6"), broadcast("192.168.7.1"), broadcast("10.0.0.2"));
  router.from_session(site, batch);
  EXPECT_EQ(bob.flooded, 1U);
  EXPECT_EQ(drops(Drop::multicast), 1U);
  EXPECT_EQ(drops(Drop::spoofed_source), 1U);
}

TEST_F(RouterTest, EveryPacketIsDeliveredOrCounted) {
  SeededRandom random(42);
  constexpr std::size_t kPackets = 20000;
  let_discovery_through(1);
  const std::array<const char*, 7> addresses{"10.0.0.2",  "10.0.0.3",  "10.0.0.50", "192.0.2.1",
                                             "224.0.0.1", "10.0.0.99", "10.0.0.255"};
  const std::string payload(20, '\0');
  for (std::size_t i = 0; i < kPackets; ++i) {
    Packet packet = ip_packet(addresses[random.next32() % 2], addresses[random.next32() % addresses.size()], payload);
    if (random.next32() % 8 == 0) packet.truncate(random.next32() % packet.size());
    if (random.next32() % 8 == 0 && !packet.empty())
      packet.mutable_bytes()[0] = static_cast<std::uint8_t>(random.next32());
    from_alice(batch_of(std::move(packet)));
  }
  EXPECT_EQ(bob.flooded, exit.flooded);
  std::uint64_t accounted = bob.packets.size() + exit.packets.size() + crossed.size() + bob.flooded;
  for (std::size_t i = 0; i < kDropReasons; ++i) accounted += drops(static_cast<Drop>(i));
  EXPECT_EQ(accounted, kPackets);
  EXPECT_GT(drops(Drop::malformed), 0U);
  EXPECT_GT(drops(Drop::spoofed_source), 0U);
  EXPECT_GT(drops(Drop::discovery_rate), 0U);
  EXPECT_EQ(bob.flooded, 40U);
}

}  // namespace
}  // namespace penstock::router
