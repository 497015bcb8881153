#include "router/access_gate.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/random.h"
#include "router/access_testing.h"
#include "router/shard.h"
#include "test/support/manual_loop.h"

namespace penstock::router {
namespace {

using test::batch_of;
using test::ip;

class FakeLink final : public SessionLink {
 public:
  void packets_waiting() override {}
  void end(std::string_view) override {}
  void probe(Duration, std::move_only_function<void(bool)>) override {}
};

class SinkPort final : public Port {
 public:
  void send(PacketBatch& batch) override {
    packets += batch.size();
    batch.clear();
  }
  std::size_t credit() const override { return 1000; }
  std::size_t packets = 0;
};

constexpr const char* kAlice = "10.0.0.2";
constexpr const char* kBob = "10.0.0.3";
constexpr const char* kCarol = "10.0.0.4";
constexpr const char* kGateway = "10.0.0.1";
constexpr const char* kBobsSite = "10.50.0.9";
constexpr std::uint32_t kAliceNumber = 1;
constexpr std::uint32_t kBobNumber = 2;
constexpr std::uint32_t kCarolNumber = 3;

// Alice and Carol live on shard 0, Bob on shard 1; behind Bob is 10.50.0.0/24. The gateway's own address is an exit.
class AccessGateTest : public testing::Test {
 protected:
  AccessGateTest() {
    shards.push_back(std::make_unique<Shard>(0, loop0));
    shards.push_back(std::make_unique<Shard>(1, loop1));
    Shard::connect(shards);
    gateway_id = shards[0]->router().add_port(gateway);
    open(0, kAlice, kAliceNumber, "fd00::2");
    open(1, kBob, kBobNumber, "fd00::3");
    open(0, kCarol, kCarolNumber, "fd00::4");
    shards[1]->session(ports[kBob])->set_sites({Prefix::parse("10.50.0.0/24").value()});
    RouteTable routes = RouteTable()
                            .with(Prefix::parse(kGateway).value(), gateway_id)
                            .with(Prefix::parse("10.50.0.0/24").value(), ports[kBob]);
    for (const auto& [address, port] : ports) {
      for (const Prefix& own : session(address)->spec().prefixes) routes = routes.with(own, port);
    }
    for (auto& shard : shards) {
      shard->router().set_routes(routes);
      shard->set_discovery({.on = true, .rate = 1000});
    }
    set_rules({});
  }

  void open(std::uint16_t shard, const char* address, std::uint32_t member, const char* address6) {
    ports[address] =
        shards[shard]->open_session({.id = {.slot = member, .generation = 1},
                                     .name = address,
                                     .prefixes = {Prefix::parse(address).value(), Prefix::parse(address6).value()},
                                     .queue_bytes = 1 << 20,
                                     .usage = std::make_shared<Usage>(),
                                     .member = member});
    session(address)->attach(links[address], 1, "");
  }
  Session* session(const std::string& address) {
    const PortId port = ports.at(address);
    return shards[port.shard]->session(port);
  }

  // "alice bob tcp 22": rules by name, or everybody may everything.
  void set_rules(const std::vector<AccessRule>& rules) {
    const std::vector<AccessMember> members{
        {kAliceNumber, "alice", {}}, {kBobNumber, "bob", {}}, {kCarolNumber, "carol", {}}};
    const auto policy = std::make_shared<const AccessPolicy>(rules, members, ++generation, SipKey{3, 4});
    for (auto& shard : shards) shard->set_access_policy(policy);
  }
  static AccessRule rule(const char* from, const char* to, std::vector<AccessPorts> ports = {}) {
    return {{.prefix = {}, .name = from}, {.prefix = {}, .name = to}, std::move(ports)};
  }

  void send(const std::string& from, PacketBatch batch) {
    Session* sender = session(from);
    shards[ports[from].shard]->router().from_session(*sender, batch);
    loop0.run_until_idle();
    loop1.run_until_idle();
    loop0.run_until_idle();
  }
  std::size_t taken(const std::string& by) {
    PacketBatch packets;
    session(by)->take(packets, 1 << 20);
    return packets.size();
  }
  // Whether `packet` gets from one session to the other; if not, it is counted.
  bool passes(const std::string& from, const std::string& to, Packet packet) {
    const std::uint64_t denied = this->denied();
    send(from, batch_of(std::move(packet)));
    const bool arrived = taken(to) == 1;
    EXPECT_EQ(this->denied() - denied, arrived ? 0U : 1U);
    return arrived;
  }
  std::uint64_t denied() const {
    return shards[0]->router().drops().of(Drop::access_denied) + shards[1]->router().drops().of(Drop::access_denied);
  }
  void advance(Duration by) {
    loop0.advance(by);
    loop1.advance(by);
  }

