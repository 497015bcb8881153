#include "net/ping_socket.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace penstock::net {
namespace {

constexpr auto kSetting = "/proc/sys/net/ipv4/ping_group_range";

std::string text_of_setting() {
  std::ifstream file(kSetting);
  std::string text;
  std::getline(file, text);
  return text;
}

// Those the kernel asks about: the effective one and the supplementary ones.
std::vector<std::uint32_t> groups_of_process() {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  groups.push_back(::getegid());
  return {groups.begin(), groups.end()};
}

std::unexpected<Error> forbidden() {
  std::string now = text_of_setting();
  std::ranges::replace(now, '\t', ' ');
  const std::string group = std::to_string(::getegid());
  return fail(ErrorCode::permission_denied,
              "this machine does not let group " + group + " send pings: net.ipv4.ping_group_range is \"" + now +
                  "\". As root, `sysctl -w net.ipv4.ping_group_range=\"" + group + " " + group +
                  "\"` opens it to that group, \"0 2147483647\" to all; a line in /etc/sysctl.d/ keeps it");
}

}  // namespace

PingSocket::PingSocket(EventLoop& loop, FileDescriptor fd) : DatagramSocket(loop, std::move(fd), 0) {}

Result<PingSocket> PingSocket::create(EventLoop& loop, const Endpoint& at, const PingOptions& options) {
  const Kind kind{.name = "echo identifier",
                  .free_ones = "the limit of ping sockets by ending some, all 65535 are in use",
                  .protocol = at.address.is_v4() ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}};
  auto fd = open(kind, at, {.receive = options.receive_buffer, .send = options.send_buffer});
  if (!fd && fd.error().code == ErrorCode::permission_denied) return forbidden();
  if (!fd) return std::unexpected(std::move(fd).error());
  return PingSocket(loop, *std::move(fd));
}

bool ping_group_range_allows(std::string_view setting, std::span<const std::uint32_t> groups) {
  std::istringstream words{std::string(setting)};
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  if (!(words >> first >> last)) return false;
  return std::ranges::any_of(groups, [&](std::uint32_t group) { return first <= group && group <= last; });
}

Result<void> may_open_ping_sockets() {
  if (!ping_group_range_allows(text_of_setting(), groups_of_process())) return forbidden();
  return {};
}

}  // namespace penstock::net
