#include "router/address_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/random.h"

namespace penstock::router {
namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

AddressPool make_pool(std::string_view subnet, std::string_view server, const Clock& clock) {
  return AddressPool::create(prefix(subnet), ip(server), std::nullopt, clock).value();
}

std::string lease_text(AddressPool& pool, std::string_view holder = "anyone") {
  const auto address = pool.lease(holder);
  return address ? address->to_string() : address.error().message;
}

ErrorCode code_of(const Result<void>& result) {
  EXPECT_FALSE(result);
  return result ? ErrorCode::system_error : result.error().code;
}

TEST(AddressPool, HandsAddressesOutInOrder) {
  const ManualClock clock;
  auto pool = make_pool("10.100.0.0/24", "10.100.0.1", clock);
  EXPECT_EQ(lease_text(pool), "10.100.0.2");
  EXPECT_EQ(lease_text(pool), "10.100.0.3");
  EXPECT_EQ(lease_text(pool), "10.100.0.4");
  EXPECT_EQ(pool.leased(), 3U);
  EXPECT_EQ(pool.capacity(), 253U);
  EXPECT_TRUE(pool.is_leased(ip("10.100.0.3")));
  EXPECT_FALSE(pool.is_leased(ip("10.100.0.5")));
}

// A /29 leaves .2 to .6, so a resting address and a rested one can be told apart.
TEST(AddressPool, AReleasedAddressGoesToAStrangerOnlyWhenNoneHasRested) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/29", "10.8.0.1", clock);
  EXPECT_EQ(lease_text(pool, "alice"), "10.8.0.2");
  pool.release(ip("10.8.0.2"));
  EXPECT_EQ(lease_text(pool, "bob"), "10.8.0.3") << ".2 is still resting";

  clock.advance(AddressPool::kRest);
  EXPECT_EQ(lease_text(pool, "carol"), "10.8.0.2");
}

TEST(AddressPool, WithoutARestedAddressTheLongestRestingGoes) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/29", "10.8.0.1", clock);
  for (int i = 2; i <= 6; ++i) EXPECT_EQ(lease_text(pool), "10.8.0." + std::to_string(i));
  for (const char* address : {"10.8.0.5", "10.8.0.3", "10.8.0.6"}) {
    pool.release(ip(address));
    clock.advance(std::chrono::seconds(1));
  }
  EXPECT_EQ(lease_text(pool), "10.8.0.5");
  EXPECT_EQ(lease_text(pool), "10.8.0.3");
  EXPECT_EQ(lease_text(pool), "10.8.0.6");
  EXPECT_EQ(lease_text(pool), "10.8.0.0/29 has no free address (5 in use)");
  EXPECT_EQ(pool.lease("anyone").error().code, ErrorCode::exhausted);
}

TEST(AddressPool, A30HasRoomForOneClient) {
  const ManualClock clock;
  auto pool = make_pool("10.8.0.0/30", "10.8.0.1", clock);
  EXPECT_EQ(pool.capacity(), 1U);
  EXPECT_EQ(lease_text(pool), "10.8.0.2");
  EXPECT_EQ(lease_text(pool), "10.8.0.0/30 has no free address (1 in use)");
}

TEST(AddressPool, TheGatewayMayStandAnywhereInTheSubnet) {
  const ManualClock clock;
  auto pool = make_pool("10.8.0.0/29", "10.8.0.3", clock);
  EXPECT_EQ(lease_text(pool), "10.8.0.1");
  EXPECT_EQ(lease_text(pool), "10.8.0.2");
  EXPECT_EQ(lease_text(pool), "10.8.0.4");
}

TEST(AddressPool, WhoComesBackGetsTheSameAddressWhileItRests) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/24", "10.8.0.1", clock);
  EXPECT_EQ(lease_text(pool, "alice"), "10.8.0.2");
  pool.release(ip("10.8.0.2"));
  EXPECT_EQ(code_of(pool.lease_exactly(ip("10.8.0.2"), "bob")), ErrorCode::address_in_use);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.2"), "alice"));
  EXPECT_EQ(code_of(pool.lease_exactly(ip("10.8.0.2"), "alice")), ErrorCode::address_in_use);

  pool.release(ip("10.8.0.2"));
  clock.advance(AddressPool::kRest);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.2"), "bob")) << "rested, it is anybody's";
}

