// Whether a client may send to an address and port of the internet, through the user-space NAT.
//
//   explicit deny? --> refused
//   default class? --no--> allowed
//          |--yes, and no explicit allow that opens it --> refused, under the name of its class
//          |--yes, and one that does --> allowed
//
// What a gateway stands among is not the internet: its own addresses, its LAN, the services that a cloud has for its
// machines. Whoever reaches those by way of the gateway has the gateway's place there, so by default none is reached.
// The classes are the IANA special-purpose registries (RFC 6890) with what they left out, and outgoing mail (tcp 25),
// which costs an exit its reputation.
//
// Embedded IPv4   an IPv6 address that leads to an IPv4 one is judged as that one: IPv4-mapped and -compatible (RFC
//                 4291 section 2.5.5), NAT64 (RFC 6052 section 2.1), 6to4 (RFC 3056 section 2). The prefix for local
//                 NAT64 (RFC 8215) may carry it in four places (RFC 6052 section 2.2): each that could be one is
//                 judged. Teredo (RFC 4380) hides it, and is refused.
// Deny            wins over everything, and is asked of the IPv6 address and of the IPv4 address in it.
// Allow           opens what is denied by default where the rule's prefix is the class's own or lies in it:
//                 192.168.1.0/24 opens that LAN, but neither the gateway's address in it nor its broadcast address,
//                 which want to be named as /32; 0.0.0.0/0 opens port 25, and no class at all. So nobody opens
//                 loopback by a rule that was to say "the web is allowed".
//
// Always true   it is what going through all of it one by one finds (exit_policy_test.cc).
// Cost          of an ordinary address a binary search among the gateway's own addresses and one among the prefixes
//               that are denied altogether, and a step for each rule that denies certain ports. Nothing is allocated.
// Ownership     an immutable value; when the machine's addresses change, make another.
// Threads       any number may ask at once.
// Not here      who may send at all (router/source_guard.h), other clients (router/access_gate.h), rates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "router/access_policy.h"
#include "router/address_bits.h"

namespace penstock::egress {

// Why not. A new one is added at the end, with its name.
enum class Denied : std::uint8_t {
  nothing,          // it is allowed
  rule,             // internet.deny
  own_address,      // of the gateway itself
  metadata,         // where clouds tell a machine its secrets
  unspecified,      // 0.0.0.0/8 "this network", ::
  loopback,         //
  link_local,       //
  private_network,  // RFC 1918, unique and site local IPv6
  shared,           // between a provider and its customers (RFC 6598)
  multicast,        //
  broadcast,        // limited, and of the networks that the gateway stands in
  reserved,         // for documentation, benchmarks, protocols, or nobody yet
  teredo,           //
  mail,             // tcp 25
  own_network,      // that the gateway stands in
};
inline constexpr std::size_t kDeniedReasons = static_cast<std::size_t>(Denied::own_network) + 1;

constexpr std::string_view to_string(Denied reason) {
  constexpr std::array<std::string_view, kDeniedReasons> kNames{
      "nothing", "rule",      "own_address", "metadata", "unspecified", "loopback", "link_local", "private",
      "shared",  "multicast", "broadcast",   "reserved", "teredo",      "mail",     "own_network"};
  return kNames[static_cast<std::size_t>(reason)];
}

// One of internet.allow or internet.deny.
struct ExitRule {
  Prefix to;
  std::vector<router::AccessPorts> ports;  // none: all, and every protocol, ICMP too
};

inline constexpr std::uint16_t kMailPort = 25;

// A rule for IPv4-mapped addresses is one for IPv4.
Prefix unmapped(const Prefix& prefix);

class ExitPolicy {
 public:
  struct Settings {
    std::vector<ExitRule> allow;
    std::vector<ExitRule> deny;
    std::vector<IpAddress> own;  // of the gateway, inner and outer
    // That it stands in, where whoever is there takes it for one of theirs: closed, and of IPv4 the first and the last
    // address are broadcasts. Links between two, and what is too large to be a network, are not.
    std::vector<Prefix> networks;
    std::vector<Endpoint> exempt;  // for the gateway's own forwarder: its resolvers
  };

  struct Verdict {
    bool allowed = false;
    Denied reason = Denied::nothing;
    friend bool operator==(const Verdict&, const Verdict&) = default;
  };

  // What is denied by default whoever the gateway is, for documents and for rules in a kernel: the first block that an
  // address lies in says why. Blocks of IPv6 that embed IPv4 are among them as reserved: check() looks into those.
  struct Block {
    Prefix prefix;
    Denied reason = Denied::nothing;
  };
  static std::vector<Block> default_blocks();
  // Whether `network`, of the machine, is one that is closed.
  static bool is_own_network(const Prefix& network);

  explicit ExitPolicy(Settings settings);

  // For a packet of a client. `port` is the one of TCP or UDP that it goes to; of other protocols it does not matter.
  Verdict check(std::uint8_t protocol, const IpAddress& to, std::uint16_t port) const;
  // For what the gateway's own forwarder sends: to exempt endpoints always, by TCP and UDP, for the operator named
  // them; to others as a client may.
  Verdict check_own(std::uint8_t protocol, const IpAddress& to, std::uint16_t port) const;

 private:
  using Bits = router::AddressBits;

  struct Rule {
    Bits bits;
    Bits mask;
    int length = 0;
    std::vector<router::AccessPorts> ports;
    bool covers(const Bits& to, std::uint8_t protocol, std::uint16_t port) const;
  };
  struct Range {  // of a prefix
    Bits first;
    Bits last;
  };
  struct Exact {
    Bits address;
    Denied reason = Denied::nothing;
  };
  // All of one address family.
  struct Tables {
    std::vector<Range> closed;    // denied altogether; disjoint, in order
    std::vector<Rule> deny;       // at certain ports
    std::vector<Rule> allow;      //
    std::vector<Exact> specials;  // own and broadcast addresses, in order
    std::vector<Rule> networks;   // that the gateway stands in

    bool denies(const Bits& to, std::uint8_t protocol, std::uint16_t port) const;
    bool opens(const Bits& to, int length, std::uint8_t protocol, std::uint16_t port) const;
    Denied special(const Bits& to) const;
    // The length of the network that it lies in; nothing where in none.
    std::optional<int> network(const Bits& to) const;
    Verdict judge(const Bits& to, std::uint8_t protocol, std::uint16_t port, Denied reason, int length) const;
  };

  Verdict check4(std::uint32_t to, std::uint8_t protocol, std::uint16_t port) const;
  Verdict check6(const Bits& to, std::uint8_t protocol, std::uint16_t port) const;

  Settings settings_;
  Tables v4_;
  Tables v6_;
};

}  // namespace penstock::egress
