// What `internet` of the configuration says, in the words of the exits, which know no configuration.
//
// Threads   pure functions; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/ip.h"
#include "config/server_config.h"
#include "egress/kernel/kernel_rules.h"
#include "egress/nat/exit_policy.h"
#include "egress/nat/nat.h"
#include "net/host_addresses.h"

namespace penstock::gateway {

// As rules count protocols; 0: any.
std::uint8_t protocol_number(PortProtocol protocol);

// Of translation in user space.
egress::Nat::Settings nat_settings_of(const ServerConfig& config);

// The policy of a gateway on a machine with these addresses. `exempt` is for exit_policy.h's check_own().
egress::ExitPolicy exit_policy_of(const InternetConfig& internet, const ServerConfig::Vpn& vpn,
                                  const std::vector<net::HostAddress>& machine, const std::vector<Endpoint>& exempt);

// Rules of internet.allow that open nothing, or TCP port 25 alone, each with what is probably wrong.
std::vector<std::string> doubts_about_allow(const InternetConfig& internet,
                                            const std::vector<net::HostAddress>& machine);

// Of translation by the kernel. `rules` may be others than the configuration's.
egress::KernelNatSettings kernel_nat_settings_of(const ServerConfig& config, const InternetConfig& rules,
                                                 const std::vector<net::HostAddress>& machine,
                                                 const std::string& interface, bool outer_ipv6);

// Where it is remembered what forwarding was before (egress/kernel/forwarding.h).
std::filesystem::path forwarding_journal_of(const ServerConfig& config);

}  // namespace penstock::gateway
