#include "config/server_config.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace penstock {
namespace {

using namespace std::chrono_literals;

// Plain HTTP leaves the machine by none of these.
Result<HttpListen> http_listen(const Node& node) {
  constexpr std::string_view kUnix = "unix:";
  if (node.is_scalar() && node.text.starts_with(kUnix)) {
    const std::string path = node.text.substr(kUnix.size());
    // sun_path of sockaddr_un holds 108 bytes with the zero.
    if (path.starts_with('/') && path.size() <= 107) return HttpListen{.address = {}, .unix_path = path};
  } else if (node.is_scalar()) {
    const auto address = Endpoint::parse(node.text);
    if (address && address->address.is_loopback()) return HttpListen{.address = *address, .unix_path = {}};
    if (address) {
      return fail(ErrorCode::invalid_argument,
                  "plain HTTP is for loopback addresses and Unix sockets alone, not " + address->to_string());
    }
  }
  return form::expected("a loopback address such as 127.0.0.1:8080, or unix: and the full path of a socket", node);
}

// What a system knows a user or group by: a name, or a number that is no -1, which would mean "leave it as it is".
bool is_account_name(std::string_view text) {
  const auto in_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || c == '$';
  };
  if (text.empty() || text.size() > 64 || !std::ranges::all_of(text, in_name)) return false;
  if (text.find_first_not_of("0123456789") != std::string_view::npos) return true;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && number != static_cast<std::uint32_t>(-1);
}

// "penstock", "65500", "65500:65500".
Result<std::string> user(const Node& node) {
  const std::string_view text = node.text;
  const std::size_t colon = text.find(':');
  const bool sound = node.is_scalar() && is_account_name(text.substr(0, colon)) &&
                     (colon == std::string_view::npos || is_account_name(text.substr(colon + 1)));
  if (sound) return node.text;
  return form::expected("a user such as penstock, or numbers up to 4294967294 such as 65500 or 65500:65500", node);
}

Result<std::string> group(const Node& node) {
  if (node.is_scalar() && is_account_name(node.text)) return node.text;
  return form::expected("a group such as www-data, or a number up to 4294967294", node);
}

void read_server(Section section, ServerConfig::Server& out) {
  section.one_or_list("listen_addr", out.listen_addr, form::endpoint);
  section.one_or_list("listen_http", out.listen_http, http_listen);
  section.value("listen_http_group", out.listen_http_group, group);
  const auto is_unix = [](const HttpListen& at) { return !at.address; };
  if (!out.listen_http_group.empty() && std::ranges::none_of(out.listen_http, is_unix))
    section.refuse("listen_http_group", "is for Unix sockets, and server.listen_http has none");
  if (out.listen_addr.empty()) {
    section.path("tls_cert", out.tls_cert);
    section.path("tls_key", out.tls_key);
  } else {
    section.required_path("tls_cert", out.tls_cert);
    section.required_path("tls_key", out.tls_key);
  }
  section.value("public_url", out.public_url, form::gateway_url);
  section.value("path", out.path, form::url_path);
  section.list("proxies", out.proxies, form::prefix);
}

void read_limits(Section section, ServerConfig::Limits& out) {
  constexpr std::uint32_t kMost = 1'000'000;
  section.value("handshakes", out.handshakes, form::count(1, kMost));
  section.value("handshakes_per_address", out.handshakes_per_address, form::count(1, kMost));
  section.value("handshake_rate", out.handshake_rate, form::count(1, kMost));
  section.value("failed_logins", out.failed_logins, form::count(1, kMost));
  section.value("max_retry_after", out.max_retry_after, form::duration(1s, 24h));
  section.value("sessions_per_token", out.sessions_per_token, form::count(1, kMost));
  section.value("queue_memory", out.queue_memory, form::size(std::uint64_t{1} << 20, std::uint64_t{1} << 40));
  section.value("flows_per_session", out.flows_per_session, form::count(16, kMost));
  section.value("flow_rate", out.flow_rate, form::count(1, kMost));
  section.value("open_files", out.open_files, form::count(0, 100'000'000));
  section.list("exempt", out.exempt, form::prefix);
  if (out.open_files != 0 && out.open_files < 64)
    section.refuse("open_files", "a gateway needs at least 64; 0 is as many as the system allows");
}

void read_process(Section section, ServerConfig::Process& out) {
  section.value("user", out.user, user);
  section.value("group", out.group, group);
  if (!out.group.empty() && out.user.find(':') != std::string::npos)
    section.refuse("group", "process.user names a group already: leave one of them out");
  section.value("seccomp", out.seccomp, form::word<bool>({{"on", true}, {"off", false}}));
  out.user_given = section.has("user");
}

