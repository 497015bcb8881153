// A connected stream socket of the operating system: TCP, or a Unix socket. Non-blocking, closed on exec.
//
// Ownership  it owns its descriptor.
// Threads    those of the loop it is on (stream_socket.h).
#pragma once

#include <optional>

#include "base/event_loop.h"
#include "net/file_descriptor.h"
#include "net/stream_socket.h"

namespace penstock::net {

class SystemSocket : public StreamSocket {
 public:
  // `fd` is connected and non-blocking.
  SystemSocket(EventLoop& loop, FileDescriptor fd);

  Result<std::optional<std::size_t>> read(MutableByteView into) override;
  Result<std::optional<std::size_t>> write(ByteView bytes) override;
  void when_readable(Task task) override;
  void when_writable(Task task) override;
  void shutdown_write() override;
  // 0.0.0.0:0 for a Unix socket.
  Endpoint local() const override { return local_; }
  Endpoint peer() const override { return peer_; }
  void detach() override;
  void adopt(EventLoop& loop) override;

 protected:
  int descriptor() const { return fd_.get(); }

 private:
  std::unexpected<Error> refuse(int errno_value) const;

  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;  // destroyed before fd_; null while detached
  Endpoint local_;
  Endpoint peer_;
};

}  // namespace penstock::net
