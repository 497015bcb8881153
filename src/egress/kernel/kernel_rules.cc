#include "egress/kernel/kernel_rules.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "base/in_quotes.h"
#include "packet/ip_view.h"

namespace penstock::egress {
namespace {

constexpr std::string_view kReject = " reject with icmpx admin-prohibited";

// In a form that nft's scanner takes: a dotted tail of IPv6 is none.
std::string text_of(const IpAddress& address) {
  std::string text = address.to_string();
  if (address.is_v4() || text.find('.') == std::string::npos) return text;
  text.clear();
  for (std::size_t i = 0; i < 16; i += 2) {
    std::array<char, 8> group{};
    std::snprintf(group.data(), group.size(), i == 0 ? "%x" : ":%x", unsigned{load_be16(address.bytes().data() + i)});
    text += group.data();
  }
  return text;
}
std::string text_of(const Prefix& prefix) { return text_of(prefix.address()) + "/" + std::to_string(prefix.length()); }
std::string text_of(const Endpoint& endpoint) {
  const std::string address = text_of(endpoint.address);
  return (endpoint.address.is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port);
}

std::string_view family_of(const Prefix& prefix) { return prefix.is_v4() ? "ip" : "ip6"; }

// Matches packets to a prefix. nft makes nothing of "ip daddr 0.0.0.0/0", not even that it be IPv4.
std::string goes_to(const Prefix& prefix) {
  if (prefix.length() == 0) return prefix.is_v4() ? "meta nfproto ipv4" : "meta nfproto ipv6";
  return std::string(family_of(prefix)) + " daddr " + text_of(prefix);
}

std::string counts(std::string_view counter) { return " counter name " + std::string(counter); }
std::string refuses(Denied reason) {
  return counts(std::string(kCounterOfDenied) + std::string(to_string(reason))) + std::string(kReject);
}

// Where in IPv6 an IPv4 prefix is found: mapped, compatible, NAT64, 6to4.
std::vector<Prefix> embedded(const Prefix& inner) {
  struct Carrier {
    std::uint64_t upper;
    std::uint64_t lower;
    int length;
  };
  constexpr std::array kCarriers{Carrier{0, 0x0000ffff00000000, 96}, Carrier{0, 0, 96},
                                 Carrier{0x0064ff9b00000000, 0, 96}, Carrier{0x2002000000000000, 0, 16}};
  std::vector<Prefix> found;
  for (const Carrier& carrier : kCarriers) {
    std::array<std::uint8_t, 16> bytes{};
    store_be64(bytes.data(), carrier.upper);
    store_be64(bytes.data() + 8, carrier.lower);
    store_be32(bytes.data() + carrier.length / 8, inner.address().to_v4());
    found.emplace_back(IpAddress::from_bytes(bytes), carrier.length + inner.length());
  }
  return found;
}

using Ranges = std::vector<std::pair<std::uint16_t, std::uint16_t>>;

// The ports of a rule for one protocol, in order and disjoint, as nft wants the elements of a set.
Ranges ranges_of(const ExitRule& rule, std::uint8_t protocol) {
  Ranges ranges;
  for (const router::AccessPorts& ports : rule.ports)
    if ((ports.protocol == 0 || ports.protocol == protocol) && ports.first <= ports.last)
      ranges.emplace_back(ports.first, ports.last);
  std::ranges::sort(ranges);
  Ranges merged;
  for (const auto& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().second + 1U)
      merged.back().second = std::max(merged.back().second, range.second);
    else
      merged.push_back(range);
  }
  return merged;
}

// One of two prefixes lies in the other, or they are disjoint: those that lie in another go.
std::vector<Prefix> outermost(std::vector<Prefix> prefixes) {
  std::ranges::sort(prefixes);  // by address, then length
  std::vector<Prefix> kept;
  for (const Prefix& prefix : prefixes)
    if (kept.empty() || !kept.back().contains(prefix)) kept.push_back(prefix);
  return kept;
}

class Script {
 public:
  Script(const KernelNatSettings& settings, bool owned)
      : settings_(settings), tun_("\"" + settings.interface + "\""), owned_(owned) {
    for (const ExitRule& rule : settings.allow) allow_.push_back({unmapped(rule.to), rule.ports});
    for (const ExitRule& rule : settings.deny) deny_.push_back({unmapped(rule.to), rule.ports});
    for (std::size_t i = 0; i < settings.deny.size(); ++i) {
      if (!deny_[i].to.is_v4()) continue;
      const ExitRule rule = deny_[i];
      for (const Prefix& prefix : embedded(rule.to)) deny_.push_back({prefix, rule.ports});
    }
  }

