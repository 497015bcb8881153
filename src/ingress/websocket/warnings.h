// What strangers can make the gateway say at its usual log level: of each kind so many lines a minute
// (base/log_gate.h).
// Logins that are refused are the registry's to tell.
//
// Threads     any.
#pragma once

#include "base/log_gate.h"

namespace penstock::ingress {

struct Warnings {
  explicit Warnings(EventLoop& home) : blocked(home, "more addresses blocked"), proxies(home, "more proxies refused") {}

  LogGate blocked;
  LogGate proxies;
};

}  // namespace penstock::ingress
