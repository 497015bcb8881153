#include "egress/nat/mapping_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/random.h"
#include "egress/nat/nat_testing.h"
#include "test/support/packets.h"

namespace penstock::egress {
namespace {

using namespace std::chrono_literals;
using test::ip;
using End = MappingTable::End;

constexpr SessionId kAlice{.slot = 1, .generation = 1};
constexpr SessionId kBob{.slot = 2, .generation = 1};
constexpr Duration kTimeout = 300s;

class MappingTableTest : public testing::Test {
 protected:
  static End inner(std::uint16_t port, const char* address = "10.100.0.2") {
    return End::of({ip(address), port}, Transport::udp);
  }
  static End remote(std::uint16_t port = 53) { return End::of({ip("198.51.100.9"), port}, Transport::udp); }
  MappingTable table(MappingTable::Bounds bounds = {}) { return {{1, 2}, bounds, ports_, clock_.now()}; }

  ManualClock clock_;
  StandInPorts ports_{{ip("192.0.2.1"), ip("2001:db8::1")}, 40000, 40999};
};

TEST_F(MappingTableTest, AnInnerEndHasOneOuterEndWhomeverItSpeaksTo) {
  MappingTable table = this->table();
  ASSERT_NE(table.open(kAlice, inner(1000), remote(1), kTimeout, clock_.now()), nullptr);
  const auto* mapping = table.find_inner(inner(1000));
  ASSERT_NE(mapping, nullptr);
  EXPECT_EQ(table.find_external(mapping->external_end()), mapping);
  EXPECT_EQ(table.find(table.binding_of(*mapping)), mapping);
  EXPECT_EQ(table.owner_of(*mapping), kAlice);
  EXPECT_EQ(table.find_flow(*mapping, remote(2), clock_.now()), nullptr);
  ASSERT_NE(table.open_flow(*mapping, kAlice, remote(2), kTimeout, clock_.now()), nullptr);
  EXPECT_EQ(table.mappings(), 1U);
  EXPECT_EQ(table.flows(), 2U);
  EXPECT_EQ(ports_.held(), 1U);
}

TEST_F(MappingTableTest, EndsOfDifferentTransportsAndFamiliesAreDifferent) {
  MappingTable table = this->table();
  End echo = inner(1000);
  echo.transport = Transport::echo;
  table.open(kAlice, inner(1000), remote(), kTimeout, clock_.now());
  EXPECT_EQ(table.find_inner(echo), nullptr);
  table.open(kAlice, echo, remote(0), kTimeout, clock_.now());
  End v6 = inner(1000);
  v6.family = Family::ipv6;  // the same bits
  EXPECT_EQ(table.find_inner(v6), nullptr);
  EXPECT_EQ(table.mappings(), 2U);
}

TEST_F(MappingTableTest, AFlowIsOverAfterItsTimeoutAndItsPortIsFreeOnceItIsTakenAway) {
  MappingTable table = this->table();
  table.open(kAlice, inner(1000), remote(), kTimeout, clock_.now());
  clock_.advance(kTimeout - 1ns);
  EXPECT_FALSE(table.expire(clock_.now()));
  const auto* mapping = table.find_inner(inner(1000));
  ASSERT_NE(mapping, nullptr);
  EXPECT_NE(table.find_flow(*mapping, remote(), clock_.now()), nullptr);
  clock_.advance(1ns);
  EXPECT_EQ(table.find_flow(*mapping, remote(), clock_.now()), nullptr) << "at once, whenever it is taken away";
  clock_.advance(2s);
  table.expire(clock_.now());
  EXPECT_EQ(table.find_inner(inner(1000)), nullptr);
  EXPECT_EQ(ports_.held(), 0U);
  EXPECT_EQ(table.memory(), 16 * (64U + 64 + 32) + 16 * 5 * 4U) << "the first tables, and no more";
}

TEST_F(MappingTableTest, APacketThatPassesBeginsTheTimeAnew) {
  MappingTable table = this->table();
  table.open(kAlice, inner(1000), remote(), kTimeout, clock_.now());
  for (int i = 0; i < 5; ++i) {
    clock_.advance(kTimeout - 1s);
    table.expire(clock_.now());
    const auto* mapping = table.find_inner(inner(1000));
    ASSERT_NE(mapping, nullptr) << i;
    auto* flow = table.find_flow(*mapping, remote(), clock_.now());
    ASSERT_NE(flow, nullptr) << i;
    table.seen(*flow, clock_.now());
  }
  clock_.advance(kTimeout + 2s);
  table.expire(clock_.now());
  EXPECT_EQ(table.flows(), 0U);
}

TEST_F(MappingTableTest, AfterASleepOfDaysAllOfItIsTakenAway) {
  MappingTable table = this->table();
  for (std::uint16_t i = 0; i < 100; ++i) {
    table.open(kAlice, inner(i), remote(), std::chrono::seconds(1 + 20 * i), clock_.now());
    clock_.advance(37ms);
  }
  clock_.advance(std::chrono::hours(100));
  EXPECT_FALSE(table.expire(clock_.now()));
  EXPECT_EQ(table.flows(), 0U);
  EXPECT_EQ(ports_.held(), 0U);
}

TEST_F(MappingTableTest, TakingAwayIsBoundedAndGoesOn) {
  MappingTable table = this->table();
  for (std::uint16_t i = 0; i < 500; ++i) table.open(kAlice, inner(i), remote(), kTimeout, clock_.now());
  clock_.advance(kTimeout + 2s);
  EXPECT_TRUE(table.expire(clock_.now(), 100));
  EXPECT_EQ(table.flows(), 400U);
  while (table.expire(clock_.now(), 100)) {
  }
  EXPECT_EQ(table.flows(), 0U);
}

TEST_F(MappingTableTest, WhoIsAtItsOwnBoundLosesItsOwnThatWasSilentForLongest) {
  MappingTable table = this->table({.flows = 100, .flows_of_owner = 3});
  table.open(kBob, inner(1, "10.100.0.3"), remote(), kTimeout, clock_.now());
  for (std::uint16_t i = 1; i <= 3; ++i) {
    table.open(kAlice, inner(i), remote(), kTimeout, clock_.now());
    clock_.advance(1s);
  }
  table.seen(*table.find_flow(*table.find_inner(inner(1)), remote(), clock_.now()), clock_.now());
  table.open(kAlice, inner(4), remote(), kTimeout, clock_.now());
  EXPECT_EQ(table.find_inner(inner(2)), nullptr);
  EXPECT_NE(table.find_inner(inner(1)), nullptr);
  EXPECT_NE(table.find_inner(inner(3)), nullptr);
  EXPECT_NE(table.find_inner(inner(1, "10.100.0.3")), nullptr);
  EXPECT_EQ(table.displaced(), 1U);
}

TEST_F(MappingTableTest, AtTheBoundOfAllWhoHasMostLoses) {
  MappingTable table = this->table({.flows = 5, .flows_of_owner = 10});
  for (std::uint16_t i = 1; i <= 4; ++i) table.open(kAlice, inner(i), remote(), kTimeout, clock_.now());
  for (std::uint16_t i = 1; i <= 3; ++i) {
    table.open(kBob, inner(i, "10.100.0.3"), remote(), kTimeout, clock_.now());
    EXPECT_NE(table.find_inner(inner(i, "10.100.0.3")), nullptr);
  }
  EXPECT_EQ(table.flows_of(kAlice), 2U);
  EXPECT_EQ(table.flows_of(kBob), 3U);
  table.open(kBob, inner(4, "10.100.0.3"), remote(), kTimeout, clock_.now());
  EXPECT_EQ(table.flows_of(kBob), 3U) << "now it is the one who has most";
  EXPECT_EQ(table.flows_of(kAlice), 2U);
}

TEST_F(MappingTableTest, AScanOfAllPortsDisplacesNobodyElsesFlow) {
  MappingTable table = this->table({.flows = 1000, .flows_of_owner = 600});
  for (std::uint16_t i = 0; i < 300; ++i) table.open(kBob, inner(i, "10.100.0.3"), remote(), kTimeout, clock_.now());
  table.open(kAlice, inner(1), remote(0), kTimeout, clock_.now());
  for (std::uint32_t port = 1; port < 65536; ++port) {
    clock_.advance(1us);
    const auto* mapping = table.find_inner(inner(1));
    ASSERT_NE(mapping, nullptr);
    ASSERT_NE(table.open_flow(*mapping, kAlice, remote(static_cast<std::uint16_t>(port)), kTimeout, clock_.now()),
              nullptr);
  }
  EXPECT_EQ(table.flows_of(kBob), 300U);
  EXPECT_EQ(table.flows_of(kAlice), 600U);
}

TEST_F(MappingTableTest, WhereThereIsNoPortNothingIsChanged) {
  MappingTable table = this->table();
  ports_.refuse = true;
  EXPECT_EQ(table.open(kAlice, inner(1), remote(), kTimeout, clock_.now()), nullptr);
  EXPECT_EQ(table.find_inner(inner(1)), nullptr);
  ports_.refuse = false;
  EXPECT_NE(table.open(kAlice, inner(1), remote(), kTimeout, clock_.now()), nullptr);
}

TEST_F(MappingTableTest, WhereAllPortsAreTakenWhoHasMostGivesOneUp) {
  StandInPorts ten({ip("192.0.2.1")}, 40000, 40009);
  MappingTable table({1, 2}, {}, ten, clock_.now());
  const auto bob = [](std::uint16_t port) { return inner(port, "10.100.0.3"); };
  for (std::uint16_t i = 1; i <= 8; ++i) table.open(kAlice, inner(i), remote(), kTimeout, clock_.now());
  for (std::uint16_t i = 1; i <= 2; ++i) table.open(kBob, bob(i), remote(), kTimeout, clock_.now());
  for (std::uint16_t i = 3; i <= 9; ++i) {
    ASSERT_NE(table.open(kBob, bob(i), remote(), kTimeout, clock_.now()), nullptr);
    EXPECT_NE(table.find_inner(bob(i)), nullptr);
    EXPECT_EQ(ten.held(), 10U);
  }
  EXPECT_EQ(table.flows_of(kAlice), 5U);
  EXPECT_EQ(table.flows_of(kBob), 5U) << "once he has as many it is his own that go";
  EXPECT_EQ(table.find_inner(inner(3)), nullptr) << "the ones that were silent for longest";
  EXPECT_NE(table.find_inner(inner(4)), nullptr);
}

TEST_F(MappingTableTest, AForwardThatIsTakenAwayGoesWithItsFlows) {
  MappingTable table = this->table();
  const End outside = End::of({ip("192.0.2.1"), 2222}, Transport::udp);
  const Binding forward = table.add_static(inner(22), outside);
  table.open_flow(*table.find(forward), kAlice, remote(1), kTimeout, clock_.now());
  table.open_flow(*table.find(forward), kAlice, remote(2), kTimeout, clock_.now());
  table.remove_static(forward);
  EXPECT_EQ(table.find(forward), nullptr);
  EXPECT_EQ(table.find_external(outside), nullptr);
  EXPECT_EQ(table.flows(), 0U);
}

TEST_F(MappingTableTest, WhenAnOuterAddressIsGoneAllThatWasThereGoes) {
  StandInPorts two({ip("192.0.2.1"), ip("192.0.2.2")}, 40000, 40019);
  MappingTable table({1, 2}, {}, two, clock_.now());
  const Binding forward = table.add_static(inner(22), End::of({ip("192.0.2.1"), 2222}, Transport::udp));
  for (std::uint16_t i = 100; i < 140; ++i) {
    table.open(kAlice, inner(i), remote(1), kTimeout, clock_.now());
    table.open_flow(*table.find_inner(inner(i)), kAlice, remote(2), kTimeout, clock_.now());
  }
  table.close_external(ip("192.0.2.1"));
  EXPECT_EQ(table.flows(), 40U);
  EXPECT_EQ(two.held(), 20U);
  EXPECT_NE(table.find(forward), nullptr);
  table.close_external(ip("192.0.2.2"));
  EXPECT_EQ(table.flows(), 0U);
  EXPECT_EQ(two.held(), 0U);
}

TEST_F(MappingTableTest, WhenASessionEndsAllOfItsOwnGoes) {
  MappingTable table = this->table();
  for (std::uint16_t i = 0; i < 50; ++i) {
    table.open(kAlice, inner(i), remote(), kTimeout, clock_.now());
    table.open(kBob, inner(i, "10.100.0.3"), remote(), kTimeout, clock_.now());
  }
  table.close_all(kAlice);
  EXPECT_EQ(table.flows_of(kAlice), 0U);
  EXPECT_EQ(table.flows(), 50U);
  EXPECT_EQ(ports_.held(), 50U);
}

TEST_F(MappingTableTest, ABindingOfAMappingThatIsGoneFindsNothingAlsoWhereItsSlotIsUsedAgain) {
  MappingTable table = this->table();
  table.open(kAlice, inner(1), remote(), kTimeout, clock_.now());
  const Binding old = table.binding_of(*table.find_inner(inner(1)));
  table.close_all(kAlice);
  EXPECT_EQ(table.find(old), nullptr);
  table.open(kAlice, inner(2), remote(), kTimeout, clock_.now());
  EXPECT_EQ(table.find(old), nullptr);
  EXPECT_EQ(table.find({}), nullptr);
}

TEST_F(MappingTableTest, AStaticMappingStaysWithoutFlowsAndBelongsToWhoeverUsesIt) {
  MappingTable table = this->table();
  const End outside = End::of({ip("192.0.2.1"), 2222}, Transport::udp);
  table.add_static(inner(22), outside);
  const auto* mapping = table.find_external(outside);
  ASSERT_NE(mapping, nullptr);
  EXPECT_FALSE(table.owner_of(*mapping));
  table.open_flow(*mapping, kAlice, remote(), kTimeout, clock_.now());
  EXPECT_EQ(table.owner_of(*table.find_external(outside)), kAlice);
  table.close_all(kAlice);
  ASSERT_NE(table.find_external(outside), nullptr);
  EXPECT_FALSE(table.owner_of(*table.find_external(outside)));
  EXPECT_EQ(ports_.held(), 0U);
}

// ---- the ends of TCP ----

class EndsOfTcpTest : public MappingTableTest {
 protected:
  static End tcp(const Endpoint& endpoint) { return End::of(endpoint, Transport::tcp); }
  static End own(std::uint16_t port) { return tcp({ip("10.100.0.2"), port}); }
  static End server(std::uint16_t port = 443) { return tcp({ip("198.51.100.9"), port}); }
  using Told = std::vector<std::pair<Endpoint, Endpoint>>;

