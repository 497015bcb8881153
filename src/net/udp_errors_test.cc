// What happens to datagrams that do not arrive: ICMP errors, and what this machine refuses itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "net/datagram_testing.h"
#include "net/file_descriptor.h"
#include "net/own_namespace_testing.h"
#include "net/socket_address.h"
#include "net/udp_socket.h"

namespace penstock::net {
namespace {

struct World {
  LoopRunner runner;
  DatagramArena arena;

  UdpSocket open(const IpAddress& at, const UdpOptions& options = {}) {
    auto made = UdpSocket::create(runner.loop(), {at, 0}, options);
    EXPECT_TRUE(made) << made.error().message;
    return *std::move(made);
  }
};

class UdpErrorsTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (GetParam() == Family::ipv6 && !has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  }
  bool v4() const { return GetParam() == Family::ipv4; }
  IpAddress loopback() const { return address(v4() ? "127.0.0.1" : "::1"); }
  UdpSocket open() { return world_.open(loopback()); }
  // Nobody is there, and nobody will be: the system does not choose a port again at once.
  Endpoint closed_port() { return open().local(); }

  World world_;
};

INSTANTIATE_TEST_SUITE_P(Families, UdpErrorsTest, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(UdpErrorsTest, AClosedPortArrivesAsAnErrorThatWakesOnce) {
  UdpSocket client = open();
  const Endpoint nobody = closed_port();
  int wakes = 0;
  std::vector<SocketError> errors;
  std::string quoted;
  std::function<void()> wake = [&] {
    ++wakes;
    EXPECT_TRUE(client.receive(world_.arena).empty());
    if (client.errors_waiting()) {
      for (const SocketError& error : client.take_errors(world_.arena)) {
        errors.push_back(error);
        quoted = as_text(error.quoted);
        world_.runner.enough();
      }
    }
    client.when_readable(wake);
  };
  client.when_readable(wake);
  Outgoing datagram = outgoing(nobody, "anybody there?");
  EXPECT_EQ(send_one(client, datagram).refused, 0U);
  world_.runner.run();
  world_.runner.settle(std::chrono::milliseconds(50));

  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].origin, v4() ? SocketError::Origin::icmp : SocketError::Origin::icmp6);
  EXPECT_EQ(errors[0].type, v4() ? 3 : 1);
  EXPECT_EQ(errors[0].code, v4() ? 3 : 4);
  EXPECT_EQ(errors[0].error, ECONNREFUSED);
  EXPECT_EQ(errors[0].to, nobody);
  EXPECT_EQ(errors[0].reporter, loopback());
  EXPECT_EQ(quoted, "anybody there?");
  EXPECT_LE(wakes, 2) << "it must not spin";
  EXPECT_FALSE(client.errors_waiting());
}

// A writer that never receives would be called for ever, if sending did not say so.
TEST_P(UdpErrorsTest, SendingTellsThatAnErrorWaits) {
  UdpSocket client = open();
  Outgoing lost = outgoing(closed_port(), "lost");
  send_one(client, lost);
  EXPECT_FALSE(client.errors_waiting());
  world_.runner.await(client);
  Outgoing next = outgoing(client.local(), "to myself");
  EXPECT_EQ(send_one(client, next).refused, 0U);
  EXPECT_TRUE(client.errors_waiting());
  EXPECT_EQ(client.take_errors(world_.arena).size(), 1U);
  EXPECT_FALSE(client.errors_waiting());
}

TEST_P(UdpErrorsTest, AnErrorIsNotBlamedOnTheNextDatagram) {
  UdpSocket client = open();
  UdpSocket server = open();
  Outgoing lost = outgoing(closed_port(), "lost");
  send_one(client, lost);
  world_.runner.await(client);

  std::vector<Outgoing> datagrams{outgoing(server.local(), "a"), outgoing(server.local(), "b")};
  EXPECT_EQ(client.send(datagrams).refused, 0U);
  const auto got = receive_count(world_.runner, server, world_.arena, 2);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].text + got[1].text, "ab");
  ASSERT_TRUE(client.errors_waiting());
  const auto errors = client.take_errors(world_.arena);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].to, lost.to);
}

TEST_P(UdpErrorsTest, ErrorsInTheMiddleOfABatchLoseNothingOfIt) {
  UdpSocket client = open();
  UdpSocket server = open();
  std::vector<Outgoing> datagrams;
  constexpr std::size_t kPairs = 100;
  const Endpoint nobody = closed_port();
  for (std::size_t i = 0; i < kPairs; ++i) {
    datagrams.push_back(outgoing(nobody, "lost"));
    datagrams.push_back(outgoing(server.local(), "found"));
  }
  const SendResult result = client.send(datagrams);
  EXPECT_EQ(result.taken, 2 * kPairs);
  EXPECT_EQ(receive_count(world_.runner, server, world_.arena, kPairs - result.refused).size(),
            kPairs - result.refused);
  // On loopback the answer to one is here before the next is sent: an order that is hardly met elsewhere.
  EXPECT_EQ(result.refused, 0U);
  EXPECT_TRUE(client.errors_waiting());
  std::size_t errors = 0;
  while (client.errors_waiting()) errors += client.take_errors(world_.arena).size();
  EXPECT_GT(errors, 0U) << "the kernel sends only some, they are rate-limited";
}

