// What the two configurations share: logging, where the process keeps its files, URLs of gateways.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/config_reader.h"
#include "base/log.h"
#include "base/offload_mode.h"
#include "base/result.h"

namespace penstock {

struct LoggingConfig {
  log::Level level = log::Level::info;
  log::Format format = log::Format::logfmt;
  std::chrono::milliseconds statistics_interval = std::chrono::minutes(1);  // zero: never
};

struct PerformanceConfig {
  int nice = -10;                           // a packet waits for the processor as it waits in a queue
  std::string congestion_control = "auto";  // "system", or the name of one (net/congestion_control.h)
};

// Whose process it is, as far as default places depend on it. user_environment_posix.cc and _windows.cc read it.
struct UserEnvironment {
  bool root = false;  // never on Windows: an administrator's client keeps its things where any user's does
  unsigned user_id = 0;
  std::filesystem::path home;         // $HOME, %USERPROFILE%
  std::filesystem::path state_home;   // $XDG_STATE_HOME, or empty; %ProgramData%
  std::filesystem::path runtime_dir;  // $XDG_RUNTIME_DIR, or empty; %ProgramData%

  // Reads the environment: call it before threads start.
  static UserEnvironment current();
};

// Where a process keeps state that outlives it, and where `penstock status` finds it. Distinct for every file, so that
// two gateways or clients on one machine do not share by accident.
struct PathsConfig {
  std::filesystem::path state_dir;
  std::filesystem::path status_socket;
};

// /etc/penstock and /etc/penstock/clients; %ProgramData%\penstock.
std::vector<std::filesystem::path> standard_directories();

// In a standard directory the stem of the name: "server" for /etc/penstock/server.yaml, "home" for
// /etc/penstock/clients/home.yaml; elsewhere the stem of the name and eight hex digits of SHA-256 over the absolute
// path: "server-1f0c9a3e".
std::string instance_name(const std::filesystem::path& config_file);

// Windows: %ProgramData%\penstock\NAME and NAME.sock beside it. Root: /var/lib/penstock/NAME and
// /run/penstock/NAME.sock. Anybody else: $XDG_STATE_HOME or ~/.local/state, then penstock/NAME;
// $XDG_RUNTIME_DIR/penstock/NAME.sock, or /tmp/penstock-UID/NAME.sock.
PathsConfig default_paths(const std::filesystem::path& config_file, const UserEnvironment& user);

// "wss://vpn.example.org/" in parts.
struct GatewayUrl {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without its brackets
  std::uint16_t port = 443;
  std::string path = "/";

  // Refusals: invalid_argument, "expected a URL such as wss://vpn.example.org/, got ...".
  static Result<GatewayUrl> parse(std::string_view text);
  std::string to_string() const;
  friend auto operator<=>(const GatewayUrl&, const GatewayUrl&) = default;
};

// "http://[user:password@]proxy.example.org:3128": a proxy that is asked to CONNECT.
struct ProxyUrl {
  std::string host;
  std::uint16_t port = 0;
  std::string credentials;  // "user:password" or empty: secret

  // Refusals: invalid_argument; they do not repeat the text.
  static Result<ProxyUrl> parse(std::string_view text);
  friend auto operator<=>(const ProxyUrl&, const ProxyUrl&) = default;
};

// The forms that both configurations use beside those of config_reader.h.
namespace form {

// A path of a URL: begins with "/", printable ASCII without spaces, quotes, "#".
Result<std::string> url_path(const Node& node);
Result<GatewayUrl> gateway_url(const Node& node);
// A network interface's name: 1 to 15 characters, no "/", ":", "%" or white space.
Result<std::string> interface_name(const Node& node);
// A name of a credential or a group: 1 to 64 of A-Z a-z 0-9 _ . @ -
Result<std::string> name(const Node& node);
Result<OffloadMode> offload_mode(const Node& node);
// auto, system, or the name of an algorithm: 1 to 15 of a-z 0-9 _ -
Result<std::string> congestion_control(const Node& node);

}  // namespace form

void read_logging(Section section, LoggingConfig& out);
void read_performance(Section& section, PerformanceConfig& out);
// The top-level keys state_dir and status_socket.
void read_paths(Section& root, PathsConfig& out);

}  // namespace penstock
