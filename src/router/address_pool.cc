#include "router/address_pool.h"

namespace penstock::router {
namespace {

// A /31 has no address beside the gateway's that is neither network nor broadcast; more than a /8 is no private block.
constexpr int kShortestSubnet = 8;
constexpr int kLongestSubnet = 30;

}  // namespace

Result<AddressPool> AddressPool::create(const Prefix& subnet, const IpAddress& server_ip,
                                        const std::optional<Prefix>& subnet6, const Clock& clock) {
  if (!subnet.is_v4() || subnet.length() < kShortestSubnet || subnet.length() > kLongestSubnet) {
    return fail(ErrorCode::invalid_argument,
                "the subnet " + subnet.to_string() + " must be an IPv4 prefix of /8 to /30, such as 10.100.0.0/24");
  }
  if (!subnet.contains(server_ip) || server_ip == subnet.address() || server_ip == subnet.last()) {
    return fail(ErrorCode::invalid_argument, "the gateway's own address " + server_ip.to_string() +
                                                 " must be a host address of the subnet " + subnet.to_string() +
                                                 ", such as " + subnet.address().plus(1).to_string());
  }
  if (subnet6) {
    const int longest = 128 - (32 - subnet.length());
    if (subnet6->is_v4() || subnet6->length() > longest) {
      return fail(ErrorCode::invalid_argument, "the IPv6 subnet " + subnet6->to_string() +
                                                   " must be an IPv6 prefix of at most /" + std::to_string(longest) +
                                                   ", to have an address for each of " + subnet.to_string());
    }
  }
  return AddressPool(subnet, server_ip, subnet6, clock);
}

AddressPool::AddressPool(const Prefix& subnet, const IpAddress& server, const std::optional<Prefix>& subnet6,
                         const Clock& clock)
    : clock_(&clock),
      subnet_(subnet),
      subnet6_(subnet6),
      server_(server),
      server_host_(host_of(server)),
      last_(host_of(subnet.last()) - 1) {}

Result<IpAddress> AddressPool::lease(std::string_view holder) {
  settle();
  Host host = 0;
  if (!rested_.empty()) {
    host = *rested_.begin();
    rested_.erase(rested_.begin());
  } else {
    while (mark_ <= last_ && taken(mark_)) ++mark_;
    if (mark_ <= last_) {
      host = mark_++;
    } else if (!rest_queue_.empty()) {
      host = rest_queue_.begin()->second;
      stop_resting(resting_.find(host));
    } else {
      return exhausted();
    }
  }
  leased_.emplace(host, holder);
  return address_of(host);
}

Result<void> AddressPool::lease_exactly(const IpAddress& want, std::string_view holder) {
  PENSTOCK_TRY(const Host host, leasable(want));
  settle();
  if (leased_.contains(host)) return fail(ErrorCode::address_in_use, want.to_string() + " is in use");
  if (const auto reserved = reserved_.find(host); reserved != reserved_.end()) {
    if (reserved->second != holder) return fail(ErrorCode::address_in_use, want.to_string() + " is reserved");
  } else if (const auto rest = resting_.find(host); rest != resting_.end()) {
    if (rest->second.holder != holder)
      return fail(ErrorCode::address_in_use, want.to_string() + " was released a moment ago and rests");
    stop_resting(rest);
  }
  rested_.erase(host);
  leased_.emplace(host, holder);
  return {};
}

void AddressPool::release(const IpAddress& address) {
  const auto lease = leased_.find(host_of(address));
  PENSTOCK_ASSERT(subnet_.contains(address) && lease != leased_.end());
  const Host host = lease->first;
  if (!reserved_.contains(host)) start_resting(host, std::move(lease->second));
  leased_.erase(lease);
}

Result<void> AddressPool::reserve(const IpAddress& address, std::string_view holder) {
  PENSTOCK_TRY(const Host host, leasable(address));
  const auto [reserved, is_new] = reserved_.emplace(host, holder);
  if (!is_new && reserved->second != holder) {
    return fail(ErrorCode::address_in_use,
                address.to_string() + " is reserved for both " + reserved->second + " and " + std::string(holder));
  }
  if (const auto rest = resting_.find(host); rest != resting_.end()) stop_resting(rest);
  rested_.erase(host);
  return {};
}

void AddressPool::unreserve(const IpAddress& address) {
  if (!subnet_.contains(address)) return;
  const auto reserved = reserved_.find(host_of(address));
  if (reserved == reserved_.end()) return;
  if (!leased_.contains(reserved->first)) start_resting(reserved->first, std::move(reserved->second));
  reserved_.erase(reserved);
}

std::optional<IpAddress> AddressPool::partner(const IpAddress& address) const {
  PENSTOCK_ASSERT(subnet_.contains(address));
  if (!subnet6_) return std::nullopt;
  return subnet6_->address().plus(host_of(address));
}

bool AddressPool::contains(const IpAddress& address) const {
  return subnet_.contains(address) || (subnet6_ && subnet6_->contains(address));
}

bool AddressPool::is_leased(const IpAddress& address) const {
  return subnet_.contains(address) && leased_.contains(host_of(address));
}

Result<AddressPool::Host> AddressPool::leasable(const IpAddress& address) const {
  if (!subnet_.contains(address))
    return fail(ErrorCode::invalid_argument, address.to_string() + " is not in " + subnet_.to_string());
  const Host host = host_of(address);
  if (host == server_host_)
    return fail(ErrorCode::invalid_argument, address.to_string() + " is the gateway's own address");
  if (host == 0 || host > last_) {
    return fail(ErrorCode::invalid_argument,
                address.to_string() + " is the network or broadcast address of " + subnet_.to_string());
  }
  return host;
}

bool AddressPool::taken(Host host) const {
  return host == server_host_ || leased_.contains(host) || reserved_.contains(host) || resting_.contains(host);
}

// Moves the addresses that have rested long enough by now.
void AddressPool::settle() {
  const TimePoint now = clock_->now();
  while (!rest_queue_.empty() && rest_queue_.begin()->first + kRest <= now) {
    const Host host = rest_queue_.begin()->second;
    stop_resting(resting_.find(host));
    make_rested(host);
  }
}

void AddressPool::make_rested(Host host) {
  if (host >= mark_) return;
  rested_.insert(host);
  // Gives the memory of a busy day back: a run of rested addresses that reaches the mark needs no entries.
  while (!rested_.empty() && *rested_.rbegin() == mark_ - 1) {
    rested_.erase(std::prev(rested_.end()));
    --mark_;
  }
}

void AddressPool::start_resting(Host host, std::string holder) {
  const TimePoint now = clock_->now();
  resting_.emplace(host, Rest{now, std::move(holder)});
  rest_queue_.emplace(now, host);
}

void AddressPool::stop_resting(std::map<Host, Rest>::iterator rest) {
  rest_queue_.erase({rest->second.since, rest->first});
  resting_.erase(rest);
}

std::unexpected<Error> AddressPool::exhausted() const {
  std::string message = subnet_.to_string() + " has no free address (" + std::to_string(leased_.size()) + " in use";
  if (const std::size_t kept = capacity() - leased_.size(); kept != 0)
    message += ", " + std::to_string(kept) + " reserved";
  return fail(ErrorCode::exhausted, message + ")");
}

}  // namespace penstock::router
