#include "net/listener.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "base/log.h"

namespace penstock::net {
namespace {

constexpr auto kWarnEvery = std::chrono::minutes(1);

FileDescriptor open_spare() { return FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

Listener::Listener(EventLoop& loop, FileDescriptor fd, std::string name)
    : loop_(loop),
      fd_(std::move(fd)),
      watch_(loop.watch(fd_.get())),
      spare_(open_spare()),
      name_(std::move(name)),
      pause_(loop) {}

Listener::~Listener() = default;

void Listener::on_accept(OnAccept callback) {
  on_descriptor(
      [this, accept = std::move(callback)](FileDescriptor fd) mutable { accept(socket_of(loop_, std::move(fd))); });
}

void Listener::on_descriptor(OnDescriptor callback) {
  callback_ = std::move(callback);
  arm();
}

void Listener::stop_accepting() {
  pause_.cancel();
  watch_.reset();
  fd_.reset();
  spare_.reset();
}

void Listener::arm() {
  if (watch_) watch_->when_readable([this] { accept_some(); });
}

void Listener::accept_some() {
  for (int i = 0; i < kMostAcceptsAWake; ++i) {
    FileDescriptor fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      ++accepted_;
      callback_(std::move(fd));
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

void Listener::out_of_descriptors(int errno_value) {
  // Without shedding, a client would hang in the backlog until its own deadline, knowing nothing.
  if (spare_) {
    spare_.reset();
    if (FileDescriptor refused(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); refused) ++shed_;
  }
  spare_ = open_spare();
  if (!warned_at_ || loop_.now() - *warned_at_ >= kWarnEvery) {
    warned_at_ = loop_.now();
    log::error("cannot accept connections: raise the limit of open files (LimitNOFILE= in the systemd unit)",
               {{"listener", name_}, {"reason", std::generic_category().message(errno_value)}, {"shed", shed_}});
  }
  pause_.start(kPause, [this] { accept_some(); });
}

}  // namespace penstock::net
