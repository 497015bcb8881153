#include "dns/service/name_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dns/service/service_testing.h"

namespace penstock::dns {
namespace {

using std::chrono::milliseconds;
using testing::all_are;
using testing::Bytes;
using testing::DatagramEnd;
using testing::dial;
using ::testing::ElementsAre;
using testing::endpoint;
using ::testing::HasSubstr;
using testing::in_own_namespace;
using testing::ip;
using ::testing::IsEmpty;
using testing::OnlyAlice;
using testing::query;
using testing::reply;
using testing::run_until;
using ::testing::StartsWith;
using testing::StubServer;

const Endpoint first_server = endpoint("127.0.0.53:53");
const Endpoint second_server = endpoint("127.0.0.54:53");
const Endpoint gateway = endpoint("127.0.1.1:53");
const Endpoint other_gateway = endpoint("127.0.1.2:53");
const Endpoint alice = endpoint("127.0.2.1:0");

NameService::Settings with_subnet(NameService::Settings settings) {
  settings.zones.subnets = {Prefix::parse("10.100.0.0/24").value()};
  return settings;
}

// The service on sockets, as with a TUN device.
struct World {
  explicit World(net::LoopRunner& loop_runner, NameService::Settings settings = {})
      : runner(&loop_runner), service(loop_runner.loop(), random, members, with_subnet(std::move(settings))) {
    auto listeners = NameListeners::open(runner->loop(), std::array{gateway, other_gateway});
    EXPECT_TRUE(listeners) << listeners.error().message;
    service.listen(*std::move(listeners));
    service.set_servers(std::array{first_server, second_server});
  }
  void wait_for(const DatagramEnd& client, std::size_t answers) {
    run_until(*runner, [&] { return client.heard.size() >= answers; });
  }
  std::uint64_t counted(Count what) const { return service.queries().of(what); }

  net::LoopRunner* runner;
  SeededRandom random{1};
  OnlyAlice members;
  NameService service;
};

std::vector<std::uint16_t> ids(const std::vector<Bytes>& messages) {
  std::vector<std::uint16_t> all;
  for (const Bytes& message : messages) all.push_back(load_be16(message.data()));
  return all;
}

TEST(NameService, ForwardsByUdpAndAnswersFromTheAddressThatWasAsked) {
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer server(runner, first_server, all_are("203.0.113.1"));
    World world(runner);
    DatagramEnd client(runner, alice);
    client.send(gateway, query("a.example", {.id = 1}));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].from, gateway);
    EXPECT_EQ(client.heard[0].message().header.id, 1);
    EXPECT_EQ(client.heard[0].message().records, testing::address_record("a.example", "203.0.113.1"));
    client.send(other_gateway, query("b.example", {.id = 2}));
    world.wait_for(client, 2);
    EXPECT_EQ(client.heard[1].from, other_gateway);
    client.send(gateway, query("a.example", {.id = 3}));
    world.wait_for(client, 3);
    EXPECT_EQ(world.counted(Count::cached), 1U);
    ASSERT_EQ(server.asked.size(), 2U);
    EXPECT_NE(server.asked[0].from.port, server.asked[1].from.port);
    EXPECT_EQ(world.service.counters().open_exchanges, 0U);
  });
}

TEST(NameService, AnswersByIpv6Too) {
  if (!net::has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer server(runner, first_server, all_are("203.0.113.1"));
    World world(runner);
    const Endpoint gateway6 = endpoint("[::1]:53");
    world.service.listen(NameListeners::open(runner.loop(), std::array{gateway6}).value());
    DatagramEnd client(runner, endpoint("[::1]:0"));
    client.send(gateway6, query("a.example"));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].from, gateway6);
    const auto stream = dial(runner, gateway6);
    stream->send(query("a.example"));
    run_until(runner, [&] { return !stream->messages.empty(); });
  });
}

TEST(NameService, AnswersForTheLanItself) {
  in_own_namespace([](net::LoopRunner& runner) {
    World world(runner);
    DatagramEnd client(runner, alice);
    client.send(gateway, query("ALICE.penstock.internal"));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].message().records,
              testing::address_record("alice.penstock.internal", "10.100.0.2", LocalZones::kLanTtl));
    EXPECT_TRUE(client.heard[0].message().header.authoritative);
  });
}