TEST_P(UdpErrorsTest, AnErrorHidesNothingThatHasArrived) {
  UdpSocket client = open();
  UdpSocket server = open();
  Outgoing hello = outgoing(client.local(), "hello");
  send_one(server, hello);
  Outgoing lost = outgoing(closed_port(), "lost");
  send_one(client, lost);
  const auto got = receive_count(world_.runner, client, world_.arena, 1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].text, "hello");
  while (!client.errors_waiting()) {
    EXPECT_TRUE(client.receive(world_.arena).empty());
  }
  EXPECT_EQ(client.take_errors(world_.arena).size(), 1U);
}

TEST_P(UdpErrorsTest, WhatIsTooBigForThePathIsRefusedWithItsMtuOrFragmented) {
  constexpr int kMtu = 1400;
  std::string why;
  const bool ran = OwnNamespace::run(why, [&] {
    OwnNamespace::set_loopback_mtu(kMtu);
    World world;
    UdpSocket client = world.open(loopback());
    UdpSocket server = world.open(loopback(), {.gro = false});
    const std::string fits(kMtu - (v4() ? 28 : 48), 'f');
    const std::string too_big(fits.size() + 1, 'b');
    const std::string super(3 * too_big.size(), 's');
    std::vector<Outgoing> datagrams{outgoing(server.local(), too_big), outgoing(server.local(), super),
                                    outgoing(server.local(), fits)};
    datagrams[1].segment_size = static_cast<std::uint16_t>(too_big.size());
    for (Outgoing& datagram : datagrams) datagram.dont_fragment = true;
    EXPECT_EQ(client.send(datagrams).refused, 2U);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(datagrams[i].refusal.error, EMSGSIZE);
      EXPECT_EQ(datagrams[i].refusal.path_mtu, std::uint32_t{kMtu});
    }
    EXPECT_FALSE(datagrams[2].refusal);
    const auto got = receive_count(world.runner, server, world.arena, 1);
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].text, fits);

    for (Outgoing& datagram : datagrams) datagram.dont_fragment = false;
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(client.send(datagrams).refused, 0U) << datagrams[1].refusal.error;
      EXPECT_EQ(receive_count(world.runner, server, world.arena, 5).size(), 5U);
    }
    while (client.errors_waiting()) {
      EXPECT_TRUE(client.take_errors(world.arena).empty());
    }
  });
  if (!ran) GTEST_SKIP() << why;
}

TEST_P(UdpErrorsTest, WithoutARouteADatagramIsRefusedAndTheNextIsNot) {
  std::string why;
  const bool ran = OwnNamespace::run(why, [&] {
    World world;
    UdpSocket client = world.open(address(v4() ? "0.0.0.0" : "::"));
    UdpSocket server = world.open(loopback());
    std::vector<Outgoing> datagrams{outgoing({address(v4() ? "192.0.2.1" : "2001:db8::1"), 9}, "x"),
                                    outgoing(server.local(), "y")};
    EXPECT_EQ(client.send(datagrams).refused, 1U);
    EXPECT_EQ(datagrams[0].refusal.error, ENETUNREACH);
    EXPECT_EQ(receive_count(world.runner, server, world.arena, 1).size(), 1U);
  });
  if (!ran) GTEST_SKIP() << why;
}

std::uint16_t internet_checksum(const std::string& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
    sum += load_be16(reinterpret_cast<const std::uint8_t*>(bytes.data()) + i);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

std::string be16(std::size_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }
std::string raw(const IpAddress& address) { return std::string(as_text(address.bytes())); }

// An ICMP error as a router on the way would send it, about a datagram of `bytes` from `from` to `to`.
void say(const IpAddress& router, int type, int code, std::uint32_t info, const Endpoint& from, const Endpoint& to,
         const std::string& bytes) {
  const bool v4 = from.address.is_v4();
  const std::string udp = be16(from.port) + be16(to.port) + be16(8 + bytes.size()) + be16(0) + bytes;
  const std::string ip =
      v4 ? "\x45" + std::string(1, '\0') + be16(20 + udp.size()) + be16(0) + be16(0x4000) + "\x01\x11" + be16(0)
         : "\x60" + std::string(3, '\0') + be16(udp.size()) + "\x11\x01";
  std::string message{static_cast<char>(type), static_cast<char>(code)};
  message += be16(0) + be16(info >> 16) + be16(info & 0xffff) + ip + raw(from.address) + raw(to.address) + udp;
  // Of ICMPv6 the kernel writes it.
  if (v4) message.replace(2, 2, be16(internet_checksum(message)));
  const FileDescriptor fd(
      ::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}));
  const SocketAddress own({router, 0});
  const SocketAddress peer({from.address, 0});
  EXPECT_EQ(::bind(fd.get(), own.get(), own.size), 0);
  EXPECT_EQ(::sendto(fd.get(), message.data(), message.size(), 0, peer.get(), peer.size),
            static_cast<ssize_t>(message.size()));
}

