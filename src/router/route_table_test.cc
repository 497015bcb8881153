#include "router/route_table.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/random.h"

namespace penstock::router {
namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
PortId port(std::uint32_t slot) { return {.shard = 0, .slot = slot, .generation = 1}; }

struct Entry {
  const char* prefix;
  std::uint32_t slot;
};
RouteTable make_table(std::initializer_list<Entry> entries) {
  RouteTable table;
  for (const Entry& entry : entries) table = table.with(prefix(entry.prefix), port(entry.slot));
  return table;
}

TEST(RouteTable, AnEmptyOneKnowsNoWay) {
  const RouteTable table;
  EXPECT_FALSE(table.find(ip("10.0.0.1")));
  EXPECT_FALSE(table.find(ip("fd00::1")));
  EXPECT_FALSE(table.exact(prefix("0.0.0.0/0")));
  EXPECT_EQ(table.without(prefix("10.0.0.0/8")).size(), 0U);
}

TEST(RouteTable, TheLongestPrefixWins) {
  const RouteTable table = make_table({{"0.0.0.0/0", 1},
                                       {"10.0.0.0/8", 2},
                                       {"10.100.0.0/16", 3},
                                       {"10.100.0.0/24", 4},
                                       {"10.100.0.7/32", 5},
                                       {"10.100.0.8/31", 6},
                                       {"128.0.0.0/1", 7},
                                       {"::/0", 10},
                                       {"fd00::/8", 11},
                                       {"fd00:1::/64", 12},
                                       {"fd00:1::/65", 13},
                                       {"fd00:1::5/128", 14}});
  const struct {
    const char* address;
    std::uint32_t slot;
  } cases[] = {
      {"1.2.3.4", 1},    {"127.255.255.255", 1}, {"128.0.0.0", 7},          {"255.255.255.255", 7},
      {"10.0.0.0", 2},   {"10.99.255.255", 2},   {"10.101.0.0", 2},         {"10.100.1.0", 3},
      {"10.100.0.0", 4}, {"10.100.0.6", 4},      {"10.100.0.7", 5},         {"10.100.0.8", 6},
      {"10.100.0.9", 6}, {"10.100.0.10", 4},     {"2001:db8::1", 10},       {"::", 10},
      {"::a64:7", 10},  // the bits of 10.100.0.7 in another family
      {"fd00::1", 11},   {"fd00:1:0:1::", 11},   {"fd00:1:0:0:8000::", 12}, {"fd00:1::4", 13},
      {"fd00:1::5", 14},
  };
  for (const auto& [address, slot] : cases) EXPECT_EQ(table.find(ip(address)), port(slot)) << address;
}

TEST(RouteTable, WithoutADefaultRouteTheRestGoesNowhere) {
  const RouteTable table = make_table({{"10.100.0.0/24", 1}, {"fd00::/64", 2}});
  EXPECT_FALSE(table.find(ip("10.100.1.0")));
  EXPECT_FALSE(table.find(ip("fd00:0:0:1::")));
  EXPECT_EQ(make_table({{"0.0.0.0/0", 1}}).find(ip("fd00::1")), PortId()) << "a default route is one family's";
}

TEST(RouteTable, AgainWithTheSamePrefixReplacesThePort) {
  const RouteTable table = make_table({{"10.100.0.2/32", 1}, {"10.100.0.2/32", 2}});
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.find(ip("10.100.0.2")), port(2));
}

TEST(RouteTable, ExactAsksForThePrefixItself) {
  const RouteTable table = make_table({{"10.0.0.0/8", 1}, {"10.100.0.2/32", 2}});
  EXPECT_EQ(table.exact(prefix("10.0.0.0/8")), port(1));
  EXPECT_EQ(table.exact(prefix("10.100.0.2")), port(2));
  EXPECT_EQ(table.exact(prefix("10.0.0.0/9")), std::nullopt);
  EXPECT_EQ(table.exact(prefix("10.100.0.3")), std::nullopt);
  EXPECT_EQ(table.exact(prefix("a00::/8")), std::nullopt);
}

TEST(RouteTable, RemovingARouteUncoversTheShorterOne) {
  RouteTable table = make_table({{"10.0.0.0/8", 1}, {"10.100.0.2/32", 2}, {"10.100.0.3/32", 3}});
  table = table.without(prefix("10.100.0.2"));
  EXPECT_EQ(table.find(ip("10.100.0.2")), port(1));
  EXPECT_EQ(table.find(ip("10.100.0.3")), port(3));
  table = table.without(prefix("10.0.0.0/8")).without(prefix("10.100.0.3")).without(prefix("10.100.0.3"));
  EXPECT_TRUE(table.empty());
  EXPECT_FALSE(table.find(ip("10.100.0.3")));
}

TEST(RouteTable, AnOldTableKeepsItsRoutes) {
  const RouteTable before = make_table({{"10.100.0.0/24", 1}, {"10.100.0.2/32", 2}});
  const RouteTable changed = before.with(prefix("10.100.0.2"), port(9)).with(prefix("10.100.0.3"), port(3));
  const RouteTable emptied = before.without(prefix("10.100.0.2")).without(prefix("10.100.0.0/24"));
  EXPECT_EQ(before.find(ip("10.100.0.2")), port(2));
  EXPECT_EQ(before.find(ip("10.100.0.3")), port(1));
  EXPECT_EQ(before.size(), 2U);
  EXPECT_EQ(changed.find(ip("10.100.0.2")), port(9));
  EXPECT_EQ(changed.find(ip("10.100.0.3")), port(3));
  EXPECT_TRUE(emptied.empty());
}

