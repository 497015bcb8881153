#include "net/tcp_descriptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "net/socket_address.h"

namespace penstock::net {

std::expected<FileDescriptor, int> dial_tcp(const IpAddress& from, const Endpoint& to) {
  const SocketAddress peer(to);
  FileDescriptor fd(::socket(peer.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return std::unexpected(errno);
  const auto set = [&](int level, int name) {
    // A kernel that refuses one of these still gives a connection that works.
    const int on = 1;
    static_cast<void>(::setsockopt(fd.get(), level, name, &on, sizeof on));
  };
  set(IPPROTO_TCP, TCP_NODELAY);
  set(SOL_SOCKET, SO_KEEPALIVE);
  set(SOL_SOCKET, SO_OOBINLINE);
  if (to.address.is_v6()) set(IPPROTO_IPV6, IPV6_V6ONLY);
  // The port is chosen by connect(), which knows to whom: so one may serve many.
  set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
  const SocketAddress own(Endpoint{from, 0});
  if (::bind(fd.get(), own.get(), own.size) != 0) return std::unexpected(errno);
  if (::connect(fd.get(), peer.get(), peer.size) != 0 && errno != EINPROGRESS && errno != EINTR) {
    // The address was there in bind(): what is lacking now is a port.
    return std::unexpected(errno == EADDRNOTAVAIL ? EAGAIN : errno);
  }
  // An ICMP error of a router on this same machine (a container's, a virtual machine's) comes inside of connect(), and
  // the kernel then remembers it without waking anybody: the next would come with the next SYN, after a second.
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) return std::unexpected(error);
  return fd;
}

SocketEnds ends_of(int fd) { return {.local = local_endpoint(fd), .peer = peer_endpoint(fd)}; }

}  // namespace penstock::net
