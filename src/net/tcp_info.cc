#include "net/tcp_info.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

namespace penstock::net {

std::uint64_t tcp_delivery_rate(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  constexpr std::uint64_t kMicroseconds = 1'000'000;
  const std::uint64_t window = std::uint64_t{info.tcpi_snd_cwnd} * info.tcpi_snd_mss;
  const std::uint64_t by_window = info.tcpi_rtt == 0 ? 0 : window * kMicroseconds / info.tcpi_rtt;
  return std::max<std::uint64_t>(info.tcpi_delivery_rate, by_window);
}

}  // namespace penstock::net
