// The DNS service of this gateway: names of its members, and everybody else's by way of other servers.
//
//   with a TUN device   sockets on the inner addresses, opened while the process still may
//   without one         packets to the inner addresses, by LocalHost
//
// Whom it asks  its servers and nobody else: they are exempt from the policy, which is asked of every query.
// Who may ask   members and what is behind them, and this machine itself.
// Ownership     borrows all that it is made with; destroyed before it.
// Threads       the home loop's.
// Not here      what a query is and who answers it (dns/), sockets (dns/service/).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ip.h"
#include "base/random.h"
#include "config/server_config.h"
#include "dns/service/name_listeners.h"
#include "dns/service/name_service.h"
#include "egress/local/local_host.h"
#include "egress/nat/exit_policy.h"
#include "router/shard.h"
#include "session/registry.h"

namespace penstock::gateway {

// The servers that the configuration names, or those that this machine asks itself; never the gateway.
std::vector<Endpoint> resolvers_of(const ServerConfig& config);
// Where those stand that the machine asks.
inline constexpr const char* kResolvConf = "/etc/resolv.conf";

class Names final : private dns::LanNames {
 public:
  // `local_host` is null where there is a TUN device.
  Names(router::Shard& home, Random& random, const ServerConfig& config, const session::Registry& registry,
        egress::LocalHost* local_host);
  ~Names() override;
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  void listen(dns::NameListeners listeners) { service_.listen(std::move(listeners)); }
  void set_servers(std::span<const Endpoint> servers);
  void forget(SessionId session) { service_.forget(dns::NameService::client_of(session)); }

  const dns::NameService& service() const { return service_; }
  const std::vector<Endpoint>& servers() const { return servers_; }

 private:
  dns::NameService::Settings settings_of(const ServerConfig& config);
  std::vector<IpAddress> find(std::string_view name) const override { return registry_->addresses_of(name); }
  std::optional<std::string> find(const IpAddress& address) const override;
  std::optional<std::uint64_t> client_of(const IpAddress& address) const;

  router::Shard* home_;
  const session::Registry* registry_;
  egress::LocalHost* local_host_;
  std::vector<IpAddress> own_;  // inner addresses
  const ServerConfig& config_;
  std::vector<Endpoint> servers_;
  std::optional<egress::ExitPolicy> policy_;  // for what is asked of servers
  dns::NameService service_;
};

}  // namespace penstock::gateway
