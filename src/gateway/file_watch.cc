#include "gateway/file_watch.h"

#include <sys/stat.h>

#include <utility>

namespace penstock::gateway {

FileWatch::FileWatch(EventLoop& loop, std::vector<std::string> paths, std::move_only_function<void()> changed)
    : paths_(std::move(paths)), changed_(std::move(changed)), known_(look()), last_(known_), timer_(loop) {
  timer_.start(kInterval, [this] { tick(); });
}

std::vector<FileWatch::Look> FileWatch::look() const {
  std::vector<Look> looks;
  for (const std::string& path : paths_) {
    struct stat status{};
    Look& look = looks.emplace_back();
    if (::stat(path.c_str(), &status) != 0) continue;
    look = {.there = true,
            .device = status.st_dev,
            .inode = status.st_ino,
            .size = status.st_size,
            .modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
  }
  return looks;
}

void FileWatch::tick() {
  auto now = look();
  // Certificate and key are two files: wait until both are as they were a moment ago.
  const bool still = now == last_;
  last_ = std::move(now);
  if (still && last_ != known_) {
    known_ = last_;
    changed_();
  }
  timer_.start(kInterval, [this] { tick(); });
}

}  // namespace penstock::gateway
