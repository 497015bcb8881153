// Bounds: what one client may take, and that others do not feel it.
#include <gtest/gtest.h>

#include <memory>

#include "egress/tcp/tcp_script_testing.h"

namespace penstock::egress::testing {
namespace {

const Says plain{.mss = 1460, .scale = 7, .sack = true};

// Many clients of one world, told apart by their ports.
class TcpLimits : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && world_) std::cerr << world_->dialogue();
  }
  TcpWorld& begin(const TcpTerminator::Settings& settings) {
    world_ = std::make_unique<TcpWorld>(settings);
    return *world_;
  }
  ScriptClient& client(std::size_t number) {
    auto& slot = clients_[number];
    if (slot == nullptr)
      slot = std::make_unique<ScriptClient>(*world_, "10.100.0.2:" + std::to_string(10'000 + number));
    return *slot;
  }
  ScriptServer server(std::size_t number) { return ScriptServer(client(number)); }

  std::unique_ptr<TcpWorld> world_;
  std::map<std::size_t, std::unique_ptr<ScriptClient>> clients_;
};

// The server ends, then the client: the terminator waits out its time.
void ends_in_time_wait(ScriptClient& client) {
  ScriptServer server{client};
  server.ends();
  client.expects(kAck | kFin, {.seq = 1});
  client.sends(kAck | kFin);
  client.expects(kAck, {.seq = 2, .ack = 2});
}

TEST_F(TcpLimits, ThereAreNoMoreConnectionsThanTheMost) {
  TcpWorld& world = begin({.most_connections = 2});
  client(1).opens(plain);
  client(2).sends(kSyn, plain);  // half open ones count
  client(3).sends(kSyn, plain);
  EXPECT_EQ(world.terminator.connections(), 2U);
  EXPECT_EQ(world.streams.open.size(), 2U);
  EXPECT_EQ(world.counters().exhausted, 1U);
  client(3).drain();  // an error about it, or silence: there may be many
  // Who has one keeps it, and who leaves makes room.
  client(1).sends(kAck, {.data = 10});
  server(1).heard(10);
  client(1).sends(kRst);
  client(3).sends(kSyn, plain);
  EXPECT_EQ(world.streams.open.size(), 2U);
}

TEST_F(TcpLimits, StreamsFromOutsideCountToo) {
  TcpWorld& world = begin({.most_connections = 1});
  client(1).opens(plain);
  EXPECT_FALSE(client(2).is_called());
  EXPECT_TRUE(world.streams.closed.contains(client(2).stream));
  EXPECT_EQ(world.terminator.connections(), 1U);
}

TEST_F(TcpLimits, TheOldestThatWaitsOutItsTimeMakesRoom) {
  TcpWorld& world = begin({.most_time_wait = 3});
  for (std::size_t i = 1; i <= 5; ++i) {
    client(i).opens(plain);
    ends_in_time_wait(client(i));
    world.after(1s);
    EXPECT_EQ(world.terminator.connections(), std::min<std::size_t>(i, 3));
  }
  EXPECT_TRUE(world.was_closed(client(1).ends));
  EXPECT_TRUE(world.was_closed(client(2).ends));
  EXPECT_FALSE(world.was_closed(client(3).ends));
  client(5).sends(kAck | kFin, {.seq = 1});
  client(5).expects(kAck, {.seq = 2, .ack = 2});
  world.after(5min);
  EXPECT_EQ(world.terminator.connections(), 0U);
  EXPECT_EQ(world.terminator.timers(), 0U);
  EXPECT_EQ(world.gone.size(), 5U);
}

TEST_F(TcpLimits, ServersThatDoNotReadCloseWindowsAndHoldNoMoreThanTheMost) {
  constexpr std::size_t kHeld = 1 << 20;
  TcpWorld& world = begin({.held_bytes_of_client = kHeld});
  const std::size_t before = world.terminator.memory();
  std::size_t taken = 0;
  for (std::size_t i = 1; i <= 40; ++i) {
    client(i).opens(plain);
    server(i).has_room(0);
    // It says whatever its window allows, as long as it allows more.
    for (int turns = 0; turns < 1000 && client(i).next() != client(i).right_edge(); ++turns) {
      const std::size_t most = client(i).right_edge() - client(i).next();
      client(i).sends(kAck, {.data = std::min<std::size_t>(most, 14'000)});
      client(i).drain();
    }
    world.after(100ms);
    client(i).drain();
    server(i).heard(0);
    taken += client(i).acknowledged() - 1;
  }
  // Each has a little of his own, however much the others have.
  EXPECT_GE(taken, kHeld / 2);
  EXPECT_LE(taken, kHeld + std::size_t{40} * 64 * 1024);
  EXPECT_LE(world.terminator.memory() - before, std::size_t{40} * 8192) << "besides the packets";

  // Others still get theirs.
  client(50).opens(plain);
  std::size_t said = 0;
  for (int i = 0; i < 200; ++i) {
    const std::size_t most = client(50).right_edge() - client(50).next();
    const std::size_t some = std::min<std::size_t>(most, 1400);
    if (some != 0) client(50).sends(kAck, {.data = some});
    said += some;
    if (client(50).has_seen_nothing()) client(50).waits(100ms);
    client(50).drain();
  }
  server(50).heard(said);
  EXPECT_GE(said, 200'000U);

  // And when the servers read, everything that was taken arrives.
  for (std::size_t i = 1; i <= 40; ++i) {
    server(i).has_room(SIZE_MAX);
    server(i).heard(client(i).acknowledged() - 1);
    client(i).drain();
    while (client(i).acknowledged() != client(i).next()) {
      const std::uint32_t from = client(i).acknowledged();
      client(i).sends(kAck, {.seq = from, .data = std::min<std::size_t>(client(i).next() - from, 1400)});
      if (client(i).has_seen_nothing()) client(i).waits(100ms);
      client(i).drain();
      ASSERT_NE(client(i).acknowledged(), from);
    }
    server(i).heard(client(i).next() - 1);
  }
}

TEST_F(TcpLimits, PiecesBehindGapsAreBoundedToo) {
  TcpWorld& world = begin({});
  client(1).opens(plain);
  const std::size_t before = world.terminator.memory();
  for (std::uint32_t i = 0; i < 20'000; ++i) client(1).sends(kAck, {.seq = 3 + 2 * i, .data = 1});
  client(1).drain();
  EXPECT_LE(world.terminator.memory() - before, std::size_t{256 * 1024});
  server(1).heard(0);
}

TEST_F(TcpLimits, AClientThatNeverAcksCostsNothingButTheServersSocket) {
  TcpWorld& world = begin({});
  client(1).opens(plain);
  const std::size_t before = world.terminator.memory();
  server(1).says(1'000'000);
  for (int i = 0; i < 20; ++i) {
    client(1).waits(10s);
    client(1).loses_all();
    client(1).packets.clear();
  }
  EXPECT_EQ(server(1).waiting(), 1'000'000U);
  EXPECT_LE(world.terminator.memory() - before, 10'000U);
  // Others are served.
  client(2).opens(plain);
  server(2).says(10'000);
  client(2).expects_data(1, 10'000);
}

TEST_F(TcpLimits, AClientWhoseWindowIsClosedForEverCostsNothingButTheServersSocket) {
  TcpWorld& world = begin({});
  client(1).window = 0;
  client(1).opens(plain);
  const std::size_t before = world.terminator.memory();
  server(1).says(1'000'000);
  std::size_t probes = 0;
  for (double time = 0; time < 3600; ++probes) {
    time += client(1).waits();
    client(1).drain();
    client(1).acks(1);
  }
  EXPECT_LE(probes, 80U) << "seldom";
  EXPECT_LE(world.terminator.memory() - before, 10'000U);
}

TEST_F(TcpLimits, TenThousandSynsThatNobodyAnswersAreForgotten) {
  TcpWorld& world = begin({.most_connections = 5000});
  for (std::size_t i = 1; i <= 10'000; ++i) {
    client(i).sends(kSyn, plain);
    if (i > 1) clients_.at(i - 1)->drain();
  }
  EXPECT_EQ(world.terminator.connections(), 5000U);
  EXPECT_EQ(world.counters().exhausted, 5000U);
  EXPECT_LE(world.terminator.memory(), 5000U * 2048);
  while (!world.streams.open.empty())
    world.streams.refuse(world.streams.open.begin()->first, StreamError::timed_out), world.settle();
  EXPECT_EQ(world.terminator.connections(), 0U);
  EXPECT_EQ(world.terminator.timers(), 0U);
}

TEST_F(TcpLimits, TheClientsOfAFloodAreNotSentMoreThanTheyAskedFor) {
  TcpWorld& world = begin({});
  // A SYN whose answers nobody takes costs a handful of small packets (amplification).
  client(1).sends(kSyn, plain);
  server(1).accepts();
  world.after(10min);
  EXPECT_LE(client(1).drain().size(), 8U);
  EXPECT_EQ(world.terminator.connections(), 0U);
}

TEST_F(TcpLimits, ChallengesAreFew) {
  TcpWorld& world = begin({});
  client(1).opens(plain);
  for (int i = 0; i < 1000; ++i) client(1).sends(kSyn, {.seq = 50, .mss = 1460});
  EXPECT_LE(client(1).drain().size(), 100U);  // RFC 5961 section 7
  EXPECT_EQ(world.terminator.connections(), 1U);
}

}  // namespace
}  // namespace penstock::egress::testing
