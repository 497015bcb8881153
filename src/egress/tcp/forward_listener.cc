#include "egress/tcp/forward_listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "net/tcp.h"
#include "net/tcp_descriptor.h"

namespace penstock::egress {
namespace {

void set_option(int fd, int level, int name) {
  const int on = 1;
  static_cast<void>(::setsockopt(fd, level, name, &on, sizeof on));
}

}  // namespace

Result<ForwardListener> ForwardListener::create(EventLoop& loop, const Endpoint& at) {
  auto listener = net::TcpListener::create(loop, at, {}, "internet.forward", net::TcpListener::Wildcard::its_own);
  if (listener) return ForwardListener(*std::move(listener));
  if (listener.error().code == ErrorCode::unavailable) {
    return fail(ErrorCode::unavailable, "this machine has no address " + at.address.to_string() +
                                            " to forward from: set internet.public_ip to one that `ip address` shows");
  }
  return std::unexpected(std::move(listener).error());
}

ForwardListener::ForwardListener(std::unique_ptr<net::TcpListener> listener) : listener_(std::move(listener)) {}
ForwardListener::ForwardListener(ForwardListener&& other) noexcept = default;
ForwardListener& ForwardListener::operator=(ForwardListener&& other) noexcept = default;
ForwardListener::~ForwardListener() = default;

void ForwardListener::start(OnStream on_stream) {
  listener_->on_descriptor([on_stream = std::move(on_stream)](net::FileDescriptor fd) mutable {
    const net::SocketEnds ends = net::ends_of(fd.get());
    if (ends.peer.port == 0) return;  // it was reset while it waited, and nobody is there any more
    set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY);
    set_option(fd.get(), SOL_SOCKET, SO_KEEPALIVE);
    on_stream(fd.release(), ends.peer, ends.local);
  });
}

void ForwardListener::stop() { listener_->stop_accepting(); }

Endpoint ForwardListener::local() const { return listener_->local(); }
std::uint64_t ForwardListener::accepted() const { return listener_->accepted(); }
std::uint64_t ForwardListener::shed() const { return listener_->shed(); }

}  // namespace penstock::egress
