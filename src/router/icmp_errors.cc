#include "router/icmp_errors.h"

#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::router {
namespace {

// A plain packet with the headers of the first that `packet` stands for.
Packet first_segment_of(const Packet& packet) {
  Packet copy = packet.clone();
  return segments_of(copy) > 1 ? split_front(copy, 1) : std::move(copy);
}

}  // namespace

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
  if (!own || !may_speak(offending.source)) return std::nullopt;
  const IpAddress& from = offending.source ? *own : view->destination;
  if (offending.offload.gso == Offload::Gso::none) return say(*view, offending.bytes(), from);
  const Packet first = first_segment_of(offending);
  const auto its_view = parse_ip(first.bytes());
  return its_view ? say(*its_view, first.bytes(), from) : std::nullopt;
}

bool IcmpErrors::may_speak(SessionId sender) {
  constexpr Duration kSecond = std::chrono::seconds(1);
  if (!sender) return exits_.take(clock_->now(), kSecond / kExitRate, kExitBurst);
  if (sender.slot >= sessions_.size()) sessions_.resize(sender.slot + std::size_t{1});
  return sessions_[sender.slot].take(clock_->now(), kSecond / kRate, kBurst);
}

}  // namespace penstock::router
