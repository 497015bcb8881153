#include "config/server_config.h"

#include <set>

namespace penstock {
namespace {

using namespace std::chrono_literals;

void read_server(Section section, ServerConfig::Server& out) {
  section.one_or_list("listen_addr", out.listen_addr, form::endpoint);
  if (out.listen_addr.empty()) section.refuse("listen_addr", "needs at least one address");
  section.required_path("tls_cert", out.tls_cert);
  section.required_path("tls_key", out.tls_key);
  section.value("public_url", out.public_url, form::gateway_url);
  section.value("path", out.path, form::url_path);
  section.list("proxies", out.proxies, form::prefix);
  section.mark_reserved("proxies");
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
  using Offload = ServerConfig::Offload;
  section.value(
      "offload", out.offload,
      form::word<Offload>(
          {{"auto", Offload::automatic}, {"gso", Offload::gso}, {"uso", Offload::uso}, {"off", Offload::off}}));
  section.mark_reserved("offload");

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
      } else if (!sites_.insert(site).second) {
        item.refuse("sites", site.to_string() + " is behind another client too");
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
  std::set<Prefix> sites_;
};

void read_session(Section section, ServerConfig::Session& out) {
  section.value("grace", out.grace, form::duration(0s, 30 * 24h));
  section.value("keepalive", out.keepalive, form::duration(100ms, 1h));
  section.value("link_timeout", out.link_timeout, form::duration(200ms, 24h));
  section.value("queue", out.queue, form::size(std::uint64_t{64} << 10, std::uint64_t{1} << 30));
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
  read_server(root.section("server"), config.server);
  Section auth = root.section("auth");
  TokenAddresses addresses(config.vpn);
  read_tokens(auth, "tokens", config.auth.tokens, [&](Section& item, const TokenRecord& record) {
    if (vpn_is_sound) addresses.check(item, record);
  });
  read_session(root.section("session"), config.session);
  read_push(root.section("push"), config.push);
  read_lan(root.section("lan"), config.lan);
  read_internet(root.section("internet"), config.internet);
  read_dns_upstream(root.section("dns"), config.dns.upstream);
  root.section("performance").value("loops", config.performance.loops, form::integer(1, 256));
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
