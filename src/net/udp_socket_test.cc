#include "net/udp_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "net/datagram_testing.h"

namespace penstock::net {
namespace {

using testing::HasSubstr;

static_assert(sizeof(UdpSocket) <= 48, "15 000 of them are to be cheap");

// Each test once for each family, on its loopback.
class UdpSocketTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (GetParam() == Family::ipv6 && !has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  }
  IpAddress loopback() const { return address(GetParam() == Family::ipv4 ? "127.0.0.1" : "::1"); }
  UdpSocket open(const UdpOptions& options = {}) {
    auto made = UdpSocket::create(runner_.loop(), {loopback(), 0}, options);
    EXPECT_TRUE(made) << made.error().message;
    return *std::move(made);
  }

  LoopRunner runner_;
  DatagramArena arena_;
};

INSTANTIATE_TEST_SUITE_P(Families, UdpSocketTest, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(UdpSocketTest, WhatIsSentComesBackFromThePeer) {
  UdpSocket client = open();
  UdpSocket server = open();
  EXPECT_NE(server.local().port, 0);

  Outgoing hello = outgoing(server.local(), "hello");
  EXPECT_EQ(send_one(client, hello).taken, 1U);
  const auto asked = receive_count(runner_, server, arena_, 1);
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].text, "hello");
  EXPECT_EQ(asked[0].from, client.local());
  EXPECT_EQ(asked[0].to, loopback());
  EXPECT_EQ(asked[0].segment_size, 0);

  Outgoing answer = outgoing(asked[0].from, "");
  EXPECT_EQ(send_one(server, answer).taken, 1U);
  const auto answered = receive_count(runner_, client, arena_, 1);
  ASSERT_EQ(answered.size(), 1U);
  EXPECT_EQ(answered[0].text, "") << "an empty datagram is one too";
  EXPECT_EQ(answered[0].from, server.local());
}

TEST_P(UdpSocketTest, HopLimitAndTrafficClassAreThoseOfEachDatagram) {
  UdpSocket client = open();
  UdpSocket server = open();
  std::vector<Outgoing> datagrams;
  for (const int ttl : {1, 64, 255, 0}) {
    datagrams.push_back(outgoing(server.local(), "x"));
    datagrams.back().ttl = static_cast<std::uint8_t>(ttl);
    datagrams.back().tos = static_cast<std::uint8_t>(ttl == 0 ? 0 : 0xb8 | (ttl & 3));
  }
  EXPECT_EQ(client.send(datagrams).refused, 0U);
  const auto got = receive_count(runner_, server, arena_, 4);
  ASSERT_EQ(got.size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(got[i].ttl, datagrams[i].ttl);
  EXPECT_EQ(got[3].ttl, 64) << "the system's usual one";
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(got[i].tos, datagrams[i].tos);
}

TEST_P(UdpSocketTest, ABatchArrivesWholeAndInOrder) {
  UdpSocket client = open();
  UdpSocket server = open();
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) texts.push_back("datagram " + std::to_string(i));
  std::vector<Outgoing> datagrams;
  for (const std::string& text : texts) {
    datagrams.push_back(outgoing(server.local(), text));
    // Now and then the socket has to change its state for one.
    datagrams.back().dont_fragment = datagrams.size() % 7 != 0;
  }
  const SendResult result = client.send(datagrams);
  EXPECT_EQ(result.taken, 200U);
  EXPECT_EQ(result.refused, 0U);
  const auto got = receive_count(runner_, server, arena_, 200);
  ASSERT_EQ(got.size(), 200U);
  for (std::size_t i = 0; i < 200; ++i) EXPECT_EQ(got[i].text, texts[i]);
}

TEST_P(UdpSocketTest, NoMoreIsReceivedThanAskedFor) {
  UdpSocket client = open();
  UdpSocket server = open();
  std::vector<Outgoing> datagrams(3, outgoing(server.local(), "x"));
  client.send(datagrams);
  runner_.await(server);
  EXPECT_TRUE(server.receive(arena_, 0).empty());
  EXPECT_EQ(server.receive(arena_, 2).size(), 2U);
  EXPECT_EQ(server.receive(arena_, 2).size(), 1U);
  EXPECT_TRUE(server.receive(arena_, 2).empty());
}

TEST_P(UdpSocketTest, HeadersMayBeWrittenInFrontOfWhatCame) {
  UdpSocket client = open();
  UdpSocket server = open();
  std::vector<Outgoing> datagrams(5, outgoing(server.local(), "untouched"));
  client.send(datagrams);
  runner_.await(server);
  const auto got = server.receive(arena_);
  ASSERT_EQ(got.size(), 5U);
  for (const Received& received : got)
    std::memset(received.bytes.data() - DatagramArena::kHeadroom, 0xff, DatagramArena::kHeadroom);
  for (const Received& received : got) EXPECT_EQ(as_text(received.bytes), "untouched");
}

