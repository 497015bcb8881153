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

// Sets the limit of open files to `wanted`, or where that is 0 raises it as far as this process may (the hard limit),
// and says what it is. Call it once at start: each connection takes a descriptor, and the usual soft limit is 1024.
// Refusal: permission_denied where the system allows less than `wanted`, saying how much.
Result<std::uint64_t> raise_open_files_limit(std::uint64_t wanted = 0);

// How this process stands with others that want the processor (nice(2)), and the threads that it makes from now on. One
// that was started with another value than 0 keeps it: whoever did that meant it. False: the system does not allow it.
bool set_nice(int value);

// What holds for root, too: fs.nr_open. Refusal: permission_denied.
Result<void> refuse_more_open_files_than_the_kernel_allows(std::uint64_t wanted);

}  // namespace penstock::net
