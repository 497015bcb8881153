#include "net/host_addresses.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <bit>
#include <cerrno>

#include "base/bytes.h"

namespace penstock::net {
namespace {

ByteView address_bytes(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return {reinterpret_cast<const std::uint8_t*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr), 4};
  return {reinterpret_cast<const std::uint8_t*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr), 16};
}

int mask_length(const sockaddr* mask) {
  int length = 0;
  for (const std::uint8_t byte : address_bytes(mask)) length += std::popcount(byte);
  return length;
}

}  // namespace

Result<std::vector<HostAddress>> host_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return fail_errno("addresses of this machine", errno);
  std::vector<HostAddress> addresses;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_netmask == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const auto address = IpAddress::from_bytes(address_bytes(entry->ifa_addr));
    if (address.is_loopback() || address.is_link_local()) continue;
    addresses.push_back({entry->ifa_name, address, Prefix(address, mask_length(entry->ifa_netmask))});
  }
  ::freeifaddrs(list);
  return addresses;
}

const HostAddress* overlapping(const std::vector<HostAddress>& addresses, const Prefix& subnet,
                               const std::string& except) {
  for (const HostAddress& address : addresses) {
    if (address.interface != except && address.network.overlaps(subnet)) return &address;
  }
  return nullptr;
}

}  // namespace penstock::net
