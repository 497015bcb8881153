// Which congestion control TCP connections with peers get (performance.congestion_control; tcp(7), TCP_CONGESTION).
//
//   the system's --1 s of bytes under way, no round trip below 1 ms--> BBR, for good
//
// What systems usually have takes every lost packet for a sign that the way is full: over 40 ms and with one packet in
// a thousand lost it carries 10 to 20 Mbit/s, whatever the line. It also fills all buffers of the way, where packets
// wait behind each other. On a short way neither matters, and BBR's timers cost a third of the throughput between two
// machines in one room. There is no way back: Linux goes on pacing a connection that once had BBR (sk_pacing_status),
// whatever it has later. So the change is made late, when a busy processor cannot be what made each round trip long.
//
// Rights   BBR takes none (tcp_bbr.c: TCP_CONG_NON_RESTRICTED), but loading its module takes CAP_NET_ADMIN. Others take
//          that, or an entry in net.ipv4.tcp_allowed_congestion_control. Who has no right keeps what it has.
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
  // A way is a long one whose shortest round trip takes this much,
  static constexpr Duration kLong = std::chrono::milliseconds(1);
  // after bytes were under way on it for this long.
  static constexpr Duration kProof = std::chrono::seconds(1);

  // The system's, whatever the way.
  CongestionControl() = default;
  // On long ways this, on short ones the system's.
  static CongestionControl for_long_ways(std::string_view name, Duration least = kLong, Duration proof = kProof);
  // Always this.
  static CongestionControl always(std::string_view name);
  // "auto": for_long_ways("bbr"); "system"; or the name of what to use always. Has the system load it. Refusals:
  // unavailable (this kernel has none of that name), permission_denied.
  static Result<CongestionControl> from_setting(std::string_view setting);

  // For a new connection.
  void begin(int socket) const;
  // Whenever it is measured; `busy` is for how long bytes were under way. True: there is nothing more to decide.
  bool suit(int socket, Duration shortest_round_trip, Duration busy) const;

 private:
  enum class When { never, on_long_ways, always };
  When when_ = When::never;
  Duration long_ = kLong;
  Duration proof_ = kProof;
  Name name_{};
};

// from_setting(), or the system's with a word in the log about why.
CongestionControl congestion_control_by(std::string_view setting);

// Of a connection; empty if the system does not tell.
CongestionControl::Name congestion_control_of(int socket);

}  // namespace penstock::net
