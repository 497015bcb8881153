#include "router/flow_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/random.h"

namespace penstock::router {
namespace {

using Direction = FlowTable::Direction;
using std::chrono::milliseconds;
using std::chrono::seconds;

FlowKey key_of(std::uint16_t port, std::uint8_t protocol = kProtocolUdp, std::uint32_t from = 2) {
  return {.from = AddressBits::of(IpAddress::v4(0x0A000000 + from)),
          .to = AddressBits::of(IpAddress::v4(0x0A000003)),
          .from_port = port,
          .to_port = 53,
          .family = Family::ipv4,
          .protocol = protocol};
}

class FlowTableTest : public testing::Test {
 protected:
  FlowTable::Flow& open(const FlowKey& key, std::uint32_t member = 1) {
    FlowTable::Flow& flow = table.open(key, member, 1, clock.now());
    table.seen(flow, Direction::opener, kTcpSyn, clock.now());
    return flow;
  }
  void shake_hands(const FlowKey& key, std::uint32_t member = 1) {
    open(key, member);
    passes(key, Direction::answer, kTcpSyn | kTcpAck);
    passes(key, Direction::opener, kTcpAck);
  }
  void passes(const FlowKey& key, Direction direction, std::uint8_t flags = kTcpAck) {
    FlowTable::Flow* flow = table.find(key, clock.now());
    ASSERT_NE(flow, nullptr);
    table.seen(*flow, direction, flags, clock.now());
  }
  bool knows(const FlowKey& key) { return table.find(key, clock.now()) != nullptr; }
  // That it is forgotten after just `idle` of silence.
  void expect_idle(const FlowKey& key, Duration idle) {
    clock.advance(idle - milliseconds(1));
    EXPECT_TRUE(knows(key));
    clock.advance(milliseconds(1));
    EXPECT_FALSE(knows(key));
    EXPECT_TRUE(table.empty());
  }

