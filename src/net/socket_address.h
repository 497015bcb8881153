// Between Endpoint and the sockaddr of the system's calls.
#pragma once

#include <sys/socket.h>

#include "base/ip.h"

namespace penstock::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  SocketAddress() = default;
  explicit SocketAddress(const Endpoint& endpoint);

  int family() const { return storage.ss_family; }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  // An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is shown as the IPv4 address it carries. Anything that is
  // neither family is 0.0.0.0:0.
  Endpoint endpoint() const;
};

// The two ends of a socket, 0.0.0.0:0 where there is none.
Endpoint local_endpoint(int fd);
Endpoint peer_endpoint(int fd);

}  // namespace penstock::net
