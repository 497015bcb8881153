// What the kernel makes of clients' packets under our rules, against what ExitPolicy says.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "base/random.h"
#include "egress/kernel/kernel_world_testing.h"

namespace penstock::egress {
namespace {

using router::AccessPorts;

struct Seen {
  bool left = false;
  std::optional<Denied> reason;  // the counter that moved; none: none of the policy's
};
std::ostream& operator<<(std::ostream& out, const Seen& seen) {
  return out << (seen.left ? "left" : "stayed") << " " << (seen.reason ? to_string(*seen.reason) : "uncounted");
}

class KernelVerdicts : public KernelWorld {
 protected:
  void SetUp() override {
    KernelWorld::SetUp();
    settings.networks = {prefix("93.184.216.0/24"), prefix("2606:2800::/64")};
    settings.flows_of_client = settings.flow_rate = 1'000'000;  // one client asks everything here
  }

  // What a rule cannot bring to be forwarded, for the kernel never forwards it.
  static bool is_never_forwarded(const IpAddress& to) {
    static const std::array never{prefix("0.0.0.0/32"),         prefix("127.0.0.0/8"), prefix("224.0.0.0/4"),
                                  prefix("255.255.255.255/32"), prefix("::/128"),      prefix("::1/128"),
                                  prefix("ff00::/8"),           prefix("fe80::/10")};
    return std::ranges::any_of(never, [&](const Prefix& one) { return one.contains(to); });
  }
  static bool embeds(const IpAddress& to) {
    static const std::array carriers{prefix("::ffff:0:0/96"), prefix("::/96"), prefix("64:ff9b::/96"),
                                     prefix("64:ff9b:1::/48"), prefix("2002::/16")};
    return std::ranges::any_of(carriers, [&](const Prefix& one) { return one.contains(to); });
  }

  Seen probe(KernelNat& nat, std::uint8_t protocol, const IpAddress& to, std::uint16_t port) {
    const IpAddress from = address(to.is_v4() ? "10.100.0.2" : "fd00:100::2");
    const Endpoint source{from, next_port_++};
    const Packet packet = protocol == kProtocolTcp   ? syn(source, {to, port})
                          : protocol == kProtocolUdp ? udp_packet(source, {to, port})
                                                     : echo_packet(from, to, source.port);
    send(clients, packet);
    Seen seen;
    while (const auto left = receive(outside)) {
      const IpView view = parse_ip(left->bytes()).value();
      if (view.destination != to) continue;
      seen.left = true;
      EXPECT_EQ(view.source, address(to.is_v4() ? "93.184.216.2" : "2606:2800::2")) << "not masqueraded";
    }
    while (receive(clients)) {
    }
    const KernelDrops drops = nat.drops().value();
    for (std::size_t i = 0; i < kDeniedReasons; ++i)
      if (drops.denied[i] != drops_.denied[i]) seen.reason = static_cast<Denied>(i);
    drops_ = drops;
    return seen;
  }

  void compare(KernelNat& nat, const ExitPolicy& policy, std::uint8_t protocol, const IpAddress& to,
               std::uint16_t port) {
    if (settings.subnet.contains(to) || settings.subnet6->contains(to)) return;
    const Seen seen = probe(nat, protocol, to, port);
    const auto wanted = policy.check(protocol, to, port);
    const std::string what = to.to_string() + " protocol " + std::to_string(protocol) + " port " + std::to_string(port);
    ++compared_[wanted.allowed ? "allowed" : std::string(to_string(wanted.reason))];
    if (is_never_forwarded(to)) {
      EXPECT_FALSE(seen.left) << what;
      return;
    }
    if (embeds(to)) {  // refused as its block, or as a rule says
      EXPECT_FALSE(seen.left) << what;
      EXPECT_TRUE(seen.reason == Denied::reserved || seen.reason == Denied::rule) << what << ": " << seen;
      return;
    }
    if (to == address("93.184.216.0")) return;  // a broadcast to old kernels only
    if (to == address("2606:2800::")) return;   // of whatever router there is, which the machine now is
    EXPECT_EQ(seen.left, wanted.allowed) << what << ": " << seen;
    if (!wanted.allowed) {
      EXPECT_TRUE(seen.reason == wanted.reason) << what << ": " << seen << ", not " << to_string(wanted.reason);
    }
  }

  ExitPolicy policy() const {
    return ExitPolicy({.allow = settings.allow,
                       .deny = settings.deny,
                       .own = {address("93.184.216.2"), address("2606:2800::2")},
                       .networks = settings.networks});
  }

