#include "config/client_config.h"

#include "base/digest.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;

// As curl's --pinnedpubkey writes it.
Result<std::string> pin(const Node& node) {
  constexpr std::string_view kScheme = "sha256//";
  if (node.is_scalar() && node.text.starts_with(kScheme)) {
    const auto bytes = base64_decode(std::string_view(node.text).substr(kScheme.size()));
    if (bytes && bytes->size() == 32) return node.text;
  }
  return form::expected("a pin: sha256// and 44 characters of base64", node);
}

// RFC 3986 section 2.1: "%" and two hex digits.
bool is_percent_encoded(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdefABCDEF";
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
    const std::string_view digits = text.substr(at + 1, 2);
    if (digits.size() != 2 || digits.find_first_not_of(kHex) != std::string_view::npos) return false;
  }
  return true;
}

Result<std::optional<ProxyUrl>> proxy(const Node& node) {
  if (!node.is_scalar()) return form::expected("a proxy such as http://proxy.example.org:3128, or none", node);
  if (node.text == "none") return std::nullopt;
  PENSTOCK_TRY(auto url, ProxyUrl::parse(node.text));
  if (!is_percent_encoded(url.credentials)) {
    return fail(ErrorCode::invalid_argument,
                "a \"%\" in the user or password must be followed by two hex digits; the percent sign itself is %25");
  }
  return url;
}

void read_server(Section section, ClientConfig::Server& out) {
  GatewayUrl url;
  section.value("url", url, form::gateway_url);
  section.list("urls", out.urls, form::gateway_url);
  section.value("verify_tls", out.verify_tls, form::flag);
  section.path("ca_file", out.ca_file);
  section.value("pin", out.pin, pin);
  section.value("proxy", out.proxy, proxy);
  out.proxy_from_environment = !section.has("proxy");
  using Protocol = ClientConfig::Protocol;
  section.value("protocol", out.protocol, form::word<Protocol>({{"auto", Protocol::negotiated}, {"v1", Protocol::v1}}));
  if (section.has("url") && section.has("urls")) {
    section.refuse("urls", "give either server.url or server.urls, not both");
  } else if (section.has("url")) {
    out.urls = {url};
  } else if (!section.has("urls")) {
    section.refuse("url", "required, but not given (or server.urls, a list)");
  } else if (out.urls.empty()) {
    section.refuse("urls", "needs at least one URL such as wss://vpn.example.org/");
  }
}

void read_vpn(Section section, ClientConfig::Vpn& out) {
  section.value("interface_name", out.interface_name, form::interface_name);
  section.value("mtu", out.mtu, form::integer(576, 65535));
  section.list("routes", out.routes, form::prefix);
  section.list("exclude", out.exclude, form::prefix);
  section.value("exclude_lan", out.exclude_lan, form::flag);
  section.value("offload", out.offload, form::offload_mode);
  section.value("kill_switch", out.kill_switch, form::flag);
  // A protection that is believed in and not there is worse than none.
  if (out.kill_switch) section.refuse("kill_switch", "is not available in this version; without it, remove this key");
  section.mark_reserved("exclude");
  section.mark_reserved("exclude_lan");
}

void read_reconnect(Section section, ClientConfig::Reconnect& out) {
  section.value("min_backoff", out.min_backoff, form::duration(1ms, 1h));
  section.value("max_backoff", out.max_backoff, form::duration(1ms, 24h));
  section.value("connect_timeout", out.connect_timeout, form::duration(100ms, 10min));
  section.value("dead_after", out.dead_after, form::duration(100ms, 1h));
  if (out.min_backoff > out.max_backoff) {
    section.refuse(section.has("min_backoff") ? "min_backoff" : "max_backoff",
                   "must not be longer than reconnect.max_backoff");
  }
}

ClientConfig read_config(ConfigReader& reader, PathsConfig paths) {
  ClientConfig config;
  config.paths = std::move(paths);
  Section root = reader.root();
  read_server(root.section("server"), config.server);
  root.section("auth").required("token", config.auth.token, form::secret);
  read_vpn(root.section("vpn"), config.vpn);
  Section performance = root.section("performance");
  read_performance(performance, config.performance);
  read_reconnect(root.section("reconnect"), config.reconnect);
  read_logging(root.section("logging"), config.logging);
  read_paths(root, config.paths);
  return config;
}

Result<ClientConfig> config_of(Document document, std::span<const std::string> overrides, PathsConfig paths) {
  for (const std::string& assignment : overrides) PENSTOCK_TRY_VOID(apply_override(document, assignment));
  ConfigReader reader(document);
  ClientConfig config = read_config(reader, std::move(paths));
  PENSTOCK_TRY_VOID(reader.finish());
  config.reserved = reader.reserved();
  return config;
}

}  // namespace

Result<ClientConfig> load_client_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
  PENSTOCK_TRY(Document document, read_document(file));
  return config_of(std::move(document), overrides, default_paths(file, UserEnvironment::current()));
}

Result<ClientConfig> client_config_from_text(std::string_view text, const std::string& file_name,
                                             std::span<const std::string> overrides, const UserEnvironment& user) {
  PENSTOCK_TRY(Document document, parse_document(text, file_name));
  return config_of(std::move(document), overrides, default_paths(file_name, user));
}

std::vector<std::string> client_config_keys() {
  const Document empty{.root = {}, .sources = {"keys"}};
  ConfigReader reader(empty);
  read_config(reader, {});
  return reader.known_keys();
}

}  // namespace penstock
