#include "router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "packet/super_packet.h"
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

class SilentLink final : public SessionLink {
 public:
  void packets_waiting() override {}
  void end(std::string_view) override {}
  void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(true); }
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
  // From now on the gateway speaks for itself, and what it says to Alice can be read.
  void let_the_gateway_speak() {
    router.set_addresses(ip("10.0.0.1"), ip("fd00::1"), clock);
    router.set_routes(router.routes()
                          .with(Prefix::parse("10.0.0.2").value(), router.add_port(alices_inbox))
                          .with(Prefix::parse("fd00::/64").value(), kNobody)
                          .with(Prefix::parse("fd00::2").value(), router.add_port(alices_inbox)));
  }
  // Carol is 10.0.0.4 and fd00::4, takes packets of up to `mtu` bytes, and reads what she gets with read_carols().
  void let_carol_in(std::size_t mtu, std::shared_ptr<const AccessPolicy> policy = nullptr) {
    carol.set_mtu(mtu);
    carol.attach(carols_link, 1, "");
    carol.set_access_policy(std::move(policy), clock);
    const PortId id = router.add_port(carol);
    router.set_routes(
        router.routes().with(Prefix::parse("10.0.0.4").value(), id).with(Prefix::parse("fd00::4").value(), id));
  }
  PacketBatch read_carols() {
    PacketBatch packets;
    carol.take(packets, 1 << 20);
    return packets;
  }
  static Packet with_hops(Packet packet, std::uint8_t hops) {
    const MutableByteView bytes = packet.mutable_bytes();
    const bool v4 = bytes[0] >> 4 == 4;
    bytes[v4 ? 8 : 7] = hops;
    if (v4) {
      store_be16(&bytes[10], 0);
      store_be16(&bytes[10], internet_checksum(bytes.first(20)));
    }
    return packet;
  }
  static Packet not_to_be_fragmented(Packet packet) {
    const MutableByteView bytes = packet.mutable_bytes();
    bytes[6] |= 0x40;
    store_be16(&bytes[10], 0);
    store_be16(&bytes[10], internet_checksum(bytes.first(20)));
    return packet;
  }
  // A packet of `size` bytes.
  static Packet of_size(std::size_t size, const char* from, const char* to) {
    return ip_packet(from, to, std::string(size - (ip(from).is_v4() ? 20 : 40), 'x'));
  }
  // A super-packet of UDP from Alice.
  static Packet datagrams_to(const char* to, std::size_t size, std::uint16_t segment_size) {
    std::string payload("\x30\x39\x14\xE9\0\0\0\0", 8);
    payload += std::string(size, 'x');
    store_be16(reinterpret_cast<std::uint8_t*>(&payload[4]), static_cast<std::uint16_t>(payload.size()));
    Packet packet = ip_packet("10.0.0.2", to, payload);
    packet.offload = {.gso = Offload::Gso::udp4, .needs_checksum = true, .segment_size = segment_size};
    return packet;
  }
  // A SYN with an MSS option.
  static Packet syn(const char* from, const char* to, std::uint16_t mss) {
    std::string segment("\x9C\x40\x00\x50\0\0\0\0\0\0\0\0\x60\x02\xFF\xFF\0\0\0\0\2\4", 22);
    segment += {static_cast<char>(mss >> 8), static_cast<char>(mss)};
    return ip_packet(from, to, segment, kProtocolTcp);
  }
  static std::uint16_t mss_of(const Packet& packet) {
    return load_be16(&packet.bytes()[packet.bytes()[0] >> 4 == 4 ? 42 : 62]);
  }
  static int hops_of(const Packet& packet) { return parse_ip(packet.bytes())->ttl; }
  // "type/code" of an ICMP packet.
  static std::string icmp_of(const Packet& packet) {
    const ByteView icmp = packet.bytes().subspan(packet.bytes()[0] >> 4 == 4 ? 20 : 40);
    return std::to_string(icmp[0]) + '/' + std::to_string(icmp[1]);
  }
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
  SinkPort alices_inbox;
  DropCounters unused;
  Session alice{{.id = {.slot = 5, .generation = 1},
                 .name = "alice",
                 .prefixes = {Prefix::parse("10.0.0.2").value(), Prefix::parse("fd00::2").value()},
                 .queue_bytes = 10000,
                 .usage = std::make_shared<Usage>(),
                 .member = 1},
                unused,
                clock};
  SilentLink carols_link;
  Session carol{{.id = {.slot = 6, .generation = 1},
                 .name = "carol",
                 .prefixes = {Prefix::parse("10.0.0.4").value(), Prefix::parse("fd00::4").value()},
                 .queue_bytes = 1 << 20,
                 .usage = std::make_shared<Usage>(),
                 .member = 2},
                unused,
                clock};
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
               unused, clock);
  auto batch = batch_of(broadcast("10.0.0.6"), broadcast("192.168.7.1"), broadcast("10.0.0.2"));
  router.from_session(site, batch);
  EXPECT_EQ(bob.flooded, 1U);
  EXPECT_EQ(drops(Drop::multicast), 1U);
  EXPECT_EQ(drops(Drop::spoofed_source), 1U);
}

