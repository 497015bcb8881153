#include "config/policy.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <tuple>

#include "config/common.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

// Takes "tcp " or "udp " off the front of `text`.
PortProtocol take_protocol(std::string_view& text) {
  if (text.starts_with("tcp ")) {
    text.remove_prefix(4);
    return PortProtocol::tcp;
  }
  if (text.starts_with("udp ")) {
    text.remove_prefix(4);
    return PortProtocol::udp;
  }
  return PortProtocol::any;
}

bool parse_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && end == text.data() + text.size() && port != 0;
}

Result<PortRange> port_range(const Node& node) {
  if (node.is_scalar()) {
    std::string_view text = node.text;
    PortRange range;
    range.protocol = take_protocol(text);
    const std::size_t dash = text.find('-');
    const std::string_view last = dash == std::string_view::npos ? text : text.substr(dash + 1);
    if (parse_port(text.substr(0, dash), range.first) && parse_port(last, range.last) && range.first <= range.last) {
      return range;
    }
  }
  return form::expected("a port such as 443, 8000-8100 or \"tcp 443\"", node);
}

Result<Party> party(const Node& node) {
  Party party;
  if (node.is_scalar() && node.text == kAnybody) return party;
  // What looks like an address is to be one, not a name with dots.
  if (node.is_scalar() && (node.text.find_first_of("/:") != std::string::npos ||
                           (!node.text.empty() && node.text.find_first_not_of("0123456789.") == std::string::npos))) {
    PENSTOCK_TRY(party.prefix, form::prefix(node));
    return party;
  }
  auto name = form::name(node);
  if (!name) return form::expected("a prefix such as 10.100.0.0/24, the name of a client or group, or any", node);
  party.name = *std::move(name);
  return party;
}

Result<std::string> domain(const Node& node) {
  const auto in_domain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
  };
  if (node.is_scalar() && !node.text.empty() && node.text.size() <= 253 && node.text.front() != '.' &&
      node.text.find("..") == std::string::npos && std::ranges::all_of(node.text, in_domain)) {
    return node.text;
  }
  return form::expected("a domain such as example.org", node);
}

Result<InternetConfig::Forward> forward(const Node& node) {
  if (node.is_scalar()) {
    std::string_view text = node.text;
    InternetConfig::Forward forward;
    forward.protocol = take_protocol(text);
    constexpr std::string_view kArrow = " -> ";
    const std::size_t arrow = text.find(kArrow);
    if (forward.protocol != PortProtocol::any && arrow != std::string_view::npos &&
        parse_port(text.substr(0, arrow), forward.port)) {
      const auto to = Endpoint::parse(text.substr(arrow + kArrow.size()));
      if (to && to->port != 0 && !to->address.is_unspecified()) {
        forward.to = *to;
        return forward;
      }
    }
  }
  return form::expected("a forward such as \"tcp 2222 -> 10.100.0.5:22\"", node);
}

Result<Endpoint> dns_server(const Node& node) {
  if (node.is_scalar()) {
    if (const auto address = IpAddress::parse(node.text)) return Endpoint{.address = *address, .port = 53};
    if (const auto endpoint = Endpoint::parse(node.text); endpoint && endpoint->port != 0) return *endpoint;
  }
  return form::expected("an address such as 9.9.9.9 or 9.9.9.9:53", node);
}

void read_internet_rules(Section& section, std::string_view key, std::vector<InternetConfig::Rule>& out) {
  out.clear();
  section.each(key, [&out](Section item) {
    InternetConfig::Rule rule;
    if (item.node()->is_map()) {
      item.required("to", rule.to, form::prefix);
      item.list("ports", rule.ports, port_range);
    } else if (auto prefix = form::prefix(*item.node())) {
      rule.to = *prefix;
    } else {
      item.refuse(prefix.error().message);
    }
    out.push_back(std::move(rule));
  });
}

}  // namespace

void read_push(Section section, PushConfig& out) {
  section.list("routes", out.routes, form::prefix);
  section.list("exclude", out.exclude, form::prefix);
  Section dns = section.section("dns");
  dns.list("servers", out.dns.servers, form::address);
  dns.list("search", out.dns.search, domain);
  dns.list("split", out.dns.split, domain);
  if (!out.dns.split.empty() && out.dns.servers.empty()) {
    dns.refuse("split", "names domains, but push.dns.servers has no server to ask for them");
  }
  section.mark_reserved("exclude");
  section.mark_reserved("dns");
}

void read_lan(Section section, LanConfig& out) {
  section.value("isolate", out.isolate, form::flag);
  section.each("allow", [&out](Section item) {
    if (!item.node()->is_map()) {
      item.refuse("expected a rule such as {from: alice, to: 10.100.0.5, ports: [22]}");
      return;
    }
    LanConfig::Rule rule;
    item.required("from", rule.from, party);
    item.required("to", rule.to, party);
    item.list("ports", rule.ports, port_range);
    out.allow.push_back(std::move(rule));
  });
  section.value("discovery", out.discovery, form::word<bool>({{"on", true}, {"off", false}}));
  section.value("discovery_rate", out.discovery_rate, form::count(1, 100'000));
}

void read_internet(Section section, InternetConfig& out) {
  using Mode = InternetConfig::Mode;
  section.value("mode", out.mode,
                form::word<Mode>({{"userspace", Mode::userspace}, {"kernel", Mode::kernel}, {"off", Mode::off}}));
  section.value("public_ip", out.public_ip, form::address);
  if (out.public_ip && !out.public_ip->is_v4()) section.refuse("public_ip", "must be an IPv4 address");
  read_internet_rules(section, "allow", out.allow);
  read_internet_rules(section, "deny", out.deny);
  using Filtering = InternetConfig::Filtering;
  section.value("filtering", out.filtering,
                form::word<Filtering>({{"address-and-port", Filtering::address_and_port},
                                       {"address", Filtering::address},
                                       {"none", Filtering::none}}));
  // RFC 4787 REQ-5: two minutes at least.
  section.value("udp_timeout", out.udp_timeout, form::duration(2min, 12h));
  section.list("forward", out.forward, forward);
  std::set<std::tuple<PortProtocol, std::uint16_t, Family>> taken;  // each family has addresses of its own outside
  std::set<std::pair<PortProtocol, Endpoint>> reached;
  for (const auto& one : out.forward) {
    if (!reached.emplace(one.protocol, one.to).second)
      section.refuse("forward", one.to.to_string() + " is reached by two ports: its answers can come from one only");
    if (!taken.emplace(one.protocol, one.port, one.to.address.family()).second) {
      section.refuse("forward", "port " + std::to_string(one.port) + " is forwarded twice");
    }
  }
}

void read_dns_upstream(Section& section, std::vector<Endpoint>& out) { section.list("upstream", out, dns_server); }

}  // namespace penstock
