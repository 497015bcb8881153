#include "dns/lan_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using testing::ip;
using testing::name;

// alice has both families, bob IPv4 alone; "a.b" has a dot in its name.
class Members final : public LanNames {
 public:
  std::vector<IpAddress> find(std::string_view name) const override {
    const auto found = members_.find(std::string(name));
    return found == members_.end() ? std::vector<IpAddress>() : found->second;
  }
  std::optional<std::string> find(const IpAddress& address) const override {
    for (const auto& [name, addresses] : members_)
      if (std::ranges::find(addresses, address) != addresses.end()) return name;
    return std::nullopt;
  }

 private:
  std::map<std::string, std::vector<IpAddress>> members_{
      {"alice", {ip("10.100.0.2"), ip("fd00:1::2")}},
      {"bob", {ip("10.100.0.3")}},
      {"a.b", {ip("10.100.0.4")}},
      {std::string(64, 'x'), {ip("10.100.0.5")}},
  };
};

class LanNamesTest : public ::testing::Test {
 protected:
  static std::vector<Prefix> subnets() {
    return {Prefix::parse("10.100.0.0/20").value(), Prefix::parse("fd00:1::/64").value(),
            Prefix::parse("203.0.112.0/25").value()};
  }
  // "NAME: what was answered", or what became of the question.
  std::string ask(std::string_view text, std::uint16_t type = type::kA, bool forward_private = false) const {
    const LocalZones zones({.subnets = subnets(), .forward_private_reverse = forward_private}, members_);
    const auto answer = zones.answer({name(text), type, kClassIn});
    if (!answer) return "forwarded";
    const Records& records = answer->records;
    std::string said = answer->rcode == rcode::kNxDomain ? "no name" : "";
    for (const Record& record : records.all()) {
      const ByteView rdata = records.rdata_of(record);
      if (record.section == Section::authority) {
        EXPECT_EQ(record.type, type::kSoa);
        EXPECT_TRUE(name(text).is_within(Name::from_wire(records.name_of(record))));
        said += (said.empty() ? "no data" : "") + (" in " + Name::from_wire(records.name_of(record)).to_string());
        continue;
      }
      EXPECT_TRUE(std::ranges::equal(records.name_of(record), name(text).wire()));
      if (record.type == type::kA || record.type == type::kAaaa) said += IpAddress::from_bytes(rdata).to_string();
      if (record.type == type::kPtr || record.type == type::kNs) said += Name::from_wire(rdata).to_string();
      if (record.type == type::kSoa) said += "soa";
    }
    return said;
  }

  Members members_;
};

TEST_F(LanNamesTest, MembersAreFoundByName) {
  EXPECT_EQ(ask("alice.penstock.internal"), "10.100.0.2");
  EXPECT_EQ(ask("ALICE.Penstock.Internal"), "10.100.0.2");
  EXPECT_EQ(ask("alice.penstock.internal", type::kAaaa), "fd00:1::2");
  EXPECT_EQ(ask("a.b.penstock.internal"), "10.100.0.4");
}

TEST_F(LanNamesTest, WhatAMemberDoesNotHaveIsNoDataAndWhoIsNotThereNoName) {
  EXPECT_EQ(ask("bob.penstock.internal", type::kAaaa), "no data in penstock.internal");
  EXPECT_EQ(ask("bob.penstock.internal", type::kTxt), "no data in penstock.internal");
  EXPECT_EQ(ask("carol.penstock.internal"), "no name in penstock.internal");
  EXPECT_EQ(ask("x.bob.penstock.internal"), "no name in penstock.internal");
  EXPECT_EQ(ask("internal"), "forwarded") << "the domain is ours, its parent is not";
}

TEST_F(LanNamesTest, ADotWithinALabelIsNotTheDotBetweenTwo) {
  const LocalZones zones({.subnets = subnets()}, members_);
  const Name odd = Name::from_wire(as_bytes(std::string_view("\3a.b\x08penstock\x08internal\0", 23)));
  EXPECT_EQ(zones.answer({odd, type::kA, kClassIn})->rcode, rcode::kNxDomain);
}