  std::string write() {
    text_ = "table inet " + settings_.table_name() + " {\n";
    if (owned_) text_ += "  flags owner\n";
    counters();
    deny();
    default_blocks();
    own_networks();
    meters();
    mail();
    input();
    forward();
    prerouting();
    postrouting();
    return text_ + "}\n";
  }

 private:
  void line(std::string_view rule) { line({rule}); }
  void line(std::initializer_list<std::string_view> parts) {
    text_.append("    ");
    for (const std::string_view part : parts) text_.append(part);
    text_.append("\n");
  }
  void open(std::string_view chain) { text_.append("  chain ").append(chain).append(" {\n"); }
  void open(std::string_view chain, std::string_view hook) {
    open(chain);
    line(hook);
  }
  void close() { text_ += "  }\n"; }

  void set(std::string_view name, bool v4, const std::vector<Prefix>& prefixes) {
    text_.append("  set ").append(name).append(" {\n");
    line(v4 ? "type ipv4_addr" : "type ipv6_addr");
    line("flags interval");
    std::string elements = "elements = { ";
    for (const Prefix& prefix : prefixes) elements += text_of(prefix) + ", ";
    line(elements + "}");
    close();
  }

  // A rule of the configuration as rules of a chain.
  void judge(const ExitRule& rule, std::string_view verdict) {
    if (rule.ports.empty()) return line(goes_to(rule.to) + std::string(verdict));
    for (const std::uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      const Ranges ranges = ranges_of(rule, protocol);
      if (ranges.empty()) continue;
      std::string ports = protocol == kProtocolTcp ? " tcp dport { " : " udp dport { ";
      for (const auto& [first, last] : ranges)
        ports += std::to_string(first) + (first == last ? "" : "-" + std::to_string(last)) + ", ";
      line(goes_to(rule.to) + ports + "}" + std::string(verdict));
    }
  }

  void counters() {
    for (std::size_t i = 1; i < kDeniedReasons; ++i)
      counter(std::string(kCounterOfDenied) + std::string(to_string(static_cast<Denied>(i))));
    for (const std::string_view name :
         {kCounterOutside, kCounterUntracked, kCounterNoIpv6, kCounterSpoofed, kCounterFlowRate, kCounterFlows})
      counter(std::string(name));
  }
  void counter(const std::string& name) { text_ += "  counter " + name + " { }\n"; }

  void deny() {
    std::vector<Prefix> closed4;
    std::vector<Prefix> closed6;
    for (const ExitRule& rule : deny_)
      if (rule.ports.empty() && rule.to.length() > 0) (rule.to.is_v4() ? closed4 : closed6).push_back(rule.to);
    if (!closed4.empty()) set("deny4", true, outermost(closed4));
    if (!closed6.empty()) set("deny6", false, outermost(closed6));
    open("deny");
    const std::string verdict = refuses(Denied::rule);
    if (!closed4.empty()) line("ip daddr @deny4" + verdict);
    if (!closed6.empty()) line("ip6 daddr @deny6" + verdict);
    for (const ExitRule& rule : deny_)
      if (!rule.ports.empty() || rule.to.length() == 0) judge(rule, verdict);
    close();
  }

  // An ordinary address costs a look into a set; what lies in a block goes through them one by one, innermost first.
  void default_blocks() {
    const auto blocks = ExitPolicy::default_blocks();
    for (const bool v4 : {true, false}) {
      std::vector<Prefix> all;
      for (const auto& block : blocks)
        if (block.prefix.is_v4() == v4) all.push_back(block.prefix);
      set(v4 ? "special4" : "special6", v4, outermost(all));
      open(v4 ? "in_special4" : "in_special6");
      for (const auto& block : blocks) {
        if (block.prefix.is_v4() != v4) continue;
        for (const ExitRule& rule : allow_)
          if (rule.to.family() == block.prefix.family() && block.prefix.contains(rule.to)) judge(rule, " accept");
        line(goes_to(block.prefix) + refuses(block.reason));
      }
      close();
    }
  }

