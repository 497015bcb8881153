#include "net/ping_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "net/datagram_testing.h"
#include "net/own_namespace_testing.h"

namespace penstock::net {
namespace {

using testing::HasSubstr;

static_assert(sizeof(PingSocket) <= 48);

constexpr std::array<std::uint32_t, 2> kGroups{100, 2000};

TEST(PingGroupRange, AllowsThoseWhoseGroupIsInIt) {
  EXPECT_TRUE(ping_group_range_allows("0\t2147483647\n", kGroups));
  EXPECT_TRUE(ping_group_range_allows("2000 2000", kGroups));
  EXPECT_TRUE(ping_group_range_allows("0 4294967294", kGroups));
  EXPECT_FALSE(ping_group_range_allows("101 1999", kGroups));
  EXPECT_FALSE(ping_group_range_allows("2001 3000", kGroups));
}

TEST(PingGroupRange, ItsDefaultAllowsNobody) {
  EXPECT_FALSE(ping_group_range_allows("1\t0\n", kGroups));
  EXPECT_FALSE(ping_group_range_allows("1\t0\n", std::array<std::uint32_t, 2>{0, 1}));
}

TEST(PingGroupRange, WhatCannotBeReadAllowsNobody) {
  for (const char* text : {"", "x y", "5", "-"}) EXPECT_FALSE(ping_group_range_allows(text, kGroups)) << text;
}

// An echo request with room for the identifier and the checksum, which the kernel writes.
std::string echo_request(bool v4, std::uint8_t sequence, std::string_view data) {
  std::string message(8, '\0');
  message[0] = v4 ? '\x08' : '\x80';
  message[7] = static_cast<char>(sequence);
  message += data;
  return message;
}

// In a namespace where everybody may ping; the machine's own setting is left alone.
class PingSocketTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (GetParam() == Family::ipv6 && !has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  }
  bool v4() const { return GetParam() == Family::ipv4; }
  IpAddress loopback() const { return address(v4() ? "127.0.0.1" : "::1"); }

