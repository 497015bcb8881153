// Connections from outside, handed on as streams. Real sockets, on loopback.
#include "egress/tcp/forward_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <optional>

#include "egress/tcp/socket_streams_testing.h"

namespace penstock::egress {
namespace {

using net::endpoint;
using testing::HasSubstr;

// A socket that is connected to it, from the address that the system chooses.
FarEnd dial(const Endpoint& to) {
  FarEnd made(::socket(to.address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const net::SocketAddress address(to);
  EXPECT_EQ(::connect(made.fd(), address.get(), address.size), 0) << std::strerror(errno);
  return made;
}

struct Accepted {
  HostStreams::Stream stream = HostStreams::kNone;
  Endpoint from;
  Endpoint local;
};

class ForwardListenerTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Families, ForwardListenerTest, testing::Values("127.0.0.1:0", "[::1]:0"),
                         [](const auto& each) { return *each.param == '[' ? "Ipv6" : "Ipv4"; });

TEST_P(ForwardListenerTest, WhoeverConnectsIsHandedOnAsAStream) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    ForwardListener made = ForwardListener::create(world.runner.loop(), endpoint(GetParam())).value();
    const FarEnd early = dial(made.local());
    early.say("hello");
    ForwardListener listener = std::move(made);
    std::vector<Accepted> accepted;
    listener.start([&](HostStreams::Stream stream, const Endpoint& from, const Endpoint& local) {
      world.streams->adopt(stream, accepted.size());
      accepted.push_back({stream, from, local});
      world.runner.enough();
    });
    world.runner.run();
    ASSERT_EQ(accepted.size(), 1U);
    const auto& [stream, from, local] = accepted[0];
    EXPECT_EQ(from, net::local_endpoint(early.fd()));
    EXPECT_EQ(local, listener.local());
    EXPECT_NE(option_of(stream, IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_NE(option_of(stream, SOL_SOCKET, SO_KEEPALIVE), 0);
    EXPECT_NE(::fcntl(stream, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(stream, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(world.await_bytes(stream, 0, 5), "hello");
    EXPECT_EQ(listener.accepted(), 1U);
    EXPECT_EQ(listener.shed(), 0U);
  });
}

TEST(ForwardListener, TheUnspecifiedAddressOfAFamilyTakesThatFamilyAlone) {
  in_a_network_of_its_own([&] {
    net::LoopRunner runner;
    auto six = ForwardListener::create(runner.loop(), endpoint("[::]:8080"));
    ASSERT_TRUE(six) << six.error().message;
    auto four = ForwardListener::create(runner.loop(), endpoint("0.0.0.0:8080"));
    ASSERT_TRUE(four) << four.error().message;
    std::vector<Accepted> accepted;
    const auto take = [&](HostStreams::Stream stream, const Endpoint& from, const Endpoint& local) {
      accepted.push_back({stream, from, local});
      if (accepted.size() == 2) runner.enough();
    };
    six->start(take);
    four->start(take);
    const FarEnd first = dial(endpoint("127.0.0.1:8080"));
    const FarEnd second = dial(endpoint("[::1]:8080"));
    runner.run();
    EXPECT_EQ(four->accepted(), 1U);
    EXPECT_EQ(six->accepted(), 1U);
    for (const Accepted& one : accepted) {
      EXPECT_TRUE(one.local == endpoint("127.0.0.1:8080") || one.local == endpoint("[::1]:8080"));
      ::close(one.stream);
    }
  });
}

TEST(ForwardListener, WhoeverWasResetWhileHeWaitedIsNotHandedOn) {
  in_a_network_of_its_own([&] {
    net::LoopRunner runner;
    ForwardListener listener = ForwardListener::create(runner.loop(), endpoint("127.0.0.1:0")).value();
    FarEnd gone = dial(listener.local());
    gone.reset();
    const FarEnd there = dial(listener.local());
    std::vector<Accepted> accepted;
    listener.start([&](HostStreams::Stream stream, const Endpoint& from, const Endpoint& local) {
      accepted.push_back({stream, from, local});
      runner.enough();
    });
    runner.run();
    ASSERT_EQ(accepted.size(), 1U);
    EXPECT_EQ(accepted[0].from, net::local_endpoint(there.fd()));
    ::close(accepted[0].stream);
  });
}

TEST(ForwardListener, StoppedFromItsCallbackItRefusesTheNext) {
  in_a_network_of_its_own([&] {
    net::LoopRunner runner;
    ForwardListener listener = ForwardListener::create(runner.loop(), endpoint("127.0.0.1:0")).value();
    const Endpoint at = listener.local();
    const FarEnd first = dial(at);
    std::optional<Accepted> accepted;
    listener.start([&](HostStreams::Stream stream, const Endpoint& from, const Endpoint& local) {
      accepted = {stream, from, local};
      listener.stop();
      runner.enough();
    });
    runner.run();
    ASSERT_TRUE(accepted);
    const FarEnd second(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const net::SocketAddress address(at);
    EXPECT_EQ(::connect(second.fd(), address.get(), address.size), -1);
    EXPECT_EQ(errno, ECONNREFUSED);
    ::close(accepted->stream);
  });
}

TEST(ForwardListener, WhatCannotBeHadIsRefusedInWordsOfItsSettings) {
  in_a_network_of_its_own([&] {
    net::LoopRunner runner;
    const ForwardListener holder = ForwardListener::create(runner.loop(), endpoint("127.0.0.1:0")).value();
    const auto taken = ForwardListener::create(runner.loop(), holder.local());
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, ErrorCode::address_in_use);
    EXPECT_THAT(taken.error().message, HasSubstr("set internet.forward to another port"));
    const auto elsewhere = ForwardListener::create(runner.loop(), endpoint("192.0.2.1:80"));
    ASSERT_FALSE(elsewhere);
    EXPECT_EQ(elsewhere.error().code, ErrorCode::unavailable);
    EXPECT_THAT(elsewhere.error().message, HasSubstr("no address 192.0.2.1"));
    EXPECT_THAT(elsewhere.error().message, HasSubstr("internet.public_ip"));
  });
}

}  // namespace
}  // namespace penstock::egress
