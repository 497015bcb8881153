#include "egress/nat/exit_policy.h"

#include <algorithm>

#include "base/bytes.h"
#include "packet/ip_view.h"

namespace penstock::egress {
namespace {

using Bits = router::AddressBits;

// An object and no function: searches have it inline.
constexpr auto kBefore = [](const Bits& a, const Bits& b) {
  return a.upper != b.upper ? a.upper < b.upper : a.lower < b.lower;
};

// How an IPv6 block leads to IPv4.
enum class Leads : std::uint8_t { nowhere, by_last_bits, by_6to4, by_local_nat64 };

struct Class {
  Bits bits;
  int length = 0;
  Denied reason = Denied::nothing;
  Leads leads = Leads::nowhere;
  constexpr bool contains(const Bits& address) const { return address.masked(Bits::mask(length)) == bits; }
};

constexpr Class v4(unsigned a, unsigned b, unsigned c, unsigned d, int length, Denied reason) {
  return {{std::uint64_t{a << 24 | b << 16 | c << 8 | d} << 32, 0}, length, reason};
}
constexpr Class v6(std::uint64_t upper, std::uint64_t lower, int length, Denied reason, Leads leads = Leads::nowhere) {
  return {{upper, lower}, length, reason, leads};
}

// In both tables what lies in another block stands before it.
constexpr std::array kClasses4{
    v4(169, 254, 169, 254, 32, Denied::metadata),  // AWS, Azure, Google, OpenStack and nearly everybody
    v4(169, 254, 170, 2, 32, Denied::metadata),    // AWS: containers
    v4(169, 254, 170, 23, 32, Denied::metadata),   // AWS: pods
    v4(169, 254, 0, 23, 32, Denied::metadata),     // Tencent
    v4(169, 254, 42, 42, 32, Denied::metadata),    // Scaleway
    v4(100, 100, 100, 200, 32, Denied::metadata),  // Alibaba
    v4(168, 63, 129, 16, 32, Denied::metadata),    // Azure: a public address
    v4(192, 0, 0, 192, 32, Denied::metadata),      // Oracle
    v4(0, 0, 0, 0, 8, Denied::unspecified),        // RFC 791 section 3.2
    v4(10, 0, 0, 0, 8, Denied::private_network),
    v4(100, 64, 0, 0, 10, Denied::shared),
    v4(127, 0, 0, 0, 8, Denied::loopback),
    v4(169, 254, 0, 0, 16, Denied::link_local),  // RFC 3927
    v4(172, 16, 0, 0, 12, Denied::private_network),
    v4(192, 0, 0, 0, 24, Denied::reserved),    // protocol assignments: RFC 6890
    v4(192, 0, 2, 0, 24, Denied::reserved),    // documentation: RFC 5737
    v4(192, 88, 99, 0, 24, Denied::reserved),  // relays of 6to4 that should be gone: RFC 7526
    v4(192, 168, 0, 0, 16, Denied::private_network),
    v4(198, 18, 0, 0, 15, Denied::reserved),  // benchmarks: RFC 2544
    v4(198, 51, 100, 0, 24, Denied::reserved),
    v4(203, 0, 113, 0, 24, Denied::reserved),
    v4(224, 0, 0, 0, 4, Denied::multicast),
    v4(255, 255, 255, 255, 32, Denied::broadcast),
    v4(240, 0, 0, 0, 4, Denied::reserved),  // RFC 1112 section 4
};

constexpr std::array kClasses6{
    v6(0, 0, 128, Denied::unspecified),
    v6(0, 1, 128, Denied::loopback),
    v6(0xfd000ec200000000, 0x254, 128, Denied::metadata),       // AWS
    v6(0xfd000ec200000000, 0x23, 128, Denied::metadata),        // AWS: pods
    v6(0xfd2000ce00000000, 0x254, 128, Denied::metadata),       // Google
    v6(0xfd00004200000000, 0x42, 128, Denied::metadata),        // Scaleway
    v6(0xfe80000000000000, 0xa9fea9fe, 128, Denied::metadata),  // OpenStack
    v6(0, 0x0000ffff00000000, 96, Denied::reserved, Leads::by_last_bits),
    v6(0, 0, 96, Denied::reserved, Leads::by_last_bits),
    v6(0x0064ff9b00000000, 0, 96, Denied::reserved, Leads::by_last_bits),
    v6(0x0064ff9b00010000, 0, 48, Denied::reserved, Leads::by_local_nat64),
    v6(0x0100000000000000, 0, 64, Denied::reserved),  // to be discarded: RFC 6666
    v6(0x2001000000000000, 0, 32, Denied::teredo),
    v6(0x2001000000000000, 0, 23, Denied::reserved),  // protocol assignments: RFC 2928
    v6(0x20010db800000000, 0, 32, Denied::reserved),  // documentation: RFC 3849, RFC 9637
    v6(0x3fff000000000000, 0, 20, Denied::reserved),
    v6(0x2002000000000000, 0, 16, Denied::reserved, Leads::by_6to4),
    v6(0xfc00000000000000, 0, 7, Denied::private_network),
    v6(0xfe80000000000000, 0, 10, Denied::link_local),
    v6(0xfec0000000000000, 0, 10, Denied::private_network),  // site local: RFC 3879
    v6(0xff00000000000000, 0, 8, Denied::multicast),
    // All but 2000::/3, of which nothing is given to anybody (RFC 4291 section 2.4).
    v6(0x0000000000000000, 0, 3, Denied::reserved),
    v6(0x4000000000000000, 0, 2, Denied::reserved),
    v6(0x8000000000000000, 0, 1, Denied::reserved),
};

// Whether an IPv4 address with this first byte may lie in a class. Nearly all others are spared the search.
constexpr std::array<bool, 256> kMaybe4 = [] {
  std::array<bool, 256> maybe{};
  for (const Class& one : kClasses4) {
    const auto first = static_cast<std::size_t>(one.bits.upper >> 56);
    const std::size_t count = one.length >= 8 ? 1 : std::size_t{1} << (8 - one.length);
    for (std::size_t i = 0; i < count; ++i) maybe[first + i] = true;
  }
  return maybe;
}();

// The same for IPv6: of 2000::/3 what no class has.
constexpr bool is_ordinary6(const Bits& to) {
  const auto head = static_cast<std::uint32_t>(to.upper >> 32);
  return head >> 29 == 1 && (head < 0x20010000 || head >= 0x20010200) && head != 0x20010db8 && head >> 16 != 0x2002 &&
         head >> 12 != 0x3fff0;
}

const Class* class_of(std::span<const Class> classes, const Bits& to) {
  for (const Class& one : classes) {
    if (one.contains(to)) return &one;
  }
  return nullptr;
}

// The IPv4 addresses that `to` may lead to.
struct Inner {
  std::array<std::uint32_t, 4> addresses{};
  std::size_t count = 1;
};
Inner inner_of(Leads leads, const Bits& to) {
  if (leads == Leads::by_last_bits) return {{static_cast<std::uint32_t>(to.lower)}};
  if (leads == Leads::by_6to4) return {{static_cast<std::uint32_t>(to.upper >> 16)}};
  // RFC 6052 section 2.2: behind a prefix of 48, 56, 64 or 96 bits; the byte at bit 64 is skipped. What reads as "this
  // network" has its address in another place, or nowhere.
  Inner inner{.count = 0};
  const std::uint64_t skipped = to.lower << 8;
  for (const std::uint64_t address : {(to.upper & 0xFFFF) << 16 | skipped >> 48,
                                      (to.upper & 0xFF) << 24 | skipped >> 40, skipped >> 32, to.lower & 0xFFFFFFFF}) {
    if (address >> 24 != 0) inner.addresses[inner.count++] = static_cast<std::uint32_t>(address);
  }
  inner.count = std::max<std::size_t>(inner.count, 1);  // 0.0.0.0
  return inner;
}

Prefix prefix_of(const Class& one, Family family) {
  std::array<std::uint8_t, 16> bytes{};
  store_be64(bytes.data(), one.bits.upper);
  store_be64(bytes.data() + 8, one.bits.lower);
  return {IpAddress::from_bytes(ByteView(bytes).first(family == Family::ipv4 ? 4 : 16)), one.length};
}

}  // namespace

Prefix unmapped(const Prefix& prefix) {
  const IpAddress inner = prefix.address().unmapped();
  return prefix.is_v4() || inner.is_v6() || prefix.length() < 96 ? prefix : Prefix(inner, prefix.length() - 96);
}

std::vector<ExitPolicy::Block> ExitPolicy::default_blocks() {
  std::vector<Block> blocks;
  for (const Class& one : kClasses4) blocks.push_back({prefix_of(one, Family::ipv4), one.reason});
  for (const Class& one : kClasses6) blocks.push_back({prefix_of(one, Family::ipv6), one.reason});
  return blocks;
}

bool ExitPolicy::is_own_network(const Prefix& network) {
  return network.is_v4() ? network.length() >= 8 && network.length() <= 30
                         : network.length() >= 32 && network.length() <= 126;
}

ExitPolicy::ExitPolicy(Settings settings) : settings_(std::move(settings)) {
  const auto tables_of = [this](const Prefix& prefix) -> Tables& { return prefix.is_v4() ? v4_ : v6_; };
  const auto rule_of = [](const Prefix& prefix, const ExitRule& rule) {
    return Rule{Bits::of(prefix.address()), Bits::mask(prefix.length()), prefix.length(), rule.ports};
  };
  for (const ExitRule& rule : settings_.allow) {
    const Prefix to = unmapped(rule.to);
    tables_of(to).allow.push_back(rule_of(to, rule));
  }
  for (const ExitRule& rule : settings_.deny) {
    const Prefix to = unmapped(rule.to);
    if (rule.ports.empty()) {
      const Bits mask = Bits::mask(to.length());
      const Bits first = Bits::of(to.address());
      tables_of(to).closed.push_back({first, {first.upper | ~mask.upper, first.lower | ~mask.lower}});
    } else {
      tables_of(to).deny.push_back(rule_of(to, rule));
    }
  }
  for (const IpAddress& own : settings_.own) {
    const IpAddress address = own.unmapped();
    (address.is_v4() ? v4_ : v6_).specials.push_back({Bits::of(address), Denied::own_address});
  }
  for (const Prefix& network : settings_.networks) {
    if (is_own_network(network)) tables_of(network).networks.push_back(rule_of(network, {}));
    if (!network.is_v4() || network.length() > 30) continue;  // RFC 3021: links between two have none
    v4_.specials.push_back({Bits::of(network.address()), Denied::broadcast});
    v4_.specials.push_back({Bits::of(network.last()), Denied::broadcast});
  }
  for (Tables* tables : {&v4_, &v6_}) {
    // The first of equals is the reason: own_address comes before broadcast.
    std::ranges::sort(tables->specials, [](const Exact& a, const Exact& b) {
      return a.address == b.address ? a.reason < b.reason : kBefore(a.address, b.address);
    });
    // Prefixes are disjoint, or one lies in the other: then it comes behind it, and goes.
    auto& closed = tables->closed;
    std::ranges::sort(closed, [](const Range& a, const Range& b) {
      return a.first == b.first ? kBefore(b.last, a.last) : kBefore(a.first, b.first);
    });
    std::vector<Range> kept;
    for (const Range& range : closed) {
      if (kept.empty() || kBefore(kept.back().last, range.first)) kept.push_back(range);
    }
    closed = std::move(kept);
  }
}

bool ExitPolicy::Rule::covers(const Bits& to, std::uint8_t protocol, std::uint16_t port) const {
  if (to.masked(mask) != bits) return false;
  if (ports.empty()) return true;
  if (protocol != kProtocolTcp && protocol != kProtocolUdp) return false;
  return std::ranges::any_of(ports, [&](const router::AccessPorts& range) {
    return (range.protocol == 0 || range.protocol == protocol) && port >= range.first && port <= range.last;
  });
}

bool ExitPolicy::Tables::denies(const Bits& to, std::uint8_t protocol, std::uint16_t port) const {
  const auto behind = std::ranges::upper_bound(closed, to, kBefore, &Range::first);
  if (behind != closed.begin() && !kBefore(std::prev(behind)->last, to)) return true;
  return std::ranges::any_of(deny, [&](const Rule& rule) { return rule.covers(to, protocol, port); });
}

bool ExitPolicy::Tables::opens(const Bits& to, int length, std::uint8_t protocol, std::uint16_t port) const {
  return std::ranges::any_of(
      allow, [&](const Rule& rule) { return rule.length >= length && rule.covers(to, protocol, port); });
}

Denied ExitPolicy::Tables::special(const Bits& to) const {
  const auto found = std::ranges::lower_bound(specials, to, kBefore, &Exact::address);
  return found != specials.end() && found->address == to ? found->reason : Denied::nothing;
}

std::optional<int> ExitPolicy::Tables::network(const Bits& to) const {
  const auto found = std::ranges::find_if(networks, [&](const Rule& one) { return to.masked(one.mask) == one.bits; });
  return found == networks.end() ? std::nullopt : std::optional(found->length);
}

// Of an address for which no rule denies `port`, and which is closed for `reason` as one of a block of that length, if
// it is.
ExitPolicy::Verdict ExitPolicy::Tables::judge(const Bits& to, std::uint8_t protocol, std::uint16_t port, Denied reason,
                                              int length) const {
  if (reason == Denied::nothing) {
    if (const auto own = network(to)) {
      length = *own;
      reason = Denied::own_network;
    } else if (protocol == kProtocolTcp && port == kMailPort) {
      length = 0;
      reason = Denied::mail;
    } else {
      return {true, Denied::nothing};
    }
  }
  if (opens(to, length, protocol, port)) return {true, Denied::nothing};
  return {false, reason};
}

ExitPolicy::Verdict ExitPolicy::check4(std::uint32_t address, std::uint8_t protocol, std::uint16_t port) const {
  const Bits to{std::uint64_t{address} << 32, 0};
  if (v4_.denies(to, protocol, port)) return {false, Denied::rule};
  int length = 32;  // of the block that is denied
  Denied reason = v4_.special(to);
  if (reason == Denied::nothing && kMaybe4[address >> 24]) {
    if (const Class* const found = class_of(kClasses4, to)) {
      length = found->length;
      reason = found->reason;
    }
  }
  return v4_.judge(to, protocol, port, reason, length);
}

ExitPolicy::Verdict ExitPolicy::check6(const Bits& to, std::uint8_t protocol, std::uint16_t port) const {
  if (v6_.denies(to, protocol, port)) return {false, Denied::rule};
  int length = 128;
  Denied reason = v6_.special(to);
  if (const Class* const found = is_ordinary6(to) ? nullptr : class_of(kClasses6, to)) {
    Verdict verdict{false, found->reason};
    if (found->leads != Leads::nowhere) {
      const Inner inner = inner_of(found->leads, to);
      verdict = {true, Denied::nothing};
      for (const std::uint32_t address : std::span(inner.addresses).first(inner.count)) {
        const Verdict one = check4(address, protocol, port);
        if (verdict.allowed || one.reason == Denied::rule) verdict = one;
      }
      if (verdict.reason == Denied::rule) return verdict;
    }
    if (reason == Denied::nothing) {
      if (verdict.allowed) return verdict;
      reason = verdict.reason;
      length = reason == Denied::mail ? 0 : found->length;
    }
  }
  return v6_.judge(to, protocol, port, reason, length);
}

ExitPolicy::Verdict ExitPolicy::check(std::uint8_t protocol, const IpAddress& to, std::uint16_t port) const {
  const std::uint8_t* const bytes = to.bytes().data();
  if (to.is_v4()) return check4(load_be32(bytes), protocol, port);
  return check6({load_be64(bytes), load_be64(bytes + 8)}, protocol, port);
}

ExitPolicy::Verdict ExitPolicy::check_own(std::uint8_t protocol, const IpAddress& to, std::uint16_t port) const {
  if (protocol == kProtocolTcp || protocol == kProtocolUdp) {
    const IpAddress address = to.unmapped();
    for (const Endpoint& endpoint : settings_.exempt) {
      if (endpoint.port == port && endpoint.address.unmapped() == address) return {true, Denied::nothing};
    }
  }
  return check(protocol, to, port);
}

}  // namespace penstock::egress
