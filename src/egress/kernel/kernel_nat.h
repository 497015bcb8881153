// internet.mode: kernel. Packets of clients leave by the TUN device, and the kernel forwards and masquerades them.
//
//   create() --> rules in the kernel, then forwarding on --update()--> other rules, in one step
//                --~KernelNat()--> forwarding as it was, then the rules gone
//
// The rules stand in one table of our own (kernel_rules.h) and come before forwarding and go after it, so nothing is
// ever forwarded without them. They belong to this object's socket: the kernel takes them away with the process, by
// whatever end, and neither `nft flush ruleset` nor a restart of another firewall touches them. Before Linux 5.12 they
// have no owner: then a table that was left behind is replaced at the next start, and whoever may change rules may
// change these. What forwarding was before is remembered in the journal (forwarding.h).
//
// Conversations that there are survive update() where the new rules allow them: what they are translated to is
// remembered by the kernel, not by the table.
//
// Several     gateways on one machine have a table each. Forwarding stays on while there is another one's table, and
//             what it was before stays in the journal of the one that turned it on.
// Rights      create(): root, or CAP_NET_ADMIN and a directory for the journal that can be written. After it
//             CAP_NET_ADMIN and the socket that there is, under the filter of gateway/seccomp.h: no other is opened.
//             Removal also writes to /proc/sys and removes the journal.
// Blocking    as nftables.h says: create, update, drops and removal are for start, reload and status, not for packets.
// Threads     one at a time, in the network namespace in which it was created.
// Refusals    begin with "internet.mode: kernel". After a failed create() all is as it was, after a failed update()
//             the former rules hold.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "base/result.h"
#include "egress/kernel/forwarding.h"
#include "egress/kernel/kernel_rules.h"
#include "egress/kernel/nftables.h"
#include "egress/nat/exit_policy.h"

namespace penstock::egress {

// Packets, since create().
struct KernelDrops {
  std::array<std::uint64_t, kDeniedReasons> denied{};  // by Denied
  std::uint64_t uninvited = 0;                         // begun outside, by no forward
  std::uint64_t untracked = 0;                         // what conntrack makes nothing of
  std::uint64_t no_ipv6 = 0;                           // to an IPv6 internet that there is not
  std::uint64_t spoofed = 0;                           // from outside, with an address from inside
  std::uint64_t flow_rate = 0;                         // begun by clients that begin too many
  std::uint64_t flows = 0;                             // or have too many
};

class KernelNat {
 public:
  static Result<std::unique_ptr<KernelNat>> create(KernelNatSettings settings);
  ~KernelNat();
  KernelNat(const KernelNat&) = delete;
  KernelNat& operator=(const KernelNat&) = delete;

  // Rules, forwards, public_ip and inner addresses may be others. Of interface, table, IPv6 and journal a change takes
  // a restart: invalid_argument.
  Result<void> update(KernelNatSettings settings);

  Result<KernelDrops> drops();

  // For a gateway that starts in another mode: puts back what one that could not left behind.
  static Result<void> restore_leftovers(const std::filesystem::path& journal) {
    return Forwarding::restore_leftovers(journal);
  }

 private:
  KernelNat(KernelNatSettings settings, std::unique_ptr<Nftables> nftables)
      : settings_(std::move(settings)), nftables_(std::move(nftables)) {}

  Result<void> add_table();
  Result<KernelDrops> read_drops();
  bool others_need_forwarding();

  KernelNatSettings settings_;
  std::unique_ptr<Nftables> nftables_;
  std::unique_ptr<Forwarding> forwarding_;
  bool has_table_ = false;
  bool owned_ = true;
  KernelDrops before_;  // of tables that update() replaced
};

}  // namespace penstock::egress
