// Notices that files have changed, by looking: certificates are renewed through symbolic links and renames, which a
// look at the path follows without rules of its own.
#pragma once

#include <string>
#include <vector>

#include "base/event_loop.h"

namespace penstock::gateway {

class FileWatch {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(2);

  // Runs `changed` on the loop whenever one of `paths` is not what it was (other content, gone, there again), once it
  // has been still for one interval.
  FileWatch(EventLoop& loop, std::vector<std::string> paths, std::move_only_function<void()> changed);

 private:
  struct Look {
    bool there = false;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::int64_t modified_ns = 0;
    friend bool operator==(const Look&, const Look&) = default;
  };
  std::vector<Look> look() const;
  void tick();

  std::vector<std::string> paths_;
  std::move_only_function<void()> changed_;
  std::vector<Look> known_;
  std::vector<Look> last_;
  Timer timer_;
};

}  // namespace penstock::gateway
