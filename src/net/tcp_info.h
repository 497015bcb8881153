// What the system knows of the way that a TCP connection takes (linux/tcp.h, struct tcp_info).
//
// In a file of its own because linux/tcp.h and netinet/tcp.h cannot be included together.
#pragma once

#include <optional>

#include "base/clock.h"
#include "net/stream_socket.h"

namespace penstock::net {

struct TcpWay {
  Way way;
  std::optional<Duration> shortest_round_trip;  // of the last minutes (tcp_min_rtt_wlen); nullopt: none yet
  Duration busy{};                              // for how long bytes were under way
};

// The rate is window by round trip time, or the pace where that is less: BBR's window is twice what the way takes. Not
// tcpi_delivery_rate: a connection that had little to send measures little there, and one whose acknowledgements come
// in bunches measures ten times too much.
std::optional<TcpWay> tcp_way(int socket);

}  // namespace penstock::net
