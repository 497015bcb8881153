#include "client/linux/linux_tunnel.h"

#include <utility>

namespace penstock::client {

Result<std::unique_ptr<LinuxTunnel>> LinuxTunnel::create(EventLoop& loop, const tun::InterfaceOptions& options) {
  PENSTOCK_TRY(auto interface, tun::Interface::create(options));
  return std::unique_ptr<LinuxTunnel>(new LinuxTunnel(loop, std::move(interface)));
}

LinuxTunnel::LinuxTunnel(EventLoop& loop, std::unique_ptr<tun::Interface> interface)
    : interface_(std::move(interface)), watch_(loop.watch(interface_->device().handle())) {}

Result<void> LinuxTunnel::configure(const TunnelSettings& settings) {
  return interface_->configure({.addresses = settings.addresses, .routes = settings.routes, .mtu = settings.mtu});
}

}  // namespace penstock::client