TEST(AddressPool, AnAddressTakenOutOfOrderIsSkippedInOrder) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/24", "10.8.0.1", clock);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.3"), "alice"));
  EXPECT_EQ(lease_text(pool), "10.8.0.2");
  EXPECT_EQ(lease_text(pool), "10.8.0.4");
  pool.release(ip("10.8.0.3"));
  clock.advance(AddressPool::kRest);
  EXPECT_EQ(lease_text(pool), "10.8.0.3");
}

TEST(AddressPool, WhatItCouldNeverLeaseIsRefusedWithTheReason) {
  const ManualClock clock;
  auto pool = make_pool("10.8.0.0/24", "10.8.0.1", clock);
  const auto why = [&pool](std::string_view address) {
    const auto refused = pool.lease_exactly(ip(address), "alice");
    EXPECT_EQ(code_of(refused), ErrorCode::invalid_argument);
    return refused ? "" : refused.error().message;
  };
  EXPECT_EQ(why("10.8.0.1"), "10.8.0.1 is the gateway's own address");
  EXPECT_EQ(why("10.8.0.0"), "10.8.0.0 is the network or broadcast address of 10.8.0.0/24");
  EXPECT_EQ(why("10.8.0.255"), "10.8.0.255 is the network or broadcast address of 10.8.0.0/24");
  EXPECT_EQ(why("10.9.0.2"), "10.9.0.2 is not in 10.8.0.0/24");
  EXPECT_EQ(why("fd00::2"), "fd00::2 is not in 10.8.0.0/24");
}

TEST(AddressPool, AReservedAddressIsOnlyForItsHolder) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/29", "10.8.0.1", clock);
  ASSERT_TRUE(pool.reserve(ip("10.8.0.2"), "alice"));
  ASSERT_TRUE(pool.reserve(ip("10.8.0.5"), "bob"));
  EXPECT_TRUE(pool.reserve(ip("10.8.0.5"), "bob")) << "saying it twice changes nothing";
  const auto both = pool.reserve(ip("10.8.0.5"), "carol");
  ASSERT_FALSE(both);
  EXPECT_EQ(both.error().message, "10.8.0.5 is reserved for both bob and carol");

  EXPECT_EQ(code_of(pool.lease_exactly(ip("10.8.0.2"), "bob")), ErrorCode::address_in_use);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.2"), "alice"));
  for (const char* address : {"10.8.0.3", "10.8.0.4", "10.8.0.6"}) EXPECT_EQ(lease_text(pool), address);
  EXPECT_EQ(lease_text(pool), "10.8.0.0/29 has no free address (4 in use, 1 reserved)");

  pool.release(ip("10.8.0.2"));
  EXPECT_EQ(pool.lease("anyone").error().code, ErrorCode::exhausted);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.2"), "alice")) << "it need not rest";
}

TEST(AddressPool, AReservationMayComeAndGoAtAnyTime) {
  ManualClock clock;
  auto pool = make_pool("10.8.0.0/29", "10.8.0.1", clock);
  EXPECT_EQ(lease_text(pool, "bob"), "10.8.0.2");
  ASSERT_TRUE(pool.reserve(ip("10.8.0.2"), "alice"));
  EXPECT_EQ(code_of(pool.lease_exactly(ip("10.8.0.2"), "alice")), ErrorCode::address_in_use) << "bob's lease runs on";
  pool.release(ip("10.8.0.2"));
  EXPECT_EQ(code_of(pool.lease_exactly(ip("10.8.0.2"), "bob")), ErrorCode::address_in_use);
  EXPECT_TRUE(pool.lease_exactly(ip("10.8.0.2"), "alice"));
  pool.release(ip("10.8.0.2"));

  pool.unreserve(ip("10.8.0.2"));
  EXPECT_EQ(lease_text(pool), "10.8.0.3") << "no longer reserved, .2 rests first";
  clock.advance(AddressPool::kRest);
  EXPECT_EQ(lease_text(pool), "10.8.0.2");
}

