// Where clients and proxies come in: every address of server.listen_addr (TLS) and server.listen_http (plain HTTP, for
// whoever ends TLS in front).
//
//   CLOSED --open()--> connections wait in the backlog --accept_into()--> ACCEPTING --stop()--> CLOSED
//
// Ownership   the loop and the core outlive it.
// Threads     the home loop's.
// Not here    whose word on a client's address is believed: Core::accept is told how a connection arrived, and the door
//             does the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "config/server_config.h"
#include "ingress/websocket/door.h"
#include "net/congestion_control.h"
#include "net/listener.h"

namespace penstock::net {
class UnixListener;
}

namespace penstock::gateway {

class Core;

class Listeners {
 public:
  Listeners();
  ~Listeners();
  Listeners(const Listeners&) = delete;
  Listeners& operator=(const Listeners&) = delete;

  // All of them, or the refusal of the first that cannot be had (net/tcp.h, net/unix_listener.h).
  Result<void> open(EventLoop& loop, const ServerConfig::Server& server,
                    const net::CongestionControl& congestion_control);
  // The files of Unix sockets get this owner and group, so that a proxy that is in the group can connect. Root gives
  // them to anybody, before it is given up; others only to a group that they are in. Refusal: permission_denied.
  Result<void> give_to(unsigned user_id, unsigned group_id);
  void accept_into(Core& core);
  // Nobody new comes in; files of Unix sockets are gone. Again: nothing.
  void stop();

  // Connections that were closed unserved for want of a descriptor.
  std::uint64_t shed() const;
  // As they are written in the configuration, with the port that the system chose where 0 was asked for: "[::]:443",
  // "http://127.0.0.1:8080", "unix:/run/penstock/http.sock".
  std::vector<std::string> names() const;

 private:
  struct Opened {
    std::unique_ptr<net::Listener> listener;
    std::string name;
    ingress::Arrival arrival;
  };

  std::vector<Opened> opened_;
  std::vector<net::UnixListener*> unix_;  // those of them
};

}  // namespace penstock::gateway
