// The endpoint of the simulations against itself: two that cannot talk to each other would show nothing of a third.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "egress/tcp/tcp_habits_testing.h"
#include "test/support/manual_loop.h"
#include "test/support/packets.h"

namespace penstock::egress::testing {
namespace {

using namespace std::chrono_literals;

const Endpoint near_end{test::ip("10.0.0.2"), 40000};
const Endpoint far_end{test::ip("192.0.2.1"), 80};

// Two ends, and a road for each direction.
class Pair {
 public:
  struct Plan {
    std::array<ClientHabits, 2> habits;
    Weather there;
    Weather back;
    std::uint64_t seed = 1;
  };

  explicit Pair(const Plan& plan)
      : dice_(plan.seed),
        to_b_(loop_, dice_.fork(), plan.there, [this](Packet&& packet) { b.receive(packet); }),
        to_a_(loop_, dice_.fork(), plan.back, [this](Packet&& packet) { a.receive(packet); }),
        a(loop_, dice_.fork(), near_end, far_end, plan.habits[0], Pattern(1), Pattern(2),
          [this](PacketBatch& batch) { go(batch, b, to_b_); }),
        b(loop_, dice_.fork(), far_end, near_end, plan.habits[1], Pattern(2), Pattern(1),
          [this](PacketBatch& batch) { go(batch, a, to_a_); }) {
    b.listen();
  }

  test::ManualLoop loop_;
  Dice dice_;
  Road to_b_;
  Road to_a_;
  SimulatedClient a;
  SimulatedClient b;

  std::vector<std::string> complaints() const {
    std::vector<std::string> every = a.complaints();
    for (const std::string& one : b.complaints()) every.push_back("b: " + one);
    return every;
  }