  // Returns between whom it is, as it is told of.
  static std::pair<Endpoint, Endpoint> open(MappingTable& table, std::uint16_t port, const End& remote, TimePoint now) {
    const auto* mapping = table.find_inner(own(port));
    if (mapping != nullptr) {
      table.open_flow(*mapping, kAlice, remote, kTimeout, now);
    } else {
      table.open(kAlice, own(port), remote, kTimeout, now);
    }
    return {table.find_inner(own(port))->external_end().endpoint(), remote.endpoint()};
  }
};

TEST_F(EndsOfTcpTest, AreToldOfHoweverAConversationGoes) {
  MappingTable table = this->table({.flows = 100, .flows_of_owner = 3});
  Told expected{open(table, 1, server(1), clock_.now())};
  open(table, 1, server(2), clock_.now());
  clock_.advance(1s);
  open(table, 2, server(), clock_.now());
  EXPECT_TRUE(ports_.told.empty());
  const auto last = open(table, 3, server(), clock_.now());
  EXPECT_EQ(ports_.told, expected) << "displaced";
  clock_.advance(kTimeout - 1s);
  table.seen(*table.find_flow(*table.find_inner(own(3)), server(), clock_.now()), clock_.now());
  clock_.advance(3s);
  table.expire(clock_.now());
  EXPECT_EQ(ports_.told.size(), 3U) << "over";
  EXPECT_EQ(table.flows(), 1U);
  table.close_all(kAlice);
  ASSERT_EQ(ports_.told.size(), 4U) << "forgotten";
  EXPECT_EQ(ports_.told[3], last);
  open(table, 4, server(), clock_.now());
  table.close_external(ip("192.0.2.1"));
  EXPECT_EQ(ports_.told.size(), 5U) << "without an address";
  EXPECT_EQ(ports_.held(), 0U);
}

TEST_F(EndsOfTcpTest, AreToldOfWithTheForwardThatGoesOrComesAndWithTheTable) {
  const Endpoint outside{ip("192.0.2.1"), 2222};
  ports_.forwards.insert(outside);
  std::pair<Endpoint, Endpoint> last;
  {
    MappingTable table = this->table();
    Told expected{open(table, 22, server(), clock_.now())};
    const Binding forward = table.add_static(own(22), tcp(outside));
    EXPECT_EQ(ports_.told, expected);
    open(table, 22, server(), clock_.now());
    table.remove_static(forward);
    expected.emplace_back(outside, server().endpoint());
    EXPECT_EQ(ports_.told, expected);
    last = open(table, 1, server(), clock_.now());
  }
  ASSERT_EQ(ports_.told.size(), 3U);
  EXPECT_EQ(ports_.told[2], last);
  EXPECT_EQ(ports_.held(), 0U);
}

TEST_F(EndsOfTcpTest, AreToldOfBeforeAnotherBetweenTheSameTwoBegins) {
  MappingTable table = this->table();
  const auto first = open(table, 1, server(), clock_.now());
  clock_.advance(kTimeout);
  EXPECT_EQ(open(table, 1, server(), clock_.now()), first);
  EXPECT_EQ(ports_.told, Told{first});
  EXPECT_EQ(table.flows(), 1U);
}

TEST_F(EndsOfTcpTest, AreNotToldToWhoSaidSoNorThoseOfUdp) {
  MappingTable table = this->table();
  open(table, 1, server(1), clock_.now());
  open(table, 1, server(2), clock_.now());
  EXPECT_FALSE(table.end_flow(*table.find_inner(own(1)), server(3)));
  EXPECT_TRUE(table.end_flow(*table.find_inner(own(1)), server(1)));
  EXPECT_EQ(table.flows(), 1U);
  EXPECT_TRUE(table.end_flow(*table.find_inner(own(1)), server(2)));
  EXPECT_EQ(table.find_inner(own(1)), nullptr);
  EXPECT_EQ(ports_.held(), 0U);
  table.open(kAlice, inner(1), remote(), kTimeout, clock_.now());
  table.close_all(kAlice);
  EXPECT_TRUE(ports_.told.empty());
}

// Each conversation that was begun, with all that is known of it: what the table finds, and whose end it tells.
struct Conversations {
  struct One {
    SessionId owner;
    TimePoint last_seen;
    Duration timeout{};
    bool is_over(TimePoint now) const { return now - last_seen >= timeout; }
  };
  using Ends = std::pair<Endpoint, Endpoint>;
  std::map<Ends, One> all;
};

// With so little room that many are displaced, of which none can be foretold here, but that each is told.
TEST_F(EndsOfTcpTest, AnySequenceOfCallsTellsOfEachOnceUnlessItWasSaid) {
  SeededRandom random(21);
  StandInPorts ports({ip("192.0.2.1"), ip("192.0.2.2")}, 40000, 40009);
  const auto dice = [&](std::uint32_t sides) { return random.next32() % sides; };
  for (int run = 0; run < 40; ++run) {
    Conversations model;
    std::optional<MappingTable> table(std::in_place, router::SipKey{1, 2},
                                      MappingTable::Bounds{.flows = 60, .flows_of_owner = 25}, ports, clock_.now());
    const Endpoint outside{ip("192.0.2.1"), 2222};
    ports.forwards = {outside};
    Binding forward;
    // Takes out what has been told of, of which each is one that `may_go` speaks of.
    const auto hear = [&](auto may_go) {
      for (const auto& ends : std::exchange(ports.told, {})) {
        const auto found = model.all.find(ends);
        ASSERT_NE(found, model.all.end()) << "told twice, or of nothing";
        ASSERT_TRUE(may_go(ends, found->second));
        model.all.erase(found);
      }
    };
    const auto nothing = [](const auto&, const auto&) { return false; };
    for (int step = 0; step < 2000; ++step) {
      const auto port = static_cast<std::uint16_t>(dice(30));
      const SessionId owner{.slot = port % 3U, .generation = 1};
      const End from = own(port);
      const End to = server(static_cast<std::uint16_t>(dice(6)));
      const TimePoint now = clock_.now();
      const auto* mapping = table->find_inner(from);
      const auto ends = mapping == nullptr ? Conversations::Ends{}
                                           : Conversations::Ends{mapping->external_end().endpoint(), to.endpoint()};
      auto* flow = mapping == nullptr ? nullptr : table->find_flow(*mapping, to, now);
      const auto known = model.all.find(ends);
      ASSERT_EQ(flow != nullptr, known != model.all.end() && !known->second.is_over(now)) << run << ":" << step;
      switch (dice(20)) {
        default: {
          if (flow != nullptr) {
            table->seen(*flow, now);
            known->second.last_seen = now;
            if (dice(4) == 0) {
              table->set_timeout(*flow, 10 * kTimeout);
              known->second.timeout = 10 * kTimeout;
            }
            break;
          }
          const auto before = table->displaced();
          if (mapping != nullptr) flow = table->open_flow(*mapping, owner, to, kTimeout, now);
          if (flow == nullptr) flow = table->open(owner, from, to, kTimeout, now);
          const bool displaced = table->displaced() != before;
          hear([&](const auto& told, const auto& one) { return displaced || (told == ends && one.is_over(now)); });
          if (flow == nullptr) break;  // there is no outer end
          mapping = table->find_inner(from);
          const Conversations::Ends fresh{mapping->external_end().endpoint(), to.endpoint()};
          ASSERT_TRUE(model.all.emplace(fresh, Conversations::One{owner, now, kTimeout}).second);
          break;
        }
        case 0: {
          // One of UDP, which takes room and is never told of.
          const End datagrams = inner(port);
          const auto before = table->displaced();
          if (table->find_inner(datagrams) == nullptr) table->open(owner, datagrams, remote(), kTimeout, now);
          const bool displaced = table->displaced() != before;
          hear([&](const auto&, const auto&) { return displaced; });
          break;
        }
        case 1: clock_.advance(std::chrono::seconds(dice(200))); break;
        case 2: clock_.advance(std::chrono::milliseconds(dice(3000))); break;
        case 3:
          while (table->expire(now, 1 + dice(50))) {
          }
          hear([&](const auto&, const auto& one) { return one.is_over(now); });
          for (const auto& [left, one] : model.all) ASSERT_FALSE(one.is_over(now - 2s)) << "and not told of";
          break;
        case 4:
        case 5:
          if (mapping != nullptr) {
            ASSERT_EQ(table->end_flow(*mapping, to), known != model.all.end());
            if (known != model.all.end()) model.all.erase(known);
          }
          hear(nothing);
          break;
        case 6:
          if (dice(8) != 0) break;
          table->close_all(owner);
          hear([&](const auto&, const auto& one) { return one.owner == owner; });
          for (const auto& [left, one] : model.all) ASSERT_NE(one.owner, owner);
          break;
        case 7:
          if (dice(8) != 0) break;
          table->close_external(ip("192.0.2.2"));
          hear([&](const auto& told, const auto&) { return told.first.address == ip("192.0.2.2"); });
          for (const auto& [left, one] : model.all) ASSERT_NE(left.first.address, ip("192.0.2.2"));
          break;
        case 8:
          if (dice(8) != 0) break;
          if (!forward) {
            const auto* former = table->find_inner(own(0));
            const Endpoint was = former == nullptr ? Endpoint{} : former->external_end().endpoint();
            forward = table->add_static(own(0), tcp(outside));
            hear([&](const auto& told, const auto&) { return told.first == was; });
          } else {
            table->remove_static(std::exchange(forward, {}));
            hear([&](const auto& told, const auto&) { return told.first == outside; });
          }
          break;
      }
      ASSERT_TRUE(ports.told.empty());
      ASSERT_EQ(ports.held(), table->mappings() - (forward ? 1U : 0U));
      ASSERT_LE(model.all.size(), table->flows());
    }
    table.reset();
    hear([](const auto&, const auto&) { return true; });
    ASSERT_TRUE(model.all.empty());
    ASSERT_EQ(ports.held(), 0U);
  }
}

// ---- against a naive model ----

struct Model {
  struct Known {
    SessionId owner;
    std::map<std::uint16_t, TimePoint> flows;  // by the remote end's port
  };
  std::map<std::uint16_t, Known> mappings;  // by the inner end's port
  std::size_t flows() const {
    std::size_t sum = 0;
    for (const auto& [port, known] : mappings) sum += known.flows.size();
    return sum;
  }
  void expire(TimePoint now) {
    for (auto mapping = mappings.begin(); mapping != mappings.end();) {
      std::erase_if(mapping->second.flows, [&](const auto& flow) { return now - flow.second >= kTimeout; });
      mapping = mapping->second.flows.empty() ? mappings.erase(mapping) : std::next(mapping);
    }
  }
};

TEST_F(MappingTableTest, AnySequenceOfCallsLeavesWhatANaiveTableWouldHave) {
  SeededRandom random(7);
  for (int run = 0; run < 20; ++run) {
    MappingTable table = this->table();
    Model model;
    for (int step = 0; step < 3000; ++step) {
      const auto port = static_cast<std::uint16_t>(random.next32() % 40);
      const auto to = static_cast<std::uint16_t>(random.next32() % 6);
      const SessionId owner{.slot = port % 4U, .generation = 1};
      const TimePoint now = clock_.now();
      switch (random.next32() % 16) {
        default: {
          const auto* mapping = table.find_inner(inner(port));
          auto* flow = mapping == nullptr ? nullptr : table.find_flow(*mapping, remote(to), now);
          const auto known = model.mappings.find(port);
          const bool expected = known != model.mappings.end() && known->second.flows.contains(to) &&
                                now - known->second.flows[to] < kTimeout;
          ASSERT_EQ(flow != nullptr, expected) << run << ":" << step;
          if (flow != nullptr) {
            table.seen(*flow, now);
          } else if (mapping != nullptr) {
            ASSERT_NE(table.open_flow(*mapping, owner, remote(to), kTimeout, now), nullptr);
          } else {
            ASSERT_NE(table.open(owner, inner(port), remote(to), kTimeout, now), nullptr);
          }
          model.mappings[port].owner = owner;
          model.mappings[port].flows[to] = now;
          break;
        }
        case 0: clock_.advance(std::chrono::seconds(random.next32() % 200)); break;
        case 1: clock_.advance(std::chrono::milliseconds(random.next32() % 3000)); break;
        case 2:
          if (random.next32() % 8 == 0) {
            table.close_all(owner);
            std::erase_if(model.mappings, [&](const auto& one) { return one.second.owner == owner; });
          }
          break;
        case 3: {
          // A second later nothing is left that was over a second before.
          clock_.advance(1s);
          while (table.expire(clock_.now(), 1 + random.next32() % 50)) {
          }
          Model least = model;
          least.expire(clock_.now());
          model.expire(clock_.now() - 2s);
          ASSERT_GE(table.flows(), least.flows());
          ASSERT_LE(table.flows(), model.flows());
          model = least;
          // What is over and may still be there is looked for by nobody.
          for (std::uint16_t i = 0; i < 40; ++i) {
            ASSERT_TRUE(!model.mappings.contains(i) || table.find_inner(inner(i)) != nullptr);
          }
          break;
        }
      }
      ASSERT_EQ(ports_.held(), table.mappings());
    }
    for (const auto& [port, known] : model.mappings) {
      const auto* mapping = table.find_inner(inner(port));
      ASSERT_NE(mapping, nullptr);
      ASSERT_EQ(table.find_external(mapping->external_end()), mapping) << "there and back";
    }
    clock_.advance(kTimeout + 3s);
    while (table.expire(clock_.now())) {
    }
    ASSERT_EQ(table.flows(), 0U);
    ASSERT_EQ(table.mappings(), 0U);
    ASSERT_EQ(ports_.held(), 0U);
  }
}

// A scanner with one source port has all sockets, each connection one; somebody else asks for one.
struct CountedPorts final : ExternalPorts {
  std::size_t most = 1000;
  std::size_t streams = 0;
  std::uint16_t next = 1024;
  std::expected<Endpoint, NoPort> acquire(Transport, Family, Binding) override {
    if (streams >= most) return std::unexpected(NoPort::all_taken);
    return Endpoint{IpAddress::parse("192.0.2.9").value(), next++};
  }
  void release(Transport, const Endpoint&, Binding) override {}
  void ended(Transport, const Endpoint&, const Endpoint&) override { --streams; }
};

TEST(MappingTable, WhoScansFromOnePortMakesRoomForOthers) {
  CountedPorts ports;
  const TimePoint now{std::chrono::seconds(1000)};
  MappingTable table(router::SipKey{1, 2}, {}, ports, now);
  const End scanner = End::of(Endpoint::parse("10.8.0.2:4000").value(), Transport::tcp);
  const SessionId hostile{1, 1};
  const SessionId good{2, 1};
  for (int i = 0; i < 1000; ++i) {
    const End to =
        End::of(Endpoint{IpAddress::parse("198.51.100.7").value(), static_cast<std::uint16_t>(1 + i)}, Transport::tcp);
    const auto* mapping = table.find_inner(scanner);
    if (mapping == nullptr) {
      ASSERT_NE(table.open(hostile, scanner, to, std::chrono::minutes(4), now), nullptr);
    } else {
      ASSERT_NE(table.open_flow(*mapping, hostile, to, std::chrono::minutes(4), now), nullptr);
    }
    ++ports.streams;
  }
  EXPECT_NE(
      table.open(good, End::of(Endpoint::parse("10.8.0.3:4000").value(), Transport::tcp),
                 End::of(Endpoint::parse("198.51.100.7:80").value(), Transport::tcp), std::chrono::minutes(4), now),
      nullptr)
      << ports.streams << " of " << ports.most << " are used by now";
}

}  // namespace
}  // namespace penstock::egress
