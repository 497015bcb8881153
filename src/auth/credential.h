// One record of who may connect: a name, the hash of a secret token, and what belongs to it.
//
// The token itself is nowhere: SHA-256 suffices at rest because tokens are 32 random bytes, which nobody can guess, not
// passwords. An immutable value, shared by the authenticator's snapshot and the sessions that use it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"

namespace penstock::auth {

struct Credential {
  std::string name;  // 1 to 255 bytes, unique
  std::array<std::uint8_t, 32> token_sha256{};
  std::optional<IpAddress> address;   // a fixed inner IPv4 address
  std::optional<IpAddress> address6;  // a fixed inner IPv6 address
  bool single = false;                // at most one session at a time: a new one ends the old
  std::vector<std::string> groups;    // names that policy refers to
  std::vector<Prefix> sites;          // subnets behind the client; such a credential should be `single`

  // Stands in every lease ticket: removing this record, or changing its name, token or fixed addresses, makes another
  // epoch and so ends resumption. What may change without that (groups, sites, single) is not part of it.
  std::uint64_t epoch() const;
};

}  // namespace penstock::auth
