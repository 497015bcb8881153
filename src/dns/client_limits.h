// How much one client may ask: queries a second, and queries that wait for an upstream at the same time.
//
// Memory    an entry for each client that asked lately or waits. Those that do neither are swept out when the entries
//           have doubled since the last sweep.
// Threads   one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>

#include "base/clock.h"
#include "base/result.h"

namespace penstock::dns {

class ClientLimits {
 public:
  struct Settings {
    std::uint32_t rate = 100;       // queries a second, at least 1
    std::uint32_t burst = 300;      // and as many at once, at least 1
    std::uint32_t in_flight = 128;  // that wait
  };

  explicit ClientLimits(const Settings& settings)
      : settings_(settings), interval_(Duration(std::chrono::seconds(1)) / settings.rate) {}

  // Charges the client for a query. False where it asks too often.
  bool take(std::uint64_t client, TimePoint now) {
    Entry& entry = entry_of(client, now);
    const TimePoint full_at = std::max(entry.full_at, now) + interval_;
    if (full_at - now > interval_ * settings_.burst) return false;
    entry.full_at = full_at;
    return true;
  }
  // A query of the client begins to wait, or would be one too many.
  bool begin(std::uint64_t client, TimePoint now) {
    Entry& entry = entry_of(client, now);
    if (entry.waiting >= settings_.in_flight) return false;
    ++entry.waiting;
    return true;
  }
  void end(std::uint64_t client) {
    const auto found = clients_.find(client);
    PENSTOCK_ASSERT(found != clients_.end() && found->second.waiting > 0);
    --found->second.waiting;
  }
  std::size_t clients() const { return clients_.size(); }

 private:
  static constexpr std::size_t kFirstSweep = 64;

  struct Entry {
    TimePoint full_at;  // when the bucket will be full again
    std::uint32_t waiting = 0;
  };

  Entry& entry_of(std::uint64_t client, TimePoint now) {
    if (const auto found = clients_.find(client); found != clients_.end()) return found->second;
    if (clients_.size() >= sweep_at_) {
      std::erase_if(clients_,
                    [now](const auto& item) { return item.second.waiting == 0 && item.second.full_at <= now; });
      sweep_at_ = std::max(kFirstSweep, 2 * clients_.size());
    }
    return clients_[client];
  }

  Settings settings_;
  Duration interval_;
  std::unordered_map<std::uint64_t, Entry> clients_;  // by numbers that are ours to give
  std::size_t sweep_at_ = kFirstSweep;
};

}  // namespace penstock::dns
