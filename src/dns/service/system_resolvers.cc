#include "dns/service/system_resolvers.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/atomic_file.h"

namespace penstock::dns {
namespace {

constexpr std::string_view kKeyword = "nameserver";
constexpr std::string_view kBlank = " \t\r\v\f";
constexpr std::string_view kBehindAddress = " \t\r\v\f#;";

// The address of a line, if it is one of a name server.
std::optional<IpAddress> server_of(std::string_view line) {
  if (!line.starts_with(kKeyword)) return std::nullopt;
  line.remove_prefix(kKeyword.size());
  const std::size_t begin = line.find_first_not_of(kBlank);
  if (begin == 0 || begin == std::string_view::npos) return std::nullopt;
  line.remove_prefix(begin);
  const auto address = IpAddress::parse(line.substr(0, line.find_first_of(kBehindAddress)));
  if (!address) return std::nullopt;
  return address->unmapped();
}

IpAddress loopback(Family family) {
  static constexpr std::array<std::uint8_t, 16> kLoopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return family == Family::ipv4 ? IpAddress::v4(0x7F000001) : IpAddress::from_bytes(kLoopback6);
}

}  // namespace

std::vector<Endpoint> SystemResolvers::parse(std::string_view text, std::span<const IpAddress> own) {
  std::vector<Endpoint> servers;
  while (!text.empty() && servers.size() < kMost) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    auto address = server_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!address) continue;
    if (address->is_unspecified()) address = loopback(address->family());
    if (address->is_multicast() || (address->is_v6() && address->is_link_local())) continue;
    const Endpoint server{*address, kPort};
    if (std::ranges::find(own, *address) != own.end() || std::ranges::find(servers, server) != servers.end()) continue;
    servers.push_back(server);
  }
  return servers;
}

Result<std::vector<Endpoint>> SystemResolvers::read(const std::string& path, std::span<const IpAddress> own) {
  const auto text = read_whole_file(path, kMostBytes);
  if (text) return parse(*text, own);
  if (text.error().code == ErrorCode::not_found) return std::vector<Endpoint>();
  return std::unexpected(text.error());
}

}  // namespace penstock::dns
