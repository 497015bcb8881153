// `penstock client`: the client as a process on Linux.
//
//   SIGTERM, SIGINT   closes the connection in an orderly way; the interface goes, the session waits at the gateway
//
// Threads     the caller's, and those of name lookups.
#pragma once

#include "base/result.h"
#include "config/client_config.h"

namespace penstock::client {

// Returns when the client was stopped by a signal. Refusals: what stood in the way of the start (the interface, files),
// or an interface that was taken away. A gateway that cannot be reached is none: the client goes on trying.
Result<void> run_client(const ClientConfig& config);

}  // namespace penstock::client
