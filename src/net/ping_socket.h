// A ping socket: ICMP echo without privilege (Linux's SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6), one echo
// identifier of the user-space NAT.
//
//   send()      echo requests, whole ICMP messages. The kernel writes the socket's identifier and the checksum into
//               them; anything but an echo request is refused (EINVAL). Outgoing::to's port means nothing.
//   receive()   echo replies to this identifier, whole ICMP messages with a good checksum
//   errors      what the network says of its requests: "time exceeded" is what traceroute lives of. Quoted is the ICMP
//               message, from its type on.
//
// An identifier is held by one ping socket of the machine, whatever its address and family.
//
// Who may open one is a setting of the machine, net.ipv4.ping_group_range, for both families: the groups that may. Its
// default, "1 0", is nobody; most distributions' systemd opens it to all.
//
// Needs       Linux 5.18 for hop limit and traffic class in ICMPv6 (before, the system's usual ones are sent).
// Memory      sizeof(PingSocket) is that of UdpSocket.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/datagram_socket.h"

namespace penstock::net {

struct PingOptions {
  int receive_buffer = 0;  // bytes; 0: the system's default
  int send_buffer = 0;
};

class PingSocket final : public DatagramSocket {
 public:
  // `at` is an own or the unspecified address and the identifier in the place of the port; 0: the system chooses.
  // Refusals: permission_denied (with the command that opens ping_group_range), address_in_use, unavailable, exhausted.
  static Result<PingSocket> create(EventLoop& loop, const Endpoint& at, const PingOptions& options = {});

  PingSocket(PingSocket&&) noexcept = default;

 private:
  PingSocket(EventLoop& loop, FileDescriptor fd);
};

// Whether one of `groups` is in `setting`, the text of net.ipv4.ping_group_range: "FIRST LAST". What cannot be read
// allows nobody.
bool ping_group_range_allows(std::string_view setting, std::span<const std::uint32_t> groups);
// The same for this process and this machine, to be asked at start. The refusal (permission_denied) says how to change
// it.
Result<void> may_open_ping_sockets();

}  // namespace penstock::net
