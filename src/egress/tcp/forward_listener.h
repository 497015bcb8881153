// Takes connections from outside at a port that leads to a client (internet.forward), as streams for SocketStreams.
//
//   LISTENING, connections wait in the backlog --start()--> ACCEPTING --stop()--> CLOSED
//
// It is made while the process may still have low ports, and started when there is somebody to take what comes. A
// listener on the unspecified IPv6 address takes IPv6 alone. How many are accepted in a turn, and what happens when
// descriptors run out: net/listener.h.
//
// Ownership   whoever is handed a stream closes it. The loop outlives the listener; what it accepted lives on.
// Threads     the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "egress/tcp/host_streams.h"

namespace penstock::net {
class TcpListener;
}

namespace penstock::egress {

class ForwardListener {
 public:
  // `from` is who connected, `local` what it connected to. May call stop(), but not destroy the listener.
  using OnStream = std::move_only_function<void(HostStreams::Stream, const Endpoint& from, const Endpoint& local)>;

  // Refusals: those of net::TcpListener, in words of internet.forward and internet.public_ip.
  static Result<ForwardListener> create(EventLoop& loop, const Endpoint& at);
  ForwardListener(ForwardListener&& other) noexcept;
  ForwardListener& operator=(ForwardListener&& other) noexcept;
  ~ForwardListener();

  void start(OnStream on_stream);
  // Further connections are refused by the system.
  void stop();

  // With the port that the system chose, if 0 was asked for.
  Endpoint local() const;
  std::uint64_t accepted() const;
  // Connections closed unserved for want of a descriptor.
  std::uint64_t shed() const;

 private:
  explicit ForwardListener(std::unique_ptr<net::TcpListener> listener);

  std::unique_ptr<net::TcpListener> listener_;
};

}  // namespace penstock::egress