TEST(NameService, ForwardsByTcpWhatDoesNotFitIntoADatagram) {
  in_own_namespace([](net::LoopRunner& runner) {
    Records large;
    for (std::uint32_t i = 0; i < 500; ++i)
      large.add_address(Section::answer, testing::name("a.example"), 300, IpAddress::v4(0xCB007100 + i));
    StubServer server(runner, first_server, [&](const StubServer::Asked& asked) {
      return reply(asked.bytes, asked.stream ? large : Records(), rcode::kNoError, !asked.stream);
    });
    World world(runner);
    const auto client = dial(runner, gateway);
    client->send(query("a.example"));
    run_until(runner, [&] { return !client->messages.empty(); });
    EXPECT_EQ(Message::parse(client->messages[0])->records, large);
    EXPECT_EQ(server.asked.size(), 2U);
    EXPECT_TRUE(server.asked.back().stream);
    EXPECT_EQ(world.counted(Count::sent_stream), 1U);
    // By UDP the client is sent to TCP in its turn.
    DatagramEnd datagrams(runner, alice);
    datagrams.send(gateway, query("a.example"));
    world.wait_for(datagrams, 1);
    EXPECT_TRUE(datagrams.heard[0].message().header.truncated);
    EXPECT_LE(datagrams.heard[0].bytes.size(), kPlainUdpSize);
  });
}

TEST(NameService, AServerThatIsNotThereIsFollowedByTheNextAtOnce) {
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer server(runner, second_server, all_are("203.0.113.2"));
    World world(runner);
    DatagramEnd client(runner, alice);
    const TimePoint begin = runner.loop().now();
    client.send(gateway, query("a.example"));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].message().header.rcode, rcode::kNoError);
    EXPECT_LT(runner.loop().now() - begin, Forwarder::kFirstPatience);
    EXPECT_EQ(world.counted(Count::unreachable), 1U);
    EXPECT_EQ(world.service.counters().servers.refused, 1U);
  });
}

TEST(NameService, WithoutServersItRefuses) {
  in_own_namespace([](net::LoopRunner& runner) {
    World world(runner);
    world.service.set_servers({});
    DatagramEnd client(runner, alice);
    client.send(gateway, query("a.example"));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].message().header.rcode, rcode::kRefused);
    EXPECT_EQ(world.counted(Count::no_upstream), 1U);
  });
}

TEST(NameService, PipelinedQueriesAreAnsweredAsTheirAnswersCome) {
  in_own_namespace([](net::LoopRunner& runner) {
    // One name takes its time.
    std::vector<StubServer::Asked> slow;
    StubServer server(runner, first_server, [&](const StubServer::Asked& asked) {
      if (Message::parse(asked.bytes)->question.name == testing::name("slow.example")) {
        slow.push_back(asked);
        return Bytes();
      }
      return all_are("203.0.113.1")(asked);
    });
    World world(runner);
    const auto client = dial(runner, gateway);
    Bytes three;
    StreamFraming::frame(query("slow.example", {.id = 1}), three);
    StreamFraming::frame(query("fast.example", {.id = 2}), three);
    StreamFraming::frame(query("alice.penstock.internal", {.id = 3}), three);
    client->write(three);
    run_until(runner, [&] { return client->messages.size() == 2; });
    EXPECT_THAT(ids(client->messages), ElementsAre(3, 2));
    server.udp.send(slow.at(0).from, all_are("203.0.113.9")(slow[0]));
    run_until(runner, [&] { return client->messages.size() == 3; });
    EXPECT_EQ(ids(client->messages).back(), 1);
    client->send(query("fast.example", {.id = 4}));
    run_until(runner, [&] { return client->messages.size() == 4; });
  });
}

