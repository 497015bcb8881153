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
  return doubts;
}

}  // namespace penstock
