// Whether a gateway is reached through an HTTP proxy, and through which.
//
//   server.proxy given     that one, always
//   server.proxy: none     none
//   otherwise              https_proxy or HTTPS_PROXY of the environment, unless no_proxy or NO_PROXY names the gateway
//
// no_proxy is read as curl reads it: names parted by commas or space, each with all that lies below it ("example.org",
// ".example.org": example.org and vpn.example.org, but not myexample.org); addresses and blocks ("192.0.2.1",
// "10.0.0.0/8", "2001:db8::/32"), which are compared with a gateway that is given by its address; "*" for everything.
//
// Threads     pure functions; any thread. Who asks the environment does so before threads start.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "config/client_config.h"

namespace penstock::client {

struct ProxyEnvironment {
  std::string name;  // "https_proxy" or "HTTPS_PROXY", whichever is set: lower case first
  std::string https_proxy;
  std::string no_proxy;

  // `get` is std::getenv, or a test's: null where a name is not set.
  static ProxyEnvironment read(const std::function<const char*(const char*)>& get);
};

struct ProxyChoice {
  ProxyUrl url;
  std::string setting;  // where it was found, for messages: "server.proxy", "https_proxy"

  // "proxy.example.org:3128", without credentials.
  std::string to_string() const;
};

// None: connect to the gateway itself. Refusal: invalid_argument, where the environment has something that is no proxy
// of ours; it does not repeat the text, which may hold a password.
Result<std::optional<ProxyChoice>> proxy_for(const GatewayUrl& gateway, const ClientConfig::Server& server,
                                             const ProxyEnvironment& environment);

// Whether `no_proxy` names `host`.
bool goes_without_proxy(std::string_view no_proxy, std::string_view host);

}  // namespace penstock::client