  test::ManualLoop loop0;
  test::ManualLoop loop1;
  SinkPort gateway;
  std::map<std::string, FakeLink> links;
  std::vector<std::unique_ptr<Shard>> shards;
  std::map<std::string, PortId> ports;
  PortId gateway_id;
  std::uint32_t generation = 0;
};

TEST_F(AccessGateTest, WithoutRulesNothingPassesBetweenClientsOnAnyShard) {
  EXPECT_FALSE(passes(kAlice, kBob, ping(kAlice, kBob, 1)));
  EXPECT_FALSE(passes(kAlice, kCarol, udp(kAlice, 1, kCarol, 2)));
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000)));
  EXPECT_FALSE(passes(kBob, kAlice, pong(kBob, kAlice, 1)));
  EXPECT_FALSE(passes(kAlice, kBob, udp(kAlice, 1, kBobsSite, 2)));
  EXPECT_FALSE(passes(kAlice, kBob, udp("fd00::2", 1, "fd00::3", 2)));
}

TEST_F(AccessGateTest, TheGatewayIsReachedAndReachesEverybody) {
  send(kAlice, batch_of(ping(kAlice, kGateway, 1), udp(kAlice, 1, kGateway, 53)));
  EXPECT_EQ(gateway.packets, 2U);
  auto batch = batch_of(ping(kGateway, kAlice, 1), udp("192.0.2.1", 53, kAlice, 1));
  shards[0]->router().from_exit(gateway_id, batch);
  EXPECT_EQ(taken(kAlice), 2U);
}

TEST_F(AccessGateTest, ARuleByPortIsOneWayAndItsAnswersPass) {
  set_rules({rule("alice", "bob", {{kProtocolTcp, 22, 22}})});
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000))) << "an answer to nothing";
  EXPECT_TRUE(passes(kAlice, kBob, tcp(kAlice, 4000, kBob, 22, kTcpSyn)));
  EXPECT_TRUE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000, kTcpSyn | kTcpAck)));
  EXPECT_TRUE(passes(kAlice, kBob, tcp(kAlice, 4000, kBob, 22)));
  EXPECT_TRUE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000)));

  EXPECT_FALSE(passes(kAlice, kBob, tcp(kAlice, 4000, kBob, 23, kTcpSyn)));
  EXPECT_FALSE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 22)));
  EXPECT_FALSE(passes(kAlice, kBob, ping(kAlice, kBob, 1)));
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4001))) << "another port";
  EXPECT_FALSE(passes(kBob, kCarol, tcp(kBob, 22, kCarol, 4000))) << "another client";
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000, kTcpSyn))) << "a new connection is no answer";
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 4000, kAlice, 22, kTcpSyn)));
}

TEST_F(AccessGateTest, AnEchoRequestIsAnsweredAndNotReturned) {
  set_rules({rule("alice", "bob")});
  for (const auto& [alice, bob] : {std::pair(kAlice, kBob), std::pair("fd00::2", "fd00::3")}) {
    EXPECT_TRUE(passes(kAlice, kBob, ping(alice, bob, 7)));
    EXPECT_TRUE(passes(kBob, kAlice, pong(bob, alice, 7)));
    EXPECT_FALSE(passes(kBob, kAlice, pong(bob, alice, 8)));
    EXPECT_FALSE(passes(kBob, kAlice, ping(bob, alice, 7)));
  }
}

TEST_F(AccessGateTest, IcmpErrorsAboutAKnownFlowPassBothWays) {
  set_rules({rule("alice", "bob", {{kProtocolUdp, 53, 53}})});
  const Packet query = udp(kAlice, 4000, kBob, 53);
  const Packet answer = udp(kBob, 53, kAlice, 4000);
  EXPECT_FALSE(passes(kBob, kAlice, unreachable_about(kBob, kAlice, query)));
  EXPECT_TRUE(passes(kAlice, kBob, query.clone()));
  EXPECT_TRUE(passes(kBob, kAlice, unreachable_about(kBob, kAlice, query)));
  EXPECT_TRUE(passes(kBob, kAlice, unreachable_about(kBobsSite, kAlice, query))) << "from a router in Bob's site";
  EXPECT_TRUE(passes(kAlice, kBob, unreachable_about(kAlice, kBob, answer)));
  EXPECT_FALSE(passes(kBob, kAlice, unreachable_about(kBob, kAlice, udp(kAlice, 4001, kBob, 53))));
  EXPECT_FALSE(passes(kBob, kCarol, unreachable_about(kBob, kCarol, query))) << "to somebody else";
  EXPECT_FALSE(passes(kAlice, kBob, unreachable_about(kAlice, kBob, udp(kBob, 53, kAlice, 4001))));
  EXPECT_FALSE(passes(kCarol, kBob, unreachable_about(kCarol, kBob, answer)));
}

