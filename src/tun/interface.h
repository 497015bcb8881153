// A TUN device together with what this process configured on it: MTU, addresses, routes.
//
//   create() --> device open, no address --configure()--> up, with addresses and routes --~Interface()--> as found
//
// configure() may be called again and again, with what is wanted now. It adds what is missing, removes what it added
// earlier and is no longer wanted, and leaves the rest alone, so a client whose address is confirmed on reconnecting
// disturbs no connection. New addresses come before old ones go, so that the routes survive a change of address. What
// somebody else put on the interface is used where it fits and never removed.
//
// An MTU that somebody set by hand is left alone, until it is set back. One below 1280 takes all IPv6 addresses and
// routes away, by the kernel's doing (RFC 8200 section 5), and configure() then leaves IPv6 out with a warning; the
// next one after the MTU was raised brings it back.
//
// Always true    after a successful configure() the kernel has every wanted address and route, whatever happened to
//                them before, but for IPv6 as above; after a failed one, what was added so far is known and the next
//                call or the destructor clears it up.
// On destruction a device made by create() vanishes with all that is on it; a persistent one that was found stays, and
//                gets back its MTU and its up or down, without our addresses and routes.
// Threads        one at a time, in the network namespace in which it was created.
// Refusals       the messages name the interface and the configuration key: vpn.interface_name, vpn.mtu, vpn.routes,
//                vpn.subnet or vpn.subnet6 (addresses).
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "tun/device.h"
#include "tun/netlink.h"

namespace penstock::tun {

struct InterfaceOptions {
  std::string name;
  int mtu = 1420;  // bytes of IP packet, 68 to 65535; at least 1280 for IPv6
  OffloadMode offload = OffloadMode::automatic;
};

struct InterfaceSettings {
  // Each with the length of its subnet; the kernel itself routes that subnet to the interface.
  std::vector<std::pair<IpAddress, int>> addresses;
  // More prefixes to send into the interface. One that is an address's own subnet is there already.
  std::vector<Prefix> routes;
  std::optional<int> mtu;  // none: as it is
};

class Interface {
 public:
  static Result<std::unique_ptr<Interface>> create(const InterfaceOptions& options);
  ~Interface();
  Interface(const Interface&) = delete;
  Interface& operator=(const Interface&) = delete;

  Result<void> configure(const InterfaceSettings& settings);
  // The interface's own, whoever set it.
  int mtu() const;

  Device& device() { return *device_; }
  const std::string& name() const { return device_->name(); }

 private:
  Interface(std::unique_ptr<Netlink> netlink, std::unique_ptr<Device> device, std::optional<LinkInfo> found)
      : netlink_(std::move(netlink)), device_(std::move(device)), found_(std::move(found)) {}

  void leave_out_ipv6(std::set<InterfaceAddress>& addresses, std::set<Prefix>& routes, int mtu);
  Result<void> set_mtu(int mtu);
  Result<void> add_missing_addresses(const std::set<InterfaceAddress>& wanted);
  Result<void> remove_address(const InterfaceAddress& address);
  Result<void> add_missing_routes(const std::set<Prefix>& wanted);
  Result<void> remove_route(const Prefix& destination);

  std::unique_ptr<Netlink> netlink_;
  std::unique_ptr<Device> device_;
  std::optional<LinkInfo> found_;  // the persistent device as it was before us; none: we made it
  int mtu_ = 0;                    // as we set it
  bool without_ipv6_ = false;
  // What we added, and so may remove.
  std::set<InterfaceAddress> addresses_;
  std::set<Prefix> routes_;
};

}  // namespace penstock::tun