// Why `address` can be nobody's in `subnet`, or nothing where it can.
std::string why_not_in(const Prefix& subnet, const IpAddress& address, std::string_view key) {
  const std::string name = std::string(key) + " " + subnet.to_string();
  if (!subnet.contains(address)) return address.to_string() + " is not in " + name;
  if (address == subnet.address()) {
    return address.to_string() + (subnet.is_v4() ? " is the network address of " : " is the routers' address of ") +
           name;
  }
  if (subnet.is_v4() && address == subnet.last()) return address.to_string() + " is the broadcast address of " + name;
  return {};
}

void read_vpn(Section section, ServerConfig::Vpn& out) {
  section.value("subnet", out.subnet, form::prefix);
  section.value("subnet6", out.subnet6, form::prefix);
  out.server_ip = out.subnet.address().plus(1);
  section.value("server_ip", out.server_ip, form::address);
  section.value("mtu", out.mtu, form::integer(576, 65535));
  section.value("tun", out.tun, form::word<bool>({{"on", true}, {"off", false}}));
  section.value("interface_name", out.interface_name, form::interface_name);
  section.value("offload", out.offload, form::offload_mode);

  if (!out.subnet.is_v4() || out.subnet.length() < 8 || out.subnet.length() > 30) {
    section.refuse("subnet", "must be an IPv4 prefix from /8 to /30, not " + out.subnet.to_string());
  } else if (const auto why = why_not_in(out.subnet, out.server_ip, "vpn.subnet"); !why.empty()) {
    section.refuse("server_ip", why);
  }
  if (!out.subnet6) return;
  // RFC 4193: fc00::/7, of which fd00::/8 is what people may pick from.
  if (const Prefix unique_local(IpAddress::from_bytes(std::array<std::uint8_t, 16>{0xFC}), 7);
      !unique_local.contains(*out.subnet6) || out.subnet6->length() < 64 || out.subnet6->length() > 112) {
    section.refuse("subnet6", "must be a prefix of fd00::/8 from /64 to /112, not " + out.subnet6->to_string());
  }
  // The same host number as in IPv4, as every client's address has it (router/address_pool.h).
  out.server_ip6 =
      out.subnet6->address().plus(out.server_ip.is_v4() ? out.server_ip.distance_from(out.subnet.address()) : 1);
  if (out.mtu < 1280) section.refuse("mtu", "must be 1280 or more, which IPv6 needs (vpn.subnet6 is set)");
}

// Fixed addresses and sites against the subnets, which must be sound, and against each other.
class TokenAddresses {
 public:
  explicit TokenAddresses(const ServerConfig::Vpn& vpn) : vpn_(vpn) {}

  void check(Section& item, const TokenRecord& record) {
    if (record.address && record.address->is_v4()) {
      check_address(item, "address", *record.address, vpn_.subnet, "vpn.subnet", vpn_.server_ip);
    }
    if (record.address6 && record.address6->is_v6()) {
      if (vpn_.subnet6) {
        check_address(item, "address6", *record.address6, *vpn_.subnet6, "vpn.subnet6", *vpn_.server_ip6);
      } else {
        item.refuse("address6", "there is no vpn.subnet6 that it could be in");
      }
    }
    for (const Prefix& site : record.sites) {
      if (site.overlaps(vpn_.subnet) || (vpn_.subnet6 && site.overlaps(*vpn_.subnet6))) {
        item.refuse("sites", site.to_string() + " overlaps the VPN's own subnet");
      } else if (const auto other = std::ranges::find_if(sites_, [&](auto& one) { return one.overlaps(site); });
                 other != sites_.end()) {
        item.refuse("sites", site.to_string() + " overlaps " + other->to_string() + ", which is a site already");
      } else {
        sites_.push_back(site);
      }
    }
  }

 private:
  void check_address(Section& item, std::string_view key, const IpAddress& address, const Prefix& subnet,
                     std::string_view subnet_key, const IpAddress& server) {
    if (const auto why = why_not_in(subnet, address, subnet_key); !why.empty()) {
      item.refuse(key, why);
    } else if (address == server) {
      item.refuse(key, address.to_string() + " is the gateway's own address");
    } else if (!taken_.insert(address).second) {
      item.refuse(key, address.to_string() + " is fixed for another token too");
    }
  }

  const ServerConfig::Vpn& vpn_;
  std::set<IpAddress> taken_;
  std::vector<Prefix> sites_;
};