TEST_F(AccessGateTest, AnswersPassForAsLongAsTheTimeoutsSay) {
  set_rules({rule("alice", "bob")});
  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
  advance(FlowTable::kFreshIdle);
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));

  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));
  advance(FlowTable::kAnsweredIdle - std::chrono::seconds(1));
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));
  advance(FlowTable::kAnsweredIdle);
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));

  EXPECT_TRUE(passes(kAlice, kBob, tcp(kAlice, 4000, kBob, 22, kTcpSyn)));
  EXPECT_TRUE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000, kTcpRst)));
  advance(FlowTable::kClosedIdle);
  EXPECT_FALSE(passes(kBob, kAlice, tcp(kBob, 22, kAlice, 4000)));
}

TEST_F(AccessGateTest, TheSubnetBehindAClientIsThatClient) {
  set_rules({rule("alice", "bob")});
  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 4000, kBobsSite, 53)));
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBobsSite, 53, kAlice, 4000)));
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBobsSite, 54, kAlice, 4000)));
  EXPECT_FALSE(passes(kCarol, kBob, udp(kCarol, 4000, kBobsSite, 53)));

  set_rules({{{}, {.prefix = Prefix::parse("10.50.0.0/24").value(), .name = {}}, {}}});
  EXPECT_TRUE(passes(kCarol, kBob, udp(kCarol, 4000, kBobsSite, 53)));
  EXPECT_FALSE(passes(kCarol, kBob, udp(kCarol, 4000, kBob, 53)));
  set_rules({rule("bob", "alice")});
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBobsSite, 1, kAlice, 2)));
}

TEST_F(AccessGateTest, NewRulesApplyAtOnceAndEndWhatTheyNoLongerAllow) {
  set_rules({rule("alice", "bob"), rule("carol", "bob")});
  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
  EXPECT_TRUE(passes(kCarol, kBob, udp(kCarol, 4000, kBob, 53)));
  set_rules({rule("carol", "bob", {{0, 53, 53}})});
  EXPECT_FALSE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));
  EXPECT_TRUE(passes(kBob, kCarol, udp(kBob, 53, kCarol, 4000))) << "another rule, but still allowed";

  for (auto& shard : shards) shard->set_access_policy(nullptr);
  EXPECT_TRUE(passes(kAlice, kCarol, udp(kAlice, 1, kCarol, 2)));
  EXPECT_EQ(session(kBob)->gate(), nullptr);
  set_rules({});
  EXPECT_FALSE(passes(kAlice, kCarol, udp(kAlice, 1, kCarol, 2)));
  EXPECT_FALSE(passes(kBob, kCarol, udp(kBob, 53, kCarol, 4000)));
}

// Alice's address is Carol's now; her flow at Bob's is still young.
TEST_F(AccessGateTest, AFlowIsAMembersAndNotAnAddresss) {
  set_rules({rule("alice", "bob")});
  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
  shards[0]->close_session(ports[kAlice], "");
  open(0, kAlice, kCarolNumber, "fd00::2");
  for (auto& shard : shards)
    shard->router().set_routes(shard->router().routes().with(Prefix::parse(kAlice).value(), ports[kAlice]));
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 4000)));
  EXPECT_FALSE(passes(kAlice, kBob, udp(kAlice, 4000, kBob, 53)));
}

TEST_F(AccessGateTest, LaterFragmentsGoTheWayOfTheirFirst) {
  set_rules({rule("alice", "bob", {{kProtocolUdp, 53, 53}})});
  const auto first = [](const char* from, const char* to, int from_port, int to_port, std::uint16_t id) {
    return fragment(from, to, kProtocolUdp, id, 0, true,
                    big_endian(static_cast<std::uint16_t>(from_port)) +
                        big_endian(static_cast<std::uint16_t>(to_port)) + std::string(20, 'x'));
  };
  const auto later = [](const char* from, const char* to, std::uint16_t id) {
    return fragment(from, to, kProtocolUdp, id, 24, false, "the rest");
  };
  EXPECT_FALSE(passes(kAlice, kBob, later(kAlice, kBob, 1))) << "before the first";
  EXPECT_TRUE(passes(kAlice, kBob, first(kAlice, kBob, 4000, 53, 1)));
  EXPECT_TRUE(passes(kAlice, kBob, later(kAlice, kBob, 1)));
  EXPECT_FALSE(passes(kAlice, kBob, later(kAlice, kBob, 2)));
  EXPECT_FALSE(passes(kAlice, kBob, first(kAlice, kBob, 4000, 54, 3)));
  EXPECT_FALSE(passes(kAlice, kBob, later(kAlice, kBob, 3)));
  EXPECT_FALSE(passes(kCarol, kBob, later(kCarol, kBob, 1)));

  EXPECT_TRUE(passes(kBob, kAlice, first(kBob, kAlice, 53, 4000, 9)));
  EXPECT_TRUE(passes(kBob, kAlice, later(kBob, kAlice, 9)));
  EXPECT_FALSE(passes(kBob, kAlice, later(kBob, kAlice, 10)));
  advance(AccessGate::kFragmentLife);
  EXPECT_FALSE(passes(kAlice, kBob, later(kAlice, kBob, 1)));

  set_rules({rule("alice", "bob")});
  EXPECT_TRUE(passes(kAlice, kBob, later(kAlice, kBob, 11))) << "a rule without ports needs none";
}

