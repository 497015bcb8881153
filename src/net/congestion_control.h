// Which congestion control TCP connections with peers get (performance.congestion_control; tcp(7), TCP_CONGESTION).
//
// By themselves: the system's, where the way is short; on a long one BBR, if what the system would use is the usual
// one, which takes every lost packet for a sign that the way is full. Over 40 ms and with one packet in a thousand
// lost, that leaves 15 Mbit/s of any line. It also fills whatever buffers the way has, where packets wait behind all
// others. On a short way neither matters, and BBR's timers cost a third of the throughput between two machines in one
// room.
//
// Rights   BBR takes CAP_NET_ADMIN, or that the system allows it to all (net.ipv4.tcp_allowed_congestion_control).
//          Without either a connection keeps what it has.
// Threads  a value; those of the socket that it is applied to.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace penstock::net {

class CongestionControl {
 public:
  // TCP_CA_NAME_MAX of linux/tcp.h, with the zero at the end.
  using Name = std::array<char, 16>;
  // A way whose shortest round trip takes this much is a long one.
  static constexpr Duration kLong = std::chrono::milliseconds(1);

  // The system's, whatever the way.
  CongestionControl() = default;
  // Of long ways this, of short ones the system's.
  static CongestionControl for_long_ways(std::string_view name, Duration least = kLong);
  // Always this.
  static CongestionControl always(std::string_view name);
  // "auto": for_long_ways("bbr"); "system"; or the name of what to use always. Makes the system load it. Refusals:
  // unavailable (this kernel has none of that name), permission_denied.
  static Result<CongestionControl> from_setting(std::string_view setting);

  // For a new connection.
  void begin(int socket) const;
  // As soon as the shortest round trip is known, and whenever it is measured again. `system` remembers what the
  // connection had before; empty at first.
  void suit(int socket, Duration shortest_round_trip, Name& system) const;

 private:
  enum class When { never, on_long_ways, always };
  When when_ = When::never;
  Duration long_ = kLong;
  Name name_{};
};

// from_setting(), or the system's with a word in the log about why.
CongestionControl congestion_control_by(std::string_view setting);

// Of a connection; empty if the system does not tell.
CongestionControl::Name congestion_control_of(int socket);

}  // namespace penstock::net
