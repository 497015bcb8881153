// Everything a client can be told in its configuration file: see server_config.h, which this mirrors.
//
// Always true   there is at least one gateway; min_backoff <= max_backoff (client_config_test.cc).
// Secrets       auth.token and server.proxy.credentials: never in a message or a log line.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"
#include "config/common.h"

namespace penstock {

struct ClientConfig {
  // v1: the least that every gateway understands, without batches and super-packets.
  enum class Protocol : std::uint8_t { negotiated, v1 };

  struct Server {
    std::vector<GatewayUrl> urls;  // tried in this order
    bool verify_tls = true;
    std::filesystem::path ca_file;  // empty: the system's authorities
    std::string pin;                // "sha256//" and base64 of the SHA-256 of the server's public key, or empty
    std::optional<ProxyUrl> proxy;  // asked to CONNECT
    Protocol protocol = Protocol::negotiated;
    bool proxy_from_environment = true;  // https_proxy and no_proxy count where `proxy` is not given
  } server;

  struct Auth {
    std::string token;
  } auth;

  struct Vpn {
    std::string interface_name = "VPN";
    int mtu = 1420;
    std::vector<Prefix> routes;   // into the tunnel, beside the VPN's own subnet
    std::vector<Prefix> exclude;  // never into the tunnel
    bool exclude_lan = true;      // the network that this machine stands in stays reachable
    OffloadMode offload = OffloadMode::automatic;
    bool kill_switch = false;  // what belongs into the tunnel is dropped while there is none
  } vpn;

  PerformanceConfig performance;

  struct Reconnect {
    std::chrono::milliseconds min_backoff = std::chrono::seconds(1);
    std::chrono::milliseconds max_backoff = std::chrono::seconds(60);
    std::chrono::milliseconds connect_timeout = std::chrono::seconds(10);
    std::chrono::milliseconds dead_after = std::chrono::seconds(30);
  } reconnect;

  LoggingConfig logging;
  PathsConfig paths;

  // Full paths of the keys that were given but have no effect in this version; worth a warning at the start.
  std::vector<std::string> reserved;
};

// `overrides` are the "section.key=value" of --set, in order.
Result<ClientConfig> load_client_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

// The same from memory; `file_name` stands in messages, tells YAML from JSON, and gives the default paths.
Result<ClientConfig> client_config_from_text(std::string_view text, const std::string& file_name,
                                             std::span<const std::string> overrides = {},
                                             const UserEnvironment& user = UserEnvironment::current());

// Every key there is, as "vpn.mtu"; sorted.
std::vector<std::string> client_config_keys();

}  // namespace penstock