  // The networks that the machine stands in, where the blocks above say nothing of them.
  void own_networks() {
    for (const bool v4 : {true, false}) {
      std::vector<Prefix> all;
      for (const Prefix& network : settings_.networks)
        if (network.is_v4() == v4 && ExitPolicy::is_own_network(network)) all.push_back(network);
      if (all.empty()) continue;
      all = outermost(all);
      set(v4 ? "own4" : "own6", v4, all);
      open(v4 ? "in_own4" : "in_own6");
      for (const Prefix& network : all) {
        for (const ExitRule& rule : allow_)
          if (rule.to.family() == network.family() && network.contains(rule.to)) judge(rule, " accept");
      }
      line(refuses(Denied::own_network).substr(1));
      close();
      (v4 ? has_own4_ : has_own6_) = true;
    }
  }

  // How many conversations a client has, and begins.
  void meters() {
    for (const bool v4 : {true, false}) {
      text_ += std::string("  set ") + (v4 ? "flows4" : "flows6") + " {\n";
      line(v4 ? "type ipv4_addr" : "type ipv6_addr");
      line("flags dynamic");
      close();
      text_ += std::string("  set ") + (v4 ? "rate4" : "rate6") + " {\n";
      line(v4 ? "type ipv4_addr" : "type ipv6_addr");
      line("flags dynamic,timeout");
      line("timeout 10s");
      close();
    }
    open("begins");
    const std::string rate = " limit rate over " + std::to_string(settings_.flow_rate) + "/second burst " +
                             std::to_string(2 * settings_.flow_rate) + " packets }";
    const std::string count = " ct count over " + std::to_string(settings_.flows_of_client) + " }";
    for (const bool v4 : {true, false}) {
      const std::string_view family = v4 ? "4" : "6";
      const std::string_view source = v4 ? "ip saddr" : "ip6 saddr";
      line({"update @rate", family, " { ", source, rate, counts(kCounterFlowRate), " drop"});
      line({"add @flows", family, " { ", source, count, counts(kCounterFlows), " drop"});
    }
    close();
  }

  void mail() {
    open("mail");
    for (const ExitRule& rule : allow_) {
      const Ranges ranges = ranges_of(rule, kProtocolTcp);
      const bool opens = rule.ports.empty() || std::ranges::any_of(ranges, [](const auto& range) {
                           return range.first <= kMailPort && kMailPort <= range.second;
                         });
      if (opens) line(goes_to(rule.to) + " accept");
    }
    line(refuses(Denied::mail).substr(1));
    close();
  }

  void input() {
    open("to_machine");
    line("ip daddr { " + text_of(settings_.subnet) + ", 224.0.0.0/4, 255.255.255.255 } accept");
    line("ip6 daddr { " + (settings_.subnet6 ? text_of(*settings_.subnet6) + ", " : std::string()) +
         "ff00::/8 } accept");
    line("ip daddr " + text_of(settings_.server_ip) + " accept");
    if (settings_.server_ip6) line("ip6 daddr " + text_of(*settings_.server_ip6) + " accept");
    line("ct state established,related ct direction reply accept");
    line("jump deny");
    for (const ExitRule& rule : allow_)
      if (rule.to.length() == rule.to.address().width()) judge(rule, " accept");
    line("fib daddr type broadcast" + counts(std::string(kCounterOfDenied) + "broadcast") + " drop");
    line(refuses(Denied::own_address).substr(1));
    close();
    open("input", "type filter hook input priority filter");
    line("iifname " + tun_ + " goto to_machine");
    close();
  }

  void forward() {
    open("from_clients");
    line("oifname " + tun_ + " accept");
    line("ct state { invalid, untracked }" + counts(kCounterUntracked) + " drop");
    if (!settings_.ipv6()) line("meta nfproto ipv6" + counts(kCounterNoIpv6) + " reject with icmpv6 no-route");
    line("ct state related accept");
    line("ct direction reply accept");
    line("ct state new jump begins");
    line("jump deny");
    line("ip daddr @special4 goto in_special4");
    line("ip6 daddr @special6 goto in_special6");
    if (has_own4_) line("ip daddr @own4 goto in_own4");
    if (has_own6_) line("ip6 daddr @own6 goto in_own6");
    line("tcp dport " + std::to_string(kMailPort) + " goto mail");
    close();
    open("to_clients");
    line("fib saddr oifname " + tun_ + counts(kCounterSpoofed) + " drop");
    line("ct state established,related accept");
    line("ct status dnat accept");
    line(counts(kCounterOutside).substr(1) + " drop");
    close();
    open("forward", "type filter hook forward priority filter");
    line("iifname " + tun_ + " goto from_clients");
    line("oifname " + tun_ + " goto to_clients");
    close();
  }