TEST_P(UdpErrorsTest, WhatRoutersSayNamesThemTheDatagramAndTheMtu) {
  std::string why;
  const bool ran = OwnNamespace::run(why, [&] {
    World world;
    const IpAddress router = address(v4() ? "127.0.0.9" : "fd00::9");
    if (!v4() && !OwnNamespace::shell("ip address add fd00::9/128 dev lo nodad")) return;
    UdpSocket client = world.open(loopback());
    const Endpoint far{address(v4() ? "192.0.2.1" : "2001:db8::1"), 33434};
    say(router, v4() ? 11 : 3, 0, 0, client.local(), far, "0123456789abcdef");
    world.runner.await(client);
    EXPECT_TRUE(client.receive(world.arena).empty());
    auto errors = client.take_errors(world.arena);
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_EQ(errors[0].type, v4() ? 11 : 3) << "time exceeded";
    EXPECT_EQ(errors[0].error, EHOSTUNREACH);
    EXPECT_EQ(errors[0].reporter, router);
    EXPECT_EQ(errors[0].ttl, 64);
    EXPECT_EQ(errors[0].to, far);
    EXPECT_EQ(as_text(errors[0].quoted), "0123456789abcdef");

    say(router, v4() ? 3 : 2, v4() ? 4 : 0, 1300, client.local(), far, "");
    world.runner.await(client);
    EXPECT_TRUE(client.receive(world.arena).empty());
    errors = client.take_errors(world.arena);
    ASSERT_EQ(errors.size(), 1U);
    EXPECT_EQ(errors[0].error, EMSGSIZE);
    EXPECT_EQ(errors[0].info, 1300U);
    EXPECT_EQ(errors[0].to, far);
    EXPECT_TRUE(errors[0].quoted.empty());
  });
  if (!ran) GTEST_SKIP() << why;
}

// The far end of a wire where nobody answers ARP: what is sent waits in the kernel, and counts as the socket's.
TEST(UdpSocket, AFullSocketTakesTheRestLater) {
  std::string why;
  bool world_made = false;
  const bool ran = OwnNamespace::run(why, [&] {
    world_made = OwnNamespace::shell(
        "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up && "
        "ip address add 10.9.0.1/24 dev v0");
    if (!world_made) return;
    World world;
    const Endpoint peer = endpoint("10.9.0.2:9");
    UdpSocket client = world.open(address("10.9.0.1"), {.gso = false, .send_buffer = 8000});
    const std::string text(10 * 1000, 'x');
    std::vector<Outgoing> datagrams{outgoing(peer, text), outgoing(peer, "last")};
    datagrams[0].segment_size = 1000;
    SendResult result = client.send(datagrams);
    EXPECT_EQ(result.taken, 0U);
    EXPECT_GT(result.part, 0U);
    EXPECT_LT(result.part, text.size());
    EXPECT_EQ(result.part % 1000, 0U);

    bool opened = false;
    int wakes = 0;
    std::function<void()> writable = [&] {
      ++wakes;
      EXPECT_TRUE(opened) << "not before there is room";
      datagrams[0].bytes = datagrams[0].bytes.subspan(result.part);
      result = client.send(datagrams);
      if (client.errors_waiting()) {
        EXPECT_TRUE(client.take_errors(world.arena).empty());
      }
      if (result.taken == 2) return world.runner.enough();
      EXPECT_EQ(result.taken, 0U);
      client.when_writable(writable);
    };
    client.when_writable(writable);
    world.runner.settle(std::chrono::milliseconds(20));
    EXPECT_EQ(wakes, 0);
    opened = true;
    ASSERT_TRUE(OwnNamespace::shell("ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent"));
    world.runner.run();
    EXPECT_LE(wakes, 10);
  });
  if (!ran) GTEST_SKIP() << why;
  if (!world_made) GTEST_SKIP() << "ip(8) cannot make veth interfaces here";
}

}  // namespace
}  // namespace penstock::net
