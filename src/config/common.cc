#include "config/common.h"

#include <algorithm>
#include <charconv>

#include "base/digest.h"
#include "base/in_quotes.h"
#include "base/ip.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

// Splits "host:port", "host", "[v6]:port", "[v6]"; `port` stays as it is where there is none.
bool parse_authority(std::string_view text, std::string& host, std::uint16_t& port) {
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    const auto address = IpAddress::parse(host);
    if (!address || !address->is_v6()) return false;
  } else {
    const std::size_t end = std::min(text.find(':'), text.size());
    host = text.substr(0, end);
    rest = text.substr(end);
    if (host.empty() || host.size() > 253 || !std::ranges::all_of(host, is_name_character)) return false;
    const bool like_an_address = host.find_first_not_of("0123456789.") == std::string::npos;
    if (like_an_address && !IpAddress::parse(host)) return false;
  }
  if (rest.empty()) return true;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), number);
  if (rest.front() != ':' || error != std::errc{} || end != rest.data() + rest.size() || number == 0 ||
      number > 65535) {
    return false;
  }
  port = static_cast<std::uint16_t>(number);
  return true;
}

bool is_url_path(std::string_view path) {
  return path.starts_with('/') && path.size() <= 1024 &&
         std::ranges::all_of(path, [](char c) { return c > ' ' && c < '\x7f' && c != '#' && c != '"'; });
}

}  // namespace

std::string instance_name(const fs::path& config_file) {
  std::error_code error;
  fs::path absolute = fs::absolute(config_file, error).lexically_normal();
  if (error) absolute = config_file;
  std::string stem = absolute.stem().string();
  const auto standard = standard_directories();
  if (std::ranges::find(standard, absolute.parent_path()) != standard.end()) return stem;
  return stem + "-" + to_hex(sha256(as_bytes(absolute.string()))).substr(0, 8);
}

PathsConfig default_paths(const fs::path& config_file, const UserEnvironment& user) {
  const std::string name = instance_name(config_file);
  if (user.root) {
    return {.state_dir = fs::path("/var/lib/penstock") / name, .status_socket = "/run/penstock/" + name + ".sock"};
  }
  const fs::path state_home = user.state_home.empty() ? user.home / ".local" / "state" : user.state_home;
  const fs::path runtime = user.runtime_dir.empty() ? fs::path("/tmp/penstock-" + std::to_string(user.user_id))
                                                    : user.runtime_dir / "penstock";
  return {.state_dir = state_home / "penstock" / name, .status_socket = runtime / (name + ".sock")};
}

Result<GatewayUrl> GatewayUrl::parse(std::string_view text) {
  constexpr std::string_view kScheme = "wss://";
  const std::string_view after = text.starts_with(kScheme) ? text.substr(kScheme.size()) : std::string_view();
  const std::string_view authority = after.substr(0, after.find('/'));
  if (authority.find('@') != std::string_view::npos) {
    return fail(ErrorCode::invalid_argument, "a gateway's URL names no user or password; the token goes to auth.token");
  }
  GatewayUrl url;
  if (authority.size() < after.size()) url.path = after.substr(authority.size());
  if (!parse_authority(authority, url.host, url.port) || !is_url_path(url.path)) {
    return fail(ErrorCode::invalid_argument, "expected a URL such as wss://vpn.example.org/, got " + in_quotes(text));
  }
  return url;
}

std::string GatewayUrl::to_string() const {
  std::string text = "wss://";
  text += host.find(':') == std::string::npos ? host : "[" + host + "]";
  if (port != 443) text += ":" + std::to_string(port);
  return text + path;
}

Result<ProxyUrl> ProxyUrl::parse(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  std::string_view authority = text.starts_with(kScheme) ? text.substr(kScheme.size()) : std::string_view();
  ProxyUrl url;
  // The last "@", so that a password may hold others.
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
    url.credentials = authority.substr(0, at);
    authority.remove_prefix(at + 1);
  }
  if (authority.ends_with('/')) authority.remove_suffix(1);
  if (!parse_authority(authority, url.host, url.port) || url.port == 0) {
    return fail(ErrorCode::invalid_argument,
                "expected a proxy such as http://proxy.example.org:3128 or http://user:password@10.0.0.1:3128");
  }
  return url;
}

namespace form {

Result<std::string> url_path(const Node& node) {
  if (node.is_scalar() && is_url_path(node.text)) return node.text;
  return expected("a path such as / or /vpn", node);
}

Result<OffloadMode> offload_mode(const Node& node) {
  return word<OffloadMode>({{"auto", OffloadMode::automatic},
                            {"gso", OffloadMode::gso},
                            {"uso", OffloadMode::uso},
                            {"off", OffloadMode::off}})(node);
}

Result<std::string> congestion_control(const Node& node) {
  constexpr std::size_t kLongest = 15;  // TCP_CA_NAME_MAX without the zero
  if (node.is_scalar() && !node.text.empty() && node.text.size() <= kLongest &&
      node.text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos) {
    return node.text;
  }
  return expected("auto, system, or the name of a congestion control such as bbr", node);
}

Result<GatewayUrl> gateway_url(const Node& node) {
  if (!node.is_scalar()) return expected("a URL such as wss://vpn.example.org/", node);
  return GatewayUrl::parse(node.text);
}

Result<std::string> interface_name(const Node& node) {
#ifdef _WIN32
  constexpr std::size_t kLongest = 127;
  constexpr std::string_view kForbidden = "/\\:\t\r\n";
#else
  constexpr std::size_t kLongest = 15;  // IFNAMSIZ without the zero
  constexpr std::string_view kForbidden = "/:% \t\r\n\v\f";
#endif
  if (node.is_scalar() && !node.text.empty() && node.text.size() <= kLongest &&
      node.text.find_first_of(kForbidden) == std::string::npos && node.text != "." && node.text != "..") {
    return node.text;
  }
  return expected("an interface name of 1 to " + std::to_string(kLongest) + " characters such as tun0", node);
}

Result<std::string> name(const Node& node) {
  if (node.is_scalar() && !node.text.empty() && node.text.size() <= 64 &&
      std::ranges::all_of(node.text, [](char c) { return is_name_character(c) || c == '@'; })) {
    return node.text;
  }
  return expected("a name of 1 to 64 letters, digits or _ . @ -", node);
}

}  // namespace form

void read_logging(Section section, LoggingConfig& out) {
  section.value("level", out.level,
                form::word<log::Level>({{"debug", log::Level::debug},
                                        {"info", log::Level::info},
                                        {"warn", log::Level::warn},
                                        {"error", log::Level::error}}));
  section.value("format", out.format,
                form::word<log::Format>({{"logfmt", log::Format::logfmt}, {"json", log::Format::json}}));
  section.value("statistics_interval", out.statistics_interval, form::duration(0s, 24h));
}

void read_performance(Section& section, PerformanceConfig& out) {
  section.value("nice", out.nice, form::integer(-20, 19));
  section.value("congestion_control", out.congestion_control, form::congestion_control);
}

void read_paths(Section& root, PathsConfig& out) {
  root.path("state_dir", out.state_dir);
  root.path("status_socket", out.status_socket);
  // sun_path of sockaddr_un holds 108 bytes with the zero.
  if (root.has("status_socket") && out.status_socket.string().size() > 107) {
    root.refuse("status_socket", "longer than the 107 bytes that the name of a socket may have");
  }
}

}  // namespace penstock