  ManualClock clock;
  FlowTable table{SipKey{1, 2}};
};

// The vectors that came with the paper: key 00 01 .. 0f, message 00 01 .. of 0, 8 and 16 bytes.
TEST(SipHash, MatchesItsAuthorsVectors) {
  constexpr SipKey kKey{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  EXPECT_EQ(sip_hash(kKey, std::array<std::uint64_t, 0>{}), 0x726fdb47dd0e0e31);
  EXPECT_EQ(sip_hash(kKey, std::array<std::uint64_t, 1>{0x0706050403020100}), 0x93f5f5799a932462);
  EXPECT_EQ(sip_hash(kKey, std::array<std::uint64_t, 2>{0x0706050403020100, 0x0f0e0d0c0b0a0908}), 0x3f2acc7f57c29bdb);
}

TEST_F(FlowTableTest, EachKindIsForgottenAfterItsOwnSilence) {
  open(key_of(1, kProtocolUdp));
  expect_idle(key_of(1), seconds(60));

  open(key_of(1, kProtocolUdp));
  passes(key_of(1), Direction::answer);
  expect_idle(key_of(1), seconds(180));

  const FlowKey echo = key_of(1, kProtocolIcmp);
  open(echo);
  passes(echo, Direction::answer);
  expect_idle(echo, seconds(30));

  const FlowKey tcp = key_of(1, kProtocolTcp);
  open(tcp);
  expect_idle(tcp, seconds(60));

  shake_hands(tcp);
  expect_idle(tcp, std::chrono::hours(2));
}

TEST_F(FlowTableTest, ATcpConnectionIsSettledOnceItsOpenerHasAcknowledgedTheAnswer) {
  const FlowKey tcp = key_of(1, kProtocolTcp);
  open(tcp);
  passes(tcp, Direction::opener, kTcpAck);  // of nothing
  passes(tcp, Direction::answer, kTcpSyn | kTcpAck);
  passes(tcp, Direction::answer, kTcpSyn | kTcpAck);
  passes(tcp, Direction::opener, kTcpSyn);  // once more
  expect_idle(tcp, seconds(60));

  shake_hands(tcp);
  passes(tcp, Direction::answer, kTcpRst);
  passes(tcp, Direction::opener, kTcpSyn);
  passes(tcp, Direction::answer, kTcpSyn | kTcpAck);
  expect_idle(tcp, seconds(60));
}

TEST_F(FlowTableTest, ATcpConnectionEndsWithBothFinsOrAReset) {
  const FlowKey tcp = key_of(1, kProtocolTcp);
  shake_hands(tcp);
  passes(tcp, Direction::opener, kTcpFin | kTcpAck);
  clock.advance(std::chrono::minutes(10));
  passes(tcp, Direction::answer);  // it may still have much to say
  passes(tcp, Direction::answer, kTcpFin | kTcpAck);
  expect_idle(tcp, seconds(10));

  for (const Direction direction : {Direction::opener, Direction::answer}) {
    open(tcp);
    passes(tcp, Direction::answer);
    passes(tcp, direction, kTcpRst);
    expect_idle(tcp, seconds(10));
  }

  open(tcp);
  passes(tcp, Direction::answer, kTcpRst);
  passes(tcp, Direction::opener, kTcpSyn);  // the ports are used again
  passes(tcp, Direction::answer, kTcpSyn | kTcpAck);
  passes(tcp, Direction::opener, kTcpAck);
  expect_idle(tcp, std::chrono::hours(2));
}

TEST_F(FlowTableTest, AFullTableForgetsTheIdlest) {
  for (std::uint16_t port = 0; port < FlowTable::kMaxFlows; ++port) {
    open(key_of(port));
    clock.advance(milliseconds(1));
  }
  passes(key_of(0), Direction::opener);
  open(key_of(60000));
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
  EXPECT_TRUE(knows(key_of(0)));
  EXPECT_FALSE(knows(key_of(1)));
  EXPECT_TRUE(knows(key_of(2)));
}

TEST_F(FlowTableTest, WhoOpensFlowAfterFlowDisplacesNoneThatIsAnswered) {
  for (std::uint16_t port = 0; port < 100; ++port) {
    open(key_of(port));
    passes(key_of(port), Direction::answer);
  }
  for (std::uint32_t i = 0; i < 20000; ++i) open(key_of(static_cast<std::uint16_t>(1000 + i)));
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
  for (std::uint16_t port = 0; port < 100; ++port) EXPECT_TRUE(knows(key_of(port))) << port;
}

TEST_F(FlowTableTest, WhereAllAreAnsweredTheIdlestOfThemGoes) {
  for (std::uint16_t port = 0; port < FlowTable::kMaxFlows + 1; ++port) {
    open(key_of(port));
    passes(key_of(port), Direction::answer);
  }
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
  EXPECT_FALSE(knows(key_of(0)));
  EXPECT_TRUE(knows(key_of(1)));
}

TEST_F(FlowTableTest, WhoHoldsMostOfAFullTableMakesTheRoom) {
  const FlowKey carols = key_of(22, kProtocolTcp, 4);
  const FlowKey daves = key_of(53, kProtocolUdp, 5);
  shake_hands(carols, 3);
  open(daves, 4);
  clock.advance(seconds(1));
  for (std::uint16_t port = 0; port < 5000; ++port) shake_hands(key_of(port, kProtocolTcp));
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
  EXPECT_TRUE(knows(carols));
  EXPECT_TRUE(knows(daves)) << "not even what is not answered, of somebody with less";
  EXPECT_FALSE(knows(key_of(0, kProtocolTcp)));
  EXPECT_TRUE(knows(key_of(4999, kProtocolTcp)));

  for (std::uint16_t port = 0; port < 2000; ++port) shake_hands(key_of(port, kProtocolTcp, 6), 5);
  for (std::uint16_t port = 0; port < 2000; ++port) EXPECT_TRUE(knows(key_of(port, kProtocolTcp, 6)));
  EXPECT_TRUE(knows(carols));
}

TEST_F(FlowTableTest, WhoComesToATableOfEqualsIsLetIn) {
  for (std::uint32_t member = 0; member < FlowTable::kMaxFlows + 1; ++member)
    open(key_of(1, kProtocolUdp, member), member);
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
  EXPECT_TRUE(knows(key_of(1, kProtocolUdp, FlowTable::kMaxFlows)));
}

// Nobody's dead flows count against those who want to begin some.
TEST_F(FlowTableTest, WhatIsOverGoesBeforeWhatIsNot) {
  for (std::uint16_t port = 0; port < FlowTable::kMaxFlows / 2; ++port) open(key_of(port, kProtocolUdp, 3), 2);
  clock.advance(seconds(60));
  for (std::uint16_t port = 0; port < FlowTable::kMaxFlows; ++port) open(key_of(port));
  for (std::uint16_t port = 0; port < FlowTable::kMaxFlows; ++port) EXPECT_TRUE(knows(key_of(port))) << port;
  EXPECT_EQ(table.size(), FlowTable::kMaxFlows);
}

TEST_F(FlowTableTest, ItAgreesWithANaiveTableThroughManyChanges) {
  struct Naive {
    TimePoint seen;
    Duration idle;
  };
  std::map<std::uint16_t, Naive> naive;  // few enough never to displace one
  SeededRandom random(5);
  for (int i = 0; i < 50000; ++i) {
    const auto port = static_cast<std::uint16_t>(random.next32() % 600);
    clock.advance(milliseconds(random.next32() % 300));
    std::erase_if(naive, [&](const auto& one) { return clock.now() - one.second.seen >= one.second.idle; });
    const auto known = naive.find(port);
    FlowTable::Flow* flow = table.find(key_of(port), clock.now());
    ASSERT_EQ(flow != nullptr, known != naive.end()) << i;
    if (flow == nullptr) {
      open(key_of(port));
      naive[port] = {clock.now(), FlowTable::kFreshIdle};
    } else if (random.next32() % 8 == 0) {
      table.erase(*flow);
      naive.erase(known);
    } else {
      table.seen(*flow, Direction::answer, 0, clock.now());
      known->second = {clock.now(), FlowTable::kAnsweredIdle};
    }
    ASSERT_GE(table.size(), naive.size());
  }
}

// Few members, so that there are ties, and nobody silent for long enough to be over: every opening in the full table
// displaces just one flow, the one that a look at all of them finds.
TEST_F(FlowTableTest, ItDisplacesWhomANaiveTableDisplaces) {
  struct Naive {
    FlowKey key;
    std::uint32_t member = 0;
    bool settled = false;
    int seen = 0;
  };
  std::vector<Naive> naive;
  std::map<std::uint32_t, std::size_t> counts;
  const auto victim_of = [&](std::uint32_t member) {
    auto victim = naive.end();
    for (auto at = naive.begin(); at != naive.end(); ++at) {
      if (at->member != member) continue;
      if (victim == naive.end() || std::pair(at->settled, at->seen) < std::pair(victim->settled, victim->seen))
        victim = at;
    }
    return victim;
  };
  SeededRandom random(11);
  std::size_t displaced = 0;
  std::size_t ties = 0;
  for (int i = 0; i < 30000; ++i) {
    clock.advance(std::chrono::microseconds(10));
    if (naive.size() > 1000 && random.next32() % 4 != 0) {
      Naive& one = naive[random.next32() % naive.size()];
      FlowTable::Flow* flow = table.find(one.key, clock.now());
      ASSERT_NE(flow, nullptr) << i;
      ASSERT_EQ(table.member_of(*flow), one.member);
      if (random.next32() % 64 == 0) {
        table.erase(*flow);
        --counts[one.member];
        std::swap(one, naive.back());
        naive.pop_back();
        continue;
      }
      const bool answer = random.next32() % 4 == 0;
      table.seen(*flow, answer ? Direction::answer : Direction::opener, 0, clock.now());
      one.settled = one.settled || answer;
      one.seen = i;
      continue;
    }
    // Two members want most of it; the others come and go.
    const std::uint32_t member = random.next32() % 8 == 0 ? random.next32() % 20 : random.next32() % 2;
    const FlowKey key = key_of(static_cast<std::uint16_t>(i), kProtocolUdp, member);
    const bool full = naive.size() == FlowTable::kMaxFlows;
    table.seen(table.open(key, member, 1, clock.now()), Direction::opener, 0, clock.now());
    ASSERT_EQ(table.size(), std::min(naive.size() + 1, FlowTable::kMaxFlows)) << i;
    if (full) {
      const std::size_t most = std::ranges::max_element(counts, {}, [](const auto& of) { return of.second; })->second;
      std::vector<std::uint32_t> holders;
      for (const auto& [holder, count] : counts) {
        if (count == most) holders.push_back(holder);
      }
      ties += holders.size() > 1 ? 1 : 0;
      if (counts[member] == most) holders = {member};
      std::erase_if(holders, [&](std::uint32_t holder) { return knows(victim_of(holder)->key); });
      ASSERT_EQ(holders.size(), 1U) << i;
      --counts[holders[0]];
      naive.erase(victim_of(holders[0]));
      ++displaced;
    }
    naive.push_back({key, member, false, i});
    ++counts[member];
  }
  for (const Naive& one : naive) EXPECT_TRUE(knows(one.key));
  EXPECT_GT(displaced, 1000U);
  EXPECT_GT(ties, 10U);
}

}  // namespace
}  // namespace penstock::router