TEST_F(LanNamesTest, TheDomainItselfHasAnSoaAndANameServerAndNothingElse) {
  EXPECT_EQ(ask("penstock.internal", type::kSoa), "soa");
  EXPECT_EQ(ask("penstock.internal", type::kNs), "penstock.internal");
  EXPECT_EQ(ask("penstock.internal"), "no data in penstock.internal");
}

TEST_F(LanNamesTest, MembersAreFoundByAddress) {
  EXPECT_EQ(ask("2.0.100.10.in-addr.arpa", type::kPtr), "alice.penstock.internal");
  EXPECT_EQ(ask("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa", type::kPtr),
            "alice.penstock.internal");
  EXPECT_EQ(ask("4.0.100.10.in-addr.arpa", type::kPtr), "a.b.penstock.internal");
  EXPECT_EQ(ask("2.0.100.10.in-addr.arpa"), "no data in 100.10.in-addr.arpa");
}

TEST_F(LanNamesTest, AnAddressOfTheSubnetThatNobodyHasIsNeverForwarded) {
  for (const bool forward_private : {false, true}) {
    EXPECT_EQ(ask("9.15.100.10.in-addr.arpa", type::kPtr, forward_private), "no name in 100.10.in-addr.arpa");
    EXPECT_EQ(ask("x.2.0.100.10.in-addr.arpa", type::kPtr, forward_private), "no name in 100.10.in-addr.arpa");
    EXPECT_EQ(ask("9.112.0.203.in-addr.arpa", type::kPtr, forward_private), "no name in 112.0.203.in-addr.arpa");
    EXPECT_EQ(ask("5.0.100.10.in-addr.arpa", type::kPtr, forward_private), "no name in 100.10.in-addr.arpa")
        << "64 characters are no label";
  }
}

TEST_F(LanNamesTest, NamesAboveTheSubnetsAddressesExist) {
  EXPECT_EQ(ask("0.100.10.in-addr.arpa", type::kPtr), "no data in 100.10.in-addr.arpa");
  EXPECT_EQ(ask("100.10.in-addr.arpa", type::kSoa), "soa");
  EXPECT_EQ(ask("1.0.0.0.0.0.d.f.ip6.arpa", type::kPtr), "no data in d.f.ip6.arpa")
      << "above the subnet's own zone, in the private one around it";
  EXPECT_EQ(ask("2.0.0.0.0.0.d.f.ip6.arpa", type::kPtr), "no name in d.f.ip6.arpa");
}

TEST_F(LanNamesTest, BesideTheSubnetPrivateAddressesHaveNoNamesUnlessTheUpstreamKnowsThem) {
  for (const char* text : {"9.16.100.10.in-addr.arpa", "1.1.168.192.in-addr.arpa", "1.1.16.172.in-addr.arpa"}) {
    EXPECT_TRUE(ask(text, type::kPtr).starts_with("no name in")) << text;
    EXPECT_EQ(ask(text, type::kPtr, true), "forwarded") << text;
  }
  EXPECT_TRUE(ask("1.0.0.127.in-addr.arpa", type::kPtr, true).starts_with("no name in"));
  EXPECT_EQ(ask("200.112.0.203.in-addr.arpa", type::kPtr), "forwarded") << "public, and not of the subnet";
}

TEST_F(LanNamesTest, TheMachineItselfIsLocalhost) {
  EXPECT_EQ(ask("localhost"), "127.0.0.1");
  EXPECT_EQ(ask("x.localhost", type::kAaaa), "::1");
  EXPECT_EQ(ask("localhost", type::kMx), "no data in localhost");
  EXPECT_EQ(ask("x.test"), "no name in test");
  EXPECT_EQ(ask("example.com"), "forwarded");
}

}  // namespace
}  // namespace penstock::dns
