// TCP sockets as bare descriptors, for whoever has many and watches them by an epoll of his own. All others hold a
// StreamSocket (tcp.h).
#pragma once

#include <expected>

#include "base/ip.h"
#include "net/file_descriptor.h"

namespace penstock::net {

// Begins to connect from that address of this machine, by any port of it: non-blocking, closed on exec, without Nagle's
// delay, with keepalive, urgent data inline, IPv6 alone where it is IPv6. A port serves many destinations at once. The
// descriptor becomes writable, or hung up, when it is decided; whether it is already is not told.
//
// errno where it is refused at once. EADDRNOTAVAIL: `from` is no address of this machine; EAGAIN: it has no port left
// for this destination.
std::expected<FileDescriptor, int> dial_tcp(const IpAddress& from, const Endpoint& to);

// 0.0.0.0:0 where there is none: it is no TCP socket, or not connected any more.
struct SocketEnds {
  Endpoint local{};
  Endpoint peer{};
};
SocketEnds ends_of(int fd);

}  // namespace penstock::net
