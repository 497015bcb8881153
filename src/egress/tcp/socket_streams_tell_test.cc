// What is told of streams and when: room, arrivals, closing in between, many at once. Real sockets, on loopback.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <numeric>

#include "base/random.h"
#include "egress/tcp/socket_streams.h"
#include "egress/tcp/socket_streams_testing.h"
#include "test/support/allocations.h"

namespace penstock::egress {
namespace {

class SocketStreamsTellTest : public SocketStreamsTest {};

INSTANTIATE_TEST_SUITE_P(Ways, SocketStreamsTellTest, every_way(), name_of_way);

TEST_P(SocketStreamsTellTest, AFullSocketTakesNoMoreAndTellsWhenItDoes) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    std::string sent(std::size_t{32} << 20, '\0');
    std::iota(sent.begin(), sent.end(), '\0');
    std::size_t taken = 0;
    const auto write = [&] {
      const ByteView rest = as_bytes(std::string_view(sent).substr(taken));
      const auto written = world.streams->write(stream, {&rest, 1});
      EXPECT_EQ(written.error, StreamError::none);
      taken += written.bytes;
      return written.bytes;
    };
    while (write() != 0) EXPECT_LT(taken, sent.size());
    world.turn_round();
    world.told.clear();
    std::string heard;
    const std::size_t before = taken;
    // The kernel tells only once there is a good deal of room.
    while (heard.size() < before) heard += server.hear();
    world.until([&] { return world.told_of(1).writable; });
    EXPECT_GT(write(), 0U);
    while (heard.size() < taken) heard += server.hear();
    EXPECT_TRUE(std::string_view(sent).starts_with(heard));
  });
}

TEST_P(SocketStreamsTellTest, WhatBeginsIsToldOnceAndWhatComesBesidesAgain) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    world.turn_round();
    EXPECT_EQ(world.times_told(1), 1U);
    EXPECT_FALSE(world.told_of(1).readable);
    world.told.clear();
    server.say("one");
    world.until([&] { return world.told_of(1).readable; });
    world.turn_round();
    EXPECT_EQ(world.times_told(1), 1U);
    EXPECT_EQ(world.peeked(stream, 0), "one");
    world.told.clear();
    server.say("two");
    world.until([&] { return world.told_of(1).readable; });
    world.turn_round();
    EXPECT_EQ(world.times_told(1), 1U);
    EXPECT_EQ(world.peeked(stream, 0), "onetwo");
  });
}

TEST_P(SocketStreamsTellTest, OfAStreamThatIsClosedNothingIsToldAlsoWhereItsNumberIsUsedAgain) {
  in_a_world([&](StreamsWorld& world) {
    // Two that are ready in the same turn; whoever is told first closes the other.
    auto first = world.connected(way(), 1);
    auto second = world.connected(way(), 2);
    world.turn_round();
    world.told.clear();
    first.second.say("data");
    second.second.say("data");
    FarEnd far;
    HostStreams::Stream fresh = -1;
    const HostStreams::Stream streams[] = {first.first, second.first};
    world.on_ready = [&](std::uint64_t cookie, HostStreams::Events::Ready) {
      if (cookie == 3) return;
      ASSERT_EQ(fresh, -1) << "the other one was told of after it was closed";
      const HostStreams::Stream other = streams[cookie == 1 ? 1 : 0];
      world.streams->close(other, false);
      int ends[2] = {-1, -1};
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
      ASSERT_TRUE(ends[0] == other || ends[1] == other) << "the lowest that is free";
      fresh = other;
      world.streams->adopt(other, 3);
      far = FarEnd(ends[0] == other ? ends[1] : ends[0]);
    };
    world.until([&] { return world.times_told(3) != 0; });
    world.turn_round();
    EXPECT_EQ(world.told.size(), 2U);
    EXPECT_EQ(world.times_told(3), 1U);
    EXPECT_TRUE(world.told_of(3).writable);
    EXPECT_FALSE(world.told_of(3).readable) << "that was the other's";
    far.say("for the new one");
    EXPECT_EQ(world.await_bytes(fresh, 0, 15), "for the new one");
  });
}