TEST_F(AccessGateTest, WhatGoesToEverybodyReachesThoseThatItsSenderMayReach) {
  const auto query = [] { return udp(kAlice, 5353, "224.0.0.251", 5353); };
  send(kAlice, batch_of(query()));
  EXPECT_EQ(taken(kBob) + taken(kCarol), 0U);
  EXPECT_EQ(denied(), 0U) << "it was for everybody, and everybody is nobody here";
  set_rules({rule("alice", "bob", {{kProtocolUdp, 5353, 5353}})});
  send(kAlice, batch_of(query()));
  EXPECT_EQ(taken(kBob), 1U);
  EXPECT_EQ(taken(kCarol), 0U);
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBob, 5353, kAlice, 5353))) << "and answered";
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 5354, kAlice, 5353)));
}

TEST_F(AccessGateTest, ASessionRemembersNoMoreThanItsTableHolds) {
  set_rules({rule("alice", "bob")});
  for (std::uint32_t i = 0; i < 6000; ++i) {
    send(kAlice, batch_of(udp(kAlice, static_cast<std::uint16_t>(1 + i), kBob, 53)));
    taken(kBob);
  }
  EXPECT_EQ(session(kBob)->gate()->flows(), FlowTable::kMaxFlows);
  EXPECT_TRUE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 6000)));
  EXPECT_FALSE(passes(kBob, kAlice, udp(kBob, 53, kAlice, 1)));
  advance(std::chrono::hours(3));
  EXPECT_TRUE(passes(kAlice, kBob, udp(kAlice, 1, kBob, 53)));
  EXPECT_EQ(session(kBob)->gate()->flows(), 1U);
}

// Against a model that knows every conversation there was: a packet passes if the rules allow it, or if they allow,
// now, the conversation that it answers.
TEST_F(AccessGateTest, ItAgreesWithANaiveModelThroughManyPacketsAndRules) {
  SeededRandom random(3);
  const std::vector<std::pair<const char*, const char*>> clients{{kAlice, "alice"}, {kBob, "bob"}, {kCarol, "carol"}};
  struct Key {
    std::size_t from;
    std::size_t to;
    std::uint16_t from_port;
    std::uint16_t to_port;
    auto operator<=>(const Key&) const = default;
  };
  std::vector<AccessRule> rules;
  std::set<Key> flows;
  const auto allowed = [&](const Key& key) {
    return std::ranges::any_of(rules, [&](const AccessRule& one) {
      return one.from.name == clients[key.from].second && one.to.name == clients[key.to].second &&
             (one.ports.empty() || (one.ports[0].first <= key.to_port && key.to_port <= one.ports[0].last));
    });
  };
  std::size_t answers = 0;
  for (int i = 0; i < 20000; ++i) {
    if (i % 200 == 0) {
      rules.resize(random.next32() % 5);
      for (AccessRule& one : rules) {
        one = rule(clients[random.next32() % 3].second, clients[random.next32() % 3].second);
        if (random.next32() % 2 == 0) one.ports = {{0, 1, static_cast<std::uint16_t>(1 + random.next32() % 5)}};
      }
      set_rules(rules);
    }
    const std::size_t from = random.next32() % 3;
    const std::size_t to = (from + 1 + random.next32() % 2) % 3;
    const Key key{from, to, static_cast<std::uint16_t>(1 + random.next32() % 5),
                  static_cast<std::uint16_t>(1 + random.next32() % 5)};
    const Key back{to, from, key.to_port, key.from_port};
    const bool answer = flows.contains(back) && allowed(back);
    if (!answer) flows.erase(back);
    const bool expected = answer || allowed(key);
    if (!answer) {
      if (expected) flows.insert(key);
      if (!expected) flows.erase(key);
    }
    answers += answer && !allowed(key) ? 1 : 0;
    ASSERT_EQ(passes(clients[from].first, clients[to].first,
                     udp(clients[from].first, key.from_port, clients[to].first, key.to_port)),
              expected)
        << i;
  }
  EXPECT_GT(answers, 100U);
}

}  // namespace
}  // namespace penstock::router
