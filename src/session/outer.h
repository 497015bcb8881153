// Where a client connects from, as logs and the status say it. An HTTP proxy in front names its client without a port.
#pragma once

#include <string>

#include "base/ip.h"

namespace penstock::session {

// "203.0.113.9:4711", "[2001:db8::9]:4711"; without a port "203.0.113.9", "2001:db8::9".
inline std::string outer_name(const Endpoint& outer) {
  return outer.port == 0 ? outer.address.to_string() : outer.to_string();
}

}  // namespace penstock::session
