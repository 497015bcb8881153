#include "net/udp_socket.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <limits>

namespace penstock::net {

UdpSocket::UdpSocket(EventLoop& loop, FileDescriptor fd, std::uint16_t whole_below)
    : DatagramSocket(loop, std::move(fd), whole_below) {}

Result<UdpSocket> UdpSocket::create(EventLoop& loop, const Endpoint& at, const UdpOptions& options) {
  const Kind kind{
      .name = "UDP port", .free_ones = "net.ipv4.ip_local_port_range, or add an address", .protocol = IPPROTO_UDP};
  PENSTOCK_TRY(FileDescriptor fd, open(kind, at, {.receive = options.receive_buffer, .send = options.send_buffer}));
  const int on = 1;
  // A kernel without it hands over datagrams one by one, which is as good.
  if (options.gro) static_cast<void>(::setsockopt(fd.get(), IPPROTO_UDP, UDP_GRO, &on, sizeof on));
  int segment = 0;
  socklen_t size = sizeof segment;
  const bool gso = options.gso && ::getsockopt(fd.get(), IPPROTO_UDP, UDP_SEGMENT, &segment, &size) == 0;
  return UdpSocket(loop, std::move(fd), gso ? std::numeric_limits<std::uint16_t>::max() : std::uint16_t{0});
}

}  // namespace penstock::net
