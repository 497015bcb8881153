#include "router/access_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"
#include "test/support/packets.h"

namespace penstock::router {
namespace {

using test::ip;

// "any", "10.0.0.0/24", "alice".
AccessParty party(const std::string& text) {
  if (text == "any") return {};
  if (const auto prefix = Prefix::parse(text)) return {.prefix = *prefix, .name = {}};
  return {.prefix = {}, .name = text};
}

FlowKey key_of(std::string_view from, std::string_view to, std::uint8_t protocol, std::uint16_t port) {
  return {.from = AddressBits::of(ip(from)),
          .to = AddressBits::of(ip(to)),
          .from_port = 40000,
          .to_port = port,
          .family = ip(from).family(),
          .protocol = protocol};
}

const std::vector<AccessMember> members{{1, "alice", {"staff"}},
                                        {2, "bob", {"staff", "servers"}},
                                        {3, "carol", {}},
                                        {4, "dave", {"servers"}},
                                        {5, "erin", {}}};

bool permits(const std::vector<AccessRule>& rules, std::uint32_t from, std::uint32_t to, const FlowKey& key) {
  return AccessPolicy(rules, members, 1, {}).permits(from, to, key);
}

TEST(AccessPolicy, WhatNoRuleAllowsIsNotAllowed) {
  EXPECT_FALSE(permits({}, 1, 2, key_of("10.0.0.2", "10.0.0.3", kProtocolTcp, 22)));
  EXPECT_FALSE(permits({}, 0, 0, key_of("10.0.0.2", "10.0.0.3", kProtocolTcp, 22)));
}

TEST(AccessPolicy, RulesFitByNameGroupPrefixAndPort) {
  struct Case {
    const char* from;
    const char* to;
    std::vector<AccessPorts> ports;
    std::uint32_t sender;
    std::uint32_t receiver;
    FlowKey key;
    bool expected;
  };
  const FlowKey ssh = key_of("10.0.0.2", "10.0.0.3", kProtocolTcp, 22);
  const FlowKey dns = key_of("10.0.0.2", "10.0.0.3", kProtocolUdp, 53);
  const FlowKey echo = key_of("10.0.0.2", "10.0.0.3", kProtocolIcmp, 0);
  const FlowKey site6 = key_of("fd00::2", "fd50::9", kProtocolTcp, 22);
  const std::vector<AccessPorts> at_22{{0, 22, 22}};
  const std::vector<AccessPorts> at_udp{{kProtocolUdp, 50, 60}};
  const std::vector<Case> cases{
      {"alice", "bob", {}, 1, 2, ssh, true},
      {"alice", "bob", {}, 2, 1, ssh, false},
      {"alice", "bob", {}, 1, 3, ssh, false},
      {"alice", "bob", {}, 1, 2, echo, true},
      {"alice", "bob", at_22, 1, 2, ssh, true},
      {"alice", "bob", at_22, 1, 2, dns, false},
      {"alice", "bob", at_22, 1, 2, echo, false},
      {"alice", "bob", at_udp, 1, 2, dns, true},
      {"alice", "bob", at_udp, 1, 2, key_of("10.0.0.2", "10.0.0.3", kProtocolUdp, 60), true},
      {"alice", "bob", at_udp, 1, 2, key_of("10.0.0.2", "10.0.0.3", kProtocolUdp, 61), false},
      {"alice", "bob", at_udp, 1, 2, key_of("10.0.0.2", "10.0.0.3", kProtocolTcp, 53), false},
      {"staff", "servers", {}, 1, 4, ssh, true},
      {"staff", "servers", {}, 4, 1, ssh, false},
      {"staff", "staff", {}, 2, 1, ssh, true},
      {"any", "servers", {}, 3, 4, ssh, true},
      {"any", "servers", {}, 3, 1, ssh, false},
      {"any", "any", {}, 9, 9, ssh, true},
      {"any", "10.0.0.3", {}, 3, 5, ssh, true},
      {"any", "10.0.0.4", {}, 3, 5, ssh, false},
      {"10.0.0.0/31", "any", {}, 3, 5, ssh, false},
      {"10.0.0.2/31", "any", {}, 3, 5, ssh, true},
      {"alice", "fd50::/16", {}, 1, 2, site6, true},
      {"alice", "fd50::/16", {}, 1, 2, ssh, false},
      {"alice", "0.0.0.0/0", {}, 1, 2, site6, false},
      {"nobody", "any", {}, 1, 2, ssh, false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(permits({{party(c.from), party(c.to), c.ports}}, c.sender, c.receiver, c.key), c.expected)
        << c.from << " to " << c.to << ", " << c.sender << " to " << c.receiver;
  }
}

TEST(AccessPolicy, MembersToWhomTheSameRulesApplyAreOneClass) {
  const AccessPolicy policy({{party("staff"), party("servers"), {}}}, members, 1, {});
  EXPECT_EQ(policy.classes(), 4U) << "neither, staff, servers, both";
}

TEST(AccessPolicy, NamesThatNobodyHasAreTold) {
  const AccessPolicy policy({{party("alcie"), party("servers"), {}}, {party("any"), party("stuff"), {}}}, members, 1,
                            {});
  EXPECT_THAT(policy.unknown_names(), testing::ElementsAre("alcie", "stuff"));
}

TEST(AccessPolicy, ItAgreesWithANaiveEvaluation) {
  SeededRandom random(11);
  const std::vector<std::string> parties{"any",     "alice",       "bob",         "carol",        "dave",     "staff",
                                         "servers", "10.0.0.0/24", "10.0.0.2/31", "10.50.0.0/16", "fd00::/64"};
  const std::vector<std::string> addresses{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.50.1.1", "fd00::2", "fd50::1"};
  const auto pick = [&random](const auto& from) { return from[random.next32() % from.size()]; };
  const auto named = [](const AccessParty& who, std::uint32_t number) {
    if (who.name.empty()) return true;
    for (const AccessMember& member : members) {
      if (member.number == number)
        return member.name == who.name || std::ranges::find(member.groups, who.name) != member.groups.end();
    }
    return false;
  };
  int allowed = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<AccessRule> rules(random.next32() % (round % 10 == 0 ? 150 : 6));  // also more than fit into a word
    for (AccessRule& rule : rules) {
      rule = {party(pick(parties)), party(pick(parties)), {}};
      while (random.next32() % 2 == 0) {
        const auto first = static_cast<std::uint16_t>(1 + random.next32() % 100);
        const auto last = static_cast<std::uint16_t>(first + random.next32() % 20);
        rule.ports.push_back({pick(std::array<std::uint8_t, 3>{0, kProtocolTcp, kProtocolUdp}), first, last});
      }
    }
    const AccessPolicy policy(rules, members, 1, {});
    for (int i = 0; i < 300; ++i) {
      const std::uint32_t from = random.next32() % 8;
      const std::uint32_t to = random.next32() % 8;
      const std::string source = pick(addresses);
      std::string destination = pick(addresses);
      if (ip(source).family() != ip(destination).family()) destination = source;
      const FlowKey key =
          key_of(source, destination, pick(std::array<std::uint8_t, 4>{kProtocolTcp, kProtocolUdp, kProtocolIcmp, 47}),
                 static_cast<std::uint16_t>(random.next32() % 120));
      const bool expected = std::ranges::any_of(rules, [&](const AccessRule& rule) {
        if (!named(rule.from, from) || !named(rule.to, to)) return false;
        if (rule.from.prefix && !rule.from.prefix->contains(ip(source))) return false;
        if (rule.to.prefix && !rule.to.prefix->contains(ip(destination))) return false;
        const bool has_ports = key.protocol == kProtocolTcp || key.protocol == kProtocolUdp;
        return rule.ports.empty() || (has_ports && std::ranges::any_of(rule.ports, [&](const AccessPorts& range) {
                                        return (range.protocol == 0 || range.protocol == key.protocol) &&
                                               range.first <= key.to_port && key.to_port <= range.last;
                                      }));
      });
      ASSERT_EQ(policy.permits(from, to, key), expected) << round << " " << i;
      allowed += expected ? 1 : 0;
    }
  }
  EXPECT_GT(allowed, 10000);
}

}  // namespace
}  // namespace penstock::router
