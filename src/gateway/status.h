// What `penstock status` and the statistics line say of a running gateway.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "egress/kernel/kernel_nat.h"
#include "gateway/core.h"
#include "gateway/outside.h"

namespace penstock::gateway {

struct Identity {
  std::vector<std::string> listen;  // Listeners::names()
  std::string interface;            // empty: vpn.tun off
  TimePoint started;
  const Outside* outside = nullptr;         // the internet in user space
  egress::KernelNat* kernel_nat = nullptr;  // or by the kernel
};

// Addresses that have to wait, at most so many of them by name.
inline constexpr std::size_t kBlockedShown = 32;

// One JSON document (docs/operations.md describes its fields). On the home loop.
std::string status_json(Core& core, const ServerConfig& config, const Identity& identity, TimePoint now);

// Logs one line of what happened since the last call, and warnings with the limits that were met and the packets that
// died meanwhile, by reason.
class StatisticsLog {
 public:
  explicit StatisticsLog(TimePoint start) : last_time_(start) {}
  void write(Core& core, TimePoint now);

 private:
  TimePoint last_time_;
  session::Totals last_;
  std::array<std::uint64_t, router::kDropReasons> last_drops_{};
  std::vector<std::uint64_t> last_limits_;
  IpAddress last_unmatched_;
};

}  // namespace penstock::gateway
