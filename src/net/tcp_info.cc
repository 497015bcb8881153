#include "net/tcp_info.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>

namespace penstock::net {

std::optional<TcpWay> tcp_way(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  constexpr std::uint64_t kMicroseconds = 1'000'000;
  const std::uint64_t window = std::uint64_t{info.tcpi_snd_cwnd} * info.tcpi_snd_mss;
  TcpWay found{.way = {.rate = 0, .unsent = info.tcpi_notsent_bytes},
               .shortest_round_trip = {},
               .busy = std::chrono::microseconds(info.tcpi_busy_time)};
  if (info.tcpi_rtt != 0) {
    found.way.rate = window * kMicroseconds / info.tcpi_rtt;
    if (info.tcpi_pacing_rate != 0) found.way.rate = std::min<std::uint64_t>(found.way.rate, info.tcpi_pacing_rate);
  }
  if (info.tcpi_min_rtt != 0 && info.tcpi_min_rtt != std::numeric_limits<decltype(info.tcpi_min_rtt)>::max())
    found.shortest_round_trip = std::chrono::microseconds(info.tcpi_min_rtt);
  return found;
}

}  // namespace penstock::net
