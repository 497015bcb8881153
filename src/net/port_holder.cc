#include "net/port_holder.h"

#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

namespace penstock::net {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kListening = "0A";  // TCP_LISTEN in /proc/net/tcp

// "0100007F:01BB", "00000000000000000000000001000000:01BB": 32-bit words in the machine's order, the port as a number.
std::optional<Endpoint> parse_endpoint(std::string_view text) {
  const auto colon = text.find(':');
  if (colon != 8 && colon != 32) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t at = 0; at < colon; at += 8) {
    std::uint32_t word = 0;
    std::from_chars(text.data() + at, text.data() + at + 8, word, 16);
    std::memcpy(bytes.data() + at / 2, &word, sizeof word);
  }
  Endpoint endpoint;
  endpoint.address = IpAddress::from_bytes(std::span(bytes).first(colon / 2));
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), endpoint.port, 16);
  return endpoint;
}

bool in_the_way(const Endpoint& listening, const Endpoint& wanted) {
  return listening.port == wanted.port &&
         (listening.address == wanted.address || listening.address.is_unspecified() || wanted.address.is_unspecified());
}

// The links in /proc/PID/fd of the sockets in the way: "socket:[12345]".
std::set<std::string> sockets_in_the_way(const Endpoint& at) {
  std::set<std::string> links;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);  // headings
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
      fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
      if (state != kListening) continue;
      const auto listening = parse_endpoint(local);
      if (listening && in_the_way(*listening, at)) links.insert("socket:[" + inode + "]");
    }
  }
  return links;
}

bool holds_one_of(const fs::path& process, const std::set<std::string>& links) {
  std::error_code error;  // processes end while we look, and others' descriptors may be hidden
  for (fs::directory_iterator fd(process / "fd", error), end; !error && fd != end; fd.increment(error)) {
    std::error_code unreadable;
    if (links.contains(fs::read_symlink(fd->path(), unreadable).string())) return true;
  }
  return false;
}

}  // namespace

std::optional<PortHolder> find_port_holder(const Endpoint& at) {
  const auto links = sockets_in_the_way(at);
  if (links.empty()) return std::nullopt;
  std::error_code error;
  for (fs::directory_iterator process("/proc", error), end; !error && process != end; process.increment(error)) {
    const std::string name = process->path().filename().string();
    PortHolder holder;
    const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), holder.pid);
    if (bad != std::errc{} || rest != name.data() + name.size() || !holds_one_of(process->path(), links)) continue;
    std::ifstream comm(process->path() / "comm");
    std::getline(comm, holder.name);
    return holder;
  }
  return std::nullopt;
}

}  // namespace penstock::net
