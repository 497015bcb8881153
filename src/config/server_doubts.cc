#include "config/server_doubts.h"

#include <algorithm>

namespace penstock {
namespace {

// Empty unless all clients behind a proxy would look like one.
std::string doubt_about_plain_http(const ServerConfig::Server& server) {
  for (const HttpListen& at : server.listen_http) {
    if (!at.address) continue;
    // Who connects to a loopback address comes from one.
    const IpAddress& address = at.address->address;
    const bool believed =
        std::ranges::any_of(server.proxies, [&](const Prefix& proxy) { return proxy.contains(address); });
    if (believed) continue;
    return "server.listen_http has " + at.to_string() + " but server.proxies does not have " + address.to_string() +
           ": all clients behind a proxy there look like one, and share its limits; set server.proxies: [" +
           address.to_string() + "]";
  }
  return {};
}

// Whether clients can have that address, as far as this file says.
bool is_of_clients(const ServerConfig& config, const IpAddress& address) {
  if (config.vpn.subnet.contains(address) || (config.vpn.subnet6 && config.vpn.subnet6->contains(address))) return true;
  return std::ranges::any_of(config.auth.tokens, [&](const TokenRecord& token) {
    return std::ranges::any_of(token.sites, [&](const Prefix& site) { return site.contains(address); });
  });
}

void doubt_internet(const ServerConfig& config, std::vector<std::string>& doubts) {
  const InternetConfig& internet = config.internet;
  const InternetConfig usual;
  if (internet.mode != InternetConfig::Mode::userspace &&
      (internet.filtering != usual.filtering || internet.udp_timeout != usual.udp_timeout)) {
    doubts.push_back("internet.filtering and internet.udp_timeout have no effect where internet.mode is " +
                     std::string(to_string(internet.mode)) + ": there the kernel decides");
  }
  for (const InternetConfig::Forward& forward : internet.forward) {
    if (is_of_clients(config, forward.to.address)) continue;
    doubts.push_back("internet.forward leads to " + forward.to.to_string() +
                     ", which is neither in vpn.subnet nor in a site of auth.tokens: no client has it");
  }
}

}  // namespace

std::vector<std::string> doubts_about(const ServerConfig& config) {
  std::vector<std::string> doubts;
  if (auto doubt = doubt_about_plain_http(config.server); !doubt.empty()) doubts.push_back(std::move(doubt));
  for (const Prefix& proxy : config.server.proxies) {
    if (proxy.length() != 0) continue;
    doubts.push_back("server.proxies has " + proxy.to_string() +
                     ": anybody may claim to be any address, and so escape the limits per address; name the proxies' "
                     "own addresses");
  }
  const ServerConfig::Limits& limits = config.limits;
  if (limits.handshakes < limits.handshakes_per_address) {
    doubts.push_back("limits.handshakes (" + std::to_string(limits.handshakes) +
                     ") is less than limits.handshakes_per_address (" + std::to_string(limits.handshakes_per_address) +
                     "): one address alone can take all of them; give one address fewer");
  }
  doubt_internet(config, doubts);
  return doubts;
}

}  // namespace penstock
