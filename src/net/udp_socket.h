// A UDP socket of the operating system that speaks with many peers: one external port of the user-space NAT.
//
// Everything it does is DatagramSocket's; here is how one is made. It is of one family: on an IPv6 address it takes no
// IPv4-mapped traffic. Whether a datagram may be fragmented is a state of a Linux socket and not of a message, so
// send() sets it when it changes: one more system call at each change (IPv6: two), none for the usual conversation,
// whose datagrams are alike.
//
// Memory      sizeof(UdpSocket) is 48 (udp_socket_test.cc holds it to that). Linux adds 2.5 KiB for socket and file,
//             and waiting for it costs 0.6 KiB of AsioLoop's and 0.2 KiB of epoll's. Buffers are the arena's.
#pragma once

#include <cstdint>
#include <memory>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/datagram_socket.h"

namespace penstock::net {

struct UdpOptions {
  // Super-datagrams are received whole (UDP_GRO, Linux 5.0) and sent whole (UDP_SEGMENT, 4.18) where the kernel can.
  bool gro = true;
  bool gso = true;
  // Bytes of SO_RCVBUF and SO_SNDBUF, within net.core.rmem_max and wmem_max; 0: the system's defaults.
  int receive_buffer = 0;
  int send_buffer = 0;
};

class UdpSocket final : public DatagramSocket {
 public:
  // Bound to `at`; port 0: the system chooses one of net.ipv4.ip_local_port_range. Refusals: address_in_use,
  // unavailable (not an address of this machine, or no such family), permission_denied (ports below 1024), exhausted
  // (descriptors, memory, or with port 0 the ports).
  static Result<UdpSocket> create(EventLoop& loop, const Endpoint& at, const UdpOptions& options = {});

  UdpSocket(UdpSocket&&) noexcept = default;

 private:
  UdpSocket(EventLoop& loop, FileDescriptor fd, std::uint16_t whole_below);
};

}  // namespace penstock::net