TEST(AddressPool, TheIpv6PartnerHasTheSameHostNumber) {
  const ManualClock clock;
  const auto pool = AddressPool::create(prefix("10.100.0.0/16"), ip("10.100.0.1"), prefix("fd12:3456::/64"), clock);
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->partner(ip("10.100.0.5")), ip("fd12:3456::5"));
  EXPECT_EQ(pool->partner(ip("10.100.1.5")), ip("fd12:3456::105"));
  EXPECT_EQ(pool->server6(), ip("fd12:3456::1"));
  EXPECT_TRUE(pool->contains(ip("fd12:3456::5")));
  EXPECT_TRUE(pool->contains(ip("10.100.255.255")));
  EXPECT_FALSE(pool->contains(ip("fd12:3457::5")));
  EXPECT_EQ(make_pool("10.8.0.0/24", "10.8.0.1", clock).partner(ip("10.8.0.5")), std::nullopt);
}

TEST(AddressPool, ASubnetThatCannotWorkIsRefused) {
  const ManualClock clock;
  const auto refused = [&clock](std::string_view subnet, std::string_view server, std::optional<Prefix> subnet6 = {}) {
    const auto pool = AddressPool::create(prefix(subnet), ip(server), subnet6, clock);
    return !pool && pool.error().code == ErrorCode::invalid_argument;
  };
  EXPECT_TRUE(refused("10.8.0.0/31", "10.8.0.1"));
  EXPECT_TRUE(refused("10.8.0.1/32", "10.8.0.1"));
  EXPECT_TRUE(refused("0.0.0.0/0", "10.8.0.1"));
  EXPECT_TRUE(refused("fd00::/64", "fd00::1"));
  EXPECT_TRUE(refused("10.8.0.0/24", "10.8.0.0"));
  EXPECT_TRUE(refused("10.8.0.0/24", "10.8.0.255"));
  EXPECT_TRUE(refused("10.8.0.0/24", "10.9.0.1"));
  EXPECT_TRUE(refused("10.8.0.0/24", "10.8.0.1", prefix("10.9.0.0/16")));
  EXPECT_TRUE(refused("10.8.0.0/24", "10.8.0.1", prefix("fd00::/121")));
  EXPECT_FALSE(refused("10.8.0.0/24", "10.8.0.1", prefix("fd00::/120")));
}

TEST(AddressPool, A8CostsNothingUntilItIsUsed) {
  ManualClock clock;
  auto pool = make_pool("10.0.0.0/8", "10.0.0.1", clock);
  EXPECT_EQ(pool.capacity(), (1U << 24) - 3);
  EXPECT_TRUE(pool.lease_exactly(ip("10.255.255.254"), "alice"));
  EXPECT_EQ(lease_text(pool), "10.0.0.2");
}

// The pool's promises written down directly: one record for each address, looked through from the lowest.
class NaivePool {
 public:
  struct Entry {
    enum { rested, leased, resting } state = rested;
    std::string holder;
    std::string reserved_for;
    TimePoint since;
  };

  NaivePool(const Prefix& subnet, const IpAddress& server) {
    for (IpAddress at = subnet.address().plus(1); at != subnet.last(); at = at.plus(1))
      if (at != server) entries_[at];
  }