TEST_P(SocketStreamsTellTest, WhatLiesTooFarToPassOverIsToldAgainWhenItComesNearer) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_rmem", "4096 131072 67108864"));
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_wmem", "4096 16384 4194304"));
    auto [stream, server] = world.connected(way(), 1);
    world.streams->widen(stream, SocketStreams::kMostPassedOver * 4);
    SeededRandom random(22);
    const std::string sent = net::random_text(random, SocketStreams::kMostPassedOver + (std::size_t{1} << 20));
    std::string_view rest(sent);
    std::string seen;
    auto see = [&, from = std::size_t{0}](std::size_t consumed) mutable {
      from += consumed;
      for (;;) {
        const std::string more = world.peeked(stream, seen.size() - from);
        seen += more;
        if (more.empty()) return;
      }
    };
    world.until([&] {
      const ssize_t some = ::send(server.fd(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (some > 0) rest.remove_prefix(static_cast<std::size_t>(some));
      see(0);
      int lying = 0;
      EXPECT_EQ(::ioctl(stream, FIONREAD, &lying), 0);
      return static_cast<std::size_t>(lying) == sent.size();
    });
    see(0);
    EXPECT_EQ(world.last.error, StreamError::none);
    EXPECT_FALSE(world.last.ended);
    EXPECT_EQ(seen.size() == sent.size(), by_kernel(world));
    EXPECT_GT(seen.size(), SocketStreams::kMostPassedOver);
    world.turn_round();
    world.told.clear();
    world.streams->consume(stream, sent.size() / 2);
    if (!by_kernel(world)) world.until([&] { return world.told_of(1).readable; });
    see(sent.size() / 2);
    EXPECT_TRUE(seen == sent);
  });
}

TEST_P(SocketStreamsTellTest, AWiderStreamHoldsMoreThanOneThatWasLeftAlone) {
  in_a_world([&](StreamsWorld& world) {
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_rmem", "4096 131072 16777216"));
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_wmem", "4096 16384 262144"));
    auto [stream, server] = world.connected(way(), 1);
    const auto buffer = [&, fd = stream] { return option_of(fd, SOL_SOCKET, SO_RCVBUF); };
    const std::string block(65536, 'x');
    std::size_t sent = 0;
    // Sends until no more is taken, and returns what then lies in the stream.
    const auto fill = [&, fd = stream, to = server.fd()] {
      std::size_t lying = 0;
      for (int idle = 0; idle < 1000;) {
        const ssize_t some = ::send(to, block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (some > 0) sent += static_cast<std::size_t>(some);
        int now = 0;
        EXPECT_EQ(::ioctl(fd, FIONREAD, &now), 0);
        // Full when, for a long time, nothing moves.
        idle = some > 0 || static_cast<std::size_t>(now) != lying ? 0 : idle + 1;
        lying = static_cast<std::size_t>(now);
      }
      return lying;
    };
    const std::size_t narrow = fill();
    const int before = buffer();
    constexpr std::size_t kWide = std::size_t{4} << 20;
    world.turn_round();
    world.told.clear();
    world.streams->widen(stream, kWide);
    if (!is_tcp()) {
      EXPECT_EQ(buffer(), before) << "nothing to widen";
      return;
    }
    EXPECT_LT(narrow, kWide / 2);
    EXPECT_GE(buffer(), static_cast<int>(kWide));
    EXPECT_GT(buffer(), before);
    EXPECT_EQ(option_of(stream, SOL_SOCKET, SO_RCVLOWAT), 1);
    const int wide = buffer();
    world.streams->widen(stream, kWide / 4);
    EXPECT_EQ(buffer(), wide) << "never narrower";
    // The peer learns of it when something is consumed, or when it asks by a probe, and by and by.
    const std::string seen = world.peeked(stream, 0);
    world.streams->consume(stream, seen.size());
    const std::size_t filled = fill();
    EXPECT_GT(filled, narrow * 2);
    EXPECT_EQ(world.await_bytes(stream, narrow, 1), "x");
  });
}

TEST_P(SocketStreamsTellTest, AStreamThatIsWideFromTheStartIsFilledBeforeAnythingIsConsumed) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_rmem", "4096 131072 16777216"));
    ASSERT_TRUE(net::OwnNamespace::set("net/ipv4/tcp_wmem", "4096 16384 262144"));
    auto [stream, server] = world.connected(way(), 1);
    constexpr std::size_t kWide = std::size_t{4} << 20;
    world.streams->widen(stream, kWide);
    world.turn_round();
    world.told.clear();
    server.say(std::string(kWide, 'x'));  // blocks where there is no room for it
    world.until([&] { return world.told_of(1).readable; });
    int lying = 0;
    EXPECT_EQ(::ioctl(stream, FIONREAD, &lying), 0);
    EXPECT_GE(static_cast<std::size_t>(lying), kWide - (std::size_t{512} << 10)) << "the rest is in the peer's buffer";
  });
}

