// Why a packet died. Every packet that enters leaves by a port or is counted here, by exactly one reason.
//
// One DropCounters a shard; its loop is the only writer, anybody may read (relaxed atomics). A new reason is added at
// the end, with its name: the names appear in `penstock status`, in the statistics line and in the metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::router {

enum class Drop : std::uint8_t {
  malformed,          // too short, not IP, or its length or offload disagrees with the rest
  spoofed_source,     // the source is no address of the session that sent it
  no_session,         // to an address of the VPN subnet that no session has
  no_route,           // to an address that no exit takes
  multicast,          // to a group or broadcast address, and not of a kind that goes to everybody (discovery.h)
  session_detached,   // the receiver's link is gone and it may come back
  session_gone,       // the receiver left while the packet was on its way
  queue_full,         // the receiver does not keep up
  crossing_full,      // the other event loop does not keep up
  interface_refused,  // the kernel did not take it
  not_answered,       // to the gateway's own address, where nothing answers it
  access_denied,      // no rule of the LAN lets the sender reach the receiver
  discovery_off,      // to everybody, where lan.discovery is off
  discovery_rate,     // to everybody, above lan.discovery_rate or what the gateway copies in all
  hop_limit,          // its TTL or hop limit was used up
  too_big,            // larger than what the receiver takes, and not to be fragmented
  queue_delay,        // it stood in the receiver's queue for too long (CoDel)
};
inline constexpr std::size_t kDropReasons = static_cast<std::size_t>(Drop::queue_delay) + 1;

constexpr std::string_view to_string(Drop reason) {
  constexpr std::array<std::string_view, kDropReasons> kNames{
      "malformed",     "spoofed_source", "no_session",    "no_route",          "multicast",    "session_detached",
      "session_gone",  "queue_full",     "crossing_full", "interface_refused", "not_answered", "access_denied",
      "discovery_off", "discovery_rate", "hop_limit",     "too_big",           "queue_delay"};
  return kNames[static_cast<std::size_t>(reason)];
}

class DropCounters {
 public:
  void count(Drop reason, std::uint64_t packets = 1) {
    auto& counter = counters_[static_cast<std::size_t>(reason)];
    counter.store(counter.load(std::memory_order_relaxed) + packets, std::memory_order_relaxed);
  }
  std::uint64_t of(Drop reason) const {
    return counters_[static_cast<std::size_t>(reason)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kDropReasons> counters_{};
};

}  // namespace penstock::router
