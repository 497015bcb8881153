// Makes the connection to a gateway, by itself or through an HTTP proxy.
//
//   IDLE --connect()--> DIALLING the gateway ------------------------------> IDLE, and the callback has the socket
//                   \-> DIALLING the proxy --> ASKING it (CONNECT) --2xx-/
//
// Both dial with happy eyeballs (net/connect.h). All of it together has one deadline.
//
// Always true  the callback runs exactly once for each connect(), unless that is cancelled; never inside connect().
// Ownership    destroying the Dialler, or connecting again, cancels everything under way: no callback.
//              The callback itself may do either.
// Threads      the loop's.
// Not here     whether there is a proxy (proxy_choice.h), what is said to it (connect_exchange.h), TLS (transport/).
#pragma once

#include <memory>
#include <optional>

#include "base/event_loop.h"
#include "client/core/connect_exchange.h"
#include "client/core/proxy_choice.h"
#include "net/connect.h"

namespace penstock::client {

class Dialler {
 public:
  using Done = net::Connector::Done;

  Dialler(EventLoop& loop, net::Resolver& resolver, net::SocketFactory& sockets);
  Dialler(const Dialler&) = delete;
  Dialler& operator=(const Dialler&) = delete;

  // Refusals: those of the Connector and of the ConnectExchange; timed_out once `within` has passed.
  void connect(const GatewayUrl& gateway, const std::optional<ProxyChoice>& proxy, Duration within, Done done);
  void cancel();

 private:
  void ask(std::unique_ptr<net::StreamSocket> socket);
  void send();
  void receive();
  void finish(Result<std::unique_ptr<net::StreamSocket>> result);

  EventLoop& loop_;
  net::Connector connector_;
  Timer deadline_;
  TimePoint deadline_at_;
  Duration within_{};
  Done done_;
  std::optional<ConnectExchange> exchange_;    // while a proxy is in use
  std::unique_ptr<net::StreamSocket> socket_;  // to the proxy, while it is asked
};

}  // namespace penstock::client
