// What somebody was turned away for, or lost something to: the bounds that strangers and clients meet. Each is counted.
//
// A new one is added at the end, with its name: the names appear in `penstock status`, in the statistics line and in
// the metrics. Packets that die on the way are a router::Drop.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::ingress {

enum class Limit : std::uint8_t {
  handshakes_full,         // the oldest handshake of all made room for a newer one
  handshakes_per_address,  // an address has as many under way as it may have
  handshake_rate,          // an address begins them too fast
  proxy_header,            // a proxy that is not trusted, or said nothing sensible of its client
  login_blocked,           // an address that failed too often has to wait
  login_timeout,           // a peer did not log in in time
  queue_messages,          // a client does not read its control messages
};
inline constexpr std::size_t kLimits = static_cast<std::size_t>(Limit::queue_messages) + 1;

constexpr std::string_view to_string(Limit limit) {
  constexpr std::array<std::string_view, kLimits> kNames{"handshakes_full", "handshakes_per_address", "handshake_rate",
                                                         "proxy_header",    "login_blocked",          "login_timeout",
                                                         "queue_messages"};
  return kNames[static_cast<std::size_t>(limit)];
}

// Any thread counts and any thread reads.
class LimitCounters {
 public:
  void count(Limit limit) { counters_[static_cast<std::size_t>(limit)].fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t of(Limit limit) const {
    return counters_[static_cast<std::size_t>(limit)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kLimits> counters_{};
};

}  // namespace penstock::ingress
