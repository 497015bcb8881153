#include "router/icmp_errors.h"

#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::router {
std::optional<Packet> IcmpErrors::time_exceeded(const Packet& offending) {
  return about(offending, [](const IpView& view, ByteView bytes, const IpAddress& from) {
    return penstock::time_exceeded(view, bytes, from);
  });
}

std::optional<Packet> IcmpErrors::unreachable(const Packet& offending, Unreachable why) {
  return about(offending, [why](const IpView& view, ByteView bytes, const IpAddress& from) {
    return penstock::unreachable(view, bytes, from, why);
  });
}

std::optional<Packet> IcmpErrors::too_big(const Packet& offending, std::size_t mtu) {
  return about(offending, [mtu](const IpView& view, ByteView bytes, const IpAddress& from) {
    return penstock::too_big(view, bytes, from, static_cast<std::uint32_t>(mtu));
  });
}

template <typename Say>
std::optional<Packet> IcmpErrors::about(const Packet& offending, Say say) {
  const auto view = parse_ip(offending.bytes());
  if (!view) return std::nullopt;
  const std::optional<IpAddress>& own = view->family == Family::ipv4 ? v4_ : v6_;
  if (!own) return std::nullopt;
  Allowance allowance = allowance_of(offending.source);
  if (!allowance.left()) return std::nullopt;
  const IpAddress& from = offending.source ? *own : view->destination;
  std::optional<Packet> error;
  if (offending.offload == Offload{}) {
    error = say(*view, offending.bytes(), from);
  } else {
    const Packet first = first_packet_of(offending);
    if (const auto its_view = parse_ip(first.bytes())) error = say(*its_view, first.bytes(), from);
  }
  // Only now: what must not be answered takes nobody's turn.
  if (error) allowance.take();
  return error;
}

IcmpErrors::Allowance IcmpErrors::allowance_of(SessionId sender) {
  constexpr Duration kSecond = std::chrono::seconds(1);
  const TimePoint now = clock_->now();
  if (!sender) return {exits_, now, kSecond / kExitRate, kExitBurst};
  if (sender.slot >= sessions_.size()) sessions_.resize(sender.slot + std::size_t{1});
  return {sessions_[sender.slot], now, kSecond / kRate, kBurst};
}

}  // namespace penstock::router
