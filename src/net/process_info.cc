#include "net/process_info.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
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

Result<std::uint64_t> raise_open_files_limit(std::uint64_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno("the limit of open files", errno);
  if (wanted == 0) wanted = limit.rlim_max;
  if (limit.rlim_cur == wanted) return wanted;
  const rlimit asked{.rlim_cur = wanted, .rlim_max = std::max<rlim_t>(limit.rlim_max, wanted)};
  if (::setrlimit(RLIMIT_NOFILE, &asked) == 0) return wanted;
  if (errno != EPERM) return fail_errno("the limit of open files", errno);
  PENSTOCK_TRY_VOID(refuse_more_open_files_than_the_kernel_allows(wanted));
  return fail(ErrorCode::permission_denied, "the system allows " + std::to_string(limit.rlim_max) +
                                                " open files, not " + std::to_string(wanted) +
                                                " (ulimit -Hn; LimitNOFILE= of a systemd unit)");
}

bool set_nice(int value) {
  // Its errors are values that it may return; this call has none.
  if (::getpriority(PRIO_PROCESS, 0) != 0) return true;
  return ::setpriority(PRIO_PROCESS, 0, value) == 0;
}

Result<void> refuse_more_open_files_than_the_kernel_allows(std::uint64_t wanted) {
  std::uint64_t most = 0;
  if (!(std::ifstream("/proc/sys/fs/nr_open") >> most) || wanted <= most) return {};
  return fail(ErrorCode::permission_denied, "the kernel allows a process " + std::to_string(most) +
                                                " open files, not " + std::to_string(wanted) + " (sysctl fs.nr_open)");
}

}  // namespace penstock::net
