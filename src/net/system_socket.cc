#include "net/system_socket.h"

#include <sys/socket.h>

#include <cerrno>

#include "net/socket_address.h"

namespace penstock::net {

SystemSocket::SystemSocket(EventLoop& loop, FileDescriptor fd)
    : fd_(std::move(fd)),
      watch_(loop.watch(fd_.get())),
      local_(local_endpoint(fd_.get())),
      peer_(peer_endpoint(fd_.get())) {}

std::unexpected<Error> SystemSocket::refuse(int errno_value) const {
  const bool has_address = !peer_.address.is_unspecified();
  return fail_errno("connection with " + (has_address ? peer_.to_string() : "a program of this machine"), errno_value);
}

Result<std::optional<std::size_t>> SystemSocket::read(MutableByteView into) {
  PENSTOCK_ASSERT(!into.empty());  // 0 would read as the end of the stream
  for (;;) {
    const ssize_t size = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return refuse(errno);
  }
}

Result<std::optional<std::size_t>> SystemSocket::write(ByteView bytes) {
  if (bytes.empty()) return 0;
  for (;;) {
    const ssize_t size = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return refuse(errno);
  }
}

void SystemSocket::when_readable(Task task) {
  PENSTOCK_ASSERT(watch_);
  watch_->when_readable(std::move(task));
}

void SystemSocket::when_writable(Task task) {
  PENSTOCK_ASSERT(watch_);
  watch_->when_writable(std::move(task));
}

void SystemSocket::shutdown_write() { ::shutdown(fd_.get(), SHUT_WR); }

void SystemSocket::detach() { watch_.reset(); }

void SystemSocket::adopt(EventLoop& loop) {
  PENSTOCK_ASSERT(!watch_);
  watch_ = loop.watch(fd_.get());
}

}  // namespace penstock::net
