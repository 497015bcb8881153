#include "router/flow_table.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace penstock::router {
namespace {

using Direction = FlowTable::Direction;
using std::chrono::milliseconds;
using std::chrono::seconds;

FlowKey key_of(std::uint16_t port, std::uint8_t protocol = kProtocolUdp) {
  return {.from = AddressBits::of(IpAddress::v4(0x0A000002)),
          .to = AddressBits::of(IpAddress::v4(0x0A000003)),
          .from_port = port,
          .to_port = 53,
          .family = Family::ipv4,
          .protocol = protocol};
}

class FlowTableTest : public testing::Test {
 protected:
  FlowTable::Flow& open(const FlowKey& key) {
    FlowTable::Flow& flow = table.open(key, 1, 1, clock.now());
    table.seen(flow, Direction::opener, kTcpSyn, clock.now());
    return flow;
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

  open(tcp);
  passes(tcp, Direction::answer);
  expect_idle(tcp, std::chrono::hours(2));
}

TEST_F(FlowTableTest, ATcpConnectionEndsWithBothFinsOrAReset) {
  const FlowKey tcp = key_of(1, kProtocolTcp);
  open(tcp);
  passes(tcp, Direction::answer);
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
  passes(tcp, Direction::answer);
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

}  // namespace
}  // namespace penstock::router
