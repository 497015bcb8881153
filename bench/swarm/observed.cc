#include "bench/swarm/observed.h"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace penstock::bench {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr double kNanosecond = 1e-9;

// The number behind `label` in a file of "Label:   123 kB" lines; 0 where there is none.
std::uint64_t labelled(const std::string& path, const std::string& label) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t number = 0;
    if (words >> name >> number && name == label) return number;
  }
  return 0;
}

}  // namespace

bool Observed::alive() const { return std::filesystem::exists(directory_); }

double Observed::cpu_seconds() const {
  double seconds = 0;
  std::error_code gone;  // a thread may end between the listing and the look
  for (const auto& task : std::filesystem::directory_iterator(directory_ + "/task", gone)) {
    std::ifstream file(task.path() / "schedstat");
    std::uint64_t nanoseconds = 0;
    if (file >> nanoseconds) seconds += static_cast<double>(nanoseconds) * kNanosecond;
  }
  return seconds;
}

Memory Observed::memory() const {
  const std::string path = directory_ + "/smaps_rollup";
  return {labelled(path, "Rss:") * kKiB, labelled(path, "Anonymous:") * kKiB};
}

KernelMemory kernel_memory() {
  KernelMemory memory{.slab = labelled("/proc/meminfo", "Slab:") * kKiB};
  // "TCP: inuse 20002 orphan 0 tw 0 alloc 20002 mem 0"
  std::ifstream file("/proc/net/sockstat");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    if (!(words >> word) || word != "TCP:") continue;
    for (std::uint64_t number = 0; words >> word >> number;) {
      if (word == "inuse") memory.sockets = number;
      if (word == "mem") memory.pages = number;
    }
  }
  return memory;
}

}  // namespace penstock::bench
