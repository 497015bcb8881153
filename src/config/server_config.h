// Everything a gateway can be told in its configuration file.
//
// Plain values with their defaults; load_server_config() is the only thing that fills them, and what it returns has
// passed every check, also those between fields. docs/configuration.md says what each key means to a person.
//
// Always true   there is a listener, and a certificate where one speaks TLS; server_ip lies in subnet and is neither
// its network nor its broadcast address; fixed addresses lie in
//               subnet (subnet6), are unique and not the server's; names and hashes of tokens are unique; subnet is /8
//               to /30, subnet6 a ULA prefix of /64 to /112, and with it mtu is 1280 or more; process.user and .group
//               name one group at most (server_config_test.cc).
// Secrets       a token given as text is hashed while it is read: no struct, message or log line holds it.
// Refusals      invalid_argument with one line per mistake; reading the file also not_found,
//               permission_denied, exhausted.
// Threads       any; reading the environment for default paths wants to happen before threads start.
// Not here      whether the certificate can be read (tls/), whether ports and interfaces are free (net/, tun/), whether
//               there are such users and groups (gateway/account.h); what is valid and probably not meant
//               (server_doubts.h).
#pragma once

#include <array>
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
#include "config/policy.h"
#include "config/token_record.h"

namespace penstock {

// Where plain HTTP is spoken, for whoever ends TLS in front: a loopback address, or the path of a Unix socket.
struct HttpListen {
  std::optional<Endpoint> address;
  std::filesystem::path unix_path;  // where there is no address
  std::string to_string() const;    // "127.0.0.1:8080", "unix:/run/penstock/http.sock"
  friend bool operator==(const HttpListen&, const HttpListen&) = default;
};

struct ServerConfig {
  struct Server {
    std::vector<Endpoint> listen_addr = {Endpoint{.address = IpAddress::from_bytes(std::array<std::uint8_t, 16>{}),
                                                  .port = 443}};  // [::]:443, both families
    std::vector<HttpListen> listen_http;
    std::string listen_http_group;   // whose members may open its Unix sockets; empty: the gateway's own group
    std::filesystem::path tls_cert;  // both are empty only where listen_addr is
    std::filesystem::path tls_key;
    std::optional<GatewayUrl> public_url;  // what `penstock profile` writes into client configurations
    std::string path = "/";
    std::vector<Prefix> proxies;  // whose word on the client's address is believed
  } server;

  // What strangers and clients may ask for before they are turned away. An address is an IPv4 address or an IPv6 /64.
  struct Limits {
    std::uint32_t handshakes = 2048;            // under way, of all addresses; then the oldest makes room
    std::uint32_t handshakes_per_address = 64;  // under way
    std::uint32_t handshake_rate = 50;          // a second and address, twice that at a time
    std::uint32_t failed_logins = 5;            // of an address, one forgiven a minute; then it has to wait
    std::chrono::milliseconds max_retry_after = std::chrono::minutes(5);
    std::uint32_t sessions_per_token = 64;
    std::uint64_t queue_memory = std::uint64_t{256} << 20;  // bytes of packets that wait, for all clients together
    std::uint32_t flows_per_session = 8192;                 // conversations with the internet
    std::uint32_t flow_rate = 500;                          // that a session may begin a second, twice that at a time
    std::uint32_t open_files = 0;                           // 0: as many as the system lets the process have
    std::vector<Prefix> exempt;                             // from the limits per address
  } limits;

  // Whose process it becomes once everything that takes root is open.
  struct Process {
    std::string user = "penstock";  // a name, or "65500" or "65500:65500"
    std::string group;              // empty: the user's
    bool user_given = false;        // then it is an error where there is no such user
    bool seccomp = true;
  } process;

  struct Vpn {
    Prefix subnet{IpAddress::v4(0x0A640000), 24};  // 10.100.0.0/24
    std::optional<Prefix> subnet6;
    IpAddress server_ip = IpAddress::v4(0x0A640001);  // the first address of `subnet`, unless given
    std::optional<IpAddress> server_ip6;              // in `subnet6` what server_ip is in `subnet`; no key of its own
    int mtu = 1420;
    bool tun = true;
    std::string interface_name = "tun0";
    OffloadMode offload = OffloadMode::automatic;
  } vpn;

  struct Auth {
    std::vector<TokenRecord> tokens;
  } auth;

  struct Session {
    std::chrono::milliseconds grace = std::chrono::minutes(5);
    std::chrono::milliseconds keepalive = std::chrono::seconds(20);
    std::chrono::milliseconds link_timeout = std::chrono::seconds(60);
    // What may wait for one client: memory for packets, packets, control messages.
    std::uint64_t queue = std::uint64_t{8} << 20;  // bytes
    std::uint32_t queue_packets = 4096;
    std::uint32_t queue_messages = 256;
  } session;

  LanConfig lan;

  PushConfig push;  // all but push.routes is read and checked only; `reserved` tells what of it was given
  InternetConfig internet;
  struct Dns {
    bool serve = true;               // to clients, at the gateway's inner addresses
    std::vector<Endpoint> upstream;  // none: those that this machine asks
  } dns;

  struct Performance : PerformanceConfig {
    int loops = 1;
  } performance;

  LoggingConfig logging;
  PathsConfig paths;

  // Full paths of the keys that were given but have no effect in this version; worth a warning at the start.
  std::vector<std::string> reserved;
};

// `overrides` are the "section.key=value" of --set, in order.
Result<ServerConfig> load_server_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

// The same from memory; `file_name` stands in messages, tells YAML from JSON, and gives the default paths.
Result<ServerConfig> server_config_from_text(std::string_view text, const std::string& file_name,
                                             std::span<const std::string> overrides = {},
                                             const UserEnvironment& user = UserEnvironment::current());

// Every key there is, as "vpn.subnet" and "auth.tokens[].name"; sorted.
std::vector<std::string> server_config_keys();

}  // namespace penstock
