// The addresses that this machine has, with the networks they stand in.
#pragma once

#include <string>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace penstock::net {

struct HostAddress {
  std::string interface;
  IpAddress address;
  Prefix network;
};

// Of all interfaces that are there now, loopback and link-local ones left out. Any thread.
Result<std::vector<HostAddress>> host_addresses();

// The first of `addresses` whose network overlaps `subnet` on an interface other than `except`; null: none.
const HostAddress* overlapping(const std::vector<HostAddress>& addresses, const Prefix& subnet,
                               const std::string& except);

}  // namespace penstock::net
