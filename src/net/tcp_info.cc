#include "net/tcp_info.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace penstock::net {

std::optional<Way> tcp_way(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  constexpr std::uint64_t kMicroseconds = 1'000'000;
  const std::uint64_t window = std::uint64_t{info.tcpi_snd_cwnd} * info.tcpi_snd_mss;
  return Way{.rate = info.tcpi_rtt == 0 ? 0 : window * kMicroseconds / info.tcpi_rtt,
             .unsent = info.tcpi_notsent_bytes};
}

}  // namespace penstock::net
