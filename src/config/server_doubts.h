// What is valid in a gateway's configuration and probably not meant: a warning at the start and of check-config.
//
// Threads     a pure function; any thread.
// Not here    mistakes (server_config.h), what depends on the machine (gateway/account.h, gateway/process.h).
#pragma once

#include <string>
#include <vector>

#include "config/server_config.h"

namespace penstock {

// One sentence each, with the keys and the way out.
std::vector<std::string> doubts_about(const ServerConfig& config);

}  // namespace penstock
