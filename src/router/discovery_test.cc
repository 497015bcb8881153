#include "router/discovery.h"

#include <gtest/gtest.h>

#include "test/support/packets.h"

namespace penstock::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::ip;
using test::ip_packet;

// A UDP packet; the subnet is 10.0.0.0/24.
Packet udp(const char* from, const char* to, std::uint16_t port, std::string_view payload = "who is there?") {
  std::string datagram(8, '\0');
  datagram += payload;
  MutableByteView header(reinterpret_cast<std::uint8_t*>(datagram.data()), 8);
  store_be16(&header[0], 40000);
  store_be16(&header[2], port);
  store_be16(&header[4], static_cast<std::uint16_t>(datagram.size()));
  return ip_packet(from, to, datagram);
}

bool goes_on(const Packet& packet) { return is_discovery(packet.bytes(), parse_ip(packet.bytes()).value()); }

struct Kind {
  const char* what;
  const char* from;
  const char* to;
  std::uint16_t port;
  bool forwarded;
};

constexpr std::array kKinds{
    Kind{"NetBIOS name query", "10.0.0.2", "10.0.0.255", 137, true},
    Kind{"NetBIOS browsing", "10.0.0.2", "10.0.0.255", 138, true},
    Kind{"a game's call", "10.0.0.2", "255.255.255.255", 27015, true},
    Kind{"all hosts", "10.0.0.2", "224.0.0.1", 5350, true},
    Kind{"mDNS", "10.0.0.2", "224.0.0.251", 5353, true},
    Kind{"mDNS over IPv6", "fd00::2", "ff02::fb", 5353, true},
    Kind{"LLMNR", "10.0.0.2", "224.0.0.252", 5355, true},
    Kind{"LLMNR over IPv6", "fd00::2", "ff02::1:3", 5355, true},
    Kind{"SSDP", "10.0.0.2", "239.255.255.250", 1900, true},
    Kind{"SSDP over IPv6", "fd00::2", "ff02::c", 1900, true},
    Kind{"SSDP of the site", "fd00::2", "ff05::c", 1900, true},
    Kind{"WS-Discovery", "10.0.0.2", "239.255.255.250", 3702, true},
    Kind{"WS-Discovery over IPv6", "fd00::2", "ff02::c", 3702, true},
    Kind{"SLP", "10.0.0.2", "239.255.255.253", 427, true},
    Kind{"Minecraft", "10.0.0.2", "224.0.2.60", 4445, true},
    Kind{"Syncthing, a transient group", "fd00::2", "ff12::8384", 21027, true},

    Kind{"DHCP discover", "10.0.0.2", "255.255.255.255", 67, false},
    Kind{"DHCP offer", "10.0.0.2", "255.255.255.255", 68, false},
    Kind{"DHCP in the subnet", "10.0.0.2", "10.0.0.255", 67, false},
    Kind{"DHCPv6 solicit", "fd00::2", "ff02::1:2", 547, false},
    Kind{"DHCPv6 to clients", "fd00::2", "ff02::1", 546, false},
    Kind{"RIP", "10.0.0.2", "224.0.0.9", 520, false},
    Kind{"RIPng", "fd00::2", "ff02::9", 521, false},
    Kind{"LDP", "10.0.0.2", "224.0.0.2", 646, false},
    Kind{"HSRP", "10.0.0.2", "224.0.0.2", 1985, false},
    Kind{"a video stream", "10.0.0.2", "239.1.2.3", 5004, false},
    Kind{"beside the link's block", "10.0.0.2", "224.0.1.1", 123, false},
    Kind{"beside SSDP", "10.0.0.2", "239.255.255.249", 1900, false},
    Kind{"the machine's own", "fd00::2", "ff01::fb", 5353, false},
    Kind{"the site's, but not SSDP", "fd00::2", "ff05::fb", 5353, false},
    Kind{"the world's", "fd00::2", "ff0e::fb", 5353, false},
    Kind{"link-local with an unknown flag", "fd00::2", "ff82::fb", 5353, false},
};

TEST(DiscoveryTest, WhatGoesToEverybodyIsThisTable) {
  for (const Kind& kind : kKinds) EXPECT_EQ(goes_on(udp(kind.from, kind.to, kind.port)), kind.forwarded) << kind.what;
}

