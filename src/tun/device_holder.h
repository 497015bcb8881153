// Who has a TUN device open, as far as /proc shows it: for the message that says why a name cannot be had.
//
// A process of another user, or of another PID or network namespace, is not found.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock::tun {

// "openvpn (pid 1234)": the process that holds the TUN or TAP `name` of this thread's network namespace.
std::optional<std::string> find_device_holder(std::string_view name);

}  // namespace penstock::tun