TEST(NameService, AnIdleConnectionIsClosedAndTooManyAreRefused) {
  in_own_namespace([](net::LoopRunner& runner) {
    World world(runner, {.streams = {.connections = 3, .of_client = 2, .idle = milliseconds(200)}});
    const auto first = dial(runner, gateway);
    const auto second = dial(runner, gateway);
    const auto third = dial(runner, gateway);
    run_until(runner, [&] { return third->closed; });
    EXPECT_FALSE(first->closed || second->closed);
    EXPECT_EQ(world.service.counters().streams.too_many, 1U);
    run_until(runner, [&] { return first->closed && second->closed; });
    EXPECT_EQ(world.service.counters().streams.idle, 2U);
    EXPECT_EQ(world.service.counters().open_streams, 0U);
  });
}

TEST(NameService, AConnectionThatClosesLeavesNothingThatWaits) {
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer server(runner, first_server, [](const auto&) { return Bytes(); });
    World world(runner);
    auto client = dial(runner, gateway);
    client->send(query("a.example", {.id = 1}));
    client->send(query("b.example", {.id = 2}));
    run_until(runner, [&] { return world.service.forwarder().waiting() == 2; });
    client->write(Bytes{0, 0});  // no DNS
    run_until(runner, [&] { return world.service.counters().open_streams == 0; });
    EXPECT_EQ(world.service.forwarder().waiting(), 0U);
    EXPECT_EQ(world.service.forwarder().questions(), 2U) << "their answers are worth keeping";
  });
}

TEST(NameService, AForgottenClientHearsNothingMore) {
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer server(runner, first_server, [](const auto&) { return Bytes(); });
    World world(runner, {.client_of = [](const IpAddress& address) {
                  return std::optional<std::uint64_t>(address == alice.address ? 1 : 2);
                }});
    DatagramEnd client(runner, alice);
    const auto stream = dial(runner, gateway);
    client.send(gateway, query("a.example"));
    stream->send(query("b.example"));
    run_until(runner, [&] { return world.service.forwarder().waiting() == 2; });
    world.service.forget(1);
    EXPECT_EQ(world.service.forwarder().waiting(), 1U);
    EXPECT_EQ(world.service.counters().open_streams, 1U);
    world.service.forget(2);
    EXPECT_EQ(world.service.forwarder().waiting(), 0U);
    EXPECT_EQ(world.service.counters().open_streams, 0U);
    run_until(runner, [&] { return stream->closed; });
  });
}

// As a neighbour of the gateway's machine who has made himself a route to its inner address.
TEST(NameService, WhoIsNobodysClientHearsNothing) {
  in_own_namespace([](net::LoopRunner& runner) {
    World world(runner, {.client_of = [](const IpAddress& address) {
                  return address == alice.address ? std::optional<std::uint64_t>(1) : std::nullopt;
                }});
    DatagramEnd stranger(runner, endpoint("127.0.2.2:0"));
    DatagramEnd client(runner, alice);
    stranger.send(gateway, query("alice.penstock.internal"));
    const auto stream = dial(runner, gateway);
    run_until(runner, [&] { return stream->closed; });
    client.send(gateway, query("alice.penstock.internal"));
    world.wait_for(client, 1);
    EXPECT_THAT(stranger.heard, IsEmpty());
    EXPECT_EQ(world.service.counters().strangers, 2U);
    EXPECT_EQ(world.service.counters().streams.accepted, 0U);
  });
}

TEST(NameService, NothingIsAskedThatThePolicyForbids) {
  in_own_namespace([](net::LoopRunner& runner) {
    StubServer forbidden(runner, first_server, all_are("203.0.113.1"));
    StubServer allowed(runner, second_server, all_are("203.0.113.2"));
    World world(runner, {.may_send = [](std::uint8_t, const Endpoint& to) { return to != first_server; }});
    DatagramEnd client(runner, alice);
    client.send(gateway, query("a.example"));
    world.wait_for(client, 1);
    EXPECT_EQ(client.heard[0].message().records, testing::address_record("a.example", "203.0.113.2"));
    EXPECT_THAT(forbidden.asked, IsEmpty());
  });
}

