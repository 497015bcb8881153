#include "client/linux/linux_tunnel.h"

#include <utility>

#include "base/log.h"
#include "net/host_addresses.h"

namespace penstock::client {

Result<std::unique_ptr<LinuxTunnel>> LinuxTunnel::create(EventLoop& loop, const tun::InterfaceOptions& options) {
  PENSTOCK_TRY(auto interface, tun::Interface::create(options));
  return std::unique_ptr<LinuxTunnel>(new LinuxTunnel(loop, std::move(interface)));
}

LinuxTunnel::LinuxTunnel(EventLoop& loop, std::unique_ptr<tun::Interface> interface)
    : interface_(std::move(interface)), watch_(loop.watch(interface_->device().handle())) {}

Result<void> LinuxTunnel::configure(const TunnelSettings& settings) {
  // The gateway's choice and not ours: a warning, for it explains what will be strange.
  if (const auto addresses = net::host_addresses()) {
    for (const auto& [address, length] : settings.addresses) {
      if (const auto* other = net::overlapping(*addresses, Prefix(address, length), interface_->name())) {
        log::warn("the gateway's network overlaps one that this machine stands in",
                  {{"subnet", Prefix(address, length)}, {"other", other->network}, {"interface", other->interface}});
      }
    }
  }
  return interface_->configure({.addresses = settings.addresses, .routes = settings.routes, .mtu = settings.mtu});
}

}  // namespace penstock::client
