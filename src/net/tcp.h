// The system's TCP sockets: accepting them and dialling them.
//
// A listener on the unspecified IPv6 address takes both families in one socket (RFC 3493, section 5.3), or IPv4 alone
// where the machine has no IPv6. When the process runs out of descriptors the listener sheds one waiting connection
// (a spare descriptor is kept for it), rests for kPause and goes on: it never spins and never dies.
//
// Ownership  a StreamSocket from here owns its descriptor. Destroying a listener closes it; sockets it accepted live
//            on. The loop outlives everything here.
// Threads    the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/connect.h"
#include "net/file_descriptor.h"
#include "net/stream_socket.h"

namespace penstock::net {

// A connected TCP socket: non-blocking, without Nagle's delay, closed on exec.
class TcpSocket final : public StreamSocket {
 public:
  // `fd` is connected and non-blocking.
  TcpSocket(EventLoop& loop, FileDescriptor fd);

  Result<std::optional<std::size_t>> read(MutableByteView into) override;
  Result<std::optional<std::size_t>> write(ByteView bytes) override;
  void when_readable(Task task) override;
  void when_writable(Task task) override;
  void shutdown_write() override;
  Endpoint local() const override { return local_; }
  Endpoint peer() const override { return peer_; }
  void detach() override;
  void adopt(EventLoop& loop) override;

 private:
  std::unexpected<Error> refuse(int errno_value) const;

  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;  // destroyed before fd_; null while detached
  Endpoint local_;
  Endpoint peer_;
};

class TcpListener {
 public:
  static constexpr int kBacklog = 4096;
  static constexpr int kMostAcceptsAWake = 64;  // then the loop's other work has its turn
  static constexpr auto kPause = std::chrono::milliseconds(100);

  using OnAccept = std::move_only_function<void(std::unique_ptr<StreamSocket>)>;

  // Listens at once; connections wait in the backlog until on_accept(). `setting` is what the operator changes to get
  // another address, for the messages. Refusals: address_in_use (names the process that holds the port where it can
  // be seen), permission_denied (ports below 1024), unavailable (not an address of this machine).
  static Result<std::unique_ptr<TcpListener>> create(EventLoop& loop, const Endpoint& at,
                                                     std::string_view setting = "server.listen_addr");
  ~TcpListener();
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  // The callback may call stop_accepting(), but not destroy the listener.
  void on_accept(OnAccept callback);
  // Closes the door: further connections are refused by the system. Accepted sockets live on.
  void stop_accepting();

  // With the port the system chose, if 0 was asked for.
  Endpoint local() const { return local_; }
  std::uint64_t accepted() const { return accepted_; }
  // Connections closed unserved for want of a descriptor.
  std::uint64_t shed() const { return shed_; }

 private:
  TcpListener(EventLoop& loop, FileDescriptor fd, Endpoint local);
  void arm();
  void accept_some();
  void out_of_descriptors(int errno_value);

  EventLoop& loop_;
  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;
  FileDescriptor spare_;
  Endpoint local_;
  OnAccept callback_;
  Timer pause_;
  std::optional<TimePoint> warned_at_;
  std::uint64_t accepted_ = 0;
  std::uint64_t shed_ = 0;
};

// Dials with the system's sockets.
class TcpSocketFactory final : public SocketFactory {
 public:
  struct Options {
    // SO_MARK of every connection, so that policy routing can keep it out of the tunnel it carries. 0: none. Needs
    // CAP_NET_ADMIN.
    std::uint32_t mark = 0;
  };

  TcpSocketFactory() = default;
  explicit TcpSocketFactory(Options options) : options_(options) {}
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override;

 private:
  Options options_;
};

}  // namespace penstock::net
