#include "gateway/internet_settings.h"

#include <algorithm>
#include <utility>

#include "packet/ip_view.h"

namespace penstock::gateway {
namespace {

using Filtering = egress::Nat::Filtering;

Filtering filtering_of(InternetConfig::Filtering filtering) {
  switch (filtering) {
    case InternetConfig::Filtering::address_and_port: return Filtering::address_and_port;
    case InternetConfig::Filtering::address: return Filtering::address;
    case InternetConfig::Filtering::none: return Filtering::none;
  }
  return Filtering::address_and_port;
}

std::vector<egress::ExitRule> exit_rules_of(const std::vector<InternetConfig::Rule>& rules) {
  std::vector<egress::ExitRule> made;
  for (const InternetConfig::Rule& rule : rules) {
    egress::ExitRule& one = made.emplace_back();
    one.to = rule.to;
    for (const PortRange& range : rule.ports)
      one.ports.push_back({protocol_number(range.protocol), range.first, range.last});
  }
  return made;
}

}  // namespace

std::uint8_t protocol_number(PortProtocol protocol) {
  switch (protocol) {
    case PortProtocol::tcp: return kProtocolTcp;
    case PortProtocol::udp: return kProtocolUdp;
    case PortProtocol::any: return 0;
  }
  return 0;
}

egress::Nat::Settings nat_settings_of(const ServerConfig& config) {
  egress::Nat::Settings settings;
  settings.filtering = filtering_of(config.internet.filtering);
  settings.udp_timeout = config.internet.udp_timeout;
  settings.bounds.flows_of_owner = config.limits.flows_per_session;
  settings.flow_rate = config.limits.flow_rate;
  return settings;
}

egress::ExitPolicy exit_policy_of(const InternetConfig& internet, const ServerConfig::Vpn& vpn,
                                  const std::vector<net::HostAddress>& machine, const std::vector<Endpoint>& exempt) {
  egress::ExitPolicy::Settings settings;
  settings.allow = exit_rules_of(internet.allow);
  settings.deny = exit_rules_of(internet.deny);
  settings.own.push_back(vpn.server_ip);
  if (vpn.server_ip6) settings.own.push_back(*vpn.server_ip6);
  for (const net::HostAddress& address : machine) {
    settings.own.push_back(address.address);
    settings.networks.push_back(address.network);
  }
  settings.exempt = exempt;
  return egress::ExitPolicy(std::move(settings));
}

std::vector<std::string> doubts_about_allow(const InternetConfig& internet,
                                            const std::vector<net::HostAddress>& machine) {
  std::vector<Prefix> closed;
  for (const auto& block : egress::ExitPolicy::default_blocks()) closed.push_back(block.prefix);
  for (const net::HostAddress& address : machine) {
    closed.push_back(Prefix::host(address.address));
    if (egress::ExitPolicy::is_own_network(address.network)) closed.push_back(address.network);
  }
  std::vector<std::string> doubts;
  for (const InternetConfig::Rule& rule : internet.allow) {
    const bool opens = std::ranges::any_of(closed, [&](const Prefix& one) { return one.contains(rule.to); });
    const bool mail = std::ranges::any_of(rule.ports, [](const PortRange& range) {
      return range.protocol != PortProtocol::udp && range.first <= 25 && range.last >= 25;
    });
    if (opens || mail) continue;
    doubts.push_back("internet.allow has " + rule.to.to_string() +
                     ", which lies in nothing that is closed by default: it opens " +
                     (rule.ports.empty() ? "TCP port 25 there, and nothing else" : "nothing") +
                     ". This is no whitelist: what is to be closed stands in internet.deny");
  }
  return doubts;
}

std::filesystem::path forwarding_journal_of(const ServerConfig& config) {
  return config.paths.state_dir / "forwarding.json";
}

egress::KernelNatSettings kernel_nat_settings_of(const ServerConfig& config, const InternetConfig& rules,
                                                 const std::vector<net::HostAddress>& machine,
                                                 const std::string& interface, bool outer_ipv6) {
  egress::KernelNatSettings settings;
  settings.interface = interface;
  settings.subnet = config.vpn.subnet;
  settings.subnet6 = config.vpn.subnet6;
  settings.server_ip = config.vpn.server_ip;
  settings.server_ip6 = config.vpn.server_ip6;
  settings.public_ip = config.internet.public_ip;
  settings.outer_ipv6 = outer_ipv6;
  settings.allow = exit_rules_of(rules.allow);
  settings.deny = exit_rules_of(rules.deny);
  for (const net::HostAddress& address : machine)
    if (address.interface != interface) settings.networks.push_back(address.network);
  settings.flows_of_client = config.limits.flows_per_session;
  settings.flow_rate = config.limits.flow_rate;
  for (const InternetConfig::Forward& forward : rules.forward)
    settings.forwards.push_back({protocol_number(forward.protocol), forward.port, forward.to});
  settings.journal = forwarding_journal_of(config);
  return settings;
}

}  // namespace penstock::gateway
