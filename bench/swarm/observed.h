// The gateway as the kernel accounts for it: processor time and memory of another process, from /proc.
#pragma once

#include <cstdint>
#include <string>

namespace penstock::bench {

// Bytes. `anonymous` is the part that is the process's own (heap, stacks), without program text and shared libraries.
struct Memory {
  std::uint64_t resident = 0;
  std::uint64_t anonymous = 0;
};

// What sockets hold outside of any process. `sockets`: TCP sockets that are in use, both ends of a loopback connection;
// `pages`: of their queues; `slab`: all of the kernel's small objects, other programs' too.
struct KernelMemory {
  std::uint64_t sockets = 0;
  std::uint64_t pages = 0;
  std::uint64_t slab = 0;
};

class Observed {
 public:
  explicit Observed(int pid) : directory_("/proc/" + std::to_string(pid)) {}

  bool alive() const;
  // Of all threads, in seconds. To the nanosecond, where clock ticks would count in hundredths.
  double cpu_seconds() const;
  Memory memory() const;

 private:
  std::string directory_;
};

KernelMemory kernel_memory();

}  // namespace penstock::bench
