#include "ingress/websocket/handshake_limiter.h"

#include <algorithm>
#include <utility>

#include "base/result.h"

namespace penstock::ingress {
namespace {

// Addresses that are looked at, of each list, whenever a handshake begins or ends: more than can have come meanwhile.
constexpr int kForgottenAtOnce = 8;
// What an Internet provider gives one subscriber at least (RFC 6177).
constexpr int kIpv6Unit = 64;

}  // namespace

HandshakeLimiter::HandshakeLimiter(Settings settings) : settings_(std::move(settings)), exempt_(settings_.exempt) {
  most_failures_ = settings_.failed_logins + std::uint64_t{1};
  while (block_after(most_failures_) < settings_.max_retry_after) ++most_failures_;
}

// ---- tickets ----

HandshakeLimiter::Ticket& HandshakeLimiter::Ticket::operator=(Ticket&& other) noexcept {
  std::swap(limiter_, other.limiter_);
  std::swap(loop_, other.loop_);
  std::swap(number_, other.number_);
  std::swap(evicted_, other.evicted_);
  return *this;
}

void HandshakeLimiter::Ticket::release() {
  if (limiter_ == nullptr) return;
  const std::lock_guard lock(limiter_->mutex_);
  const auto handshake = limiter_->handshakes_.find(number_);
  if (handshake == limiter_->handshakes_.end()) return;  // it was evicted
  limiter_->end(handshake->second, loop_->now());
  limiter_->silent_.erase(number_);
  limiter_->handshakes_.erase(handshake);
}

void HandshakeLimiter::Ticket::has_spoken() {
  const std::lock_guard lock(limiter_->mutex_);
  limiter_->silent_.erase(number_);
}

std::expected<void, Limit> HandshakeLimiter::Ticket::claim(const IpAddress& client) {
  const std::lock_guard lock(limiter_->mutex_);
  const auto handshake = limiter_->handshakes_.find(number_);
  if (handshake == limiter_->handshakes_.end()) return {};  // its eviction is on its way
  PENSTOCK_ASSERT(!handshake->second.address);
  auto address = limiter_->begin(client, loop_->now());
  if (!address) return std::unexpected(address.error());
  handshake->second.address = *address;
  return {};
}

std::expected<HandshakeLimiter::Ticket, Limit> HandshakeLimiter::enter(EventLoop& loop,
                                                                       const std::optional<IpAddress>& client) {
  const TimePoint now = loop.now();
  Handshake evicted;
  std::optional<Ticket> ticket;
  {
    const std::lock_guard lock(mutex_);
    std::optional<AddressRef> address;
    if (client) {
      auto begun = begin(*client, now);
      if (!begun) return std::unexpected(begun.error());
      address = *begun;
    }
    if (handshakes_.size() >= settings_.handshakes) {
      const auto oldest = silent_.empty() ? handshakes_.begin() : handshakes_.find(*silent_.begin());
      evicted = std::move(oldest->second);
      silent_.erase(oldest->first);
      handshakes_.erase(oldest);
      end(evicted, now);
      count(Limit::handshakes_full);
    }
    ticket = Ticket(*this, loop, ++last_number_);
    silent_.insert(silent_.end(), last_number_);
    handshakes_[last_number_] = {.loop = &loop, .evicted = ticket->evicted_, .address = address};
  }
  if (evicted.loop != nullptr) {
    evicted.loop->post([owner = std::move(evicted.evicted)] {
      if (const auto task = owner.lock(); task && *task) (*task)();
    });
  }
  return std::move(*ticket);
}

// ---- addresses ----

// What `client` is counted as, or nothing.
std::optional<IpAddress> HandshakeLimiter::unit_of(const IpAddress& client) const {
  const IpAddress address = client.unmapped();
  if (address.is_unspecified()) return std::nullopt;
  for (const Prefix& exempt : exempt_) {
    if (exempt.contains(address)) return std::nullopt;
  }
  return address.is_v4() ? address : Prefix(address, kIpv6Unit).address();
}

std::expected<std::optional<HandshakeLimiter::AddressRef>, Limit> HandshakeLimiter::begin(const IpAddress& client,
                                                                                          TimePoint now) {
  forget_some(now);
  const auto unit = unit_of(client);
  if (!unit) return std::nullopt;
  const AddressRef address = address_of(*unit);
  const auto refuse = [this](Limit limit) {
    count(limit);
    return std::unexpected(limit);
  };
  if (address->handshakes >= settings_.handshakes_per_address) return refuse(Limit::handshakes_per_address);
  const Duration cost = Duration(std::chrono::seconds(1)) / settings_.handshake_rate;
  const TimePoint full_at = std::max(address->tokens_full_at, now) + cost;
  if (full_at - now > kBurst) return refuse(Limit::handshake_rate);
  address->tokens_full_at = full_at;
  ++address->handshakes;
  put_in_its_list(address, now);
  return address;
}

void HandshakeLimiter::end(const Handshake& handshake, TimePoint now) {
  if (handshake.address && --(*handshake.address)->handshakes == 0) put_in_its_list(*handshake.address, now);
  forget_some(now);
}

// A new one is in no list's right place yet: put_in_its_list() must follow.
HandshakeLimiter::AddressRef HandshakeLimiter::address_of(const IpAddress& unit) {
  if (const auto known = by_unit_.find(unit); known != by_unit_.end()) return known->second;
  const AddressRef address = busy_.insert(busy_.end(), Address{.unit = unit, .list = &busy_});
  by_unit_[unit] = address;
  return address;
}

void HandshakeLimiter::put_in_its_list(AddressRef address, TimePoint now) {
  std::list<Address>* list = &busy_;
  if (address->handshakes == 0) {
    const bool failed = std::max(address->forgiven_at, address->blocked_until) > now;
    if (!failed && address->tokens_full_at <= now) return forget(address);
    list = failed ? &failed_ : &recent_;
  }
  list->splice(list->end(), *address->list, address);
  address->list = list;
  if (recent_.size() + failed_.size() > kMostIdle) forget(recent_.empty() ? failed_.begin() : recent_.begin());
}

void HandshakeLimiter::forget_some(TimePoint now) {
  for (std::list<Address>* list : {&recent_, &failed_}) {
    for (int i = 0; i < kForgottenAtOnce && !list->empty(); ++i) {
      const Address& oldest = list->front();
      if (std::max({oldest.tokens_full_at, oldest.forgiven_at, oldest.blocked_until}) > now) break;
      forget(list->begin());
    }
  }
}

void HandshakeLimiter::forget(AddressRef address) {
  by_unit_.erase(address->unit);
  address->list->erase(address);
}

// ---- failed logins ----

Duration HandshakeLimiter::block_after(std::uint64_t failures) const {
  const Duration longest = settings_.max_retry_after;
  if (failures <= settings_.failed_logins) return {};
  Duration block = kFirstBlock;
  for (std::uint64_t i = settings_.failed_logins + std::uint64_t{1}; i < failures && block < longest; ++i)
    block = block > longest / 2 ? longest : block * 2;
  return std::min(block, longest);
}

// One is forgiven every kForgiveness: what is begun of a further one counts as one.
std::uint64_t HandshakeLimiter::failures_of(const Address& address, TimePoint now) {
  const Duration unforgiven = std::max(address.forgiven_at - now, Duration{});
  return static_cast<std::uint64_t>((unforgiven + kForgiveness - Duration(1)) / kForgiveness);
}

std::optional<HandshakeLimiter::Blocked> HandshakeLimiter::login_failed(const IpAddress& client, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto unit = unit_of(client);
  if (!unit) return std::nullopt;
  const AddressRef address = address_of(*unit);
  const Duration unforgiven = std::min(std::max(address->forgiven_at - now, Duration{}) + kForgiveness,
                                       Duration(kForgiveness * most_failures_));
  address->forgiven_at = now + unforgiven;
  const std::uint64_t failures = failures_of(*address, now);
  const TimePoint blocked_until = now + block_after(failures);
  const bool longer = blocked_until > std::max(address->blocked_until, now);
  if (longer) address->blocked_until = blocked_until;
  put_in_its_list(address, now);
  if (!longer) return std::nullopt;
  return Blocked{.unit = *unit, .wait = blocked_until - now, .failures = failures};
}

Duration HandshakeLimiter::blocked_for(const IpAddress& client, TimePoint now) const {
  const std::lock_guard lock(mutex_);
  const auto unit = unit_of(client);
  if (!unit) return {};
  const auto address = by_unit_.find(*unit);
  if (address == by_unit_.end()) return {};
  return std::max(address->second->blocked_until - now, Duration{});
}

void HandshakeLimiter::set_exempt(std::vector<Prefix> exempt) {
  const std::lock_guard lock(mutex_);
  exempt_ = std::move(exempt);
  // Of an IPv6 unit all must be: the rest of it has failed as before.
  const auto is_exempt = [this](const IpAddress& unit) {
    return std::ranges::any_of(exempt_, [&](const Prefix& prefix) {
      return prefix.contains(unit) && (unit.is_v4() || prefix.length() <= kIpv6Unit);
    });
  };
  for (Address& address : busy_) {
    if (is_exempt(address.unit)) address.forgiven_at = address.blocked_until = {};
  }
  for (auto next = failed_.begin(); next != failed_.end();) {
    const auto address = next++;
    if (is_exempt(address->unit)) forget(address);
  }
}

// ---- for people ----

std::string HandshakeLimiter::Blocked::name() const {
  return unit.is_v4() ? unit.to_string() : Prefix(unit, kIpv6Unit).to_string();
}

std::size_t HandshakeLimiter::handshakes() const {
  const std::lock_guard lock(mutex_);
  return handshakes_.size();
}

std::size_t HandshakeLimiter::known_addresses() const {
  const std::lock_guard lock(mutex_);
  return by_unit_.size();
}

std::size_t HandshakeLimiter::blocked_addresses(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  const auto blocked = [now](const Address& address) { return address.blocked_until > now; };
  return static_cast<std::size_t>(std::ranges::count_if(busy_, blocked) + std::ranges::count_if(failed_, blocked));
}

std::vector<HandshakeLimiter::Blocked> HandshakeLimiter::blocked(TimePoint now, std::size_t most) const {
  std::vector<Blocked> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto* list : {&busy_, &failed_}) {
      for (const Address& address : *list) {
        const Duration wait = address.blocked_until - now;
        if (wait > Duration{})
          all.push_back({.unit = address.unit, .wait = wait, .failures = failures_of(address, now)});
      }
    }
  }
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(most, all.size()));
  std::ranges::partial_sort(all, end, std::ranges::greater{}, &Blocked::wait);
  all.erase(end, all.end());
  return all;
}

}  // namespace penstock::ingress