// A super-datagram is one unit in the kernel or many, and nobody can tell from the bytes.
TEST_P(UdpSocketTest, SuperDatagramsArriveWithAndWithoutTheKernelsHelp) {
  SeededRandom random(1);
  for (const bool gso : {true, false}) {
    for (const bool gro : {true, false}) {
      UdpSocket client = open({.gso = gso});
      UdpSocket server = open({.gro = gro, .receive_buffer = 1 << 20});
      // The last segment is shorter; one has more segments than a piece may have; one is not cut at all.
      for (const auto& [size, segment] :
           std::vector<std::pair<std::size_t, std::uint16_t>>{{5000, 1200}, {14000, 100}, {1200, 1200}, {6400, 100}}) {
        const std::string text = random_text(random, size);
        Outgoing super = outgoing(server.local(), text);
        super.segment_size = segment;
        super.dont_fragment = true;
        const SendResult result = send_one(client, super);
        EXPECT_EQ(result.taken, 1U);
        EXPECT_EQ(result.refused, 0U) << super.refusal.error;
        std::string joined;
        std::size_t segments = 0;
        std::size_t largest = 0;
        for (const Kept& kept : receive_bytes(runner_, server, arena_, size)) {
          joined += kept.text;
          largest = std::max(largest, kept.text.size());
          if (kept.text.size() > segment) {
            EXPECT_EQ(kept.segment_size, segment);
          }
          segments += (kept.text.size() + segment - 1) / segment;
        }
        EXPECT_EQ(joined, text);
        EXPECT_EQ(segments, (size + segment - 1) / segment);
        EXPECT_EQ(largest > segment, gso && gro && size > segment) << "the kernel of this test can do it";
      }
    }
  }
}

TEST_P(UdpSocketTest, AnyMixtureArrivesInOrder) {
  SeededRandom random(7);
  for (int round = 0; round < 30; ++round) {
    UdpSocket client = open({.gso = random.next32() % 2 == 0});
    UdpSocket server = open({.gro = random.next32() % 2 == 0});
    std::vector<std::string> texts;
    std::vector<std::uint16_t> sizes;
    std::vector<std::string> expected;  // datagram by datagram
    const std::size_t count = 1 + random.next32() % 20;
    std::size_t total = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto segment = static_cast<std::uint16_t>(random.next32() % 3 == 0 ? 0 : 64 + random.next32() % 900);
      texts.push_back(random_text(random, 1 + random.next32() % 4000));
      sizes.push_back(segment);
      total += texts.back().size();
      const std::size_t step = segment == 0 ? texts.back().size() : segment;
      for (std::size_t at = 0; at < texts.back().size(); at += step) expected.push_back(texts.back().substr(at, step));
    }
    std::vector<Outgoing> datagrams;
    for (std::size_t i = 0; i < count; ++i) {
      datagrams.push_back(outgoing(server.local(), texts[i]));
      datagrams.back().segment_size = sizes[i];
      datagrams.back().dont_fragment = random.next32() % 4 != 0;
    }
    ASSERT_EQ(client.send(datagrams).taken, count);
    std::vector<std::string> got;
    for (const Kept& kept : receive_bytes(runner_, server, arena_, total)) {
      const std::size_t step = kept.segment_size == 0 ? kept.text.size() : kept.segment_size;
      for (std::size_t at = 0; at < kept.text.size(); at += step) got.push_back(kept.text.substr(at, step));
    }
    ASSERT_EQ(got, expected) << "round " << round;
  }
}

TEST_P(UdpSocketTest, ARefusedDatagramDoesNotStopTheOthers) {
  UdpSocket client = open();
  UdpSocket server = open();
  const std::string huge(65535, 'x');  // UDP has no room for it
  std::vector<Outgoing> datagrams{outgoing(server.local(), "a"), outgoing(server.local(), huge),
                                  outgoing(server.local(), "b"), outgoing(server.local(), huge)};
  const SendResult result = client.send(datagrams);
  EXPECT_EQ(result.taken, 4U);
  EXPECT_EQ(result.refused, 2U);
  EXPECT_FALSE(datagrams[0].refusal);
  EXPECT_EQ(datagrams[1].refusal.error, EMSGSIZE);
  EXPECT_FALSE(datagrams[2].refusal);
  EXPECT_EQ(datagrams[3].refusal.error, EMSGSIZE);
  const auto got = receive_count(runner_, server, arena_, 2);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].text + got[1].text, "ab");
  EXPECT_TRUE(client.take_errors(arena_).empty()) << "what send() said is not said twice";
  EXPECT_FALSE(client.errors_waiting());
}