TEST(NameService, StrangersBytesDoNoHarmAndNoSocketIsLeft) {
  in_own_namespace([](net::LoopRunner& runner) {
    SeededRandom random(7);
    StubServer server(runner, first_server, [&](const StubServer::Asked& asked) {
      Bytes bytes = all_are("203.0.113.1")(asked);
      if (random.next32() % 2 == 0) bytes[random.next32() % bytes.size()] ^= static_cast<std::uint8_t>(random.next32());
      if (random.next32() % 4 == 0) bytes.resize(random.next32() % bytes.size());
      return bytes;
    });
    const std::size_t before = testing::open_descriptors();
    {
      World world(runner, {.forwarder = {.client = {.rate = 100'000, .burst = 100'000}}});
      DatagramEnd client(runner, alice);
      for (int round = 0; round < 100; ++round) {
        Bytes bytes = query("n" + std::to_string(random.next32() % 50) + ".example");
        for (int i = 0; i < 3; ++i)
          if (random.next32() % 2 == 0)
            bytes[random.next32() % bytes.size()] ^= static_cast<std::uint8_t>(1U << random.next32() % 8);
        client.send(gateway, bytes);
        auto stream = dial(runner, gateway);
        stream->send(bytes);
        if (random.next32() % 3 == 0) stream->write(bytes);
      }
      client.heard.clear();
      client.send(gateway, query("alice.penstock.internal", {.id = 999}));
      run_until(runner, [&] { return !client.heard.empty() && load_be16(client.heard.back().bytes.data()) == 999; });
      EXPECT_LE(world.service.counters().open_exchanges,
                world.service.forwarder().questions() * Forwarder::kMaxAttempts);
    }
    server.streams.clear();
    runner.settle(milliseconds(20));
    server.streams.clear();
    EXPECT_EQ(testing::open_descriptors(), before);
  });
}

// --- opening

TEST(NameListeners, AnAddressInUseIsRefusedByName) {
  in_own_namespace([](net::LoopRunner& runner) {
    const auto first = NameListeners::open(runner.loop(), std::array{gateway});
    ASSERT_TRUE(first);
    EXPECT_THAT(first->local(), ElementsAre(gateway));
    const auto again = NameListeners::open(runner.loop(), std::array{other_gateway, gateway});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, ErrorCode::address_in_use);
    EXPECT_THAT(again.error().message, StartsWith("dns: "));
    EXPECT_THAT(again.error().message, HasSubstr("127.0.1.1:53"));
    EXPECT_TRUE(NameListeners::open(runner.loop(), std::array{other_gateway})) << "nothing of a refusal stays open";
  });
}

TEST(NameListeners, ATcpPortInUseIsRefusedToo) {
  in_own_namespace([](net::LoopRunner& runner) {
    const auto holder = net::TcpListener::create(runner.loop(), endpoint("0.0.0.0:53"));
    ASSERT_TRUE(holder);
    const auto refused = NameListeners::open(runner.loop(), std::array{gateway});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::address_in_use);
    EXPECT_THAT(refused.error().message, HasSubstr("127.0.1.1:53 (TCP)"));
  });
}

TEST(NameListeners, AnAddressOfNobodyOrEverybodyIsRefused) {
  in_own_namespace([](net::LoopRunner& runner) {
    const auto nobody = NameListeners::open(runner.loop(), std::array{endpoint("10.100.0.1:53")});
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().code, ErrorCode::unavailable);
    EXPECT_THAT(nobody.error().message, HasSubstr("10.100.0.1"));
    const auto everybody = NameListeners::open(runner.loop(), std::array{endpoint("0.0.0.0:53")});
    ASSERT_FALSE(everybody);
    EXPECT_EQ(everybody.error().code, ErrorCode::invalid_argument);
  });
}

// What waits in the backlogs while nobody looks is served in the end.
TEST(NameListeners, MayBeOpenedLongBeforeTheyAreServed) {
  in_own_namespace([](net::LoopRunner& runner) {
    auto listeners = NameListeners::open(runner.loop(), std::array{gateway}).value();
    DatagramEnd client(runner, alice);
    client.send(gateway, query("alice.penstock.internal"));
    runner.settle(milliseconds(20));
    SeededRandom random(1);
    const OnlyAlice members;
    NameService service(runner.loop(), random, members, {});
    service.listen(std::move(listeners));
    run_until(runner, [&] { return client.heard.size() == 1; });
  });
}

}  // namespace
}  // namespace penstock::dns
