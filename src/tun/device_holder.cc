#include "tun/device_holder.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace penstock::tun {
namespace {

namespace fs = std::filesystem;

// The kernel describes each TUN descriptor with a line "iff:\t<interface>" (tun_chr_show_fdinfo).
bool describes(const fs::path& fdinfo, std::string_view name) {
  std::ifstream file(fdinfo);
  const std::string wanted = "iff:\t" + std::string(name);
  for (std::string line; std::getline(file, line);)
    if (line == wanted) return true;
  return false;
}

// Reading the fdinfo of every descriptor of a machine takes long; those of a TUN are open files called ".../tun".
bool may_be_tun(const fs::path& descriptor) {
  std::error_code ignored;
  return fs::read_symlink(descriptor, ignored).filename() == "tun";
}

bool holds(const fs::path& process, std::string_view name) {
  std::error_code error;
  for (fs::directory_iterator at(process / "fd", error), end; !error && at != end; at.increment(error))
    if (may_be_tun(at->path()) && describes(process / "fdinfo" / at->path().filename(), name)) return true;
  return false;
}

}  // namespace

std::optional<std::string> find_device_holder(std::string_view name) {
  std::error_code error;
  const fs::path our_namespace = fs::read_symlink("/proc/thread-self/ns/net", error);
  for (fs::directory_iterator at("/proc", error), end; !error && at != end; at.increment(error)) {
    const fs::path& process = at->path();
    const std::string pid = process.filename();
    if (!std::ranges::all_of(pid, [](unsigned char c) { return std::isdigit(c) != 0; })) continue;
    std::error_code unreadable;
    if (fs::read_symlink(process / "ns/net", unreadable) != our_namespace || !holds(process, name)) continue;
    std::string command;
    std::getline(std::ifstream(process / "comm"), command);
    return (command.empty() ? "a process" : command) + " (pid " + pid + ")";
  }
  return std::nullopt;
}

}  // namespace penstock::tun
