#include "egress/nat/numbered_ports.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "test/support/packets.h"

namespace penstock::egress {
namespace {

using test::ip;

constexpr auto kUdp = Transport::udp;
constexpr auto kV4 = Family::ipv4;

Binding binding(std::uint32_t index) { return {.index = index, .generation = 7}; }

NumberedPorts::Settings two_addresses() {
  return {.addresses = {ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")},
          .udp = {.first = 5000, .last = 5009},
          .tcp = {.first = 6000, .last = 6000},
          .echo = {.first = 0, .last = 65535}};
}

TEST(NumberedPorts, EveryNumberOfEveryAddressComesOnceAndThenThereIsNone) {
  SeededRandom random(1);
  NumberedPorts ports(two_addresses(), random);
  std::set<Endpoint> all;
  for (std::uint32_t i = 0; i < 20; ++i) {
    const Endpoint end = ports.acquire(kUdp, kV4, binding(i)).value();
    EXPECT_TRUE(end.address == ip("192.0.2.1") || end.address == ip("192.0.2.2"));
    EXPECT_TRUE(5000 <= end.port && end.port <= 5009);
    EXPECT_TRUE(all.insert(end).second) << end.to_string() << " was held";
  }
  EXPECT_FALSE(ports.acquire(kUdp, kV4, binding(20)));
  EXPECT_EQ(ports.held(kUdp, kV4), 20U);
  ports.release(kUdp, {ip("192.0.2.2"), 5003}, [&] {
    // Whoever holds it: they were given in the order of the set's making, so ask again by trying would be a bug.
    SeededRandom again(1);
    NumberedPorts same(two_addresses(), again);
    for (std::uint32_t i = 0;; ++i) {
      if (same.acquire(kUdp, kV4, binding(i)) == Endpoint{ip("192.0.2.2"), 5003}) return binding(i);
    }
  }());
  EXPECT_EQ(ports.acquire(kUdp, kV4, binding(21)), (Endpoint{ip("192.0.2.2"), 5003}));
}

TEST(NumberedPorts, TransportsAndFamiliesHaveRangesOfTheirOwn) {
  SeededRandom random(1);
  NumberedPorts ports(two_addresses(), random);
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_TRUE(ports.acquire(kUdp, kV4, binding(i)));
  EXPECT_EQ(ports.acquire(kUdp, Family::ipv6, binding(1))->address, ip("2001:db8::1"));
  EXPECT_EQ(ports.acquire(Transport::tcp, Family::ipv6, binding(1)), (Endpoint{ip("2001:db8::1"), 6000}));
  EXPECT_FALSE(ports.acquire(Transport::tcp, Family::ipv6, binding(2)));
  EXPECT_TRUE(ports.acquire(Transport::echo, kV4, binding(1)));
}

TEST(NumberedPorts, AFamilyWithoutAnAddressHasNoEnds) {
  SeededRandom random(1);
  NumberedPorts ports({.addresses = {ip("192.0.2.1")}, .udp = {}, .tcp = {}}, random);
  EXPECT_FALSE(ports.acquire(kUdp, Family::ipv6, binding(1)));
}

TEST(NumberedPorts, TheDiceDecideAndNothingElse) {
  const auto first_thousand = [](std::uint64_t seed) {
    SeededRandom random(seed);
    NumberedPorts ports({.addresses = {ip("192.0.2.1")}, .udp = {}, .tcp = {}}, random);
    std::vector<std::uint16_t> all;
    for (std::uint32_t i = 0; i < 1000; ++i) all.push_back(ports.acquire(kUdp, kV4, binding(i))->port);
    return all;
  };
  const auto once = first_thousand(3);
  EXPECT_EQ(once, first_thousand(3));
  EXPECT_NE(once, first_thousand(4));
  // Neither in order nor all in one corner.
  std::size_t neighbours = 0;
  std::size_t high = 0;
  for (std::size_t i = 0; i < once.size(); ++i) {
    if (i != 0 && once[i] == once[i - 1] + 1) ++neighbours;
    if (once[i] >= 32768) ++high;
  }
  EXPECT_LT(neighbours, 5U);
  EXPECT_GT(high, 400U);
  EXPECT_LT(high, 600U);
}

// However full it is: of four free ones each comes about as often.
TEST(NumberedPorts, EachOfTheFreeIsAsLikely) {
  SeededRandom random(5);
  NumberedPorts ports(two_addresses(), random);
  std::map<Endpoint, Binding> held;
  for (std::uint32_t i = 0; i < 16; ++i) held[*ports.acquire(kUdp, kV4, binding(i))] = binding(i);
  std::map<Endpoint, int> came;
  for (std::uint32_t i = 0; i < 4000; ++i) {
    const Endpoint end = *ports.acquire(kUdp, kV4, binding(100 + i));
    ++came[end];
    ports.release(kUdp, end, binding(100 + i));
  }
  EXPECT_EQ(came.size(), 4U);
  for (const auto& [end, times] : came) {
    EXPECT_GT(times, 850) << end.to_string();
    EXPECT_LT(times, 1150) << end.to_string();
  }
}

TEST(NumberedPorts, AnyOrderOfTakingAndGivingBackIsThatOfANaiveOne) {
  SeededRandom random(11);
  SeededRandom dice(12);
  NumberedPorts ports(two_addresses(), random);
  std::vector<std::pair<Endpoint, Binding>> held;
  std::set<Endpoint> taken;
  std::uint32_t next = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (dice.next32() % 100 < 52) {
      const auto end = ports.acquire(kUdp, kV4, binding(next));
      ASSERT_EQ(end.has_value(), held.size() < 20);
      if (!end) continue;
      ASSERT_TRUE(taken.insert(*end).second);
      held.emplace_back(*end, binding(next++));
    } else if (!held.empty()) {
      std::swap(held[dice.next32() % held.size()], held.back());
      ports.release(kUdp, held.back().first, held.back().second);
      taken.erase(held.back().first);
      held.pop_back();
    }
    ASSERT_EQ(ports.held(kUdp, kV4), held.size());
  }
}

TEST(NumberedPortsDeathTest, OnlyWhoHoldsAnEndGivesItBackAndOnlyOnce) {
  SeededRandom random(1);
  NumberedPorts ports(two_addresses(), random);
  const Endpoint end = *ports.acquire(kUdp, kV4, binding(1));
  EXPECT_DEATH(ports.release(kUdp, end, binding(2)), "");
  EXPECT_DEATH(ports.release(Transport::echo, end, binding(1)), "");
  ports.release(kUdp, end, binding(1));
  EXPECT_DEATH(ports.release(kUdp, end, binding(1)), "");
  EXPECT_DEATH(ports.release(kUdp, {ip("192.0.2.9"), 5000}, binding(1)), "");
}

}  // namespace
}  // namespace penstock::egress