void read_session(Section section, ServerConfig::Session& out) {
  section.value("grace", out.grace, form::duration(0s, 30 * 24h));
  section.value("keepalive", out.keepalive, form::duration(100ms, 1h));
  section.value("link_timeout", out.link_timeout, form::duration(200ms, 24h));
  section.value("queue", out.queue, form::size(std::uint64_t{64} << 10, std::uint64_t{1} << 30));
  section.value("queue_packets", out.queue_packets, form::count(16, 1'000'000));
  section.value("queue_messages", out.queue_messages, form::count(4, 65536));
  if (out.keepalive >= out.link_timeout) {
    section.refuse(section.has("keepalive") ? "keepalive" : "link_timeout",
                   "session.keepalive must be shorter than session.link_timeout, or silence ends every link");
  }
}

// Reads what is there; whether it is right is for reader.finish() to say.
ServerConfig read_config(ConfigReader& reader, PathsConfig paths) {
  ServerConfig config;
  config.paths = std::move(paths);
  Section root = reader.root();
  // First, because tokens can be checked against subnets only where these are sound.
  read_vpn(root.section("vpn"), config.vpn);
  const bool vpn_is_sound = !reader.failed();
  Section server = root.section("server");
  const bool sound_so_far = !reader.failed();
  read_server(server, config.server);
  if (sound_so_far && !reader.failed() && config.server.listen_addr.empty() && config.server.listen_http.empty())
    server.refuse("listen_addr", "needs at least one address (or server.listen_http one)");
  Section auth = root.section("auth");
  TokenAddresses addresses(config.vpn);
  read_tokens(auth, "tokens", config.auth.tokens, [&](Section& item, const TokenRecord& record) {
    if (vpn_is_sound) addresses.check(item, record);
  });
  read_limits(root.section("limits"), config.limits);
  read_process(root.section("process"), config.process);
  read_session(root.section("session"), config.session);
  read_lan(root.section("lan"), config.lan);
  read_push(root.section("push"), config.push);
  Section internet = root.section("internet");
  read_internet(internet, config.internet);
  if (config.internet.mode == InternetConfig::Mode::kernel && !config.vpn.tun)
    internet.refuse("mode", "kernel takes a TUN device: leave vpn.tun on, or choose userspace");
  Section dns = root.section("dns");
  dns.value("serve", config.dns.serve, form::word<bool>({{"on", true}, {"off", false}}));
  read_dns_upstream(dns, config.dns.upstream);
  for (const Endpoint& upstream : config.dns.upstream) {
    if (upstream.address == config.vpn.server_ip || upstream.address == config.vpn.server_ip6)
      dns.refuse("upstream", upstream.address.to_string() + " is this gateway: it would ask itself");
  }
  Section performance = root.section("performance");
  performance.value("loops", config.performance.loops, form::integer(1, 256));
  read_performance(performance, config.performance);
  read_logging(root.section("logging"), config.logging);
  read_paths(root, config.paths);
  config.reserved = reader.reserved();
  return config;
}

Result<ServerConfig> config_of(Document document, std::span<const std::string> overrides, PathsConfig paths) {
  for (const std::string& assignment : overrides) PENSTOCK_TRY_VOID(apply_override(document, assignment));
  ConfigReader reader(document);
  ServerConfig config = read_config(reader, std::move(paths));
  PENSTOCK_TRY_VOID(reader.finish());
  return config;
}

}  // namespace

std::string HttpListen::to_string() const { return address ? address->to_string() : "unix:" + unix_path.string(); }

Result<ServerConfig> load_server_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
  PENSTOCK_TRY(Document document, read_document(file));
  return config_of(std::move(document), overrides, default_paths(file, UserEnvironment::current()));
}

Result<ServerConfig> server_config_from_text(std::string_view text, const std::string& file_name,
                                             std::span<const std::string> overrides, const UserEnvironment& user) {
  PENSTOCK_TRY(Document document, parse_document(text, file_name));
  return config_of(std::move(document), overrides, default_paths(file_name, user));
}

std::vector<std::string> server_config_keys() {
  // One item of each list of sections, so that their keys are asked for too.
  const auto document = parse_json(R"({"auth": {"tokens": [{"name": "a"}]}, "lan": {"allow": [{}]},
                                       "internet": {"allow": [{}], "deny": [{}]}})",
                                   "keys");
  PENSTOCK_ASSERT(document.has_value());
  ConfigReader reader(*document);
  read_config(reader, {});
  return reader.known_keys();
}

}  // namespace penstock
