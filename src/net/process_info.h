// What the operating system says about this process, for status and metrics.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace penstock::net {

struct ProcessInfo {
  int pid = 0;
  std::uint64_t threads = 0;
  std::uint64_t open_files = 0;
  std::uint64_t open_files_limit = 0;
  std::uint64_t resident_bytes = 0;
};

// Reads /proc: some tens of microseconds, so not per packet. Any thread.
Result<ProcessInfo> process_info();

// Raises the limit of open files as far as this process may (the hard limit) and says how far that is. Call it once at
// start: each connection takes a descriptor, and the usual soft limit is 1024.
Result<std::uint64_t> raise_open_files_limit();

}  // namespace penstock::net
