// Which process listens on a TCP port, so that "address already in use" can name it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/ip.h"

namespace penstock::net {

struct PortHolder {
  std::string name;  // as ps shows it, at most 15 characters
  int pid = 0;
};

// The process whose listening socket keeps this one from binding to `at`. nullopt where there is none, or where it
// belongs to another user and this process may not look. Reads /proc for every process: milliseconds, and only where
// start-up has failed anyway.
std::optional<PortHolder> find_port_holder(const Endpoint& at);

}  // namespace penstock::net
