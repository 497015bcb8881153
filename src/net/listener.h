// Accepting connections: what tcp.h and unix_listener.h have in common.
//
//   LISTENING, connections wait in the backlog --on_accept()--> ACCEPTING --stop_accepting()--> CLOSED
//
// When the process runs out of descriptors the listener sheds one waiting connection (a spare descriptor is kept for
// it), rests for kPause and goes on: it never spins and never dies.
//
// Ownership  destroying a listener closes it; sockets it accepted live on. The loop outlives everything here.
// Threads    the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "net/file_descriptor.h"
#include "net/stream_socket.h"

namespace penstock::net {

class Listener {
 public:
  static constexpr int kBacklog = 4096;
  static constexpr int kMostAcceptsAWake = 64;  // then the loop's other work has its turn
  static constexpr auto kPause = std::chrono::milliseconds(100);

  using OnAccept = std::move_only_function<void(std::unique_ptr<StreamSocket>)>;
  using OnDescriptor = std::move_only_function<void(FileDescriptor)>;

  virtual ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // The callback may call stop_accepting(), but not destroy the listener.
  void on_accept(OnAccept callback);
  // In place of on_accept(), for whoever has sockets of a kind of its own: bare descriptors, non-blocking and closed on
  // exec, that the loop does not know.
  void on_descriptor(OnDescriptor callback);
  // Closes the door: further connections are refused by the system. Accepted sockets live on.
  virtual void stop_accepting();

  std::uint64_t accepted() const { return accepted_; }
  // Connections closed unserved for want of a descriptor.
  std::uint64_t shed() const { return shed_; }

 protected:
  // `fd` listens; `name` is for log lines.
  Listener(EventLoop& loop, FileDescriptor fd, std::string name);
  virtual std::unique_ptr<StreamSocket> socket_of(EventLoop& loop, FileDescriptor fd) = 0;

 private:
  void arm();
  void accept_some();
  void out_of_descriptors(int errno_value);

  EventLoop& loop_;
  FileDescriptor fd_;
  std::unique_ptr<Watch> watch_;
  FileDescriptor spare_;
  std::string name_;
  OnDescriptor callback_;
  Timer pause_;
  std::optional<TimePoint> warned_at_;
  std::uint64_t accepted_ = 0;
  std::uint64_t shed_ = 0;
};

}  // namespace penstock::net
