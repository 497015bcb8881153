#include "router/discovery.h"

#include <algorithm>
#include <array>

#include "packet/super_packet.h"

namespace penstock::router {
namespace {

constexpr Duration kCopyTime = Duration(std::chrono::seconds(1)) / FloodBudget::kCopiesPerSecond;

// Whoever answers these decides how a network works. Destination ports.
constexpr std::array<std::uint16_t, 10> kNeverForwarded{
    67,   68,    // DHCP, BOOTP
    546,  547,   // DHCPv6
    520,  521,   // RIP, RIPng
    646,         // LDP
    1985, 2029,  // HSRP, for IPv6
    3222,        // GLBP
};

// Wider than a link, and yet what people expect to work at home.
constexpr std::array<IpAddress, 3> kKnownGroups4{
    IpAddress::v4(0xEFFFFFFA),  // 239.255.255.250: SSDP, WS-Discovery
    IpAddress::v4(0xEFFFFFFD),  // 239.255.255.253: SLP (RFC 2608 section 5)
    IpAddress::v4(0xE000023C),  // 224.0.2.60: Minecraft
};

bool is_forwarded_group4(const IpAddress& group) {
  constexpr std::uint32_t kLinkLocalBlock = 0xE0000000;  // 224.0.0.0/24, RFC 5771 section 4
  return (group.to_v4() & 0xFFFFFF00) == kLinkLocalBlock ||
         std::ranges::find(kKnownGroups4, group) != kKnownGroups4.end();
}

bool is_forwarded_group6(const IpAddress& group) {
  constexpr std::uint64_t kSiteSsdp = 0xFF05'0000'0000'0000;  // ff05::c
  // RFC 4291 section 2.7: ff, four bits of flags, four bits of scope. A group is well-known (0) or transient (1).
  const std::uint64_t kind = group.upper() >> 48;
  return kind == 0xFF02 || kind == 0xFF12 || (group.upper() == kSiteSsdp && group.lower() == 0x0C);
}

}  // namespace

bool FloodBudget::spend(TimePoint now) {
  const Duration::rep at = now.time_since_epoch().count();
  const Duration cost = kCopyTime * receivers_.load(std::memory_order_relaxed);
  Duration::rep full_at = full_at_.load(std::memory_order_relaxed);
  while (full_at - at <= (kCopyTime * kBurstCopies).count()) {
    if (full_at_.compare_exchange_weak(full_at, std::max(full_at, at) + cost.count(), std::memory_order_relaxed))
      return true;
  }
  return false;
}

std::optional<IpAddress> broadcast_of(const Prefix& subnet) {
  if (!subnet.is_v4() || subnet.length() > 30) return std::nullopt;
  return subnet.last();
}

bool is_discovery(ByteView packet, const IpView& view) {
  // An IPv6 fragment has another protocol here, as has whatever stands behind extension headers.
  constexpr std::size_t kUdpHeader = 8;
  const std::size_t plain_header = view.family == Family::ipv4 ? 20 : 40;
  if (view.protocol != kProtocolUdp || view.fragment || view.header_size != plain_header ||
      packet.size() < plain_header + kUdpHeader) {
    return false;
  }
  const auto ports = ports_of(packet, view);
  if (!ports || std::ranges::find(kNeverForwarded, ports->destination) != kNeverForwarded.end()) return false;
  if (!view.destination.is_multicast()) return true;
  return view.family == Family::ipv4 ? is_forwarded_group4(view.destination) : is_forwarded_group6(view.destination);
}

std::optional<Drop> Discovery::judge(const Packet& packet, const IpView& view, TokenBucket& sender) const {
  if (!is_discovery(packet.bytes(), view) || packet.size() > settings_.max_size) return Drop::multicast;
  if (segments_of(packet) > 1) return Drop::multicast;
  if (!settings_.on) return Drop::discovery_off;
  const TimePoint now = clock_->now();
  const Duration interval = Duration(std::chrono::seconds(1)) / settings_.rate;
  if (!sender.take(now, interval, 2 * settings_.rate) || !budget_->spend(now)) return Drop::discovery_rate;
  return std::nullopt;
}

}  // namespace penstock::router
