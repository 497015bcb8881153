#include "gateway/names.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "dns/service/system_resolvers.h"
#include "gateway/internet_settings.h"

namespace penstock::gateway {
namespace {

std::vector<IpAddress> inner_addresses(const ServerConfig::Vpn& vpn) {
  std::vector<IpAddress> addresses{vpn.server_ip};
  if (vpn.server_ip6) addresses.push_back(*vpn.server_ip6);
  return addresses;
}

}  // namespace

std::vector<Endpoint> resolvers_of(const ServerConfig& config) {
  if (!config.dns.upstream.empty()) return config.dns.upstream;
  auto servers = dns::SystemResolvers::read(kResolvConf, inner_addresses(config.vpn));
  if (servers) return std::move(*servers);
  log::warn("the resolvers of this machine are not known", {{"error", servers.error().message}});
  return {};
}

Names::Names(router::Shard& home, Random& random, const ServerConfig& config, const session::Registry& registry,
             egress::LocalHost* local_host)
    : home_(&home),
      registry_(&registry),
      local_host_(local_host),
      own_(inner_addresses(config.vpn)),
      config_(config),
      service_(home.loop(), random, *this, settings_of(config)) {
  if (local_host_ == nullptr) return;
  local_host_->set_service([this](const Packet& packet) { return service_.on_packet(packet); });
  const auto served =
      local_host_->serve_streams(random, [this](net::FileDescriptor stream, const Endpoint& from, const Endpoint& to) {
        return service_.on_stream(std::move(stream), from, to);
      });
  if (!served) log::warn("clients are not served names by TCP", {{"error", served.error().message}});
}

Names::~Names() {
  if (local_host_ == nullptr) return;
  local_host_->set_service({});
  local_host_->stop_streams();
}

dns::NameService::Settings Names::settings_of(const ServerConfig& config) {
  dns::NameService::Settings settings;
  settings.zones.subnets.push_back(config.vpn.subnet);
  if (config.vpn.subnet6) settings.zones.subnets.push_back(*config.vpn.subnet6);
  settings.may_send = [this](std::uint8_t protocol, const Endpoint& server) {
    return policy_ && policy_->check_own(protocol, server.address, server.port).allowed;
  };
  settings.client_of = [this](const IpAddress& address) { return client_of(address); };
  if (local_host_ == nullptr) return settings;
  settings.packet_addresses = own_;
  settings.deliver = [this](Packet packet) {
    PacketBatch batch;
    batch.push_back(std::move(packet));
    home_->router().from_exit(local_host_->id(), batch);
  };
  return settings;
}

void Names::set_servers(std::span<const Endpoint> servers) {
  servers_.assign(servers.begin(), servers.end());
  policy_ = exit_policy_of(config_.internet, config_.vpn, {}, servers_);
  service_.set_servers(servers);
}

std::optional<std::string> Names::find(const IpAddress& address) const {
  const auto owner = registry_->owner_of(address);
  return owner && owner->its_own ? std::optional(std::string(owner->name)) : std::nullopt;
}

std::optional<std::uint64_t> Names::client_of(const IpAddress& address) const {
  if (std::ranges::find(own_, address) != own_.end()) return dns::NameService::client_of(address);
  const auto owner = registry_->owner_of(address);
  return owner ? std::optional(dns::NameService::client_of(owner->session)) : std::nullopt;
}

}  // namespace penstock::gateway