TEST(DiscoveryTest, OnlyUdpGoesOn) {
  struct {
    const char* what;
    const char* to;
    std::uint8_t protocol;
  } const others[] = {{"ping of all", "10.0.0.255", 1},
                      {"IGMP report", "224.0.0.22", 2},
                      {"TCP", "224.0.0.251", 6},
                      {"OSPF", "224.0.0.5", 89},
                      {"VRRP", "224.0.0.18", 112},
                      {"neighbour solicitation", "ff02::1:ff00:3", 58},
                      {"router advertisement", "ff02::1", 58},
                      {"UDP behind hop-by-hop options", "ff02::fb", 0}};
  for (const auto& other : others) {
    const char* from = ip(other.to).is_v4() ? "10.0.0.2" : "fd00::2";
    EXPECT_FALSE(goes_on(ip_packet(from, other.to, std::string(16, '\0'), other.protocol))) << other.what;
  }
}

TEST(DiscoveryTest, NeitherFragmentsNorOptionsNorTornHeadersGoOn) {
  Packet first = udp("10.0.0.2", "224.0.0.251", 5353);
  ASSERT_TRUE(goes_on(first));
  store_be16(&first.mutable_bytes()[6], 0x2000);  // more fragments
  EXPECT_FALSE(goes_on(first));
  Packet later = udp("10.0.0.2", "224.0.0.251", 5353);
  store_be16(&later.mutable_bytes()[6], 5);
  EXPECT_FALSE(goes_on(later));
  EXPECT_FALSE(goes_on(ip_packet("fd00::2", "ff02::fb", std::string(16, '\0'), 44))) << "an IPv6 fragment header";

  Packet options = ip_packet("10.0.0.2", "224.0.0.251", std::string(12, '\0'));
  options.mutable_bytes()[0] = 0x46;
  EXPECT_FALSE(goes_on(options));

  EXPECT_FALSE(goes_on(ip_packet("10.0.0.2", "224.0.0.251", "\x14\xE9\x14\xE9\x00\x08"))) << "6 bytes of a UDP header";
}

TEST(DiscoveryTest, TheBroadcastAddressIsTheLastOfASubnetThatHasOne) {
  EXPECT_EQ(broadcast_of(Prefix::parse("10.0.0.0/24").value()), ip("10.0.0.255"));
  EXPECT_EQ(broadcast_of(Prefix::parse("10.0.0.0/30").value()), ip("10.0.0.3"));
  EXPECT_EQ(broadcast_of(Prefix::parse("10.0.0.0/31").value()), std::nullopt);
  EXPECT_EQ(broadcast_of(Prefix::parse("fd00::/64").value()), std::nullopt);
}

TEST(DiscoveryTest, ItConcernsGroupsAndBroadcastsAndNobodyElse) {
  const ManualClock clock;
  const Discovery discovery({.on = true, .subnet_broadcast = ip("10.0.0.255")}, std::make_shared<FloodBudget>(), clock);
  for (const char* address : {"10.0.0.255", "255.255.255.255", "224.0.0.251", "239.255.255.250", "ff02::fb"})
    EXPECT_TRUE(discovery.concerns(ip(address))) << address;
  for (const char* address : {"10.0.0.254", "10.0.1.255", "fd00::2", "0.0.0.0"})
    EXPECT_FALSE(discovery.concerns(ip(address))) << address;
}

class DiscoveryRateTest : public testing::Test {
 protected:
  std::optional<Drop> judge(const Discovery& by, TokenBucket& sender) {
    const Packet packet = udp("10.0.0.2", "224.0.0.251", 5353);
    return by.judge(packet, parse_ip(packet.bytes()).value(), sender);
  }
  int passed(const Discovery& by, TokenBucket& sender, int packets) {
    int count = 0;
    for (int i = 0; i < packets; ++i) count += judge(by, sender) ? 0 : 1;
    return count;
  }
  void join(std::uint32_t sessions) {
    for (std::uint32_t i = 0; i < sessions; ++i) budget->add_receiver();
  }

  ManualClock clock;
  std::shared_ptr<FloodBudget> budget = std::make_shared<FloodBudget>();
  Discovery discovery{{.on = true, .rate = 20}, budget, clock};
  TokenBucket alice;
  TokenBucket bob;
};

