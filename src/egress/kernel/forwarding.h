// The kernel's forwarding: turned on for as long as it is needed, and then put back as it was.
//
//   as found --take()--> journal written --> on --~Forwarding()--> as found, journal removed
//                              |
//                              +-- kill -9 --> the next take() goes on where that one stood;
//                                              restore_leftovers() puts back
//
//   net.ipv4.ip_forward            1. The kernel then sets forwarding of every interface, and whether ICMP redirects
//                                  are believed, to what suits a router (or, back at 0, a host): these are remembered
//                                  too.
//   net.ipv6.conf.all.forwarding   1. A router does not hear router advertisements: interfaces that do (accept_ra 1)
//                                  are first told to go on (2), else the machine would lose its own default route.
//
// What has the right value already is not written, and not remembered. What somebody else changed meanwhile is left
// alone at the end. The journal is of one boot and one network namespace, and void in others.
//
// With forwarding on, a machine that was none before is a router for its other networks as well, as far as its own
// firewall lets it: that is what the setting means, and nothing here stands against it.
//
// The journal lies where an unprivileged process may write, and root reads it: it can name these settings and no
// others, and their values are single digits.
//
// Ownership   the journal belongs to one Forwarding at a time.
// Threads     one at a time, all in one network namespace (that of the thread is the one that is meant).
// Rights      CAP_NET_ADMIN is enough for the settings, whatever the user; the journal's directory must be writable.
//             Nothing can be written where /proc/sys is read-only.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace penstock::egress {

class Forwarding {
 public:
  // Refusals name the setting that could not be made and the command that makes it (permission_denied), or the journal;
  // then all is as it was. A journal that cannot be understood is warned of and replaced.
  static Result<std::unique_ptr<Forwarding>> take(bool ipv6, const std::filesystem::path& journal);
  // After a process that could not put back what it changed. No journal: nothing to do. The journal is gone afterwards,
  // unless a value that is still ours could not be put back.
  static Result<void> restore_leftovers(const std::filesystem::path& journal);

  // Puts back, as far as it goes: what does not is a warning in the log, and stays in the journal.
  ~Forwarding();
  Forwarding(const Forwarding&) = delete;
  Forwarding& operator=(const Forwarding&) = delete;

  // All stays on, and in the journal: another gateway needs it.
  void leave_on() { leave_on_ = true; }

  // One setting, by its path under /proc/sys.
  struct Setting {
    std::string name;
    std::string former;
    std::string ours;
    friend bool operator==(const Setting&, const Setting&) = default;
  };
  // Of one family of addresses. Empty: it forwarded before us.
  struct Change {
    std::vector<Setting> written;  // in this order; the last is the one that moves others
    std::vector<Setting> moved;    // by the kernel
    friend bool operator==(const Change&, const Change&) = default;
  };
  struct Changes {
    Change ipv4;
    Change ipv6;
    bool empty() const { return ipv4.written.empty() && ipv6.written.empty(); }
    friend bool operator==(const Changes&, const Changes&) = default;
  };
  // The journal's text. parse() refuses all that text_of() does not write; none: it is of another boot or namespace.
  static std::string text_of(const Changes& changes);
  static Result<std::optional<Changes>> parse(const std::string& text);

 private:
  Forwarding(Changes changes, std::filesystem::path journal)
      : changes_(std::move(changes)), journal_(std::move(journal)) {}

  Changes changes_;
  std::filesystem::path journal_;
  bool leave_on_ = false;
};

}  // namespace penstock::egress
