// Between a path and the sockaddr of a Unix socket.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "base/result.h"
#include "net/file_descriptor.h"

namespace penstock::net {

// Refusal: invalid_argument (empty, or too long for the system).
Result<sockaddr_un> unix_address(const std::string& path);

inline const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

// Non-blocking, closed on exec; empty where the system has none left.
FileDescriptor unix_stream();

}  // namespace penstock::net
