#include "gateway/kernel_internet.h"

#include <utility>

#include "base/log.h"
#include "gateway/internet_settings.h"
#include "net/host_addresses.h"

namespace penstock::gateway {

KernelInternet::KernelInternet(const ServerConfig& config, std::string interface)
    : config_(config),
      interface_(std::move(interface)),
      internet_(config.internet),
      outer_ipv6_(net::outer_address(Family::ipv6).has_value()) {}

Result<std::unique_ptr<KernelInternet>> KernelInternet::create(EventLoop& loop, const ServerConfig& config,
                                                               std::string interface) {
  std::unique_ptr<KernelInternet> made(new KernelInternet(config, std::move(interface)));
  PENSTOCK_TRY(made->watch_, net::AddressWatch::create(loop, [self = made.get()] { self->look_again(); }));
  auto settings = made->settings();
  made->networks_ = settings.networks;
  const std::string table = settings.table_name();
  PENSTOCK_TRY(made->nat_, egress::KernelNat::create(std::move(settings)));
  log::info("internet by the kernel", {{"table", "inet " + table}, {"ipv6", made->outer_ipv6_ ? "on" : "off"}});
  if (!made->outer_ipv6_ && !net::outer_address(Family::ipv4))
    log::warn("no route to the internet: clients get there as soon as this machine has one");
  return made;
}

void KernelInternet::restore_leftovers(const ServerConfig& config) {
  if (auto restored = egress::KernelNat::restore_leftovers(forwarding_journal_of(config)); !restored)
    log::warn("forwarding stays as a former gateway left it", {{"error", restored.error().message}});
}

egress::KernelNatSettings KernelInternet::settings() const {
  const auto machine = net::host_addresses();
  return kernel_nat_settings_of(config_, internet_, machine.value_or(std::vector<net::HostAddress>()), interface_,
                                outer_ipv6_);
}

void KernelInternet::set_rules(const InternetConfig& internet) {
  internet_.allow = internet.allow;
  internet_.deny = internet.deny;
  update(settings());
}

// Routes may change all the time, and to lay the rules anew forgets what each client has begun lately.
void KernelInternet::look_again() {
  if (auto now = settings(); now.networks != networks_) update(std::move(now));
  if (config_.vpn.subnet6 && !outer_ipv6_ && net::outer_address(Family::ipv6) && !std::exchange(told_of_ipv6_, true))
    log::warn("this machine has reached the IPv6 internet since the start: clients do after a restart");
}

void KernelInternet::update(egress::KernelNatSettings settings) {
  networks_ = settings.networks;
  if (auto set = nat_->update(std::move(settings)); !set)
    log::error("rules of the internet not changed, the old ones stay", {{"error", set.error().message}});
}

}  // namespace penstock::gateway
