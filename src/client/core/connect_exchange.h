// Asks an HTTP proxy for a way to the gateway (RFC 9110 section 9.3.6), sans-I/O.
//
//   output()   CONNECT vpn.example.org:443 HTTP/1.1, with Basic credentials where there are some (RFC 7617)
//   receive()  HTTP/1.1 200 ..., and from then on every byte is the gateway's
//
// The proxy gets the gateway's name, and looks it up itself: where proxies are needed, names often cannot be looked up
// otherwise. Interim answers (1xx) are skipped; Content-Length and Transfer-Encoding of a 2xx say nothing, as that
// section has it. Bytes behind the head of a 2xx are refused: the gateway speaks only after us.
//
// Secrets     credentials stand in output() and nowhere else: no message holds them.
// Bounds      an answer's head is bounded by websocket/http_head.h.
// Threads     one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "client/core/proxy_choice.h"
#include "websocket/upgrade.h"

namespace penstock::client {

class ConnectExchange {
 public:
  enum class Progress : std::uint8_t { more, open };

  // `host` is a name or an address without brackets.
  ConnectExchange(const ProxyChoice& proxy, const std::string& host, std::uint16_t port);

  // What the proxy is to be sent; the owner consumes it.
  ByteQueue& output() { return output_; }
  // Refusals, in words that name the proxy and the setting: unauthenticated (407, 401), permission_denied (403),
  // unavailable (429 and 5xx but 501), protocol_error (anything else).
  Result<Progress> receive(ByteView bytes);

  // "the proxy proxy.example.org:3128 (server.proxy)"
  const std::string& proxy_name() const { return proxy_name_; }

 private:
  std::unexpected<Error> refused(const websocket::UpgradeResponse& response) const;
  std::unexpected<Error> wants_login(const websocket::UpgradeResponse& response) const;

  std::string proxy_name_;
  std::string setting_;
  std::string target_;  // "vpn.example.org:443"
  bool has_credentials_;
  ByteQueue output_;
  ByteQueue input_;
  websocket::ResponseParser parser_;
};

}  // namespace penstock::client
