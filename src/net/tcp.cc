#include "net/tcp.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "base/log.h"
#include "net/port_holder.h"
#include "net/socket_address.h"

namespace penstock::net {
namespace {

constexpr int kFirstUnprivilegedPort = 1024;
constexpr auto kWarnEvery = std::chrono::minutes(1);

void set_option(int fd, int level, int name, int value) {
  // None of those set here can fail on a TCP socket, and none is worth giving up a connection for.
  static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

FileDescriptor open_spare() { return FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

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
int listen_on(const Endpoint& at, FileDescriptor& out) {
  const SocketAddress address(at);
  FileDescriptor fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return errno;
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  // Only the wildcard takes both families; a system default must not decide it.
  if (at.address.is_v6()) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, at.address.is_unspecified() ? 0 : 1);
  if (::bind(fd.get(), address.get(), address.size) != 0) return errno;
  if (::listen(fd.get(), TcpListener::kBacklog) != 0) return errno;
  out = std::move(fd);
  return 0;
}

}  // namespace

TcpSocket::TcpSocket(EventLoop& loop, FileDescriptor fd)
    : fd_(std::move(fd)),
      watch_(loop.watch(fd_.get())),
      local_(local_endpoint(fd_.get())),
      peer_(peer_endpoint(fd_.get())) {
  set_option(fd_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
}

std::unexpected<Error> TcpSocket::refuse(int errno_value) const {
  return fail_errno("connection with " + peer_.to_string(), errno_value);
}

Result<std::optional<std::size_t>> TcpSocket::read(MutableByteView into) {
  PENSTOCK_ASSERT(!into.empty());  // 0 would read as the end of the stream
  for (;;) {
    const ssize_t size = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return refuse(errno);
  }
}

Result<std::optional<std::size_t>> TcpSocket::write(ByteView bytes) {
  if (bytes.empty()) return 0;
  for (;;) {
    const ssize_t size = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return refuse(errno);
  }
}

void TcpSocket::when_readable(Task task) {
  PENSTOCK_ASSERT(watch_);
  watch_->when_readable(std::move(task));
}

void TcpSocket::when_writable(Task task) {
  PENSTOCK_ASSERT(watch_);
  watch_->when_writable(std::move(task));
}

void TcpSocket::shutdown_write() { ::shutdown(fd_.get(), SHUT_WR); }

void TcpSocket::detach() { watch_.reset(); }

void TcpSocket::adopt(EventLoop& loop) {
  PENSTOCK_ASSERT(!watch_);
  watch_ = loop.watch(fd_.get());
}

Result<std::unique_ptr<TcpListener>> TcpListener::create(EventLoop& loop, const Endpoint& at,
                                                         std::string_view setting) {
  FileDescriptor fd;
  int error = listen_on(at, fd);
  const bool wildcard = at.address.is_v6() && at.address.is_unspecified();
  // EADDRNOTAVAIL: the family is compiled in and disabled by sysctl.
  if (wildcard && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL)) error = listen_on({IpAddress(), at.port}, fd);
  if (error != 0) return cannot_listen(at, setting, error);
  const Endpoint local = local_endpoint(fd.get());
  return std::unique_ptr<TcpListener>(new TcpListener(loop, std::move(fd), local));
}

TcpListener::TcpListener(EventLoop& loop, FileDescriptor fd, Endpoint local)
    : loop_(loop),
      fd_(std::move(fd)),
      watch_(loop.watch(fd_.get())),
      spare_(open_spare()),
      local_(local),
      pause_(loop) {}

TcpListener::~TcpListener() { stop_accepting(); }

void TcpListener::on_accept(OnAccept callback) {
  callback_ = std::move(callback);
  arm();
}

void TcpListener::stop_accepting() {
  pause_.cancel();
  watch_.reset();
  fd_.reset();
  spare_.reset();
}

void TcpListener::arm() {
  if (watch_) watch_->when_readable([this] { accept_some(); });
}

void TcpListener::accept_some() {
  for (int i = 0; i < kMostAcceptsAWake; ++i) {
    FileDescriptor fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      ++accepted_;
      callback_(std::make_unique<TcpSocket>(loop_, std::move(fd)));
      if (!watch_) return;  // it called stop_accepting()
      continue;
    }
    switch (errno) {
      case EAGAIN: arm(); return;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM: out_of_descriptors(errno); return;
      default: break;  // the connection died in the backlog; accept(2) hands us its network error
    }
  }
  arm();
}

void TcpListener::out_of_descriptors(int errno_value) {
  // Without shedding, a client would hang in the backlog until its own deadline, knowing nothing.
  if (spare_) {
    spare_.reset();
    if (FileDescriptor refused(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); refused) ++shed_;
  }
  spare_ = open_spare();
  if (!warned_at_ || loop_.now() - *warned_at_ >= kWarnEvery) {
    warned_at_ = loop_.now();
    log::error("cannot accept connections: raise the limit of open files (LimitNOFILE= in the systemd unit)",
               {{"listener", local_}, {"reason", std::generic_category().message(errno_value)}, {"shed", shed_}});
  }
  pause_.start(kPause, [this] { accept_some(); });
}

}  // namespace penstock::net
