#include "egress/kernel/kernel_rules.h"

#include <gmock/gmock.h>

#include "packet/ip_view.h"

namespace penstock::egress {
namespace {

using testing::HasSubstr;
using testing::Not;

KernelNatSettings settings() {
  return {.interface = "pen0",
          .subnet = Prefix::parse("10.100.0.0/24").value(),
          .server_ip = IpAddress::parse("10.100.0.1").value()};
}
ExitRule rule(std::string_view to, std::vector<router::AccessPorts> ports = {}) {
  return {Prefix::parse(to).value(), std::move(ports)};
}

TEST(KernelRules, TheTableIsNamedAfterTheInterfaceAndHasAnOwnerWherePossible) {
  EXPECT_THAT(ruleset_of(settings()), HasSubstr("table inet penstock_pen0 {\n  flags owner\n"));
  EXPECT_THAT(ruleset_of(settings(), false), Not(HasSubstr("owner")));
}

// A base chain's every rule that could touch others' traffic begins with the TUN's name.
TEST(KernelRules, HooksLookAtTheInterfaceFirst) {
  auto with = settings();
  with.outer_ipv6 = false;
  std::istringstream text(ruleset_of(with));
  bool base = false;
  for (std::string line; std::getline(text, line);) {
    if (line.find("chain ") != std::string::npos) base = false;
    if (base && line != "  }" && line != "}") {
      EXPECT_TRUE(line.find("ifname \"pen0\"") != std::string::npos ||
                  line.find("ifname != \"pen0\"") != std::string::npos || line == "    masquerade")
          << line;
    }
    if (line.find(" hook ") != std::string::npos) base = true;
  }
}

TEST(KernelRules, PortsBecomeDisjointRangesInOrder) {
  auto with = settings();
  with.deny.push_back(
      rule("198.51.100.0/24", {{kProtocolTcp, 90, 100}, {0, 80, 95}, {kProtocolTcp, 101, 102}, {0, 7, 7}}));
  EXPECT_THAT(ruleset_of(with), HasSubstr("ip daddr 198.51.100.0/24 tcp dport { 7, 80-102, } counter"));
  EXPECT_THAT(ruleset_of(with), HasSubstr("ip daddr 198.51.100.0/24 udp dport { 7, 80-95, } counter"));
}

TEST(KernelRules, ARuleOfAllAddressesNamesItsFamily) {
  auto with = settings();
  with.deny.push_back(rule("0.0.0.0/0"));
  EXPECT_THAT(ruleset_of(with), HasSubstr("meta nfproto ipv4 counter name denied_rule"));
  EXPECT_THAT(ruleset_of(with), Not(HasSubstr("0.0.0.0/0")));
}

TEST(KernelRules, AllowedPrefixesStandInTheirBlockAlone) {
  auto with = settings();
  with.allow = {rule("192.168.7.0/24"), rule("192.0.0.0/2")};
  const std::string text = ruleset_of(with);
  EXPECT_THAT(text,
              HasSubstr("    ip daddr 192.168.7.0/24 accept\n    ip daddr 192.168.0.0/16 counter name denied_private"));
  EXPECT_THAT(text, HasSubstr("chain mail {\n    ip daddr 192.168.7.0/24 accept\n    ip daddr 192.0.0.0/2 accept\n"));
}

TEST(KernelRules, WhatCannotBeWrittenDownIsRefusedWithItsKey) {
  const auto message = [](const KernelNatSettings& with) {
    const auto checked = check_settings(with);
    return checked ? std::string("fine") : checked.error().message;
  };
  EXPECT_EQ(message(settings()), "fine");
  for (const char* name : {"", "pen*", "a\"b", "a b", "a{b", "sixteencharacter"}) {
    auto with = settings();
    with.interface = name;
    EXPECT_THAT(message(with), HasSubstr("vpn.interface_name")) << name;
  }
  for (const char* name : {"0a", "a;b", "-a"}) {
    auto with = settings();
    with.table = name;
    EXPECT_THAT(message(with), HasSubstr("no name for a table")) << name;
  }
  auto with = settings();
  with.forwards = {{kProtocolTcp, 22, Endpoint::parse("10.100.0.5:22").value()},
                   {kProtocolUdp, 22, Endpoint::parse("10.100.0.5:22").value()}};
  EXPECT_EQ(message(with), "fine");
  with.forwards.push_back({kProtocolTcp, 22, Endpoint::parse("10.100.0.6:22").value()});
  EXPECT_THAT(message(with), HasSubstr("forwarded already"));
  with.forwards = {{kProtocolTcp, 22, Endpoint::parse("[fd00::5]:22").value()}};
  EXPECT_THAT(message(with), HasSubstr("no IPv6 internet"));
  with = settings();
  with.public_ip = IpAddress::parse("2606:2800::2").value();
  EXPECT_THAT(message(with), HasSubstr("internet.public_ip"));
}

}  // namespace
}  // namespace penstock::egress
