#include "dns/service/upstream_sockets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "dns/service/service_testing.h"
#include "packet/ip_view.h"

namespace penstock::dns {
namespace {

using testing::all_are;
using testing::Bytes;
using testing::DatagramEnd;
using testing::endpoint;
using testing::in_own_namespace;
using testing::MessageStream;
using testing::query;
using testing::run_until;
using testing::StubServer;

const Bytes asking = query("a.example");

// The sockets, and what they told.
struct World {
  explicit World(net::LoopRunner& loop_runner, UpstreamSockets::MaySend may_send = {})
      : runner(&loop_runner),
        sockets(loop_runner.loop(),
                {.on_reply =
                     [this](Exchange exchange, const Endpoint& from, ByteView reply) {
                       replies.push_back({exchange, from, Bytes(reply.begin(), reply.end())});
                       if (close_at_once) sockets.close(exchange);
                     },
                 .on_failed = [this](Exchange exchange) { failed.push_back(exchange); }},
                std::move(may_send)) {}

  struct Reply {
    Exchange exchange;
    Endpoint from;
    Bytes bytes;
  };
  net::LoopRunner* runner;
  bool close_at_once = false;
  std::vector<Reply> replies;
  std::vector<Exchange> failed;
  UpstreamSockets sockets;
};

class UpstreamSocketsTest : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (GetParam() == Family::ipv6 && !net::has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  }
  Endpoint server() const { return endpoint(GetParam() == Family::ipv4 ? "127.0.0.53:53" : "[::1]:53"); }
};

INSTANTIATE_TEST_SUITE_P(Families, UpstreamSocketsTest, ::testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(UpstreamSocketsTest, ADatagramIsAnsweredWithItsTrueSource) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), all_are("203.0.113.1"));
    World world(runner);
    ASSERT_TRUE(world.sockets.send(server(), asking, 7));
    run_until(runner, [&] { return !world.replies.empty(); });
    EXPECT_EQ(world.replies[0].exchange, 7U);
    EXPECT_EQ(world.replies[0].from, server());
    EXPECT_EQ(stub.asked[0].bytes, asking);
    EXPECT_EQ(world.sockets.open(), 1U) << "more may come";
    world.sockets.close(7);
    EXPECT_EQ(world.sockets.open(), 0U);
  });
}

TEST_P(UpstreamSocketsTest, WhatAStrangerSendsHasTheStrangersAddress) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), [](const auto&) { return Bytes(); });
    DatagramEnd stranger(runner, {server().address, 0});
    World world(runner);
    ASSERT_TRUE(world.sockets.send(server(), asking, 1));
    run_until(runner, [&] { return !stub.asked.empty(); });
    stranger.send(stub.asked[0].from, as_bytes("guess"));
    run_until(runner, [&] { return !world.replies.empty(); });
    EXPECT_EQ(world.replies[0].from, stranger.local());
  });
}

TEST_P(UpstreamSocketsTest, EachExchangeHasAPortOfItsOwnThatCannotBeForetold) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), [](const auto&) { return Bytes(); });
    World world(runner);
    for (Exchange i = 1; i <= 50; ++i) {
      ASSERT_TRUE(world.sockets.send(server(), asking, i));
      world.sockets.close(i);
    }
    run_until(runner, [&] { return stub.asked.size() == 50; });
    std::set<std::uint16_t> ports;
    std::set<int> steps;
    for (std::size_t i = 0; i < 50; ++i) {
      ports.insert(stub.asked[i].from.port);
      if (i > 0) steps.insert(stub.asked[i].from.port - stub.asked[i - 1].from.port);
    }
    EXPECT_GT(ports.size(), 45U) << "of 28 232, two may be the same once in a while";
    EXPECT_GT(steps.size(), 45U) << "and none is a fixed step from the one before";
  });
}

TEST_P(UpstreamSocketsTest, ARefusedDatagramFails) {
  in_own_namespace([&](net::LoopRunner& runner) {
    World world(runner);
    ASSERT_TRUE(world.sockets.send(server(), asking, 3));
    run_until(runner, [&] { return !world.failed.empty(); });
    EXPECT_THAT(world.failed, ::testing::ElementsAre(3U));
    EXPECT_EQ(world.sockets.open(), 0U);
    EXPECT_EQ(world.sockets.counters().refused, 1U);
  });
}

TEST_P(UpstreamSocketsTest, WhereThereIsNoWayNothingIsSent) {
  in_own_namespace([&](net::LoopRunner& runner) {
    World world(runner);
    const Endpoint far = endpoint(GetParam() == Family::ipv4 ? "192.0.2.1:53" : "[2001:db8::1]:53");
    EXPECT_FALSE(world.sockets.send(far, asking, 1));
    EXPECT_EQ(world.sockets.open(), 0U);
    if (world.sockets.send_stream(far, asking, 2)) run_until(runner, [&] { return !world.failed.empty(); });
    EXPECT_EQ(world.sockets.open(), 0U);
  });
}

