// Whose process the gateway becomes, and the places that this user needs.
//
// Root's part of the start is here and in privileges.h. What lies in a directory of the gateway's user is never touched
// with root's rights, because that user could exchange it under root's hands for a link to somewhere else: the gateway
// opens its state when it is that user already, and the command line, run by root, is it meanwhile (ActingAs). The one
// exception is handing over what root left behind, which works on descriptors and follows no link.
//
//   state_dir          made 0700 and given to the user; so are the files that stand in it and are named in kStateFiles.
//                      A directory that holds anything else is refused: it is somebody's, and not to be given away
//   the status         /run/penstock, which root's clients share, is root's and the group's with the sticky bit;
//   another socket's directory directory is given to the user if it is made here, and else left as it is
//
// Threads     before any is started: users are looked up, and the umask and the user are the whole process's.
#pragma once

#include <sys/types.h>

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/server_config.h"

namespace penstock::gateway {

// What the gateway keeps in state_dir.
inline constexpr std::array<std::string_view, 3> kStateFiles = {"lease.key", "sessions.json", "tokens.json"};
inline constexpr const char* kSharedSocketDirectory = "/run/penstock";

struct Account {
  uid_t user = 0;
  gid_t group = 0;
  std::vector<gid_t> groups;  // sorted, `group` among them
  std::string name;           // for people: "penstock", or the number
  bool missing = false;       // the default user is not there: root stays root, and somebody should be told

  static Account current();
  // "penstock", or the number where there is no name.
  std::string group_name() const;
};

// Started as root: the user of `settings`, or root's own account, `missing`, if that is the default and there is none.
// Otherwise the present account, since nobody else can be become. Refusals: those of named_account.
Result<Account> account_of(const ServerConfig::Process& settings);

// The same whoever asks, so that a configuration can be checked before root starts it. Refusals: not_found for a user
// or group that was named and is not there.
Result<Account> named_account(const ServerConfig::Process& settings);

// The number of `name`, which may be one. Refusal: not_found, which says that `key` named it.
Result<gid_t> group_named(std::string_view name, std::string_view key);

// The shell commands that let `account` read `file`, joined by " && ", as far as owners and modes tell; empty: it may.
std::string commands_to_let_read(const Account& account, const std::filesystem::path& file);

// Files that the process reads again once it is `account`, which may not see where they stand: made by whoever does.
class FilesToReread {
 public:
  FilesToReread() = default;
  FilesToReread(Account account, const std::vector<std::filesystem::path>& files);

  // Those that this process, being `account` now, cannot read.
  std::vector<std::filesystem::path> unreadable() const;
  // The commands that let it, of the present where it sees the file and else of the beginning; empty: it may.
  std::string commands_for(const std::filesystem::path& file) const;

 private:
  Account account_;
  std::vector<std::pair<std::filesystem::path, std::string>> at_first_;  // each with its commands
};

// Refusals name the directory and the way out: permission_denied, system_error.
Result<void> make_state_directory(const std::filesystem::path& directory, const Account& account);

// Whether `account` may make sockets in `directory`, which is made if it is not there.
bool make_socket_directory(const std::filesystem::path& directory, const Account& account);

// Root is the owner of `directory` while this lives; nothing happens for anybody else.
class ActingAs {
 public:
  static Result<ActingAs> owner_of(const std::filesystem::path& directory);
  ActingAs(ActingAs&& other) noexcept;
  ActingAs& operator=(ActingAs&&) = delete;
  ~ActingAs();

 private:
  ActingAs() = default;
  bool acting_ = false;
  std::vector<gid_t> groups_;  // what to go back to
  gid_t group_ = 0;
};

}  // namespace penstock::gateway