  template <typename Body>
  void where_all_may_ping(Body body) {
    std::string why;
    const bool ran = OwnNamespace::run(why, [&] {
      ASSERT_TRUE(OwnNamespace::set("net/ipv4/ping_group_range", "0 2147483647"));
      LoopRunner runner;
      DatagramArena arena;
      body(runner, arena);
    });
    if (!ran) GTEST_SKIP() << why;
  }
  PingSocket open(LoopRunner& runner, std::uint16_t identifier = 0) {
    auto made = PingSocket::create(runner.loop(), {loopback(), identifier});
    EXPECT_TRUE(made) << made.error().message;
    return *std::move(made);
  }
};

INSTANTIATE_TEST_SUITE_P(Families, PingSocketTest, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(PingSocketTest, EachRequestIsAnsweredToItsIdentifier) {
  where_all_may_ping([&](LoopRunner& runner, DatagramArena& arena) {
    PingSocket first = open(runner, 4711);
    PingSocket second = open(runner);
    EXPECT_EQ(first.local().port, 4711);
    EXPECT_NE(second.local().port, 4711);
    EXPECT_NE(second.local().port, 0);
    std::vector<std::string> texts;
    for (std::uint8_t i = 0; i < 40; ++i) texts.push_back(echo_request(v4(), i, "data"));
    std::vector<Outgoing> datagrams;
    for (const std::string& text : texts) {
      datagrams.push_back(outgoing({loopback(), 0}, text));
      datagrams.back().ttl = 7;
      datagrams.back().tos = 0x10;
    }
    EXPECT_EQ(first.send(datagrams).refused, 0U);
    const auto got = receive_count(runner, first, arena, 40);
    ASSERT_EQ(got.size(), 40U);
    for (std::size_t i = 0; i < 40; ++i) {
      const ByteView reply = as_bytes(got[i].text);
      EXPECT_EQ(got[i].from.address, loopback());
      EXPECT_EQ(reply[0], v4() ? 0 : 129);
      EXPECT_EQ(load_be16(&reply[4]), 4711);
      EXPECT_EQ(load_be16(&reply[6]), i);
      EXPECT_EQ(got[i].text.substr(8), "data");
      EXPECT_EQ(got[i].ttl, 64) << "of the reply";
    }
    EXPECT_TRUE(second.receive(arena).empty());
  });
}

TEST_P(PingSocketTest, AnythingButAnEchoRequestIsRefused) {
  where_all_may_ping([&](LoopRunner& runner, DatagramArena& arena) {
    PingSocket socket = open(runner);
    std::string reply = echo_request(v4(), 0, "");
    reply[0] = v4() ? '\0' : '\x81';
    const std::string good = echo_request(v4(), 1, "");
    std::vector<Outgoing> datagrams{outgoing({loopback(), 0}, reply), outgoing({loopback(), 0}, "short"),
                                    outgoing({loopback(), 0}, good)};
    EXPECT_EQ(socket.send(datagrams).refused, 2U);
    EXPECT_EQ(datagrams[0].refusal.error, EINVAL);
    EXPECT_EQ(datagrams[1].refusal.error, EINVAL);
    EXPECT_EQ(receive_count(runner, socket, arena, 1).size(), 1U);
  });
}

// client -- v0 | v1 router, which ends hop limits
TEST_P(PingSocketTest, ARouterOnTheWayAnswersAHopLimitThatIsUsedUp) {
  bool world_made = false;
  where_all_may_ping([&](LoopRunner& runner, DatagramArena& arena) {
    const std::string router = "prt" + std::to_string(::getpid());
    const std::string inside = "ip netns exec " + router + " ";
    const std::string own = v4() ? "10.9.0.1/24" : "fd00:9::1/64";
    const std::string via = v4() ? "10.9.0.2" : "fd00:9::2";
    const std::string length = v4() ? "/24" : "/64";
    const std::string nodad = v4() ? "" : " nodad";
    const std::string far = v4() ? "192.0.2.1" : "2001:db8::1";
    const std::string host = v4() ? "/32" : "/128";
    const std::string forwarding = v4() ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
    world_made =
        OwnNamespace::shell("ip netns add " + router + " && ip link add v0 type veth peer name v1 netns " + router +
                            " && ip link set v0 up && ip address add " + own + " dev v0" + nodad + " && " + inside +
                            "ip link set v1 up && " + inside + "ip address add " + via + length + " dev v1" + nodad +
                            " && " + inside + "sysctl -qw " + forwarding + "=1 && " + inside + "ip route add " + far +
                            host + " dev v1 && ip route add default via " + via);
    if (world_made) {
      auto socket = PingSocket::create(runner.loop(), {address(own.substr(0, own.find('/'))), 0});
      EXPECT_TRUE(socket);
      const std::string text = echo_request(v4(), 9, "traceroute");
      Outgoing request = outgoing({address(far), 0}, text);
      request.ttl = 1;
      EXPECT_EQ(send_one(*socket, request).refused, 0U);
      runner.await(*socket);
      EXPECT_TRUE(socket->receive(arena).empty());
      EXPECT_TRUE(socket->errors_waiting());
      const auto errors = socket->take_errors(arena);
      EXPECT_EQ(errors.size(), 1U);
      if (!errors.empty()) {
        EXPECT_EQ(errors[0].type, v4() ? 11 : 3);
        EXPECT_EQ(errors[0].reporter, address(via));
        EXPECT_EQ(errors[0].to, (Endpoint{address(far), 0}));
        EXPECT_GE(errors[0].quoted.size(), 8U);
        if (errors[0].quoted.size() >= 8) {
          EXPECT_EQ(load_be16(errors[0].quoted.data() + 4), socket->local().port);
          EXPECT_EQ(load_be16(errors[0].quoted.data() + 6), 9);
        }
      }
    }
    OwnNamespace::shell("ip netns del " + router);
  });
  if (!world_made && !IsSkipped()) GTEST_SKIP() << "ip(8) cannot make a router here";
}

TEST_P(PingSocketTest, AnIdentifierInUseIsRefusedByName) {
  where_all_may_ping([&](LoopRunner& runner, DatagramArena&) {
    const PingSocket first = open(runner, 4711);
    const auto second = PingSocket::create(runner.loop(), {loopback(), 4711});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::address_in_use);
    EXPECT_THAT(second.error().message, HasSubstr("echo identifier 4711"));
  });
}

TEST_P(PingSocketTest, WhereGroupsMayNotPingTheRefusalSaysHowTheyMay) {
  std::string why;
  const bool ran = OwnNamespace::run(why, [&] {
    ASSERT_TRUE(OwnNamespace::set("net/ipv4/ping_group_range", "1 0"));
    AsioLoop loop;
    for (const Result<void>& said : {may_open_ping_sockets(), [&]() -> Result<void> {
                                       auto made = PingSocket::create(loop, {loopback(), 0});
                                       if (made) return {};
                                       return std::unexpected(std::move(made).error());
                                     }()}) {
      ASSERT_FALSE(said);
      EXPECT_EQ(said.error().code, ErrorCode::permission_denied);
      EXPECT_THAT(said.error().message, HasSubstr("net.ipv4.ping_group_range is \"1 0\""));
      EXPECT_THAT(said.error().message, HasSubstr("sysctl -w net.ipv4.ping_group_range="));
    }
    ASSERT_TRUE(OwnNamespace::set("net/ipv4/ping_group_range", "0 0"));
    EXPECT_TRUE(may_open_ping_sockets());
    EXPECT_TRUE(PingSocket::create(loop, {loopback(), 0}));
  });
  if (!ran) GTEST_SKIP() << why;
}

}  // namespace
}  // namespace penstock::net
