#include "net/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "net/port_holder.h"
#include "net/socket_address.h"
#include "net/tcp_info.h"

namespace penstock::net {
namespace {

constexpr int kFirstUnprivilegedPort = 1024;

void set_option(int fd, int level, int name, int value) {
  // None of those set here can fail on a TCP socket, and none is worth giving up a connection for.
  static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

// Why the system would not let us listen, in the operator's words.
std::unexpected<Error> cannot_listen(const Endpoint& at, std::string_view setting, int errno_value) {
  const std::string port = std::to_string(at.port);
  const std::string to_another = " or set " + std::string(setting) + " to another port";
  if (errno_value == EADDRINUSE) {
    if (const auto holder = find_port_holder(at)) {
      return fail(ErrorCode::address_in_use, "port " + port + " is in use by " + holder->name + " (pid " +
                                                 std::to_string(holder->pid) + "): stop it" + to_another);
    }
    return fail(ErrorCode::address_in_use, "port " + port +
                                               " is in use by another process (as root, `ss -ltnp 'sport = :" + port +
                                               "'` tells which): stop it" + to_another);
  }
  if (errno_value == EACCES && at.port != 0 && at.port < kFirstUnprivilegedPort) {
    return fail(ErrorCode::permission_denied,
                "port " + port +
                    " is below 1024, which needs CAP_NET_BIND_SERVICE: grant it (as the systemd unit does)" +
                    to_another + " above 1023");
  }
  if (errno_value == EADDRNOTAVAIL) {
    return fail(ErrorCode::unavailable, "this machine has no address " + at.address.to_string() +
                                            " to listen on: set " + std::string(setting) +
                                            " to one that `ip address` shows, or to \":" + port + "\" for all of them");
  }
  return fail_errno("cannot listen on " + at.to_string(), errno_value);
}

// errno in place of an Error, so that create() can tell a missing IPv6 from the rest.
int listen_on(const Endpoint& at, bool both_families, FileDescriptor& out) {
  const SocketAddress address(at);
  FileDescriptor fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return errno;
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  // Only the wildcard takes both families; a system default must not decide it.
  if (at.address.is_v6()) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, both_families ? 0 : 1);
  if (::bind(fd.get(), address.get(), address.size) != 0) return errno;
  if (::listen(fd.get(), TcpListener::kBacklog) != 0) return errno;
  out = std::move(fd);
  return 0;
}

}  // namespace

TcpSocket::TcpSocket(EventLoop& loop, FileDescriptor fd, const CongestionControl& congestion_control)
    : SystemSocket(loop, std::move(fd)), congestion_control_(congestion_control) {
  set_option(descriptor(), IPPROTO_TCP, TCP_NODELAY, 1);
  congestion_control_.begin(descriptor());
}

std::optional<Way> TcpSocket::way() {
  const auto measured = tcp_way(descriptor());
  if (!measured) return std::nullopt;
  if (!suited_ && measured->shortest_round_trip)
    suited_ = congestion_control_.suit(descriptor(), *measured->shortest_round_trip, measured->busy);
  return measured->way;
}

void TcpSocket::set_unsent_limit(std::size_t bytes) {
  set_option(descriptor(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<int>(bytes));
}

Result<std::unique_ptr<TcpListener>> TcpListener::create(EventLoop& loop, const Endpoint& at,
                                                         const CongestionControl& congestion_control,
                                                         std::string_view setting, Wildcard wildcard) {
  FileDescriptor fd;
  const bool both_families = wildcard == Wildcard::both_families && at.address.is_v6() && at.address.is_unspecified();
  int error = listen_on(at, both_families, fd);
  // EADDRNOTAVAIL: the family is compiled in and disabled by sysctl.
  if (both_families && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL))
    error = listen_on({IpAddress(), at.port}, false, fd);
  if (error != 0) return cannot_listen(at, setting, error);
  const Endpoint local = local_endpoint(fd.get());
  // What it accepts inherits it, even when this process has no right to it any more.
  congestion_control.begin(fd.get());
  return std::unique_ptr<TcpListener>(new TcpListener(loop, std::move(fd), local, congestion_control));
}

TcpListener::TcpListener(EventLoop& loop, FileDescriptor fd, Endpoint local,
                         const CongestionControl& congestion_control)
    : Listener(loop, std::move(fd), local.to_string()), local_(local), congestion_control_(congestion_control) {}

std::unique_ptr<StreamSocket> TcpListener::socket_of(EventLoop& loop, FileDescriptor fd) {
  return std::make_unique<TcpSocket>(loop, std::move(fd), congestion_control_);
}

}  // namespace penstock::net