 private:
  static void go(PacketBatch& batch, SimulatedClient& other, Road& road) {
    for (const Packet& packet : batch) other.audit(packet);
    road.send(batch);
  }
};

TEST(SimulatedClient, CarriesBytesBothWaysAndEnds) {
  Pair pair({.habits = {}, .there = {.delay = 10ms}, .back = {.delay = 10ms}});
  pair.a.read(SIZE_MAX);
  pair.b.read(SIZE_MAX);
  pair.a.offer(100'000);
  pair.b.offer(50'000);
  pair.a.connect();
  pair.loop_.advance(10s);
  EXPECT_EQ(pair.b.received(), 100'000U);
  EXPECT_EQ(pair.a.received(), 50'000U);
  pair.a.end();
  pair.loop_.advance(1s);
  EXPECT_TRUE(pair.b.heard_end());
  EXPECT_FALSE(pair.a.heard_end());
  pair.b.end();
  pair.loop_.advance(1s);
  EXPECT_EQ(pair.a.phase(), SimulatedClient::Phase::time_wait);
  EXPECT_EQ(pair.b.phase(), SimulatedClient::Phase::gone);
  pair.loop_.advance(1min);
  EXPECT_EQ(pair.a.phase(), SimulatedClient::Phase::gone);
  EXPECT_EQ(pair.a.retransmitted() + pair.b.retransmitted(), 0U);
  EXPECT_EQ(pair.loop_.timers(), 0U);
  EXPECT_TRUE(pair.complaints().empty()) << pair.complaints()[0];
}

TEST(SimulatedClient, GoesOnWhenAWindowOpensAgain) {
  Pair pair({.habits = {ClientHabits{}, ClientHabits{.capacity = 1000}}});
  pair.a.offer(5000);
  pair.a.connect();
  pair.loop_.advance(30s);
  EXPECT_EQ(pair.b.received(), 0U);
  EXPECT_GE(pair.a.acknowledged(), 1000U);
  EXPECT_LT(pair.a.acknowledged(), 5000U);
  pair.b.read(SIZE_MAX);
  pair.loop_.advance(30s);
  EXPECT_EQ(pair.b.received(), 5000U);
  EXPECT_TRUE(pair.complaints().empty()) << pair.complaints()[0];
}

TEST(SimulatedClient, IsToldOfAReset) {
  Pair pair({.habits = {}, .there = {.delay = 10ms}, .back = {.delay = 10ms}});
  pair.a.connect();
  pair.loop_.advance(1s);
  pair.b.abort();
  pair.loop_.advance(1s);
  EXPECT_EQ(pair.a.why(), SimulatedClient::Why::reset_by_peer);
  EXPECT_EQ(pair.loop_.timers(), 0U);
}

// What is wrong is seen: an end that does not take back its own words is told of those that somebody else says.
TEST(SimulatedClient, ComplainsOfWhatATcpMayNotDo) {
  Pair pair({.habits = {}});
  pair.a.connect();
  pair.a.read(SIZE_MAX);
  pair.loop_.advance(1s);
  ASSERT_TRUE(pair.complaints().empty()) << pair.complaints()[0];
  const auto said = [&](std::uint32_t ahead, std::uint8_t flags, std::uint16_t window, std::string_view text) {
    const TcpHeader header{.from = {test::ip("192.0.2.1"), 80},
                           .to = {test::ip("10.0.0.2"), 40000},
                           .sequence = pair.b.next_sequence() + ahead,
                           .acknowledgement = pair.a.next_sequence(),
                           .flags = flags,
                           .window = window,
                           .options = {.timestamps = TcpTimestamps{.value = 0, .echo = 0}}};
    const std::size_t before = pair.a.complaints().size();
    Packet packet = Packet::with_size(tcp_headers_size(header) + text.size());
    std::copy(text.begin(), text.end(), packet.mutable_bytes().end() - static_cast<std::ptrdiff_t>(text.size()));
    write_tcp_headers(packet, header, 1000);
    pair.a.audit(packet);
    return pair.a.complaints().size() > before;
  };
  EXPECT_TRUE(said(0, kTcpAck, 65535, "not what the pattern has"));
  EXPECT_TRUE(said(70'000, kTcpAck, 65535, ""));
  EXPECT_TRUE(said(0, kTcpAck, 1, "")) << "a window that shrinks";
  EXPECT_TRUE(said(0, 0, 65535, ""));
}

constexpr std::uint64_t kShard = 500;

class SimulatedSchedules : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Shards, SimulatedSchedules, ::testing::Range<std::uint64_t>(0, 4));

// All habits with each other in all weathers.
TEST_P(SimulatedSchedules, EveryByteArrivesWhateverTheRoadDoes) {
  for (std::uint64_t seed = GetParam() * kShard; seed < (GetParam() + 1) * kShard; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed);
    const TimePoint start = test::ManualLoop().now();
    Pair::Plan plan{.habits = {some_habits(dice), some_habits(dice)},
                    .there = some_weather(dice, start),
                    .back = some_weather(dice, start),
                    .seed = dice.next()};
    plan.there.mtu = plan.back.mtu = SIZE_MAX;  // nobody here looks for a path's MTU, or avoids congestion
    plan.there.rate = plan.back.rate = 0;
    for (const std::size_t i : {0U, 1U}) plan.habits[i].duplicate_sacks = plan.habits[i].urgent = false;
    Pair pair(plan);
    const std::size_t to_b = dice.size(std::min<std::size_t>(60'000, 200 * plan.habits[1].capacity));
    const std::size_t to_a = dice.size(std::min<std::size_t>(60'000, 200 * plan.habits[0].capacity));
    pair.a.offer(to_b);
    pair.b.offer(to_a);
    pair.a.connect();
    if (dice.one_in(2)) pair.loop_.advance(dice.up_to(Duration(30s)));
    pair.a.read(SIZE_MAX);
    pair.a.end();
    if (dice.one_in(2)) pair.loop_.advance(dice.up_to(Duration(30s)));
    pair.b.read(SIZE_MAX);
    pair.b.end();
    pair.loop_.advance(15min);
    ASSERT_EQ(pair.b.received(), to_b) << pair.a.describe() << '\n' << pair.b.describe();
    ASSERT_EQ(pair.a.received(), to_a) << pair.a.describe() << '\n' << pair.b.describe();
    ASSERT_TRUE(pair.a.heard_end() && pair.b.heard_end());
    ASSERT_EQ(pair.loop_.timers(), 0U) << pair.a.describe() << '\n' << pair.b.describe();
    ASSERT_TRUE(pair.complaints().empty()) << pair.complaints()[0];
  }
}

}  // namespace
}  // namespace penstock::egress::testing
