// The name servers that this machine itself asks, as resolv.conf(5) has them.
//
// Taken are lines "nameserver ADDRESS" that begin with that word; what follows the address, other words and comments
// are passed over, as are lines that make no sense. 0.0.0.0 and :: stand for this machine, as they do there. The port
// is 53.
//
// Left out      addresses that are the gateway's own inner ones, for asking them would be asking itself; those that one
//               has already; IPv6 addresses of one link, with "%eth0" or without: an Endpoint cannot say which link;
//               groups.
// Bounds        kMost servers (resolvers themselves take 3), and a file of kMostBytes.
// None          where the file names none, or is not there, there is none. resolv.conf(5) would ask this machine then;
//               a gateway that nobody gave a server says so instead (Count::no_upstream).
// Threads       any.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace penstock::dns {

struct SystemResolvers {
  static constexpr std::size_t kMost = 8;
  static constexpr std::size_t kMostBytes = std::size_t{64} * 1024;
  static constexpr std::uint16_t kPort = 53;

  // In the order of the file.
  static std::vector<Endpoint> parse(std::string_view text, std::span<const IpAddress> own = {});
  // Usually of "/etc/resolv.conf". Refusals begin with the path: permission_denied, exhausted (larger than kMostBytes),
  // invalid_argument (a directory).
  static Result<std::vector<Endpoint>> read(const std::string& path, std::span<const IpAddress> own = {});
};

}  // namespace penstock::dns
