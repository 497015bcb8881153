// The sockets that clients ask through: UDP and TCP on the gateway's inner addresses, where a TUN device has them.
//
//   open() ---> LISTENING, nobody looks ---> moved into NameService::listen(), which does
//
// They are opened while the process still may (port 53 is below 1024), and served later.
//
// Addresses     each is one of this machine, none is unspecified: an answer leaves from the address that was asked, and
//               other programs keep port 53 of the machine's other addresses. Who may ask is NameService's to say.
// Ownership     the loop, which is the service's, outlives it. Movable.
// Threads       the loop's.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/tcp.h"
#include "net/udp_socket.h"

namespace penstock::dns {

class NameListeners {
 public:
  NameListeners() = default;

  // Both sockets of each endpoint, or none of any. With port 0 both have the one that the system chooses. Refusals
  // begin with "dns: " and name the endpoint: address_in_use, unavailable (not an address of this machine),
  // permission_denied, exhausted, invalid_argument (unspecified).
  static Result<NameListeners> open(EventLoop& loop, std::span<const Endpoint> at);

  std::vector<Endpoint> local() const;
  bool empty() const { return sockets_.empty(); }

 private:
  friend class NameService;
  struct Sockets {
    std::unique_ptr<net::UdpSocket> udp;
    std::unique_ptr<net::TcpListener> tcp;
  };
  static Result<Sockets> open_one(EventLoop& loop, const Endpoint& at);

  std::vector<Sockets> sockets_;
};

}  // namespace penstock::dns