TEST_F(DiscoveryRateTest, ASenderHasTwiceItsRateAtOnceAndThenItsRate) {
  join(3);
  EXPECT_EQ(passed(discovery, alice, 100), 40);
  EXPECT_EQ(judge(discovery, alice), Drop::discovery_rate);
  EXPECT_EQ(judge(discovery, bob), std::nullopt) << "which is nobody else's loss";
  int later = 0;
  for (int i = 0; i < 1000; ++i) {
    clock.advance(milliseconds(10));
    later += passed(discovery, alice, 2);
  }
  EXPECT_EQ(later, 200) << "in ten seconds";
  clock.advance(seconds(60));
  EXPECT_EQ(passed(discovery, alice, 100), 40) << "what was not used does not add up";
}

TEST_F(DiscoveryRateTest, WhatNoMachineOfTheLanCouldSendAsOnePacketGoesNowhere) {
  const Discovery small({.on = true, .rate = 20, .max_size = 100}, budget, clock);
  constexpr std::size_t kData = 100 - 28;
  for (const std::size_t more : {0U, 1U}) {
    Packet packet = udp("10.0.0.2", "224.0.0.251", 5353, std::string(kData + more, 'x'));
    EXPECT_EQ(small.judge(packet, parse_ip(packet.bytes()).value(), alice).has_value(), more != 0) << more;
  }
}

TEST_F(DiscoveryRateTest, ASuperPacketOfMoreThanOneSegmentGoesNowhereAndIsNotCharged) {
  for (const std::uint16_t segment_size : std::array<std::uint16_t, 4>{1, 99, 100, 1000}) {
    Packet packet = udp("10.0.0.2", "224.0.0.251", 5353, std::string(100, 'x'));
    packet.offload = {.gso = Offload::Gso::udp4, .needs_checksum = true, .segment_size = segment_size};
    const auto drop = discovery.judge(packet, parse_ip(packet.bytes()).value(), alice);
    EXPECT_EQ(drop, segment_size < 100 ? std::optional(Drop::multicast) : std::nullopt) << segment_size;
  }
  EXPECT_EQ(passed(discovery, alice, 100), 38) << "two of forty are gone";
}

TEST_F(DiscoveryRateTest, OffAndTheWrongKindAreToldApart) {
  const Discovery off({.on = false}, budget, clock);
  EXPECT_EQ(judge(off, alice), Drop::discovery_off);
  const Packet stream = udp("10.0.0.2", "239.1.2.3", 5004);
  EXPECT_EQ(off.judge(stream, parse_ip(stream.bytes()).value(), alice), Drop::multicast);
  EXPECT_EQ(Discovery().judge(stream, parse_ip(stream.bytes()).value(), alice), Drop::multicast);
  EXPECT_EQ(passed(discovery, alice, 100), 40) << "neither is charged";
}

// A thousand sessions that all shout at the top of their rates.
TEST_F(DiscoveryRateTest, TheCopiesOfTheWholeGatewayAreBoundedWhateverTheNumberOfSenders) {
  constexpr std::uint32_t kSessions = 1000;
  constexpr std::uint32_t kSeconds = 10;
  join(kSessions);
  std::vector<TokenBucket> senders(kSessions);
  std::uint64_t packets = 0;
  for (std::uint32_t step = 0; step < kSeconds * 20; ++step) {
    clock.advance(milliseconds(50));
    for (TokenBucket& sender : senders) packets += judge(discovery, sender) ? 0 : 1;
  }
  const std::uint64_t granted = std::uint64_t{FloodBudget::kCopiesPerSecond} * kSeconds;
  EXPECT_LE(packets * kSessions, granted + FloodBudget::kBurstCopies + kSessions);
  EXPECT_GE(packets * kSessions, granted);
}

TEST_F(DiscoveryRateTest, AGatewayWithMoreSessionsThanItsBurstStillLetsAPacketThroughNowAndThen) {
  join(10'000);
  EXPECT_EQ(judge(discovery, alice), std::nullopt);
  EXPECT_EQ(judge(discovery, bob), Drop::discovery_rate);
  clock.advance(milliseconds(250));
  EXPECT_EQ(judge(discovery, bob), std::nullopt);
  clock.advance(milliseconds(499));
  EXPECT_EQ(judge(discovery, bob), Drop::discovery_rate);
  clock.advance(milliseconds(1));
  EXPECT_EQ(judge(discovery, bob), std::nullopt) << "two a second: 20 000 copies";
}

}  // namespace
}  // namespace penstock::router