TEST_P(UpstreamSocketsTest, AStreamBringsAMessageHoweverLarge) {
  in_own_namespace([&](net::LoopRunner& runner) {
    const Bytes huge(kMaxMessage, 0x55);
    StubServer stub(runner, server(), [&](const auto&) { return Bytes(huge); });
    World world(runner);
    ASSERT_TRUE(world.sockets.send_stream(server(), asking, 9));
    EXPECT_EQ(world.sockets.open(), 1U);
    run_until(runner, [&] { return !world.replies.empty(); });
    EXPECT_TRUE(stub.asked[0].stream);
    EXPECT_EQ(stub.asked[0].bytes, asking);
    EXPECT_EQ(world.replies[0].exchange, 9U);
    EXPECT_EQ(world.replies[0].from, server());
    EXPECT_EQ(world.replies[0].bytes, huge);
    world.sockets.close(9);
    EXPECT_EQ(world.sockets.open(), 0U);
    run_until(runner, [&] { return stub.streams[0]->closed; });
  });
}

TEST_P(UpstreamSocketsTest, ARefusedStreamFailsAndSoDoesOneThatEndsOrTalksNoDns) {
  in_own_namespace([&](net::LoopRunner& runner) {
    World world(runner);
    ASSERT_TRUE(world.sockets.send_stream(server(), asking, 1));
    EXPECT_TRUE(world.failed.empty()) << "never inside send_stream()";
    run_until(runner, [&] { return world.failed.size() == 1; });
    StubServer stub(runner, server(), [](const auto&) { return Bytes(); });
    ASSERT_TRUE(world.sockets.send_stream(server(), asking, 2));
    run_until(runner, [&] { return !stub.asked.empty(); });
    stub.streams[0].reset();
    run_until(runner, [&] { return world.failed.size() == 2; });
    ASSERT_TRUE(world.sockets.send_stream(server(), asking, 3));
    run_until(runner, [&] { return stub.asked.size() == 2; });
    stub.streams[1]->write(as_bytes(std::string_view("\0\1x", 3)));
    run_until(runner, [&] { return world.failed.size() == 3; });
    EXPECT_TRUE(world.replies.empty());
    EXPECT_EQ(world.sockets.open(), 0U);
  });
}

TEST_P(UpstreamSocketsTest, AnExchangeMayBeClosedByWhatItSays) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), [](const auto&) { return Bytes(); });
    World world(runner);
    world.close_at_once = true;
    ASSERT_TRUE(world.sockets.send(server(), asking, 1));
    ASSERT_TRUE(world.sockets.send_stream(server(), asking, 2));
    run_until(runner, [&] { return stub.asked.size() == 2; });
    for (const auto& asked : stub.asked)
      if (!asked.stream)
        for (int i = 0; i < 3; ++i) stub.udp.send(asked.from, asking);
    Bytes three;
    for (int i = 0; i < 3; ++i) StreamFraming::frame(asking, three);
    stub.streams[0]->write(three);
    run_until(runner, [&] { return world.sockets.open() == 0; });
    runner.settle(std::chrono::milliseconds(20));
    EXPECT_EQ(world.replies.size(), 2U);
    EXPECT_TRUE(world.failed.empty());
  });
}

TEST_P(UpstreamSocketsTest, NothingIsSentThatThePolicyForbids) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), all_are("203.0.113.1"));
    std::vector<std::pair<int, Endpoint>> looked_at;
    World world(runner, [&](std::uint8_t protocol, const Endpoint& to) {
      looked_at.emplace_back(protocol, to);
      return protocol == kProtocolTcp;
    });
    EXPECT_FALSE(world.sockets.send(server(), asking, 1));
    EXPECT_TRUE(world.sockets.send_stream(server(), asking, 2));
    EXPECT_THAT(looked_at,
                ::testing::ElementsAre(std::pair(int{kProtocolUdp}, server()), std::pair(int{kProtocolTcp}, server())));
    run_until(runner, [&] { return !world.replies.empty(); });
    EXPECT_EQ(stub.asked.size(), 1U);
    EXPECT_EQ(world.sockets.counters().forbidden, 1U);
  });
}

TEST_P(UpstreamSocketsTest, ThereAreNoMoreThanSoManyAndTheyAreClosedPromptly) {
  in_own_namespace([&](net::LoopRunner& runner) {
    StubServer stub(runner, server(), [](const auto&) { return Bytes(); });
    const std::size_t before = testing::open_descriptors();
    {
      World world(runner);
      Exchange last = 0;
      while (world.sockets.send_stream(server(), asking, ++last)) ASSERT_LE(last, UpstreamSockets::kMaxStreams);
      EXPECT_EQ(world.sockets.open(), UpstreamSockets::kMaxStreams);
      EXPECT_EQ(world.sockets.counters().no_socket, 1U);
      EXPECT_TRUE(world.sockets.send(server(), asking, ++last));
      world.sockets.close(1);
      EXPECT_TRUE(world.sockets.send_stream(server(), asking, ++last)) << "there is room again";
      for (Exchange i = 1; i <= last; ++i) world.sockets.close(i);
      EXPECT_EQ(world.sockets.open(), 0U);
      ASSERT_TRUE(world.sockets.send(server(), asking, ++last));
      ASSERT_TRUE(world.sockets.send_stream(server(), asking, ++last));
    }
    stub.streams.clear();
    runner.settle(std::chrono::milliseconds(20));
    stub.streams.clear();
    EXPECT_EQ(testing::open_descriptors(), before);
  });
}

}  // namespace
}  // namespace penstock::dns
