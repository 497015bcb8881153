// Leaves this process the system calls that a running gateway makes, and no others.
//
//   allowed    what it does: sockets (Internet, Unix, route netlink), its files, memory, threads, time, signals
//   answered   "not implemented" (ENOSYS) to all else. Not every library's every call can be foreseen, and a harmless
//              one that was missed must not end everybody's VPN: this is what an older kernel would say, so libraries
//              have another way (EPERM they take for an error). glibc so starts threads by clone(), whose flags can be
//              looked at, instead of clone3().
//   kill       for what nobody does by accident, and an intruder does first: other programs, other processes' memory,
//              mounts, namespaces, kernel modules, other users, the clock. It ends the process; the kernel logs which.
//
// Also by argument: clone() makes threads only; memory becomes executable by no call; netlink is NETLINK_ROUTE alone,
// so that CAP_NET_ADMIN does not reach firewall tables; ioctl() is for flags of descriptors.
//
// It holds for every thread there is and will be, for ever. Needs no_new_privs (privileges.h) or CAP_SYS_ADMIN.
// Architectures x86-64 and arm64 are tested (seccomp_test.cc); calls of another (32 bits on 64, x32) kill.
#pragma once

#include <cstddef>

#include "base/result.h"

namespace penstock::gateway {

// Refusal: unavailable where the kernel has no such filters; nothing is forbidden then.
Result<void> install_system_call_filter();

// Builds the filter for an architecture ("x86_64", "aarch64") without installing it: how many instructions it has.
Result<std::size_t> size_of_system_call_filter(const char* architecture);

}  // namespace penstock::gateway
