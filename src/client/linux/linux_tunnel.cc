#include "client/linux/linux_tunnel.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/log.h"
#include "net/host_addresses.h"

namespace penstock::client {
namespace {

struct Forwarding {
  const char* file;
  const char* setting;
};

constexpr const char* kSysctlFile = "/etc/sysctl.d/60-penstock.conf";  // what is set there outlives a restart
constexpr Forwarding kForwarding4{"/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"};
constexpr Forwarding kForwarding6{"/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"};

// Whether this machine hands on what is for others. One that does not tell is taken at its best.
bool is_on(const Forwarding& forwarding) {
  std::ifstream file(forwarding.file);
  int value = 1;
  return !(file >> value) || value != 0;
}

}  // namespace

Result<std::unique_ptr<LinuxTunnel>> LinuxTunnel::create(EventLoop& loop, const tun::InterfaceOptions& options) {
  PENSTOCK_TRY(auto interface, tun::Interface::create(options));
  return std::unique_ptr<LinuxTunnel>(new LinuxTunnel(loop, std::move(interface)));
}

LinuxTunnel::LinuxTunnel(EventLoop& loop, std::unique_ptr<tun::Interface> interface)
    : loop_(&loop),
      warnings_(loop, "more networks of the gateway that are in the way"),
      interface_(std::move(interface)),
      watch_(loop.watch(interface_->device().handle())) {}

Result<void> LinuxTunnel::configure(const TunnelSettings& settings) {
  // The gateway's choice and not ours: a warning, for it explains what will be strange.
  const auto addresses = net::host_addresses();
  if (addresses) {
    for (const auto& [address, length] : settings.addresses) {
      if (const auto* other = net::overlapping(*addresses, Prefix(address, length), interface_->name());
          other != nullptr && may_warn()) {
        log::warn("the gateway's network overlaps one that this machine stands in",
                  {{"subnet", Prefix(address, length)}, {"other", other->network}, {"interface", other->interface}});
      }
    }
  }
  // A network that this machine stands in is reached directly, whoever else has one of that name.
  std::vector<Prefix> routes = settings.routes;
  std::erase_if(routes, [&](const Prefix& route) {
    const auto stands_in = [&](const net::HostAddress& host) {
      return host.interface != interface_->name() && host.network.contains(route);
    };
    if (!addresses || std::ranges::none_of(*addresses, stands_in)) return false;
    if (may_warn()) log::warn("route not used: this machine stands in that network itself", {{"route", route}});
    return true;
  });
  PENSTOCK_TRY_VOID(interface_->configure({.addresses = settings.addresses, .routes = routes, .mtu = settings.mtu}));
  warn_unless_forwarding(settings.sites);
  return {};
}

void LinuxTunnel::warn_unless_forwarding(const std::vector<Prefix>& sites) {
  for (const Prefix& site : sites) {
    const Forwarding& forwarding = site.is_v4() ? kForwarding4 : kForwarding6;
    if (warned_of_forwarding_ || is_on(forwarding)) continue;
    warned_of_forwarding_ = true;
    log::warn("this machine does not forward: others cannot reach the subnet behind it",
              {{"site", site},
               {"run", "echo " + std::string(forwarding.setting) + "=1 >> " + kSysctlFile + " && sysctl --system"}});
  }
}

}  // namespace penstock::client
