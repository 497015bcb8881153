// The nftables rules of internet.mode: kernel, as text.
//
//   a client's packet --TUN--> prerouting: forwards (dnat); IPv6 that leads nowhere
//                                 |                     |
//                            to the machine          onward
//                                 |                     |
//                              input: its own       forward: answers; internet.deny; default blocks and what opens
//                              addresses                |    them; mail
//                                                  postrouting: masquerade --> another interface
//
//   from elsewhere --> prerouting: forwards --> forward: answers and forwards only --TUN--> a client
//
// All of it is one table of family inet, and of its rules each asks for the TUN's name first: the machine's other
// traffic meets a comparison and nothing else. A packet that this table lets pass still has to pass everybody else's.
//
// The policy is ExitPolicy's (egress/nat/exit_policy.h): the same blocks, reasons and order. It is asked of every
// packet that goes the way its conversation began, not only of the first, so new rules hold for conversations that
// there are. What is refused is told so: administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
//
// Not the internet   what the kernel routes back into the TUN: neither judged nor masqueraded. The gateway's inner
//                    addresses, its subnets' broadcasts, and multicasts to the machine (discovery) pass as ever.
// Masqueraded        all else that came by the TUN, whatever its source: sites behind clients too.
// Not tracked        what conntrack calls invalid or does not look at would leave with an inner address: dropped.
// Forwards           on every address of the machine but the inner ones, or on public_ip alone. A client may use one
//                    too (hairpin); the client that it leads to then sees the gateway's inner address as the source,
//                    without which its answers would go straight to the asker, who knows nothing of them. A forward
//                    goes before what the machine itself has at that port.
//
// Where it differs from ExitPolicy::check()
//   IPv6 that embeds IPv4   is refused as its block, without a look at the IPv4 address. Where an allow rule opens part
//                           of it, internet.deny is still asked of the IPv4 address, but for the prefix for local NAT64
//                           (64:ff9b:1::/48), where it may stand in four places.
//   own addresses           are those that the kernel knows as local when the packet comes; likewise broadcasts. The
//                           first address of a network is one only to kernels before 5.14. Of an IPv6 network the
//                           machine's own is also the address of whatever router there is (RFC 4291 section 2.6.1).
//   what nobody forwards    is not forwarded though a rule allows it: loopback, ::, multicast, broadcast, IPv6's
//                           link-local addresses.
//
// Needs       Linux 5.9 (reject in prerouting); 5.12 for a table with an owner. nftables 1.0.
// Threads     pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "egress/nat/exit_policy.h"

namespace penstock::egress {

// From outside to a client.
struct KernelForward {
  std::uint8_t protocol = 0;  // kProtocolTcp or kProtocolUdp
  std::uint16_t port = 0;     // of the machine
  Endpoint to;
};

struct KernelNatSettings {
  std::string interface;  // the TUN's name
  std::string table;      // none: "penstock_" and the interface's name, so that several gateways live side by side
  Prefix subnet;
  std::optional<Prefix> subnet6;
  IpAddress server_ip;  // the gateway's inner addresses
  std::optional<IpAddress> server_ip6;
  std::optional<IpAddress> public_ip;  // IPv4, of this machine; none: that of the interface by which a packet leaves
  bool outer_ipv6 = false;             // false: IPv6 to elsewhere is refused at once, as without a route
  std::vector<ExitRule> allow;
  std::vector<ExitRule> deny;
  std::vector<Prefix> networks;  // that the machine stands in: ExitPolicy::is_own_network() says which are closed
  std::uint32_t flows_of_client = 8192;  // conversations of one address
  std::uint32_t flow_rate = 500;         // that it may begin a second, twice as many at once
  std::vector<KernelForward> forwards;
  std::filesystem::path journal;  // forwarding.h

  std::string table_name() const { return table.empty() ? std::string(kTablePrefix) + interface : table; }
  bool ipv6() const { return outer_ipv6 && subnet6.has_value(); }

  static constexpr std::string_view kTablePrefix = "penstock_";
};

// Packets that the rules dropped or refused, each under the name of its counter in the table.
inline constexpr std::string_view kCounterOfDenied = "denied_";   // and the reason's name
inline constexpr std::string_view kCounterOutside = "uninvited";  // begun outside, by no forward
inline constexpr std::string_view kCounterUntracked = "untracked";
inline constexpr std::string_view kCounterNoIpv6 = "no_ipv6";
inline constexpr std::string_view kCounterSpoofed = "spoofed";  // from outside, with an address from inside
inline constexpr std::string_view kCounterFlowRate = "flow_rate";
inline constexpr std::string_view kCounterFlows = "flows";

// Whether a script can be made of them. Refusals: invalid_argument, naming the configuration key.
Result<void> check_settings(const KernelNatSettings& settings);

// "table inet NAME { ... }": to be added where no such table is. With `owned` it vanishes with the socket that added
// it. check_settings() has approved of the settings.
std::string ruleset_of(const KernelNatSettings& settings, bool owned = true);

}  // namespace penstock::egress
