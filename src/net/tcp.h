// The system's TCP sockets: accepting them and dialling them.
//
// A listener on the unspecified IPv6 address takes both families in one socket (RFC 3493, section 5.3), or IPv4 alone
// where the machine has no IPv6, unless it is asked for IPv6 alone.
//
// Ownership  the loop outlives everything here.
// Threads    the loop's.
// Not here   the accepting itself (listener.h), reading and writing (system_socket.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/congestion_control.h"
#include "net/connect.h"
#include "net/file_descriptor.h"
#include "net/listener.h"
#include "net/system_socket.h"

namespace penstock::net {

// A connected TCP socket, without Nagle's delay.
class TcpSocket final : public SystemSocket {
 public:
  // `fd` is connected and non-blocking.
  TcpSocket(EventLoop& loop, FileDescriptor fd, const CongestionControl& congestion_control = {});
  std::optional<Way> way() override;
  void set_unsent_limit(std::size_t bytes) override;

 private:
  CongestionControl congestion_control_;
  bool suited_ = false;  // CongestionControl::suit() has had its last word
};

class TcpListener final : public Listener {
 public:
  enum class Wildcard : std::uint8_t { both_families, its_own };  // what the unspecified IPv6 address takes

  // Listens at once; connections wait in the backlog until on_accept(). `setting` is what the operator changes to get
  // another address, for the messages. Refusals: address_in_use (names the process that holds the port where it can
  // be seen), permission_denied (ports below 1024), unavailable (not an address of this machine).
  static Result<std::unique_ptr<TcpListener>> create(EventLoop& loop, const Endpoint& at,
                                                     const CongestionControl& congestion_control = {},
                                                     std::string_view setting = "server.listen_addr",
                                                     Wildcard wildcard = Wildcard::both_families);

  // With the port the system chose, if 0 was asked for.
  Endpoint local() const { return local_; }

 private:
  TcpListener(EventLoop& loop, FileDescriptor fd, Endpoint local, const CongestionControl& congestion_control);
  std::unique_ptr<StreamSocket> socket_of(EventLoop& loop, FileDescriptor fd) override;

  Endpoint local_;
  CongestionControl congestion_control_;
};

// Dials with the system's sockets.
class TcpSocketFactory final : public SocketFactory {
 public:
  struct Options {
    // SO_MARK of every connection, so that policy routing can keep it out of the tunnel it carries. 0: none. Needs
    // CAP_NET_ADMIN.
    std::uint32_t mark = 0;
    CongestionControl congestion_control;
  };

  TcpSocketFactory() = default;
  explicit TcpSocketFactory(Options options) : options_(options) {}
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override;

 private:
  Options options_;
};

}  // namespace penstock::net
