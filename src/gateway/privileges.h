// Gives up what the gateway's start needed and its running does not.
//
//   started as             what is left
//   root                   the account's user and groups; CAP_NET_ADMIN if there is a TUN device, else no capability
//   somebody with          the same user; CAP_NET_ADMIN of the capabilities, if there is a TUN device
//   capabilities           (systemd's AmbientCapabilities=)
//   somebody               the same user, no capability
//
// For everybody: nothing is inheritable or ambient, no program that is run gains anything (no_new_privs), no core is
// dumped and no other process of the same user looks into this one, which holds keys. Whoever may change them
// (CAP_SETPCAP: root) leaves an empty bounding set and locked securebits too, by which user 0 is a number like others.
//
// Always true   after success all of user, group, groups and capabilities are what was asked for, as the kernel tells.
//               A failure leaves a mixture: the process has to end.
// Threads       capabilities belong to threads: it is called before any is started, which is asserted.
// Not here      which system calls are left (seccomp.h).
#pragma once

#include "base/result.h"
#include "gateway/account.h"

namespace penstock::gateway {

// Whether CAP_NET_ADMIN is left. Refusals: permission_denied, with what forbids it.
Result<bool> give_up_privileges(const Account& account, bool keep_net_admin);

}  // namespace penstock::gateway
