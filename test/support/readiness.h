// Whether a descriptor is ready, asked without waiting: all that ManualLoop's watches want of the operating system.
#pragma once

#include "base/event_loop.h"

namespace penstock::test {

// A descriptor that ended or broke is both, as for Watch.
struct Readiness {
  bool readable = false;
  bool writable = false;
};

// `handle` is any descriptor; on Windows a socket, whose library the caller has started.
Readiness readiness_of(NativeHandle handle);

}  // namespace penstock::test