  std::optional<IpAddress> lease(const std::string& holder, TimePoint now) {
    settle(now);
    auto best = entries_.end();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (!at->second.reserved_for.empty() || at->second.state == Entry::leased) continue;
      if (best == entries_.end() || rank(at->second) < rank(best->second)) best = at;
    }
    if (best == entries_.end()) return std::nullopt;
    best->second.state = Entry::leased;
    best->second.holder = holder;
    return best->first;
  }
  bool lease_exactly(const IpAddress& want, const std::string& holder, TimePoint now) {
    settle(now);
    Entry& entry = entries_.at(want);
    if (entry.state == Entry::leased) return false;
    if (!entry.reserved_for.empty() && entry.reserved_for != holder) return false;
    if (entry.reserved_for.empty() && entry.state == Entry::resting && entry.holder != holder) return false;
    entry.state = Entry::leased;
    entry.holder = holder;
    return true;
  }
  void release(const IpAddress& address, TimePoint now) {
    Entry& entry = entries_.at(address);
    entry.state = entry.reserved_for.empty() ? Entry::resting : Entry::rested;
    entry.since = now;
  }
  bool reserve(const IpAddress& address, const std::string& holder) {
    Entry& entry = entries_.at(address);
    if (!entry.reserved_for.empty()) return entry.reserved_for == holder;
    entry.reserved_for = holder;
    if (entry.state == Entry::resting) entry.state = Entry::rested;
    return true;
  }
  void unreserve(const IpAddress& address, TimePoint now) {
    Entry& entry = entries_.at(address);
    if (!entry.reserved_for.empty() && entry.state == Entry::rested) {
      entry.state = Entry::resting;
      entry.since = now;
      entry.holder = entry.reserved_for;
    }
    entry.reserved_for.clear();
  }
  bool is_leased(const IpAddress& address) const { return entries_.at(address).state == Entry::leased; }
  std::size_t leased() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(entries_, [](const auto& entry) { return entry.second.state == Entry::leased; }));
  }

 private:
  static std::pair<bool, TimePoint> rank(const Entry& entry) {
    return entry.state == Entry::resting ? std::pair(true, entry.since) : std::pair(false, TimePoint());
  }
  void settle(TimePoint now) {
    for (auto& [address, entry] : entries_)
      if (entry.state == Entry::resting && entry.since + AddressPool::kRest <= now) entry.state = Entry::rested;
  }
  std::map<IpAddress, Entry> entries_;
};

TEST(AddressPool, ItBehavesLikeANaivePoolThroughManyChanges) {
  for (const char* subnet : {"10.8.0.0/29", "10.8.0.0/27", "10.8.0.0/24"}) {
    ManualClock clock;
    SeededRandom random(7);
    auto pool = make_pool(subnet, "10.8.0.3", clock);
    NaivePool naive(prefix(subnet), ip("10.8.0.3"));
    const auto any_address = [&] {
      IpAddress address = ip("10.8.0.3");
      while (address == ip("10.8.0.3"))
        address = ip("10.8.0.1").plus(random.next32() % static_cast<std::uint32_t>(pool.capacity() + 1));
      return address;
    };
    for (int step = 0; step < 20000; ++step) {
      const IpAddress address = any_address();
      const std::string holder = "holder " + std::to_string(random.next32() % 4);
      const std::string at = std::string(subnet) + ", step " + std::to_string(step) + ", " + address.to_string();
      switch (random.next32() % 10) {
        case 0:
        case 1:
        case 2: {
          const auto expected = naive.lease(holder, clock.now());
          const auto leased = pool.lease(holder);
          ASSERT_EQ(leased.has_value(), expected.has_value()) << at;
          if (expected) {
            ASSERT_EQ(*leased, *expected) << at;
          }
          break;
        }
        case 3:
          ASSERT_EQ(pool.lease_exactly(address, holder).has_value(), naive.lease_exactly(address, holder, clock.now()))
              << at;
          break;
        case 4:
          if (random.next32() % 8 == 0) {
            ASSERT_EQ(pool.reserve(address, holder).has_value(), naive.reserve(address, holder)) << at;
          }
          break;
        case 5:
          pool.unreserve(address);
          naive.unreserve(address, clock.now());
          break;
        case 6: clock.advance(std::chrono::milliseconds(random.next32() % 20000)); break;
        default:
          ASSERT_EQ(pool.is_leased(address), naive.is_leased(address)) << at;
          if (pool.is_leased(address)) {
            naive.release(address, clock.now());
            pool.release(address);
          }
      }
      ASSERT_EQ(pool.leased(), naive.leased()) << at;
    }
  }
}

}  // namespace
}  // namespace penstock::router
