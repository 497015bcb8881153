#include "client/core/proxy_choice.h"

#include <algorithm>
#include <charconv>

#include "base/ip.h"
#include "websocket/http_head.h"

namespace penstock::client {
namespace {

std::string_view without_end(std::string_view text, char end) {
  if (text.ends_with(end)) text.remove_suffix(1);
  return text;
}

std::string_view without_brackets(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') return host.substr(1, host.size() - 2);
  return host;
}

bool names_host(std::string_view entry, std::string_view host) {
  entry = without_end(entry, '.');
  if (entry.starts_with('.')) entry.remove_prefix(1);
  if (entry.empty() || host.size() < entry.size()) return false;
  const std::size_t at = host.size() - entry.size();
  return websocket::equals_ignoring_case(host.substr(at), entry) && (at == 0 || host[at - 1] == '.');
}

// Unlike Prefix::parse, bits behind the length do no harm here.
bool names_address(std::string_view entry, const IpAddress& address) {
  const std::size_t slash = std::min(entry.find('/'), entry.size());
  const auto block = IpAddress::parse(without_brackets(entry.substr(0, slash)));
  if (!block || block->family() != address.family()) return false;
  int length = block->width();
  if (slash != entry.size()) {
    const std::string_view digits = entry.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc{} || end != digits.data() + digits.size() || length < 0 || length > block->width())
      return false;
  }
  return Prefix(*block, length).contains(address);
}

}  // namespace

ProxyEnvironment ProxyEnvironment::read(const std::function<const char*(const char*)>& get) {
  ProxyEnvironment found;
  const auto first = [&get](const char* lower, const char* upper, std::string& out) {
    for (const char* name : {lower, upper}) {
      const char* const value = get(name);
      if (value == nullptr || *value == '\0') continue;
      out = value;
      return name;
    }
    return "";
  };
  found.name = first("https_proxy", "HTTPS_PROXY", found.https_proxy);
  first("no_proxy", "NO_PROXY", found.no_proxy);
  return found;
}

std::string ProxyChoice::to_string() const {
  const bool v6 = url.host.find(':') != std::string::npos;
  return (v6 ? "[" + url.host + "]" : url.host) + ":" + std::to_string(url.port);
}

Result<std::optional<ProxyChoice>> proxy_for(const GatewayUrl& gateway, const ClientConfig::Server& server,
                                             const ProxyEnvironment& environment) {
  if (server.proxy) return ProxyChoice{.url = *server.proxy, .setting = "server.proxy"};
  if (!server.proxy_from_environment || environment.https_proxy.empty()) return std::nullopt;
  if (goes_without_proxy(environment.no_proxy, gateway.host)) return std::nullopt;
  // Without a scheme it is taken as HTTP, as elsewhere.
  const bool bare = environment.https_proxy.find("://") == std::string::npos;
  auto url = ProxyUrl::parse(bare ? "http://" + environment.https_proxy : environment.https_proxy);
  if (!url) {
    return fail(ErrorCode::invalid_argument, environment.name + " in the environment: " + url.error().message +
                                                 "; server.proxy: none in the configuration goes without it");
  }
  return ProxyChoice{.url = *std::move(url), .setting = environment.name};
}

bool goes_without_proxy(std::string_view no_proxy, std::string_view host) {
  constexpr std::string_view kBorders = ", \t";
  host = without_end(without_brackets(host), '.');
  const auto address = IpAddress::parse(host);
  while (true) {
    no_proxy.remove_prefix(std::min(no_proxy.find_first_not_of(kBorders), no_proxy.size()));
    if (no_proxy.empty()) return false;
    const std::string_view entry = no_proxy.substr(0, no_proxy.find_first_of(kBorders));
    if (entry == "*" || (address ? names_address(entry, *address) : names_host(entry, host))) return true;
    no_proxy.remove_prefix(entry.size());
  }
}

}  // namespace penstock::client
