// The control messages (cmsg(3)) that go with a datagram, written and read. For the .cc files of this room.
//
// Which there are is settled by the socket's options: hop limit and traffic class always, the own address where the
// socket has none (IP_PKTINFO), the size of segments of a super-datagram, and what an ICMP error says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "net/datagram.h"

struct msghdr;  // NOLINT(readability-identifier-naming): the system's, recvmsg(2)

namespace penstock::net {

// Enough for the control messages of one datagram; aligned as a cmsghdr.
struct SendControl {
  static constexpr std::size_t kSize = 112;
  alignas(8) std::uint8_t bytes[kSize];
};
struct ReceiveControl {
  static constexpr std::size_t kSize = 256;
  alignas(8) std::uint8_t bytes[kSize];
};

// Writes what `datagram` asks for into `control` and has `message` refer to it. `segment_size` is 0 where the bytes are
// one datagram.
void write_control(const Outgoing& datagram, std::uint16_t segment_size, SendControl& control, msghdr& message);

// Reads ttl, tos, segment_size and, where the kernel tells it, `to`.
void read_control(const msghdr& message, Received& received);

// Reads all but `to` and `quoted`. False where the message is no ICMP error: something that this machine refused.
bool read_error(const msghdr& message, SocketError& error);

}  // namespace penstock::net
