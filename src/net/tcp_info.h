// What the system knows of the way that a TCP connection takes (linux/tcp.h, struct tcp_info).
//
// In a file of its own because linux/tcp.h and netinet/tcp.h cannot be included together.
#pragma once

#include <cstdint>

namespace penstock::net {

// Bytes a second, from what was acknowledged; 0: not known. The larger of the last measured rate and of window by
// round trip time, since a connection that had little to send measures little.
std::uint64_t tcp_delivery_rate(int socket);

}  // namespace penstock::net
