// How connecting ends, in all the ways that a machine and its network have.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include "egress/tcp/socket_streams.h"
#include "egress/tcp/socket_streams_testing.h"
#include "packet/checksum.h"
#include "packet/icmp.h"
#include "test/support/packets.h"
#include "tun/device_linux.h"

namespace penstock::egress {
namespace {

using net::endpoint;
using net::OwnNamespace;

class SocketStreamsConnectTest : public testing::TestWithParam<Way> {
 protected:
  bool v4() const { return GetParam() == Way::tcp4; }
  Endpoint at(const char* v4_text, const char* v6_text) const { return endpoint(v4() ? v4_text : v6_text); }
  static bool ip(const std::string& what) { return OwnNamespace::shell("ip " + what); }

  // What becomes of it, at once or later.
  static StreamError outcome(StreamsWorld& world, const Endpoint& to) {
    const std::uint64_t cookie = ++last_cookie;
    const auto stream = world.streams->connect({}, to, cookie);
    if (!stream) return stream.error();
    world.until([&] { return world.times_told(cookie) != 0; });
    const StreamError error = world.streams->error(*stream);
    EXPECT_EQ(world.told_of(cookie).failed, error != StreamError::none);
    world.streams->close(*stream, true);
    return error;
  }

  static inline std::uint64_t last_cookie = 1000;
};

INSTANTIATE_TEST_SUITE_P(Families, SocketStreamsConnectTest, testing::Values(Way::tcp4, Way::tcp6),
                         [](const auto& each) { return each.param == Way::tcp4 ? "Ipv4" : "Ipv6"; });

TEST_P(SocketStreamsConnectTest, TheSocketIsWhatABridgeNeeds) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    auto [stream, server] = world.connected(GetParam(), 7);
    EXPECT_EQ(world.told.size(), 1U);
    EXPECT_EQ(world.told[0].cookie, 7U);
    EXPECT_FALSE(world.told[0].what.readable);
    EXPECT_NE(option_of(stream, IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_NE(option_of(stream, SOL_SOCKET, SO_KEEPALIVE), 0);
    EXPECT_NE(::fcntl(stream, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(stream, F_GETFD) & FD_CLOEXEC, 0);
    if (!v4()) {
      EXPECT_NE(option_of(stream, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    }
    EXPECT_EQ(net::peer_endpoint(server.fd()), net::local_endpoint(stream));
    EXPECT_EQ(world.streams->error(stream), StreamError::none);
    EXPECT_EQ(world.streams->counters().connects, 1U);
  });
}

TEST_P(SocketStreamsConnectTest, APortWhereNobodyListensRefuses) {
  in_a_network_of_its_own([&] {
    StreamsWorld world;
    EXPECT_EQ(outcome(world, at("127.0.0.1:9", "[::1]:9")), StreamError::refused);
    EXPECT_EQ(world.streams->counters().not_connected[static_cast<std::size_t>(StreamError::refused)], 1U);
    EXPECT_EQ(world.streams->streams(), 0U);
  });
}

TEST_P(SocketStreamsConnectTest, RoutesThatLeadNowhereSayHow) {
  in_a_network_of_its_own([&] {
    ASSERT_TRUE(ip("address add 192.0.2.1/32 dev lo"));
    ASSERT_TRUE(ip("address add 2001:db8::1/128 dev lo nodad"));
    StreamsWorld world({.external4 = net::address("192.0.2.1"), .external6 = net::address("2001:db8::1")});
    EXPECT_EQ(outcome(world, at("198.51.100.1:80", "[2001:db8:1::1]:80")), StreamError::network) << "no route";
    ASSERT_TRUE(ip("route add unreachable 198.51.100.0/24"));
    ASSERT_TRUE(ip("-6 route add unreachable 2001:db8:1::/48"));
    EXPECT_EQ(outcome(world, at("198.51.100.1:80", "[2001:db8:1::1]:80")), StreamError::host);
    ASSERT_TRUE(ip("route replace prohibit 198.51.100.0/24"));
    ASSERT_TRUE(ip("-6 route replace prohibit 2001:db8:1::/48"));
    EXPECT_EQ(outcome(world, at("198.51.100.1:80", "[2001:db8:1::1]:80")), StreamError::prohibited);
    ASSERT_TRUE(ip("route replace blackhole 198.51.100.0/24"));
    ASSERT_TRUE(ip("-6 route replace blackhole 2001:db8:1::/48"));
    EXPECT_EQ(outcome(world, at("198.51.100.1:80", "[2001:db8:1::1]:80")), StreamError::network);
  });
}

TEST_P(SocketStreamsConnectTest, ItLeavesByTheOuterAddressOfThatMoment) {
  in_a_network_of_its_own([&] {
    ASSERT_TRUE(ip("address add 192.0.2.1/32 dev lo"));
    ASSERT_TRUE(ip("address add 2001:db8::1/128 dev lo nodad"));
    StreamsWorld world;
    auto [before, first] = world.connected(GetParam(), 1);
    world.streams->set_external(net::address("192.0.2.1"), net::address("2001:db8::1"));
    auto [after, second] = world.connected(GetParam(), 2);
    EXPECT_EQ(net::peer_endpoint(first.fd()).address, net::address(v4() ? "127.0.0.1" : "::1"));
    EXPECT_EQ(net::peer_endpoint(second.fd()).address, net::address(v4() ? "192.0.2.1" : "2001:db8::1"));
    world.streams->set_external(net::address("192.0.2.77"), net::address("2001:db8::77"));
    EXPECT_EQ(outcome(world, at("127.0.0.1:9", "[::1]:9")), StreamError::network) << "not ours";
    world.streams->set_external(std::nullopt, std::nullopt);
    EXPECT_EQ(outcome(world, at("127.0.0.1:9", "[::1]:9")), StreamError::network) << "none at all";
    EXPECT_EQ(world.streams->streams(), 2U);
  });
}

TEST_P(SocketStreamsConnectTest, APortServesManyDestinationsAndWhereNoneIsLeftThatIsSaid) {
  in_a_network_of_its_own([&] {
    const FarEnd one = StreamsWorld::listener(GetParam());
    const FarEnd other = StreamsWorld::listener(GetParam());
    StreamsWorld world;
    ASSERT_TRUE(OwnNamespace::set("net/ipv4/ip_local_port_range", "40000 40001"));
    const auto try_both = [&] {
      std::pair<bool, bool> had;
      had.first = world.streams->connect({}, net::local_endpoint(one.fd()), 1).has_value();
      had.second = world.streams->connect({}, net::local_endpoint(other.fd()), 2).has_value();
      return had;
    };
    EXPECT_EQ(try_both(), std::pair(true, true));
    EXPECT_EQ(try_both(), std::pair(true, true)) << "four streams, two ports";
    EXPECT_EQ(world.streams->streams(), 4U);
    EXPECT_EQ(world.streams->connect({}, net::local_endpoint(one.fd()), 3).error(), StreamError::exhausted);
  });
}

TEST_P(SocketStreamsConnectTest, ThereAreNoMoreThanTheMost) {
  in_a_network_of_its_own([&] {
    const FarEnd door = StreamsWorld::listener(GetParam());
    StreamsWorld world({.most_streams = 2});
    const Endpoint to = net::local_endpoint(door.fd());
    const auto first = world.streams->connect({}, to, 1);
    ASSERT_TRUE(first);
    ASSERT_TRUE(world.streams->connect({}, to, 2));
    EXPECT_EQ(world.streams->connect({}, to, 3).error(), StreamError::exhausted);
    world.streams->close(*first, false);
    EXPECT_TRUE(world.streams->connect({}, to, 4));
    EXPECT_EQ(world.streams->counters().not_connected[static_cast<std::size_t>(StreamError::exhausted)], 1U);
    world.until([&] { return world.times_told(4) != 0 && world.times_told(2) != 0; });
    EXPECT_EQ(world.times_told(1), 0U) << "closed before it was connected";
  });
}

// A network behind a TUN device, in which the test is every router and server.
class Afar {
 public:
  Afar() {
    device_ = tun::open_device({.name = "afar", .offload = OffloadMode::off}).value();
    EXPECT_TRUE(OwnNamespace::shell("ip address add 192.0.2.1/24 dev afar && ip link set afar up"));
  }
  // The first SYN to this port, or nothing; whatever else the machine says into a new interface is passed over.
  std::optional<Packet> syn(std::uint16_t port) {
    PacketBatch batch;
    device_->read(batch, 64, 1 << 20).value();
    for (Packet& packet : batch) {
      const auto view = parse_ip(packet.bytes());
      if (view && view->protocol == kProtocolTcp && load_be16(&packet.bytes()[view->header_size + 2]) == port)
        return std::move(packet);
    }
    return std::nullopt;
  }
  Packet await_syn(std::uint16_t port) {
    for (;;) {
      if (auto found = syn(port)) return std::move(*found);
    }
  }
  void say(Packet packet) { EXPECT_TRUE(device_->write(packet)); }

  // RFC 9293 section 3.10.7.1: what a port where nobody listens says to a SYN.
  static Packet reset_about(const Packet& syn) {
    const IpView view = parse_ip(syn.bytes()).value();
    const ByteView asked = syn.bytes().subspan(view.header_size);
    std::string tcp(20, '\0');
    auto* bytes = reinterpret_cast<std::uint8_t*>(tcp.data());
    store_be16(bytes, load_be16(&asked[2]));
    store_be16(bytes + 2, load_be16(asked.data()));
    store_be32(bytes + 8, load_be32(&asked[4]) + 1);
    bytes[12] = 0x50;
    bytes[13] = 0x14;  // RST, ACK
    const std::uint32_t pseudo = pseudo_header_sum(view.destination, view.source, kProtocolTcp, tcp.size());
    store_be16(bytes + 16, checksum_finish(checksum_add(as_bytes(tcp), pseudo)));
    return test::ip_packet(view.destination.to_string(), view.source.to_string(), tcp, kProtocolTcp);
  }
  static Packet error_about(const Packet& syn, Unreachable why) {
    return unreachable(parse_ip(syn.bytes()).value(), syn.bytes(), net::address("192.0.2.254"), why).value();
  }

 private:
  std::unique_ptr<tun::Device> device_;
};

TEST(SocketStreamsAfar, WhatTheNetworkSaysLaterIsToldLater) {
  in_a_network_of_its_own([&] {
    Afar afar;
    StreamsWorld world({.external4 = net::address("192.0.2.1")});
    const auto outcome = [&](std::uint16_t port, auto answer) {
      const auto stream = world.streams->connect({}, {net::address("192.0.2.80"), port}, port);
      if (!stream) {
        ADD_FAILURE() << "refused at once";
        return StreamError::none;
      }
      world.turn_round();
      EXPECT_EQ(world.times_told(port), 0U);
      EXPECT_EQ(world.streams->error(*stream), StreamError::none);
      afar.say(answer(afar.await_syn(port)));
      world.until([&] { return world.times_told(port) != 0; });
      EXPECT_TRUE(world.told_of(port).failed);
      const StreamError error = world.streams->error(*stream);
      world.streams->close(*stream, true);
      return error;
    };
    EXPECT_EQ(outcome(1, &Afar::reset_about), StreamError::refused);
    const auto told = [](Unreachable why) { return [why](const Packet& syn) { return Afar::error_about(syn, why); }; };
    EXPECT_EQ(outcome(2, told(Unreachable::port)), StreamError::refused);
    EXPECT_EQ(outcome(3, told(Unreachable::host)), StreamError::host);
    EXPECT_EQ(outcome(4, told(Unreachable::network)), StreamError::network);
    EXPECT_EQ(outcome(5, told(Unreachable::prohibited)), StreamError::host) << "ICMP has no word for that here";
    const auto& failures = world.streams->counters().not_connected;
    EXPECT_EQ(failures[static_cast<std::size_t>(StreamError::refused)], 2U);
    EXPECT_EQ(failures[static_cast<std::size_t>(StreamError::host)], 2U);
  });
}

TEST(SocketStreamsAfar, WhereNobodyAnswersTheTimeRunsOut) {
  in_a_network_of_its_own([&] {
    Afar afar;
    StreamsWorld world({.external4 = net::address("192.0.2.1")});
    const auto stream = world.streams->connect({}, endpoint("192.0.2.80:80"), 1);
    ASSERT_TRUE(stream);
    // So that the kernel gives up at its first timer, after a second, and not after two minutes.
    const int soon = 1;
    ASSERT_EQ(::setsockopt(*stream, IPPROTO_TCP, TCP_USER_TIMEOUT, &soon, sizeof soon), 0);
    world.until([&] { return world.times_told(1) != 0; });
    EXPECT_TRUE(world.told_of(1).failed);
    EXPECT_EQ(world.streams->error(*stream), StreamError::timed_out);
  });
}

TEST(SocketStreamsErrors, EachErrorOfTheSystemHasItsMeaning) {
  const std::pair<int, StreamError> meanings[] = {
      {0, StreamError::none},
      {ECONNREFUSED, StreamError::refused},
      {EHOSTUNREACH, StreamError::host},
      {EHOSTDOWN, StreamError::host},
      {ENETUNREACH, StreamError::network},
      {ENETDOWN, StreamError::network},
      {EADDRNOTAVAIL, StreamError::network},
      {EACCES, StreamError::prohibited},
      {EPERM, StreamError::prohibited},
      {ETIMEDOUT, StreamError::timed_out},
      {ECONNRESET, StreamError::reset},
      {EPIPE, StreamError::reset},
      {EMFILE, StreamError::exhausted},
      {ENFILE, StreamError::exhausted},
      {ENOBUFS, StreamError::exhausted},
      {ENOMEM, StreamError::exhausted},
      {EAGAIN, StreamError::exhausted},
      {EIO, StreamError::reset},
  };
  for (const auto& [number, meaning] : meanings) EXPECT_EQ(SocketStreams::meaning_of(number), meaning) << number;
}

}  // namespace
}  // namespace penstock::egress
