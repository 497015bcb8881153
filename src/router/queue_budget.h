// What the queues of all sessions may hold together, so that many who read nothing cannot take the machine's memory.
//
// While the budget is spent, a session's own bound is kWhenSpent: who has more queued loses from it with the next
// packet (packet/flow_queue.h), and who has little goes on as if nothing were. So the sum stays below the budget and
// kWhenSpent for each session that is not read. It counts what packets hold, as queues do: the slots in which they
// stand are up to 112 bytes more for each, which is much where all are as small as a buffer can be (256 bytes).
//
// Threads     any: sessions of all shards share one. It is a count and no lock: a few packets over are no matter.
#pragma once

#include <atomic>
#include <cstddef>

namespace penstock::router {

class QueueBudget {
 public:
  static constexpr std::size_t kWhenSpent = 128 * 1024;

  explicit QueueBudget(std::size_t bytes) : bytes_(bytes) {}

  bool spent() const { return used_.load(std::memory_order_relaxed) >= bytes_; }
  std::size_t used() const { return used_.load(std::memory_order_relaxed); }
  // A queue that held `before` holds `now`.
  void change(std::size_t before, std::size_t now) {
    if (now != before) used_.fetch_add(now - before, std::memory_order_relaxed);
  }

 private:
  const std::size_t bytes_;
  std::atomic<std::size_t> used_{0};
};

}  // namespace penstock::router
