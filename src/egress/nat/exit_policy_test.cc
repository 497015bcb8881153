#include "egress/nat/exit_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/random.h"
#include "packet/ip_view.h"
#include "test/support/packets.h"

namespace penstock::egress {

// Failures name the reason.
std::ostream& operator<<(std::ostream& out, const ExitPolicy::Verdict& verdict) {
  return out << (verdict.allowed ? "allowed" : to_string(verdict.reason));
}

namespace {

using test::ip;
using Verdict = ExitPolicy::Verdict;
using Settings = ExitPolicy::Settings;

constexpr Verdict kAllowed{true, Denied::nothing};
constexpr Verdict denied(Denied reason) { return {false, reason}; }

Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
ExitRule rule(std::string_view to, std::vector<router::AccessPorts> ports = {}) {
  return {prefix(to), std::move(ports)};
}
router::AccessPorts tcp(std::uint16_t first, std::uint16_t last) { return {kProtocolTcp, first, last}; }
router::AccessPorts udp(std::uint16_t first, std::uint16_t last) { return {kProtocolUdp, first, last}; }
router::AccessPorts both(std::uint16_t first, std::uint16_t last) { return {0, first, last}; }

Verdict check(const ExitPolicy& policy, std::string_view to, std::uint16_t port = 443,
              std::uint8_t protocol = kProtocolTcp) {
  return policy.check(protocol, ip(to), port);
}

TEST(ExitPolicy, TheInternetIsAllowed) {
  const ExitPolicy policy({});
  for (const char* to : {"1.1.1.1", "8.8.8.8", "9.255.255.255", "93.184.216.34", "168.63.129.17", "192.88.98.1",
                         "192.0.1.1", "223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888",
                         "2001:200::", "2620:4f:8000::1", "2a00::1", "3ffe::1", "3fff:1000::"}) {
    EXPECT_EQ(check(policy, to), kAllowed) << to;
    EXPECT_EQ(check(policy, to, 53, kProtocolUdp), kAllowed) << to;
    EXPECT_EQ(check(policy, to, 0, kProtocolIcmp), kAllowed) << to;
  }
}

struct Expected {
  const char* prefix;
  Denied reason;
};
// Independent of the tables: the first that fits.
constexpr Expected kByDefault[] = {
    {"169.254.169.254/32", Denied::metadata},
    {"169.254.170.2/32", Denied::metadata},
    {"169.254.170.23/32", Denied::metadata},
    {"169.254.0.23/32", Denied::metadata},
    {"169.254.42.42/32", Denied::metadata},
    {"100.100.100.200/32", Denied::metadata},
    {"168.63.129.16/32", Denied::metadata},
    {"192.0.0.192/32", Denied::metadata},
    {"255.255.255.255/32", Denied::broadcast},
    {"0.0.0.0/8", Denied::unspecified},
    {"10.0.0.0/8", Denied::private_network},
    {"172.16.0.0/12", Denied::private_network},
    {"192.168.0.0/16", Denied::private_network},
    {"100.64.0.0/10", Denied::shared},
    {"127.0.0.0/8", Denied::loopback},
    {"169.254.0.0/16", Denied::link_local},
    {"192.0.0.0/24", Denied::reserved},
    {"192.0.2.0/24", Denied::reserved},
    {"192.88.99.0/24", Denied::reserved},
    {"198.18.0.0/15", Denied::reserved},
    {"198.51.100.0/24", Denied::reserved},
    {"203.0.113.0/24", Denied::reserved},
    {"224.0.0.0/4", Denied::multicast},
    {"240.0.0.0/4", Denied::reserved},
    {"::/128", Denied::unspecified},
    {"::1/128", Denied::loopback},
    {"fd00:ec2::254/128", Denied::metadata},
    {"fd00:ec2::23/128", Denied::metadata},
    {"fd20:ce::254/128", Denied::metadata},
    {"fd00:42::42/128", Denied::metadata},
    {"fe80::a9fe:a9fe/128", Denied::metadata},
    {"100::/64", Denied::reserved},
    {"2001::/32", Denied::teredo},
    {"2001::/23", Denied::reserved},
    {"2001:db8::/32", Denied::reserved},
    {"3fff::/20", Denied::reserved},
    {"fc00::/7", Denied::private_network},
    {"fe80::/10", Denied::link_local},
    {"fec0::/10", Denied::private_network},
    {"ff00::/8", Denied::multicast},
};

IpAddress one_before(const IpAddress& address) {
  if (address.is_v4()) return IpAddress::v4(address.to_v4() - 1);
  std::array<std::uint8_t, 16> bytes{};
  const bool borrow = address.lower() == 0;
  store_be64(bytes.data(), address.upper() - (borrow ? 1 : 0));
  store_be64(bytes.data() + 8, address.lower() - 1);
  return IpAddress::from_bytes(bytes);
}

// What the naive list says of an address without IPv4 in it.
Denied naive_class(const IpAddress& address) {
  for (const auto& [text, reason] : kByDefault) {
    if (prefix(text).contains(address)) return reason;
  }
  return address.is_v6() && !prefix("2000::/3").contains(address) ? Denied::reserved : Denied::nothing;
}

const Prefix embeddings[] = {prefix("::ffff:0:0/96"), prefix("::/96"), prefix("64:ff9b::/96"), prefix("64:ff9b:1::/48"),
                             prefix("2002::/16")};
bool embeds(const IpAddress& address) {
  if (address == ip("::") || address == ip("::1")) return false;
  return std::ranges::any_of(embeddings, [&](const Prefix& one) { return one.contains(address); });
}

TEST(ExitPolicy, EachClassIsDeniedUnderItsNameFromItsFirstAddressToItsLast) {
  const ExitPolicy policy({});
  for (const auto& [text, reason] : kByDefault) {
    const Prefix block = prefix(text);
    for (const IpAddress& inside : {block.address(), block.last()}) {
      const Denied expected = naive_class(inside);
      EXPECT_EQ(policy.check(kProtocolUdp, inside, 53), denied(expected)) << inside.to_string();
      if (block.length() == block.address().width()) {
        EXPECT_EQ(expected, reason) << text;
      }
    }
    for (const IpAddress& outside : {one_before(block.address()), block.last().plus(1)}) {
      if (embeds(outside)) continue;
      const Denied expected = naive_class(outside);
      EXPECT_EQ(policy.check(kProtocolUdp, outside, 53), (Verdict{expected == Denied::nothing, expected}))
          << outside.to_string();
    }
  }
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kDeniedReasons; ++i) names.insert(to_string(static_cast<Denied>(i)));
  EXPECT_EQ(names.size(), kDeniedReasons);
  EXPECT_EQ(to_string(Denied::mail), "mail");
}

TEST(ExitPolicy, TheListForDocumentsSaysTheSame) {
  const ExitPolicy policy({});
  const auto blocks = ExitPolicy::default_blocks();
  for (const auto& block : blocks) {
    for (const IpAddress& address : {block.prefix.address(), block.prefix.last()}) {
      const auto first = std::ranges::find_if(blocks, [&](const auto& one) { return one.prefix.contains(address); });
      if (!embeds(address)) {
        EXPECT_EQ(check(policy, address.to_string()), denied(first->reason)) << block.prefix.to_string();
      }
    }
  }
  for (const auto& [text, reason] : kByDefault) {
    EXPECT_TRUE(std::ranges::any_of(blocks, [&](const auto& block) {
      return block.prefix == prefix(text) && block.reason == reason;
    })) << text;
  }
}

// Forms of RFC 4291, RFC 6052 and RFC 3056, written out.
std::vector<std::string> forms_of(const std::string& v4) {
  const std::uint32_t address = ip(v4).to_v4();
  const auto hex = [](std::uint32_t value) {
    std::string text;
    for (int shift = 12; shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 0xF];
    return text;
  };
  const std::string upper = hex(address >> 16);
  const std::string lower = hex(address & 0xFFFF);
  const std::string first = hex(address >> 24).substr(2);
  const std::string middle = hex(address >> 8 & 0xFFFF);
  const std::string last3 = hex(address >> 16 & 0xFF).substr(2);
  return {"::ffff:" + v4,
          "::" + v4,
          "64:ff9b::" + v4,
          "2002:" + upper + ":" + lower + "::1",
          "64:ff9b:1:5:6:7:" + v4,                                                           // behind 96 bits
          "64:ff9b:1:" + upper + ":" + lower.substr(0, 2) + ":" + lower.substr(2) + "00::",  // 48
          "64:ff9b:1:" + first + ":" + last3 + ":" + lower + "::",                           // 56
          "64:ff9b:1:0:" + first + ":" + middle + ":" + lower.substr(2) + "00:0"};           // 64
}

TEST(ExitPolicy, AnIpv4AddressInAnIpv6OneIsJudgedAsItself) {
  const ExitPolicy policy({.own = {ip("9.9.9.9")}, .networks = {prefix("9.9.8.0/24")}});
  const std::pair<const char*, Denied> cases[] = {
      {"10.1.2.3", Denied::private_network},  {"127.0.0.1", Denied::loopback},  {"169.254.169.254", Denied::metadata},
      {"169.254.7.7", Denied::link_local},    {"100.64.1.1", Denied::shared},   {"224.0.0.251", Denied::multicast},
      {"255.255.255.255", Denied::broadcast}, {"9.9.9.9", Denied::own_address}, {"9.9.8.255", Denied::broadcast}};
  for (const auto& [inner, reason] : cases) {
    const auto forms = forms_of(inner);
    for (const std::string& form : forms) {
      const Verdict verdict = check(policy, form);
      EXPECT_FALSE(verdict.allowed) << form;
      // Behind a local prefix the same bits may be read in several ways, each of which counts.
      if (!prefix("64:ff9b:1::/48").contains(ip(form))) {
        EXPECT_EQ(verdict, denied(reason)) << form;
      }
    }
  }
  for (const std::string& form : forms_of("8.8.8.8")) {
    if (form.starts_with("64:ff9b:1:5")) continue;  // its prefix reads as addresses too
    EXPECT_EQ(check(policy, form), kAllowed) << form;
    EXPECT_EQ(check(policy, form, 25), denied(Denied::mail)) << form;
  }
  EXPECT_EQ(check(policy, "64:ff9b:1::8.8.8.8"), kAllowed);
  EXPECT_EQ(check(policy, "64:ff9b:1::10.0.0.1"), denied(Denied::private_network));
  EXPECT_EQ(check(policy, "64:ff9b:1::"), denied(Denied::unspecified)) << "no address at all";
  EXPECT_EQ(check(policy, "::ffff:0:8.8.8.8"), denied(Denied::reserved)) << "a form that nobody routes";
  EXPECT_EQ(check(policy, "2001::8.8.8.8"), denied(Denied::teredo));
}

TEST(ExitPolicy, TheGatewayIsNotReachedByAnyOfItsAddresses) {
  const ExitPolicy policy({.own = {ip("5.6.7.8"), ip("2a00:1::5"), ip("10.100.0.1"), ip("::ffff:5.6.7.9")}});
  for (const char* own : {"5.6.7.8", "2a00:1::5", "10.100.0.1", "5.6.7.9", "::ffff:5.6.7.8"}) {
    EXPECT_EQ(check(policy, own), denied(Denied::own_address)) << own;
  }
  EXPECT_EQ(check(policy, "5.6.7.7"), kAllowed);
  EXPECT_EQ(check(policy, "2a00:1::4"), kAllowed);
  EXPECT_EQ(check(policy, "10.100.0.2"), denied(Denied::private_network));
}

TEST(ExitPolicy, BroadcastsOfTheGatewaysNetworksAreDenied) {
  const ExitPolicy policy(
      {.own = {ip("5.6.7.0")}, .networks = {prefix("5.6.7.0/25"), prefix("5.6.9.0/31"), prefix("2a00:1::/64")}});
  EXPECT_EQ(check(policy, "5.6.7.127"), denied(Denied::broadcast));
  EXPECT_EQ(check(policy, "5.6.7.0"), denied(Denied::own_address));
  EXPECT_EQ(check(policy, "5.6.7.126"), denied(Denied::own_network));
  EXPECT_EQ(check(policy, "5.6.9.0"), kAllowed) << "a link between two";
  EXPECT_EQ(check(policy, "5.6.9.1"), kAllowed);
  EXPECT_EQ(check(policy, "2a00:1::ffff:ffff:ffff:ffff"), denied(Denied::own_network)) << "IPv6 has none";
}

TEST(ExitPolicy, TheNetworksThatTheGatewayStandsInAreClosedUntilTheyAreNamed) {
  Settings settings{.own = {ip("5.6.7.8")}, .networks = {prefix("5.6.7.0/24"), prefix("2a00:1::/64")}};
  const ExitPolicy closed(settings);
  EXPECT_EQ(check(closed, "5.6.7.9"), denied(Denied::own_network));
  EXPECT_EQ(check(closed, "2a00:1::9"), denied(Denied::own_network));
  EXPECT_EQ(check(closed, "::ffff:5.6.7.9"), denied(Denied::own_network));
  EXPECT_EQ(check(closed, "5.6.8.9"), kAllowed);
  EXPECT_EQ(check(closed, "2a00:1:0:1::9"), kAllowed);
  settings.allow = {rule("0.0.0.0/0"), rule("::/0")};
  EXPECT_EQ(check(ExitPolicy(settings), "5.6.7.9"), denied(Denied::own_network)) << "everything is no name";
  settings.allow = {rule("5.6.7.0/24"), rule("2a00:1::9/128")};
  const ExitPolicy open(settings);
  EXPECT_EQ(check(open, "5.6.7.9"), kAllowed);
  EXPECT_EQ(check(open, "5.6.7.8"), denied(Denied::own_address));
  EXPECT_EQ(check(open, "2a00:1::9"), kAllowed);
  EXPECT_EQ(check(open, "2a00:1::8"), denied(Denied::own_network));
}

TEST(ExitPolicy, MailIsDeniedByTcpOnly) {
  const ExitPolicy policy({});
  for (const char* to : {"8.8.8.8", "2a00::1"}) {
    EXPECT_EQ(check(policy, to, 25), denied(Denied::mail));
    EXPECT_EQ(check(policy, to, 25, kProtocolUdp), kAllowed);
    EXPECT_EQ(check(policy, to, 24), kAllowed);
    EXPECT_EQ(check(policy, to, 26), kAllowed);
    EXPECT_EQ(check(policy, to, 587), kAllowed);
  }
  EXPECT_EQ(check(policy, "10.0.0.1", 25), denied(Denied::private_network)) << "where it goes comes first";
}

TEST(ExitPolicy, EachClassIsOpenedByNamingIt) {
  for (const auto& [text, reason] : kByDefault) {
    if (reason == Denied::metadata || reason == Denied::broadcast) continue;
    const Prefix block = prefix(text);
    IpAddress inside = block.address();
    if (block.length() != block.address().width()) inside = inside.plus(77);
    if (naive_class(inside) != reason) inside = block.last();  // behind what is special in it
    const ExitPolicy whole({.allow = {{block, {}}}});
    EXPECT_EQ(whole.check(kProtocolTcp, inside, 25), kAllowed) << text;
    EXPECT_EQ(whole.check(kProtocolIcmp, inside, 0), kAllowed) << text;
    const ExitPolicy one({.allow = {{Prefix::host(inside), {}}}});
    EXPECT_EQ(one.check(kProtocolTcp, inside, 443), kAllowed) << text;
    if (block.length() == 0 || block.length() == block.address().width()) continue;
    const ExitPolicy wider({.allow = {{Prefix(block.address(), block.length() - 1), {}}}});
    EXPECT_FALSE(wider.check(kProtocolTcp, inside, 443).allowed) << text;
  }
  for (const char* to : {"169.254.169.254", "fd00:ec2::254", "168.63.129.16", "255.255.255.255"}) {
    EXPECT_EQ(check(ExitPolicy({.allow = {{Prefix::host(ip(to)), {}}}}), to), kAllowed) << to;
  }
}

TEST(ExitPolicy, ARuleForEverythingOpensMailButNoClass) {
  const ExitPolicy policy({.allow = {rule("0.0.0.0/0"), rule("::/0")}, .own = {ip("5.6.7.8")}});
  EXPECT_EQ(check(policy, "8.8.8.8", 25), kAllowed);
  EXPECT_EQ(check(policy, "2a00::1", 25), kAllowed);
  EXPECT_EQ(check(policy, "64:ff9b::8.8.8.8", 25), kAllowed);
  EXPECT_EQ(check(policy, "127.0.0.1"), denied(Denied::loopback));
  EXPECT_EQ(check(policy, "::1"), denied(Denied::loopback));
  EXPECT_EQ(check(policy, "169.254.169.254", 80), denied(Denied::metadata));
  EXPECT_EQ(check(policy, "5.6.7.8"), denied(Denied::own_address));
  EXPECT_EQ(check(policy, "10.0.0.1", 25), denied(Denied::private_network));
}

TEST(ExitPolicy, ANetworkThatIsOpenedKeepsWhatIsSpecialInIt) {
  const Settings lan{.allow = {rule("192.168.1.0/24"), rule("100.64.0.0/10")},
                     .own = {ip("192.168.1.5")},
                     .networks = {prefix("192.168.1.0/24")}};
  const ExitPolicy policy(lan);
  EXPECT_EQ(check(policy, "192.168.1.9"), kAllowed);
  EXPECT_EQ(check(policy, "192.168.2.9"), denied(Denied::private_network));
  EXPECT_EQ(check(policy, "192.168.1.5"), denied(Denied::own_address));
  EXPECT_EQ(check(policy, "192.168.1.255"), denied(Denied::broadcast));
  EXPECT_EQ(check(policy, "100.64.0.1"), kAllowed);
  EXPECT_EQ(check(policy, "100.100.100.200"), denied(Denied::metadata));
  Settings named = lan;
  named.allow.push_back(rule("192.168.1.5/32", {tcp(22, 22)}));
  EXPECT_EQ(check(ExitPolicy(named), "192.168.1.5", 22), kAllowed);
  EXPECT_EQ(check(ExitPolicy(named), "192.168.1.5", 443), denied(Denied::own_address));
}

TEST(ExitPolicy, PortsOfARuleAreThoseOfItsProtocol) {
  const ExitPolicy policy({.allow = {rule("10.0.0.0/8", {tcp(443, 445), udp(53, 53), both(8000, 8100)})},
                           .deny = {rule("8.8.0.0/16", {tcp(443, 445), udp(53, 53), both(8000, 8100)})}});
  const struct {
    std::uint8_t protocol;
    std::uint16_t port;
    bool in_ports;
  } cases[] = {{kProtocolTcp, 442, false},  {kProtocolTcp, 443, true},   {kProtocolTcp, 445, true},
               {kProtocolTcp, 446, false},  {kProtocolUdp, 443, false},  {kProtocolUdp, 53, true},
               {kProtocolTcp, 53, false},   {kProtocolTcp, 8050, true},  {kProtocolUdp, 8100, true},
               {kProtocolUdp, 8101, false}, {kProtocolIcmp, 443, false}, {132, 8050, false}};
  for (const auto& [protocol, port, in_ports] : cases) {
    EXPECT_EQ(check(policy, "10.1.1.1", port, protocol).allowed, in_ports) << int{protocol} << ' ' << port;
    EXPECT_EQ(check(policy, "8.8.8.8", port, protocol).allowed, !in_ports) << int{protocol} << ' ' << port;
  }
}

TEST(ExitPolicy, ADenyWinsOverEverything) {
  const ExitPolicy policy({.allow = {rule("10.0.0.0/8"), rule("8.8.8.8/32"), rule("64:ff9b::/96"), rule("fd00::/8")},
                           .deny = {rule("10.1.0.0/16"), rule("8.8.8.0/24", {tcp(443, 443)}), rule("fd00:1::/32"),
                                    rule("::ffff:1.2.3.0/120"), rule("10.1.2.0/24"), rule("127.0.0.0/8")}});
  EXPECT_EQ(check(policy, "10.2.0.1"), kAllowed);
  EXPECT_EQ(check(policy, "10.0.255.255"), kAllowed);
  for (const char* to : {"10.1.0.0", "10.1.2.3", "10.1.255.255", "8.8.8.8", "::ffff:10.1.1.1", "64:ff9b::10.1.1.1",
                         "64:ff9b::8.8.8.8", "2002:0808:0808::1", "fd00:1::1", "1.2.3.4", "::ffff:1.2.3.4"}) {
    EXPECT_EQ(check(policy, to), denied(Denied::rule)) << to;
  }
  EXPECT_EQ(check(policy, "127.0.0.1"), denied(Denied::rule)) << "the operator's word comes before ours";
  EXPECT_EQ(check(policy, "8.8.8.8", 80), kAllowed);
  EXPECT_EQ(check(policy, "1.2.4.0"), kAllowed);
  EXPECT_EQ(check(policy, "fd00:2::1"), kAllowed);
  EXPECT_EQ(check(policy, "64:ff9b::10.2.1.1"), kAllowed);
  const ExitPolicy nothing({.deny = {rule("0.0.0.0/0"), rule("::/0")}});
  for (const char* to : {"8.8.8.8", "255.255.255.255", "0.0.0.0", "2a00::1", "::", "::ffff:8.8.8.8"}) {
    EXPECT_EQ(check(nothing, to), denied(Denied::rule)) << to;
  }
}

TEST(ExitPolicy, AnAllowedIpv4AddressIsAllowedInIpv6Too) {
  const ExitPolicy policy({.allow = {rule("10.0.0.0/8"), rule("2002:c0a8::/32")}});
  EXPECT_EQ(check(policy, "64:ff9b::10.0.0.1"), kAllowed);
  EXPECT_EQ(check(policy, "::ffff:10.0.0.1"), kAllowed);
  EXPECT_EQ(check(policy, "64:ff9b::192.168.0.1"), denied(Denied::private_network));
  EXPECT_EQ(check(policy, "2002:c0a8:1::1"), kAllowed) << "192.168.0.1, by its IPv6 name";
}

TEST(ExitPolicy, ResolversAreForTheForwarderAlone) {
  const Endpoint resolver{.address = ip("192.168.1.1"), .port = 53};
  const Endpoint resolver6{.address = ip("fe80::1"), .port = 853};
  const ExitPolicy policy({.deny = {rule("192.168.0.0/16")}, .exempt = {resolver, resolver6}});
  const auto own = [&](std::string_view to, std::uint16_t port, std::uint8_t protocol = kProtocolUdp) {
    return policy.check_own(protocol, ip(to), port);
  };
  EXPECT_EQ(own("192.168.1.1", 53), kAllowed) << "rules are about clients";
  EXPECT_EQ(own("192.168.1.1", 53, kProtocolTcp), kAllowed);
  EXPECT_EQ(own("::ffff:192.168.1.1", 53), kAllowed);
  EXPECT_EQ(own("fe80::1", 853, kProtocolTcp), kAllowed);
  EXPECT_EQ(own("192.168.1.1", 54), denied(Denied::rule));
  EXPECT_EQ(own("192.168.1.2", 53), denied(Denied::rule));
  EXPECT_EQ(own("192.168.1.1", 53, kProtocolIcmp), denied(Denied::rule));
  EXPECT_EQ(own("fe80::1", 53), denied(Denied::link_local));
  EXPECT_EQ(own("9.9.9.9", 53), kAllowed);
  EXPECT_EQ(check(policy, "192.168.1.1", 53, kProtocolUdp), denied(Denied::rule));
  EXPECT_EQ(check(policy, "fe80::1", 853), denied(Denied::link_local));
}

// ---- against going through all of it one by one ----

bool naive_covers(const ExitRule& rule, const IpAddress& to, std::uint8_t protocol, std::uint16_t port) {
  if (!rule.to.contains(to)) return false;
  if (rule.ports.empty()) return true;
  return std::ranges::any_of(rule.ports, [&](const router::AccessPorts& ports) {
    const bool fits = ports.protocol == protocol || (ports.protocol == 0 && (protocol == 6 || protocol == 17));
    return fits && ports.first <= port && port <= ports.last;
  });
}

std::optional<IpAddress> naive_inner(const IpAddress& to) {
  if (to.is_v4() || !embeds(to)) return std::nullopt;
  return IpAddress::from_bytes(to.bytes().subspan(prefix("2002::/16").contains(to) ? 2 : 12, 4));
}

Verdict naive(const Settings& settings, std::uint8_t protocol, const IpAddress& to, std::uint16_t port) {
  const auto inner = naive_inner(to);
  for (const ExitRule& rule : settings.deny) {
    if (naive_covers(rule, to, protocol, port) || (inner && naive_covers(rule, *inner, protocol, port))) {
      return denied(Denied::rule);
    }
  }
  int length = to.width();
  Denied reason = Denied::nothing;
  if (std::ranges::find(settings.own, to) != settings.own.end()) {
    reason = Denied::own_address;
  } else if (std::ranges::any_of(settings.networks, [&](const Prefix& network) {
               return network.is_v4() && (to == network.address() || to == network.last());
             })) {
    reason = Denied::broadcast;
  } else if (inner) {
    const Verdict verdict = naive(settings, protocol, *inner, port);
    if (verdict.allowed) return verdict;
    reason = verdict.reason;
    length = reason == Denied::mail ? 0 : prefix("2002::/16").contains(to) ? 16 : 96;
  } else {
    reason = naive_class(to);
    for (const auto& one : ExitPolicy::default_blocks()) {
      if (!one.prefix.contains(to)) continue;
      length = one.prefix.length();
      break;
    }
    for (const Prefix& network : settings.networks) {
      const bool is_network = network.length() >= (to.is_v4() ? 8 : 32) && network.length() <= (to.is_v4() ? 30 : 126);
      if (reason != Denied::nothing || !is_network || !network.contains(to)) continue;
      reason = Denied::own_network;
      length = network.length();
    }
    if (reason == Denied::nothing && protocol == kProtocolTcp && port == 25) {
      reason = Denied::mail;
      length = 0;
    }
  }
  if (reason == Denied::nothing) return kAllowed;
  for (const ExitRule& rule : settings.allow) {
    if (rule.to.length() >= length && naive_covers(rule, to, protocol, port)) return kAllowed;
  }
  return denied(reason);
}

TEST(ExitPolicy, ItAgreesWithANaiveList) {
  SeededRandom random(17);
  const auto pick = [&](std::size_t count) { return random.next32() % count; };
  const auto random_address = [&]() -> IpAddress {
    std::array<std::uint8_t, 16> bytes{};
    random.fill(bytes);
    switch (pick(6)) {
      case 0: return IpAddress::from_bytes(ByteView(bytes).first(4));
      case 1: bytes[0] = static_cast<std::uint8_t>(0x20 | (bytes[0] & 0x1F)); return IpAddress::from_bytes(bytes);
      case 2: {  // IPv4 in IPv6
        constexpr std::size_t kUsed[] = {0, 1, 2, 4};
        const IpAddress outside = embeddings[kUsed[pick(4)]].address();
        const IpAddress inside = pick(2) == 0 ? prefix(kByDefault[pick(24)].prefix).address().plus(pick(3))
                                              : IpAddress::from_bytes(ByteView(bytes).first(4));
        std::array<std::uint8_t, 16> all{};
        std::ranges::copy(outside.bytes(), all.begin());
        std::ranges::copy(inside.bytes(), all.begin() + (all[0] == 0x20 ? 2 : 12));
        return IpAddress::from_bytes(all);
      }
      default: {  // at a border
        const Prefix block = prefix(kByDefault[pick(std::size(kByDefault))].prefix);
        const IpAddress border = pick(2) == 0 ? block.address() : block.last();
        return pick(3) == 0 ? one_before(border) : border.plus(pick(3));
      }
    }
  };
  const auto random_prefix = [&] {
    const IpAddress address = random_address();
    return Prefix(address, static_cast<int>(pick(3) == 0 ? pick(static_cast<std::size_t>(address.width()) + 1)
                                                         : static_cast<std::size_t>(address.width()) - pick(26)));
  };
  constexpr std::uint16_t kPorts[] = {25, 53, 80, 443, 8000};
  std::array<std::size_t, kDeniedReasons> seen{};
  for (int round = 0; round < 400; ++round) {
    Settings settings;
    const auto random_rules = [&](std::vector<ExitRule>& rules) {
      for (std::size_t i = pick(12); i > 0; --i) {
        ExitRule rule{.to = random_prefix()};
        // Rules for IPv4-mapped addresses are those for IPv4, and tested by name.
        if (rule.to.address().unmapped().is_v4() && !rule.to.is_v4()) continue;
        for (std::size_t j = pick(3); j > 0; --j) {
          const std::uint16_t first = kPorts[pick(5)];
          constexpr std::uint8_t kProtocols[] = {0, kProtocolTcp, kProtocolUdp};
          rule.ports.push_back({kProtocols[pick(3)], first, static_cast<std::uint16_t>(first + pick(500))});
        }
        rules.push_back(std::move(rule));
      }
    };
    random_rules(settings.allow);
    random_rules(settings.deny);
    for (std::size_t i = pick(6); i > 0; --i) {
      const IpAddress own = random_address();
      if (own.unmapped() == own) settings.own.push_back(own);
    }
    for (std::size_t i = pick(4); i > 0; --i) {
      const Prefix network = random_prefix();
      if (network.length() < 31) settings.networks.push_back(network);
    }
    const ExitPolicy policy(settings);
    for (int i = 0; i < 300; ++i) {
      IpAddress to = random_address();
      const std::size_t kind = pick(8);
      if (kind == 0 && !settings.deny.empty()) to = settings.deny[pick(settings.deny.size())].to.last().plus(pick(2));
      if (kind == 1 && !settings.allow.empty()) to = settings.allow[pick(settings.allow.size())].to.address();
      if (kind == 2 && !settings.own.empty()) to = settings.own[pick(settings.own.size())];
      if (kind == 3 && !settings.networks.empty()) to = settings.networks[pick(settings.networks.size())].last();
      // Which reading of these counts is tested by name.
      if (prefix("64:ff9b:1::/48").contains(to)) continue;
      constexpr std::uint8_t kProtocols[] = {kProtocolTcp, kProtocolTcp, kProtocolUdp, kProtocolIcmp};
      const std::uint8_t protocol = kProtocols[pick(4)];
      const std::uint16_t port = kPorts[pick(5)];
      const Verdict verdict = policy.check(protocol, to, port);
      ASSERT_EQ(verdict, naive(settings, protocol, to, port)) << to.to_string() << ' ' << int{protocol} << ' ' << port;
      ++seen[static_cast<std::size_t>(verdict.reason)];
    }
  }
  for (std::size_t i = 0; i < kDeniedReasons; ++i) EXPECT_GT(seen[i], 10U) << to_string(static_cast<Denied>(i));
}

}  // namespace
}  // namespace penstock::egress