  void prerouting() {
    // The kernel drops what it does not forward without a word, and before the forward hook: so it is told of here.
    if (!settings_.ipv6()) {
      open("ipv6", "type filter hook prerouting priority filter");
      line("iifname " + tun_ +
           " meta nfproto ipv6 fib daddr type != { local, anycast, multicast } fib daddr oifname != " + tun_ +
           counts(kCounterNoIpv6) + " reject with icmpv6 no-route");
      close();
    }
    if (settings_.forwards.empty()) return;
    open("forwards", "type nat hook prerouting priority dstnat");
    for (const KernelForward& forward : settings_.forwards) {
      const std::string port =
          std::string(forward.protocol == kProtocolTcp ? " tcp" : " udp") + " dport " + std::to_string(forward.port);
      const std::string to = text_of(forward.to);
      const std::string not_inner6 =
          settings_.server_ip6 ? " ip6 daddr != " + text_of(*settings_.server_ip6) : " meta nfproto ipv6";
      if (forward.to.address.is_v6())
        line({"fib daddr type local", not_inner6, port, " dnat ip6 to ", to});
      else if (settings_.public_ip)
        line({"ip daddr ", text_of(*settings_.public_ip), port, " dnat ip to ", to});
      else
        line({"fib daddr type local ip daddr != ", text_of(settings_.server_ip), port, " dnat ip to ", to});
    }
    close();
  }

  void postrouting() {
    open("postrouting", "type nat hook postrouting priority srcnat");
    line("iifname != " + tun_ + " return");
    if (!settings_.forwards.empty()) line("oifname " + tun_ + " ct status dnat masquerade");
    line("oifname " + tun_ + " return");
    if (settings_.public_ip) line("meta nfproto ipv4 snat ip to " + text_of(*settings_.public_ip));
    line("masquerade");
    close();
  }

  const KernelNatSettings& settings_;
  std::string tun_;
  bool owned_;
  std::vector<ExitRule> allow_;
  std::vector<ExitRule> deny_;
  bool has_own4_ = false;
  bool has_own6_ = false;
  std::string text_;
};

bool is_plain(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

std::unexpected<Error> refused(std::string what) {
  return fail(ErrorCode::invalid_argument, "internet.mode: kernel: " + std::move(what));
}

}  // namespace

Result<void> check_settings(const KernelNatSettings& settings) {
  if (!is_plain(settings.interface) || settings.interface.size() > 15)
    return refused("vpn.interface_name: " + in_quotes(settings.interface) +
                   " cannot stand in firewall rules; use letters, digits, _, - and . only, at most 15");
  const std::string table = settings.table_name();
  const bool begins_well = std::string_view("0123456789-.").find(table.front()) == std::string_view::npos;
  if (!is_plain(table) || !begins_well || table.size() > 128)
    return refused(in_quotes(table) + " is no name for a table of nftables");
  if (settings.public_ip && !settings.public_ip->is_v4())
    return refused("internet.public_ip: " + settings.public_ip->to_string() + " is not an IPv4 address");
  std::map<std::tuple<std::uint8_t, std::uint16_t, bool>, const KernelForward*> taken;
  for (const KernelForward& forward : settings.forwards) {
    const std::string name = "internet.forward: " + std::string(forward.protocol == kProtocolTcp ? "tcp " : "udp ") +
                             std::to_string(forward.port) + " -> " + forward.to.to_string();
    if (forward.protocol != kProtocolTcp && forward.protocol != kProtocolUdp)
      return refused("internet.forward: only tcp and udp can be forwarded");
    if (forward.port == 0 || forward.to.port == 0) return refused(name + ": 0 is no port");
    if (forward.to.address.is_v6() && !settings.ipv6())
      return refused(name + ": this machine has no IPv6 internet for its clients, or vpn.subnet6 is not set");
    if (!taken.try_emplace({forward.protocol, forward.port, forward.to.address.is_v4()}, &forward).second)
      return refused(name + ": the port is forwarded already");
  }
  return {};
}

std::string ruleset_of(const KernelNatSettings& settings, bool owned) { return Script(settings, owned).write(); }

}  // namespace penstock::egress