TEST_F(RouterTest, BetweenTwoSessionsAPacketLosesOneHop) {
  let_carol_in(1420);
  from_alice(batch_of(with_hops(ip_packet("10.0.0.2", "10.0.0.4"), 9), with_hops(ip_packet("fd00::2", "fd00::4"), 9)));
  const PacketBatch got = read_carols();
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(hops_of(got[0]), 8);
  EXPECT_EQ(internet_checksum(got[0].bytes().first(20)), 0);
  EXPECT_EQ(hops_of(got[1]), 8);
}

TEST_F(RouterTest, BetweenASessionAndAnExitItLosesNoneBecauseTheKernelThereTakesOne) {
  let_carol_in(1420);
  from_alice(batch_of(with_hops(ip_packet("10.0.0.2", "192.0.2.9"), 1)));
  ASSERT_EQ(exit.packets.size(), 1U);
  EXPECT_EQ(hops_of(exit.packets[0]), 1);
  auto batch = batch_of(with_hops(ip_packet("192.0.2.9", "10.0.0.4"), 1));
  router.from_exit(exit_id, batch);
  const PacketBatch got = read_carols();
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(hops_of(got[0]), 1);
}

TEST_F(RouterTest, AtItsLastHopItsSenderIsToldAndTheOthersOfItsBatchGoOn) {
  let_the_gateway_speak();
  let_carol_in(1420);
  for (const bool v6 : {false, true}) {
    const char* from = v6 ? "fd00::2" : "10.0.0.2";
    const char* to = v6 ? "fd00::4" : "10.0.0.4";
    from_alice(batch_of(with_hops(ip_packet(from, to, "a"), 1), ip_packet(from, to, "b"),
                        with_hops(ip_packet(from, to, "c"), 0), ip_packet(from, to, "d")));
    const PacketBatch got = read_carols();
    ASSERT_EQ(got.size(), 2U);
    EXPECT_EQ(test::payload_of(got[0]) + test::payload_of(got[1]), "bd");
    ASSERT_EQ(alices_inbox.packets.size(), 2U);
    EXPECT_EQ(icmp_of(alices_inbox.packets[0]), v6 ? "3/0" : "11/0");
    EXPECT_EQ(parse_ip(alices_inbox.packets[0].bytes())->source, ip(v6 ? "fd00::1" : "10.0.0.1"));
    alices_inbox.packets.clear();
  }
  EXPECT_EQ(drops(Drop::hop_limit), 4U);
}

TEST_F(RouterTest, WithoutAddressesOfItsOwnTheGatewayIsSilent) {
  let_carol_in(1420);
  router.set_routes(router.routes().with(Prefix::parse("10.0.0.2").value(), router.add_port(alices_inbox)));
  from_alice(batch_of(with_hops(ip_packet("10.0.0.2", "10.0.0.4"), 1), ip_packet("10.0.0.2", "10.0.0.50")));
  EXPECT_EQ(drops(Drop::hop_limit) + drops(Drop::no_session), 2U);
  EXPECT_TRUE(alices_inbox.packets.empty());
}

TEST_F(RouterTest, WhoAsksForWhatIsNotThereIsToldSo) {
  let_the_gateway_speak();
  const struct {
    const char *from, *to, *icmp;
    Drop drop;
  } cases[] = {
      {"10.0.0.2", "10.0.0.50", "3/1", Drop::no_session},
      {"fd00::2", "fd00::50", "1/3", Drop::no_session},
      {"fd00::2", "2001:db8::1", "1/0", Drop::no_route},
  };
  for (const auto& [from, to, icmp, drop] : cases) {
    from_alice(batch_of(ip_packet(from, to)));
    ASSERT_EQ(alices_inbox.packets.size(), 1U) << to;
    EXPECT_EQ(icmp_of(alices_inbox.packets[0]), icmp) << to;
    alices_inbox.packets.clear();
  }
  EXPECT_EQ(drops(Drop::no_session), 2U);
  EXPECT_EQ(drops(Drop::no_route), 1U);
}