TEST_P(UdpSocketTest, OnAnUnspecifiedAddressEachDatagramSaysWhereItWasSent) {
  const bool v4 = GetParam() == Family::ipv4;
  auto server = UdpSocket::create(runner_.loop(), {address(v4 ? "0.0.0.0" : "::"), 0});
  ASSERT_TRUE(server) << server.error().message;
  UdpSocket client = open();
  // All of 127/8 is this machine's, but of IPv6 only ::1 is sure.
  const IpAddress asked = address(v4 ? "127.0.0.77" : "::1");
  Outgoing question = outgoing({asked, server->local().port}, "?");
  send_one(client, question);
  const auto got = receive_count(runner_, *server, arena_, 1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].to, asked);

  Outgoing answer = outgoing(got[0].from, "!");
  answer.from = got[0].to;
  send_one(*server, answer);
  const auto answered = receive_count(runner_, client, arena_, 1);
  ASSERT_EQ(answered.size(), 1U);
  EXPECT_EQ(answered[0].from, (Endpoint{asked, server->local().port}));
}

TEST_P(UdpSocketTest, MayBeDestroyedInsideItsCallback) {
  auto server = std::make_optional(open());
  UdpSocket client = open();
  int ran = 0;
  const auto whichever_is_first = [&] {
    ++ran;
    server.reset();
    // Both were ready in one wait: the other gets every chance.
    runner_.loop().post([&] { runner_.loop().post([&] { runner_.enough(); }); });
  };
  server->when_readable(whichever_is_first);
  server->when_writable(whichever_is_first);
  Outgoing datagram = outgoing(server->local(), "x");
  send_one(client, datagram);
  runner_.run();
  EXPECT_FALSE(server);
  EXPECT_EQ(ran, 1);
}

TEST_P(UdpSocketTest, MovesWhileItIsWaitedFor) {
  UdpSocket first = open();
  UdpSocket client = open();
  std::optional<UdpSocket> second;
  first.when_readable([&] {
    EXPECT_EQ(second->receive(arena_).size(), 1U);
    runner_.enough();
  });
  second.emplace(std::move(first));
  Outgoing datagram = outgoing(second->local(), "x");
  send_one(client, datagram);
  runner_.run();
}

TEST_P(UdpSocketTest, APortInUseIsRefusedByName) {
  const UdpSocket first = open();
  const auto second = UdpSocket::create(runner_.loop(), first.local());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::address_in_use);
  EXPECT_THAT(second.error().message, HasSubstr("UDP port " + std::to_string(first.local().port)));
}

TEST_P(UdpSocketTest, ThePortIsFreeAgainOnceItsSocketIsGone) {
  std::optional first = open();
  const Endpoint at = first->local();
  first->when_readable([] {});
  first.reset();
  EXPECT_TRUE(UdpSocket::create(runner_.loop(), at));
}

TEST_P(UdpSocketTest, AnAddressOfAnotherMachineIsRefused) {
  const auto made =
      UdpSocket::create(runner_.loop(), {address(GetParam() == Family::ipv4 ? "192.0.2.1" : "2001:db8::1"), 0});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::unavailable);
  EXPECT_THAT(made.error().message, HasSubstr("ip address"));
}

TEST_P(UdpSocketTest, OutOfDescriptorsIsExhaustedAndSaysWhatToRaise) {
  // UBSan's check of virtual calls needs a descriptor: none of them in between.
  EventLoop& loop = runner_.loop();
  const Endpoint at{loopback(), 0};
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto made = UdpSocket::create(loop, at);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::exhausted);
  EXPECT_THAT(made.error().message, HasSubstr("LimitNOFILE"));
}

TEST_P(UdpSocketTest, AThousandSocketsShareOneArena) {
  constexpr std::size_t kSockets = 1000;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_cur < kSockets + 100) {
    if (limit.rlim_max < kSockets + 100) GTEST_SKIP() << "no " << kSockets << " descriptors here";
    limit.rlim_cur = kSockets + 100;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  UdpSocket client = open();
  std::vector<UdpSocket> sockets;
  std::vector<int> got(kSockets);
  std::size_t answered = 0;
  for (std::size_t i = 0; i < kSockets; ++i) sockets.push_back(open());
  for (std::size_t i = 0; i < kSockets; ++i) {
    sockets[i].when_readable([&, i] {
      got[i] += static_cast<int>(sockets[i].receive(arena_).size());
      if (++answered == kSockets) runner_.enough();
    });
  }
  std::vector<Outgoing> datagrams;
  for (const UdpSocket& socket : sockets) datagrams.push_back(outgoing(socket.local(), "x"));
  EXPECT_EQ(client.send(datagrams).refused, 0U);
  runner_.run();
  EXPECT_EQ(got, std::vector<int>(kSockets, 1));
}

TEST(UdpSocket, AnIpv6SocketLeavesIpv4Alone) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  AsioLoop loop;
  const auto six = UdpSocket::create(loop, endpoint("[::]:0"));
  ASSERT_TRUE(six);
  EXPECT_TRUE(UdpSocket::create(loop, {address("0.0.0.0"), six->local().port}));
}

}  // namespace
}  // namespace penstock::net
