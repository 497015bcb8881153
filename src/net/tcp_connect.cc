#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "net/socket_address.h"
#include "net/tcp.h"

namespace penstock::net {
namespace {

class TcpAttempt final : public SocketFactory::Attempt {
 public:
  TcpAttempt(EventLoop& loop, const TcpSocketFactory::Options& options, SocketFactory::Done done)
      : loop_(loop), options_(options), done_(std::move(done)), outcome_(loop) {}

  void start(const Endpoint& to) {
    const SocketAddress address(to);
    fd_ = FileDescriptor(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!fd_) return finish_later(errno);
    const std::uint32_t mark = options_.mark;
    if (mark != 0 && ::setsockopt(fd_.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) return finish_later(errno);
    if (::connect(fd_.get(), address.get(), address.size) == 0) return finish_later(0);
    // EINTR too: the connection goes on being made.
    if (errno != EINPROGRESS && errno != EINTR) return finish_later(errno);
    watch_ = loop_.watch(fd_.get());
    watch_->when_writable([this] { writable(); });
  }

 private:
  void writable() {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    finish(error);
  }
  void finish_later(int error) {
    outcome_.start(Duration::zero(), [this, error] { finish(error); });
  }
  void finish(int error) {
    watch_.reset();
    SocketFactory::Done done = std::move(done_);  // destroys this attempt
    if (error != 0) {
      auto refusal = fail_errno("", error);
      refusal.error().message = std::generic_category().message(error);
      return done(std::move(refusal));
    }
    done(std::make_unique<TcpSocket>(loop_, std::move(fd_), options_.congestion_control));
  }

  EventLoop& loop_;
  TcpSocketFactory::Options options_;
  SocketFactory::Done done_;
  Timer outcome_;  // an outcome that was known at once
  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace

std::unique_ptr<SocketFactory::Attempt> TcpSocketFactory::connect(EventLoop& loop, const Endpoint& to, Done done) {
  auto attempt = std::make_unique<TcpAttempt>(loop, options_, std::move(done));
  attempt->start(to);
  return attempt;
}

}  // namespace penstock::net
