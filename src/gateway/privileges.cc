#include "gateway/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "gateway/sanitized.h"
#include "net/process_info.h"

namespace penstock::gateway {
namespace {

constexpr std::uint64_t kNetAdmin = std::uint64_t{1} << CAP_NET_ADMIN;

struct Capabilities {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
  friend bool operator==(const Capabilities&, const Capabilities&) = default;
};

using Halves = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

__user_cap_header_struct this_thread() { return {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0}; }

Result<Capabilities> capabilities() {
  auto header = this_thread();
  Halves halves{};
  if (::syscall(SYS_capget, &header, halves.data()) != 0) return fail_errno("capabilities", errno);
  const auto joined = [](std::uint64_t low, std::uint64_t high) { return high << 32U | low; };
  return Capabilities{.effective = joined(halves[0].effective, halves[1].effective),
                      .permitted = joined(halves[0].permitted, halves[1].permitted),
                      .inheritable = joined(halves[0].inheritable, halves[1].inheritable)};
}

Result<void> set_capabilities(const Capabilities& wanted) {
  auto header = this_thread();
  Halves halves{};
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const auto half = [&](std::uint64_t all) { return static_cast<std::uint32_t>(all >> (32 * i)); };
    halves[i] = {.effective = half(wanted.effective),
                 .permitted = half(wanted.permitted),
                 .inheritable = half(wanted.inheritable)};
  }
  if (::syscall(SYS_capset, &header, halves.data()) != 0) return fail_errno("giving up capabilities", errno);
  return {};
}

// EPERM is for those who have no CAP_SETPCAP: then no_new_privs is what keeps the rest out of reach.
void empty_bounding_set() {
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return;
}

// Two ways to keep capabilities when the user changes: the second also holds where the first may not be set.
void keep_capabilities_over_change_of_user() {
  ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  ::prctl(PR_SET_SECUREBITS,
          SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
              SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
          0, 0, 0);
}

bool has_ids_of(const Account& account) {
  std::array<uid_t, 3> users{};
  std::array<gid_t, 3> groups{};
  return ::getresuid(users.data(), &users[1], &users[2]) == 0 &&
         ::getresgid(groups.data(), &groups[1], &groups[2]) == 0 &&
         users == std::array{account.user, account.user, account.user} &&
         groups == std::array{account.group, account.group, account.group} &&
         Account::current().groups == account.groups;
}

Result<void> become(const Account& account) {
  if (has_ids_of(account)) return {};
  if (::setgroups(account.groups.size(), account.groups.data()) != 0 ||
      ::setresgid(account.group, account.group, account.group) != 0 ||
      ::setresuid(account.user, account.user, account.user) != 0) {
    return fail_errno("process.user: becoming " + account.name +
                          " (this takes CAP_SETUID and CAP_SETGID, and a number that this container knows)",
                      errno);
  }
  return {};
}

}  // namespace

Result<bool> give_up_privileges(const Account& account, bool keep_net_admin) {
  if (!kSanitized) {
    const auto process = net::process_info();
    PENSTOCK_ASSERT(!process || process->threads == 1);
  }
  PENSTOCK_TRY(const Capabilities had, capabilities());
  const std::uint64_t kept = keep_net_admin ? had.permitted & kNetAdmin : 0;

  empty_bounding_set();
  keep_capabilities_over_change_of_user();
  PENSTOCK_TRY_VOID(become(account));
  const Capabilities wanted{.effective = kept, .permitted = kept, .inheritable = 0};
  PENSTOCK_TRY_VOID(set_capabilities(wanted));  // what is no longer permitted is no longer ambient
  ::prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs", errno);
  // The leak sanitizer looks into its process from another one.
  if (!kSanitized && ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("PR_SET_DUMPABLE", errno);

  PENSTOCK_TRY(const Capabilities have, capabilities());
  if (!has_ids_of(account) || have != wanted) {
    return fail(ErrorCode::permission_denied,
                "process.user: the system did not let this process become " + account.name + " without privileges");
  }
  return kept != 0;
}

}  // namespace penstock::gateway
