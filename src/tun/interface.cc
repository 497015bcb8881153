#include "tun/interface.h"

#include <algorithm>

#include "base/log.h"
#include "tun/device_linux.h"

namespace penstock::tun {
namespace {

// What the kernel takes for a TUN (its minmtu and maxmtu), and the least that IPv6 allows (RFC 8200 section 5).
constexpr int kLeastMtu = 68;
constexpr int kMostMtu = 65535;
constexpr int kLeastMtu6 = 1280;

std::unexpected<Error> under(std::string_view key, Error error) {
  error.message = std::string(key) + ": " + error.message;
  return std::unexpected(std::move(error));
}

std::string_view key_of(const InterfaceAddress& address) {
  return address.address.is_v6() ? "vpn.subnet6" : "vpn.subnet";
}

// Checked before anything is touched, so that a refusal of these changes nothing.
Result<void> check_mtu(const std::string& name, int mtu, bool carries_ipv6) {
  if (mtu < kLeastMtu || mtu > kMostMtu)
    return fail(ErrorCode::invalid_argument, "vpn.mtu: interface " + name + " cannot have an MTU of " +
                                                 std::to_string(mtu) + ": give 68 to 65535 bytes");
  if (carries_ipv6 && mtu < kLeastMtu6)
    return fail(ErrorCode::invalid_argument, "vpn.mtu: interface " + name + " has an IPv6 address and an MTU of " +
                                                 std::to_string(mtu) + ": IPv6 needs at least 1280 bytes");
  return {};
}

Result<std::set<InterfaceAddress>> wanted_addresses(const std::string& name, const InterfaceSettings& settings) {
  std::set<InterfaceAddress> wanted;
  for (const auto& [address, prefix_length] : settings.addresses) {
    const InterfaceAddress added{address, prefix_length};
    if (prefix_length < 0 || prefix_length > address.width())
      return fail(ErrorCode::invalid_argument, std::string(key_of(added)) + ": interface " + name + ": " +
                                                   added.to_string() + " has no valid prefix length");
    wanted.insert(added);
  }
  return wanted;
}

// Without those that an address brings along.
std::set<Prefix> wanted_routes(const InterfaceSettings& settings, const std::set<InterfaceAddress>& addresses) {
  std::set<Prefix> wanted(settings.routes.begin(), settings.routes.end());
  for (const auto& address : addresses) wanted.erase(address.connected_prefix());
  return wanted;
}

void log_leftover(const Result<void>& removed) {
  if (!removed) log::warn("interface not left as it was found", {{"reason", removed.error().message}});
}

}  // namespace

Result<std::unique_ptr<Interface>> Interface::create(const InterfaceOptions& options) {
  PENSTOCK_TRY_VOID(check_mtu(options.name, options.mtu, false));
  PENSTOCK_TRY(auto netlink, Netlink::create());
  PENSTOCK_TRY(auto found, netlink->find_link(options.name));
  PENSTOCK_TRY(auto device, open_device({.name = options.name, .offload = options.offload}));
  // The TUN that was seen a moment ago may have gone, and its name with it: then this one is new.
  if (found && found->index != device->index()) found.reset();
  std::unique_ptr<Interface> made(new Interface(std::move(netlink), std::move(device), std::move(found)));
  PENSTOCK_TRY_VOID(made->set_mtu(options.mtu));
  if (auto set = made->netlink_->set_tunnel_defaults(made->device_->index()); !set)
    return under("vpn.interface_name", std::move(set).error());
  return made;
}

Interface::~Interface() {
  if (!found_) return;
  for (const Prefix& route : std::set(routes_)) log_leftover(remove_route(route));
  for (const InterfaceAddress& address : std::set(addresses_)) log_leftover(remove_address(address));
  if (mtu_ != found_->mtu) log_leftover(netlink_->set_mtu(device_->index(), found_->mtu));
  if (!found_->up) log_leftover(netlink_->set_down(device_->index()));
}

Result<void> Interface::configure(const InterfaceSettings& settings) {
  PENSTOCK_TRY(auto addresses, wanted_addresses(name(), settings));
  std::set<Prefix> routes = wanted_routes(settings, addresses);
  const int mtu = settings.mtu.value_or(mtu_);
  const bool ipv6 = std::ranges::any_of(addresses, [](const auto& wanted) { return wanted.address.is_v6(); });
  PENSTOCK_TRY_VOID(check_mtu(name(), mtu, ipv6));
  const int present = this->mtu();
  const bool by_hand = present != mtu_ && present != mtu;
  leave_out_ipv6(addresses, routes, by_hand ? present : mtu);

  // What goes first: routes that lead here no longer, and addresses that come back with another prefix length, which
  // IPv6 does not allow twice.
  for (const Prefix& route : std::set(routes_))
    if (!routes.contains(route)) PENSTOCK_TRY_VOID(remove_route(route));
  const auto comes_back = [&](const InterfaceAddress& address) {
    return std::ranges::any_of(addresses, [&](const auto& wanted) { return wanted.address == address.address; });
  };
  for (const InterfaceAddress& address : std::set(addresses_))
    if (!addresses.contains(address) && comes_back(address)) PENSTOCK_TRY_VOID(remove_address(address));

  if (mtu != mtu_ && !by_hand) PENSTOCK_TRY_VOID(set_mtu(mtu));
  if (auto up = netlink_->set_up(device_->index()); !up) return under("vpn.interface_name", std::move(up).error());
  PENSTOCK_TRY_VOID(add_missing_addresses(addresses));
  // With the last address of a family its routes would go, so the old ones leave only now.
  for (const InterfaceAddress& address : std::set(addresses_))
    if (!addresses.contains(address)) PENSTOCK_TRY_VOID(remove_address(address));
  return add_missing_routes(routes);
}

int Interface::mtu() const {
  const auto link = netlink_->find_link(name());
  // One that was given another name is not asked.
  return link && *link && (*link)->index == device_->index() ? (*link)->mtu : mtu_;
}

// Where `mtu` does not carry it.
void Interface::leave_out_ipv6(std::set<InterfaceAddress>& addresses, std::set<Prefix>& routes, int mtu) {
  std::size_t left_out = 0;
  if (mtu < kLeastMtu6) {
    left_out = std::erase_if(addresses, [](const InterfaceAddress& wanted) { return wanted.address.is_v6(); }) +
               std::erase_if(routes, [](const Prefix& wanted) { return !wanted.is_v4(); });
  }
  if (left_out != 0 && !without_ipv6_)
    log::warn("no IPv6 inside: it needs an MTU of 1280 or more", {{"interface", name()}, {"mtu", mtu}});
  without_ipv6_ = left_out != 0;
}

Result<void> Interface::set_mtu(int mtu) {
  // With an MTU that allows it, IPv6 begins anew, and would make up an address if the interface were up.
  const bool ipv6_begins = mtu_ != 0 && mtu_ < kLeastMtu6 && mtu >= kLeastMtu6;
  if (ipv6_begins) PENSTOCK_TRY_VOID(netlink_->set_down(device_->index()));
  if (auto set = netlink_->set_mtu(device_->index(), mtu); !set) return under("vpn.mtu", std::move(set).error());
  mtu_ = mtu;
  if (ipv6_begins) PENSTOCK_TRY_VOID(netlink_->set_tunnel_defaults(device_->index()));
  return {};
}

Result<void> Interface::add_missing_addresses(const std::set<InterfaceAddress>& wanted) {
  PENSTOCK_TRY(const auto present, netlink_->addresses(device_->index()));
  for (const InterfaceAddress& address : wanted) {
    if (std::ranges::find(present, address) != present.end()) continue;
    if (auto added = netlink_->add_address(device_->index(), address.address, address.prefix_length); !added)
      return under(key_of(address), std::move(added).error());
    addresses_.insert(address);
  }
  return {};
}

Result<void> Interface::remove_address(const InterfaceAddress& address) {
  auto removed = netlink_->remove_address(device_->index(), address.address, address.prefix_length);
  if (!removed && removed.error().code != ErrorCode::not_found)
    return under(key_of(address), std::move(removed).error());
  addresses_.erase(address);
  return {};
}

Result<void> Interface::add_missing_routes(const std::set<Prefix>& wanted) {
  PENSTOCK_TRY(const auto present, netlink_->routes(device_->index()));
  for (const Prefix& destination : wanted) {
    const auto leads_there = [&](const Route& route) {
      return route.destination == destination && route.table == Route::kMainTable;
    };
    if (std::ranges::any_of(present, leads_there)) continue;
    if (auto added = netlink_->add_route({.destination = destination, .index = device_->index()}); !added)
      return under("vpn.routes", std::move(added).error());
    routes_.insert(destination);
  }
  return {};
}

Result<void> Interface::remove_route(const Prefix& destination) {
  auto removed = netlink_->remove_route({.destination = destination, .index = device_->index()});
  if (!removed && removed.error().code != ErrorCode::not_found) return under("vpn.routes", std::move(removed).error());
  routes_.erase(destination);
  return {};
}

}  // namespace penstock::tun
