#include "net/process_info.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace penstock::net {

Result<ProcessInfo> process_info() {
  ProcessInfo info;
  info.pid = ::getpid();

  std::ifstream status("/proc/self/status");
  for (std::string name; status >> name;) {
    if (name == "Threads:") status >> info.threads;
    if (name == "VmRSS:") {
      status >> info.resident_bytes;
      info.resident_bytes *= 1024;  // the file counts KiB
    }
    status.ignore(4096, '\n');
  }
  if (info.threads == 0) return fail(ErrorCode::unavailable, "/proc/self/status cannot be read (is /proc mounted?)");

  namespace fs = std::filesystem;
  std::error_code error;
  const fs::directory_iterator files("/proc/self/fd", error);
  if (error) return fail_errno("/proc/self/fd", error.value());
  const auto count = std::distance(begin(files), end(files));
  info.open_files = static_cast<std::uint64_t>(count - 1);  // less the one that reads this directory

  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno("the limit of open files", errno);
  info.open_files_limit = limit.rlim_cur;
  return info;
}

Result<std::uint64_t> raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno("the limit of open files", errno);
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno("the limit of open files", errno);
  }
  return limit.rlim_cur;
}

}  // namespace penstock::net