  std::uint16_t next_port_ = 10000;
  KernelDrops drops_;
  std::map<std::string, int> compared_;
};

std::vector<IpAddress> edges() {
  std::vector<IpAddress> all;
  for (const auto& block : ExitPolicy::default_blocks()) {
    const IpAddress first = block.prefix.address();
    const IpAddress last = block.prefix.last();
    for (const IpAddress& one : {first, first.plus(1), first.plus(~std::uint64_t{0}), last, last.plus(1)})
      all.push_back(one);
  }
  for (const char* text : {"1.1.1.1", "93.184.216.2", "93.184.216.255", "93.184.216.9", "2606:2800::2", "2606:2800::9",
                           "2606:4700::1111", "2002:808:808::", "::ffff:8.8.8.8", "64:ff9b::808:808"})
    all.push_back(IpAddress::parse(text).value());
  return all;
}

TEST_F(KernelVerdicts, AreThePolicysAtTheEdgesOfEveryBlock) {
  const auto nat = start();
  ASSERT_TRUE(nat);
  for (const IpAddress& to : edges()) {
    compare(*nat, policy(), kProtocolTcp, to, 443);
    compare(*nat, policy(), kProtocolTcp, to, 25);
    compare(*nat, policy(), kProtocolUdp, to, 25);
    compare(*nat, policy(), to.is_v4() ? kProtocolIcmp : kProtocolIcmp6, to, 0);
  }
  // A test in which everything were allowed, or everything refused, would say nothing.
  for (const char* reason : {"allowed", "own_address", "metadata", "link_local", "private", "shared", "broadcast",
                             "reserved", "teredo", "mail", "own_network"})
    EXPECT_GT(compared_[reason], 0) << reason;
}

TEST_F(KernelVerdicts, AreThePolicysUnderRulesOfEveryKind) {
  SeededRandom random(20);
  const auto number = [&](std::uint32_t below) {
    std::array<std::uint8_t, 4> bytes{};
    random.fill(bytes);
    return load_be32(bytes.data()) % below;
  };
  const auto blocks = ExitPolicy::default_blocks();
  const auto prefixes = [&] {
    std::vector<Prefix> some{prefix("0.0.0.0/0"),
                             prefix("93.184.216.2/32"),
                             prefix("93.184.216.255/32"),
                             prefix("2606:2800::2/128"),
                             prefix("2606:2800::/64"),
                             prefix("1.0.0.0/8"),
                             prefix("::/0")};
    for (const auto& block : blocks) {
      if (embeds(block.prefix.address()) && block.prefix.length() > 3) continue;
      some.push_back(block.prefix);
      some.emplace_back(block.prefix.last(), std::min(block.prefix.length() + 3, block.prefix.address().width()));
      if (block.prefix.length() > 4) some.emplace_back(block.prefix.address(), block.prefix.length() - 1);
    }
    return some;
  }();
  const auto rules = [&](std::size_t count, bool everything) {
    std::vector<ExitRule> some;
    while (some.size() < count) {
      ExitRule one{prefixes[number(static_cast<std::uint32_t>(prefixes.size()))], {}};
      if (number(3) != 0 || (!everything && one.to.length() < 8)) {
        constexpr std::array kPorts{AccessPorts{kProtocolTcp, 20, 30}, AccessPorts{kProtocolUdp, 53, 53},
                                    AccessPorts{0, 443, 500}, AccessPorts{0, 0, 65535}};
        one.ports.push_back(kPorts[number(everything ? 4 : 3)]);
        if (number(2) != 0) one.ports.push_back(kPorts[number(3)]);
      }
      some.push_back(std::move(one));
    }
    return some;
  };
  const auto nat = start();
  ASSERT_TRUE(nat);
  const auto all = edges();
  for (int round = 0; round < 12; ++round) {
    settings.allow = rules(1 + number(20), true);
    settings.deny = rules(number(6), false);
    ASSERT_TRUE(done(nat->update(settings)));
    drops_ = nat->drops().value();
    const ExitPolicy expected = policy();
    for (int i = 0; i < 150; ++i) {
      IpAddress to = all[number(static_cast<std::uint32_t>(all.size()))];
      if (number(3) == 0) {  // inside of some rule
        const auto& from = number(4) == 0 && !settings.deny.empty() ? settings.deny : settings.allow;
        to = from[number(static_cast<std::uint32_t>(from.size()))].to.address().plus(number(3));
      }
      constexpr std::array<std::uint16_t, 6> kPorts{25, 53, 443, 80, 19, 31};
      const std::uint8_t echo = to.is_v4() ? kProtocolIcmp : kProtocolIcmp6;
      const std::uint8_t protocol = std::array{kProtocolTcp, kProtocolUdp, echo}[number(3)];
      compare(*nat, expected, protocol, to, kPorts[number(6)]);
    }
    if (HasFailure()) {
      ADD_FAILURE() << ruleset_of(settings);
      break;
    }
  }
  for (const char* reason : {"allowed", "rule", "private", "own_network", "mail"})
    EXPECT_GT(compared_[reason], 5) << reason;
}

// Where an allow rule opens a block that embeds IPv4, what is denied of IPv4 stays denied.
TEST_F(KernelVerdicts, DenyIsAskedOfAnEmbeddedAddressToo) {
  settings.allow = {{prefix("2002::/16"), {}}, {prefix("64:ff9b::/96"), {}}};
  settings.deny = {{prefix("8.8.8.0/24"), {}}, {prefix("9.9.9.9/32"), {{kProtocolUdp, 53, 53}}}};
  const auto nat = start();
  ASSERT_TRUE(nat);
  for (const auto& [to, left] : std::map<std::string, bool>{{"2002:808:801::1", false},
                                                            {"2002:808:901::1", true},
                                                            {"64:ff9b::808:801", false},
                                                            {"64:ff9b::808:901", true},
                                                            {"64:ff9b::909:909", false},
                                                            {"2002:909:909::", false}}) {
    EXPECT_EQ(probe(*nat, kProtocolUdp, address(to), 53).left, left) << to;
    EXPECT_EQ(policy().check(kProtocolUdp, address(to), 53).allowed, left) << to;
  }
}

}  // namespace
}  // namespace penstock::egress
