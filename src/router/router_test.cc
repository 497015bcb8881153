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
  void from_alice(PacketBatch batch) { router.from_session(alice, batch); }
  std::uint64_t drops(Drop reason) const { return router.drops().of(reason); }

  std::vector<std::pair<PortId, std::size_t>> crossed;
  Router router{0, [this](PortId to, PacketBatch& batch) { crossed.emplace_back(to, batch.size()); }};
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

TEST_F(RouterTest, GroupsAndBroadcastsAreNotForwarded) {
  from_alice(batch_of(ip_packet("10.0.0.2", "224.0.0.251"), ip_packet("10.0.0.2", "255.255.255.255")));
  EXPECT_EQ(drops(Drop::multicast), 2U);
}

TEST_F(RouterTest, EveryPacketIsDeliveredOrCounted) {
  SeededRandom random(42);
  constexpr std::size_t kPackets = 20000;
  const std::array<const char*, 6> addresses{"10.0.0.2",  "10.0.0.3",  "10.0.0.50",
                                             "192.0.2.1", "224.0.0.1", "10.0.0.99"};
  for (std::size_t i = 0; i < kPackets; ++i) {
    Packet packet = ip_packet(addresses[random.next32() % 2], addresses[random.next32() % addresses.size()]);
    if (random.next32() % 8 == 0) packet.truncate(random.next32() % packet.size());
    if (random.next32() % 8 == 0 && !packet.empty())
      packet.mutable_bytes()[0] = static_cast<std::uint8_t>(random.next32());
    from_alice(batch_of(std::move(packet)));
  }
  std::uint64_t accounted = bob.packets.size() + exit.packets.size() + crossed.size();
  for (std::size_t i = 0; i < kDropReasons; ++i) accounted += drops(static_cast<Drop>(i));
  EXPECT_EQ(accounted, kPackets);
  EXPECT_GT(drops(Drop::malformed), 0U);
  EXPECT_GT(drops(Drop::spoofed_source), 0U);
}

}  // namespace
}  // namespace penstock::router