TEST_F(RouterTest, AndSoIsWhoAsksByAnExitInTheNameOfTheAddressThatWasAsked) {
  let_the_gateway_speak();
  auto batch = batch_of(ip_packet("192.0.2.9", "10.0.0.50"), ip_packet("192.0.2.9", "198.51.100.1"));
  router.from_exit(exit_id, batch);
  ASSERT_EQ(exit.packets.size(), 2U);
  EXPECT_EQ(icmp_of(exit.packets[0]), "3/1");
  EXPECT_EQ(parse_ip(exit.packets[0].bytes())->source, ip("10.0.0.50"));
  EXPECT_EQ(icmp_of(exit.packets[1]), "3/0");
  EXPECT_TRUE(alices_inbox.packets.empty());
}

TEST_F(RouterTest, AFloodOfPacketsToNobodyIsNotAnsweredWithAFlood) {
  let_the_gateway_speak();
  for (int i = 0; i < 1000; ++i) from_alice(batch_of(ip_packet("10.0.0.2", "10.0.0.50")));
  EXPECT_EQ(drops(Drop::no_session), 1000U);
  EXPECT_EQ(alices_inbox.packets.size(), IcmpErrors::kBurst);
}

TEST_F(RouterTest, WhatIsLargerThanItsReceiverTakesIsRefusedWithThatSize) {
  let_the_gateway_speak();
  let_carol_in(1300);
  from_alice(batch_of(not_to_be_fragmented(of_size(1301, "10.0.0.2", "10.0.0.4")), of_size(1301, "fd00::2", "fd00::4"),
                      not_to_be_fragmented(of_size(1300, "10.0.0.2", "10.0.0.4")),
                      of_size(1300, "fd00::2", "fd00::4")));
  EXPECT_EQ(read_carols().size(), 2U);
  EXPECT_EQ(drops(Drop::too_big), 2U);
  ASSERT_EQ(alices_inbox.packets.size(), 2U);
  EXPECT_EQ(icmp_of(alices_inbox.packets[0]), "3/4");
  EXPECT_EQ(load_be32(&alices_inbox.packets[0].bytes()[24]), 1300U);
  EXPECT_EQ(icmp_of(alices_inbox.packets[1]), "2/0");
  EXPECT_EQ(load_be32(&alices_inbox.packets[1].bytes()[44]), 1300U);
}

TEST_F(RouterTest, WhatMayBeFragmentedIsInItsPlaceAmongTheOthers) {
  let_carol_in(576);
  // No ports, so that all are one flow to the session's queue.
  const auto small = [](const char* text) { return ip_packet("10.0.0.2", "10.0.0.4", text, 50); };
  const auto of_size = [](std::size_t size) {
    return ip_packet("10.0.0.2", "10.0.0.4", std::string(size - 20, 'x'), 50);
  };
  from_alice(batch_of(with_hops(small("gone"), 1), small("a"), of_size(1300), small("b"),
                      not_to_be_fragmented(of_size(577)), of_size(577), small("c")));
  std::vector<std::size_t> sizes;
  for (const Packet& packet : read_carols()) {
    sizes.push_back(packet.size());
    EXPECT_EQ(hops_of(packet), 63);
    EXPECT_EQ(internet_checksum(packet.bytes().first(20)), 0);
    EXPECT_EQ(packet.source, alice.id());
  }
  EXPECT_THAT(sizes, testing::ElementsAre(21, 572, 572, 196, 21, 572, 25, 21));
  EXPECT_EQ(drops(Drop::too_big), 1U);
}

TEST_F(RouterTest, ASuperPacketIsJudgedByItsLargestSegment) {
  let_the_gateway_speak();
  let_carol_in(1300);
  const auto datagrams = [](std::uint16_t segment_size) {
    return datagrams_to("10.0.0.4", 10U * segment_size, segment_size);
  };
  from_alice(batch_of(datagrams(1272), not_to_be_fragmented(datagrams(1273)), datagrams(1273)));
  std::map<std::size_t, std::size_t> sizes;
  for (const Packet& packet : read_carols()) {
    ++sizes[packet.size()];
    EXPECT_EQ(segments_of(packet), packet.size() > 1300 ? 10U : 1U);
  }
  EXPECT_THAT(sizes, testing::ElementsAre(std::pair(21U, 10U), std::pair(1300U, 10U), std::pair(28U + 10 * 1272, 1U)))
      << "one as it was, one refused, one cut into ten and each of them in two";
  EXPECT_EQ(drops(Drop::too_big), 10U) << "it stands for as many";
  ASSERT_EQ(alices_inbox.packets.size(), 1U);
  EXPECT_EQ(load_be16(&alices_inbox.packets[0].bytes()[28 + 2]), 1301) << "the quote is of one of them";
  EXPECT_EQ(alice.meter().snapshot({}).up, (Traffic{.packets = 30, .bytes = 10 * 1300 + 20 * 1301}));
}