TEST_P(SocketStreamsTellTest, WithoutANewDescriptorNothingIsAllocated) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator";
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    world.told.reserve(1000);
    std::array<std::uint8_t, 4096> block{};
    const MutableByteView into(block);
    const ByteView word = as_bytes("word");
    std::size_t got = 0;
    world.on_ready = [&, one = stream](std::uint64_t, HostStreams::Events::Ready) {
      const std::size_t bytes = world.streams->peek(one, 0, {&into, 1}).bytes;
      got += bytes;
      world.streams->peek(one, bytes, {&into, 1});
      world.streams->consume(one, bytes);
      world.streams->write(one, {&word, 1});
      world.streams->widen(one, 1 << 20);
      if (got != 0) world.runner.enough();
    };
    for (int round = 0; round < 3; ++round) {
      got = 0;
      server.say("some bytes");
      const std::size_t count = test::allocations_in([&] { world.runner.run(); });
      EXPECT_TRUE(count == 0 || round == 0) << count;
    }
  });
}

TEST(SocketStreams, MoreThanATurnTellsOfComeInTheNextEachOnce) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    constexpr std::uint64_t kStreams = SocketStreams::kEventsPerTurn + 44;
    std::vector<FarEnd> far;
    for (std::uint64_t i = 0; i < kStreams; ++i) {
      int ends[2] = {-1, -1};
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
      world.streams->adopt(ends[0], i);
      far.emplace_back(ends[1]);
    }
    EXPECT_TRUE(world.told.empty()) << "not from inside the call";
    world.until([&] { return world.told.size() >= kStreams; });
    world.turn_round();
    EXPECT_EQ(world.told.size(), kStreams);
    EXPECT_EQ(world.turns, 2U);
    for (std::uint64_t i = 0; i < kStreams; ++i) EXPECT_EQ(world.times_told(i), 1U);
    EXPECT_EQ(world.streams->counters().adopted, kStreams);
    EXPECT_EQ(world.streams->streams(), kStreams);
  });
}

TEST(SocketStreams, AnAdoptedStreamTellsWhatHadHappenedBefore) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const FarEnd far(ends[1]);
    far.say("early");
    far.end();
    world.streams->adopt(ends[0], 1);
    world.until([&] { return !world.told.empty(); });
    EXPECT_TRUE(world.told_of(1).readable);
    EXPECT_TRUE(world.told_of(1).writable);
    EXPECT_TRUE(world.told_of(1).ended);
    EXPECT_EQ(world.peeked(ends[0], 0), "early");
    EXPECT_TRUE(world.last.ended);
  });
}

// What epoll does not take is here a file: it stands for a kernel that is out of watches.
TEST(SocketStreams, AStreamThatCannotBeWatchedHasFailed) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    FILE* file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    const int fd = ::dup(::fileno(file));
    std::fclose(file);
    world.streams->adopt(fd, 1);
    EXPECT_TRUE(world.told.empty());
    world.until([&] { return world.told_of(1).failed; });
    EXPECT_EQ(world.streams->error(fd), StreamError::exhausted);
    world.streams->close(fd, true);
  });
}

TEST(SocketStreams, WhatIsLeftOpenIsResetInTheEndAsWhereTheProcessDies) {
  in_a_network_of_its_own([&] {
    FarEnd server;
    {
      StreamsWorld world;
      server = world.connected(Way::tcp4, 1).second;
    }
    EXPECT_EQ(server.wait_for_more(), -ECONNRESET);
  });
}

}  // namespace
}  // namespace penstock::egress
