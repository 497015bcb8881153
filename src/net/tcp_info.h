// What the system knows of the way that a TCP connection takes (linux/tcp.h, struct tcp_info).
//
// In a file of its own because linux/tcp.h and netinet/tcp.h cannot be included together.
#pragma once

#include <optional>

#include "net/stream_socket.h"

namespace penstock::net {

// The rate is window by round trip time. Not tcpi_delivery_rate: a connection that had little to send measures little
// there, and one whose acknowledgements come in bunches measures ten times too much.
std::optional<Way> tcp_way(int socket);

}  // namespace penstock::net