TEST(RouteTable, TenThousandHostsEachHaveTheirOwnPort) {
  RouteTable table = make_table({{"10.100.0.0/16", 1}});
  const IpAddress first = ip("10.100.0.2");
  for (std::uint32_t i = 0; i < 10000; ++i) table = table.with(Prefix::host(first.plus(i)), port(100 + i));
  EXPECT_EQ(table.size(), 10001U);
  for (std::uint32_t i = 0; i < 10000; ++i) ASSERT_EQ(table.find(first.plus(i)), port(100 + i)) << i;
  EXPECT_EQ(table.find(first.plus(10000)), port(1));

  for (std::uint32_t i = 0; i < 10000; i += 2) table = table.without(Prefix::host(first.plus(i)));
  EXPECT_EQ(table.size(), 5001U);
  for (std::uint32_t i = 0; i < 10000; ++i) ASSERT_EQ(table.find(first.plus(i)), port(i % 2 == 0 ? 1 : 100 + i)) << i;
}

TEST(RouteTable, ForEachVisitsEveryRouteOnce) {
  const std::map<Prefix, PortId> routes = {{prefix("0.0.0.0/0"), port(1)},     {prefix("10.100.0.0/24"), port(2)},
                                           {prefix("10.100.0.2"), port(3)},    {prefix("10.100.0.3"), port(4)},
                                           {prefix("fd00:1:2::/48"), port(5)}, {prefix("fd00::3"), port(6)}};
  RouteTable table;
  for (const auto& [to, way] : routes) table = table.with(to, way);
  std::map<Prefix, PortId> visited;
  table.for_each([&visited](const Prefix& to, PortId way) { EXPECT_TRUE(visited.emplace(to, way).second); });
  EXPECT_EQ(visited, routes);
}

TEST(RouteTable, OneThreadForwardsByItsTableWhileAnotherMakesTheNext) {
  const IpAddress first = ip("10.100.0.2");
  RouteTable table = make_table({{"10.100.0.0/16", 1}});
  for (std::uint32_t i = 0; i < 100; ++i) table = table.with(Prefix::host(first.plus(i)), port(100 + i));

  std::thread reader([mine = table, &first] {
    for (std::uint32_t i = 0; i < 20000; ++i) ASSERT_EQ(mine.find(first.plus(i % 100)), port(100 + i % 100));
  });
  for (std::uint32_t i = 0; i < 1000; ++i) {
    table = table.with(Prefix::host(first.plus(i)), port(2));
    table = table.without(Prefix::host(first.plus(i)));
  }
  reader.join();
  EXPECT_EQ(table.size(), 1U);
}

PortId naive_find(const std::map<Prefix, PortId>& routes, const IpAddress& address) {
  PortId best;
  int length = -1;
  for (const auto& [to, way] : routes) {
    if (to.length() > length && to.contains(address)) {
      best = way;
      length = to.length();
    }
  }
  return best;
}

// Few distinct address bits, so that prefixes overlap and are met again.
Prefix random_prefix(Random& random) {
  const std::uint32_t bits = random.next32();
  if (bits % 2 == 0) {
    const IpAddress address = IpAddress::v4(0x0A640000U | (bits >> 8 & 0x80008007U));
    return {address, static_cast<int>(random.next32() % 33)};
  }
  std::array<std::uint8_t, 16> bytes{0xFD};
  for (const std::size_t at : {1U, 6U, 7U, 8U, 15U}) bytes[at] = static_cast<std::uint8_t>(random.next32() & 0x81);
  return {IpAddress::from_bytes(bytes), static_cast<int>(random.next32() % 129)};
}

TEST(RouteTable, ItAnswersLikeANaiveListThroughManyChanges) {
  SeededRandom random(11);
  RouteTable table;
  std::map<Prefix, PortId> naive;
  std::vector<std::pair<RouteTable, std::map<Prefix, PortId>>> history;
  const auto expect_same = [&random](const RouteTable& tested, const std::map<Prefix, PortId>& expected, int step) {
    ASSERT_EQ(tested.size(), expected.size()) << step;
    for (int i = 0; i < 8; ++i) {
      const Prefix probe = random_prefix(random);
      for (const IpAddress& address : {probe.address(), probe.last()})
        ASSERT_EQ(tested.find(address), naive_find(expected, address)) << address.to_string() << ", step " << step;
      const auto exact = expected.find(probe);
      ASSERT_EQ(tested.exact(probe), exact == expected.end() ? std::nullopt : std::optional(exact->second)) << step;
    }
  };
  for (int step = 0; step < 6000; ++step) {
    // In turns mostly growing and mostly shrinking.
    const bool growing = step / 1000 % 2 == 0;
    const Prefix changed = random_prefix(random);
    if (random.next32() % 10 < (growing ? 8U : 2U)) {
      const PortId way = port(random.next32());
      table = table.with(changed, way);
      naive.insert_or_assign(changed, way);
    } else if (!naive.empty()) {
      auto victim = naive.lower_bound(changed);
      if (victim == naive.end()) victim = naive.begin();
      table = table.without(victim->first);
      naive.erase(victim);
    }
    ASSERT_NO_FATAL_FAILURE(expect_same(table, naive, step));
    if (step % 500 == 250) history.emplace_back(table, naive);
  }
  for (const auto& [old_table, old_naive] : history) {
    ASSERT_NO_FATAL_FAILURE(expect_same(old_table, old_naive, -1));
    std::map<Prefix, PortId> visited;
    old_table.for_each([&visited](const Prefix& to, PortId way) { visited.emplace(to, way); });
    EXPECT_EQ(visited, old_naive);
  }
}

}  // namespace
}  // namespace penstock::router
