// What goes through a datagram socket, in the words of udp_socket.h and ping_socket.h: what is to be sent, what was
// received, and what the network answered instead.
//
// Sizes are bytes. A datagram's bytes are what follows the UDP header; of a ping socket, the whole ICMP message.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/ip.h"

namespace penstock::net {

// Why the system would not take a datagram. It was not sent, and sending it again is of no use.
struct Refusal {
  int error = 0;  // errno: EMSGSIZE, EPERM (a firewall of this machine), ENETUNREACH, ENOBUFS (dropped by a full
                  // device), EACCES (a broadcast), EINVAL; 0: not refused
  std::uint32_t path_mtu = 0;  // with EMSGSIZE: the largest IP packet that would pass; 0: cannot be told

  explicit operator bool() const { return error != 0; }
};

// A datagram to send, or a super-datagram: many of one size to one peer, the last of which may be shorter.
struct Outgoing {
  Endpoint to;
  // The address of this machine that it comes from, for sockets on an unspecified address. Unspecified: the system
  // chooses, or the one the socket is bound to.
  IpAddress from;
  ByteView bytes;                  // lives until send() returns
  std::uint16_t segment_size = 0;  // of each datagram but the last; 0: `bytes` are one
  std::uint8_t ttl = 0;            // or hop limit; 0: the system's usual one
  std::uint8_t tos = 0;            // or traffic class, with the ECN bits
  // IPv4: sets DF. Both: what does not fit into the path's MTU is refused (EMSGSIZE) and not fragmented. Otherwise it
  // is fragmented, IPv6 into what passes everywhere (1280).
  bool dont_fragment = false;

  Refusal refusal;  // set by send()
};

struct SendResult {
  std::size_t taken = 0;    // of the datagrams, sent or refused; less than all: the socket is full, when_writable()
  std::size_t refused = 0;  // how many of those have a `refusal`
  // Bytes of the super-datagram at `taken` that were sent before the socket was full: whole segments, to be left out
  // when it is sent again.
  std::size_t part = 0;
};

// A datagram, or several from one peer that the kernel put together (UDP_GRO). Lives in a DatagramArena.
struct Received {
  Endpoint from;                   // port 0 from a ping socket
  IpAddress to;                    // the address of this machine that it was sent to; unspecified where unknown
  MutableByteView bytes;           // with DatagramArena::kHeadroom writable bytes in front of them
  std::uint16_t segment_size = 0;  // of each datagram but the last; 0: `bytes` are one
  std::uint8_t ttl = 0;            // or hop limit, as it arrived
  std::uint8_t tos = 0;            // or traffic class
};

// What a router or the peer's host answered to a datagram that was sent: an ICMP error. Lives in a DatagramArena.
//
// Anyone on the way may have forged one; what it quotes is from a stranger.
struct SocketError {
  enum class Origin : std::uint8_t { icmp, icmp6 };

  Origin origin = Origin::icmp;
  std::uint8_t type = 0;  // RFC 792, RFC 4443
  std::uint8_t code = 0;  //
  int error = 0;          // errno: what the kernel makes of type and code
  // The next hop's MTU where the datagram was too big (RFC 1191, RFC 4443 section 3.2); which byte is wrong where one
  // is (RFC 792 type 12, RFC 4443 section 3.4).
  std::uint32_t info = 0;
  IpAddress reporter;    // who says so; unspecified where the kernel does not tell
  std::uint8_t ttl = 0;  // or hop limit of the error itself, as it arrived; 0: the kernel does not tell
  std::uint8_t tos = 0;  // or traffic class of it
  Endpoint to;           // where the datagram was sent; port 0 from a ping socket
  ByteView quoted;       // the beginning of its bytes, maybe none
};

}  // namespace penstock::net
