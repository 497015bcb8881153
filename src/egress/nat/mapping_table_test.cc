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

}  // namespace
}  // namespace penstock::egress