TEST_F(RouterTest, AnOffloadThatCannotBeTrueIsMalformed) {
  let_carol_in(1300);
  const auto lie = [](const char* from) {
    Packet packet = ip_packet(from, "10.0.0.4", "no TCP");
    packet.offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 3};
    return packet;
  };
  from_alice(batch_of(lie("10.0.0.2")));
  auto batch = batch_of(lie("192.0.2.9"));
  router.from_exit(exit_id, batch);
  EXPECT_EQ(drops(Drop::malformed), 2U);
  EXPECT_EQ(alice.meter().snapshot({}).up.packets, 0U);
  EXPECT_TRUE(read_carols().empty());
}

TEST_F(RouterTest, WhatTheRulesDenyDiesInSilenceWhateverElseIsWrongWithIt) {
  let_the_gateway_speak();
  let_carol_in(
      1300, std::make_shared<const AccessPolicy>(
                std::vector<AccessRule>{}, std::vector<AccessMember>{{1, "alice", {}}, {2, "carol", {}}}, 1, SipKey{}));
  from_alice(batch_of(with_hops(ip_packet("10.0.0.2", "10.0.0.4", "12345678"), 1),
                      not_to_be_fragmented(of_size(1400, "10.0.0.2", "10.0.0.4")),
                      of_size(1400, "fd00::2", "fd00::4")));
  EXPECT_TRUE(alices_inbox.packets.empty());
  EXPECT_EQ(drops(Drop::access_denied), 3U);
  EXPECT_EQ(drops(Drop::hop_limit) + drops(Drop::too_big), 0U);
}

TEST_F(RouterTest, TcpHearsTheSmallerOfWhatTheTwoSidesTake) {
  const struct {
    std::size_t alice, carol;
    std::uint16_t said, heard4, heard6;
  } cases[] = {{1420, 1300, 1460, 1260, 1240},
               {1300, 1420, 1460, 1260, 1240},
               {1420, 1420, 1000, 1000, 1000},
               {65535, 65535, 1460, 1460, 1460},
               {9000, 9000, 65535, 8960, 8940}};
  for (const auto& [alices, carols, said, heard4, heard6] : cases) {
    alice.set_mtu(alices);
    let_carol_in(carols);
    from_alice(batch_of(syn("10.0.0.2", "10.0.0.4", said), syn("fd00::2", "fd00::4", said)));
    const PacketBatch got = read_carols();
    ASSERT_EQ(got.size(), 2U);
    EXPECT_EQ(mss_of(got[0]), heard4) << alices << ' ' << carols;
    EXPECT_EQ(mss_of(got[1]), heard6) << alices << ' ' << carols;
  }
}

TEST_F(RouterTest, TcpToAndFromAnExitHearsWhatTheSessionTakes) {
  alice.set_mtu(1300);
  let_carol_in(1300);
  from_alice(batch_of(syn("10.0.0.2", "192.0.2.9", 1460)));
  ASSERT_EQ(exit.packets.size(), 1U);
  EXPECT_EQ(mss_of(exit.packets[0]), 1260);
  auto batch = batch_of(syn("192.0.2.9", "10.0.0.4", 1460));
  router.from_exit(exit_id, batch);
  const PacketBatch got = read_carols();
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(mss_of(got[0]), 1260);
}

TEST_F(RouterTest, WhatGoesToEverybodyPassesByWhoeverDoesNotTakeIt) {
  let_discovery_through(1);
  let_carol_in(576);
  from_alice(batch_of(of_size(577, "10.0.0.2", "10.0.0.255"), of_size(576, "10.0.0.2", "10.0.0.255")));
  EXPECT_EQ(bob.flooded, 2U);
  const PacketBatch got = read_carols();
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].size(), 576U);
  EXPECT_EQ(hops_of(got[0]), 64) << "all are on one link";
}

TEST_F(RouterTest, NoSuperPacketGoesToEverybodyAsMoreThanOnePacket) {
  let_discovery_through(1);
  let_carol_in(1420);
  for (const char* to : {"10.0.0.255", "224.0.0.251", "255.255.255.255"}) {
    const std::uint64_t before = drops(Drop::multicast);
    from_alice(batch_of(datagrams_to(to, 1392, 1)));
    EXPECT_TRUE(read_carols().empty()) << to;
    EXPECT_EQ(drops(Drop::multicast) - before, 1392U) << "it stands for as many";

    from_alice(batch_of(datagrams_to(to, 1392, 1392)));
    const PacketBatch got = read_carols();
    ASSERT_EQ(got.size(), 1U) << to;
    EXPECT_EQ(got[0].offload, Offload{.needs_checksum = true}) << "of one segment it is an ordinary packet";
  }
  EXPECT_EQ(bob.flooded, 3U);
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
