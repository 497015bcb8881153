#include "gateway/account.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "net/file_descriptor.h"

namespace penstock::gateway {
namespace {

namespace fs = std::filesystem;
using net::FileDescriptor;

std::optional<unsigned> number_of(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number == static_cast<unsigned>(-1)) return {};
  return number;
}

std::vector<gid_t> groups_of(const char* user, gid_t group) {
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  while (::getgrouplist(user, group, groups.data(), &count) < 0) groups.resize(static_cast<std::size_t>(count));
  groups.resize(static_cast<std::size_t>(count));
  std::ranges::sort(groups);
  return groups;
}

bool has_group(const Account& account, gid_t group) {
  return std::ranges::find(account.groups, group) != account.groups.end();
}

// Which of read (4), write (2), search (1) the mode gives `account`, root without its capabilities being a user too.
unsigned granted(const Account& account, const struct stat& status) {
  const unsigned mode = status.st_mode & 0777U;
  if (status.st_uid == account.user) return mode >> 6U;
  return (has_group(account, status.st_gid) ? mode >> 3U : mode) & 7U;
}

// The command that gives `account` the right `letter` of mode bit `bit` on `path`, if it has it not.
std::optional<std::string> command_to_let(const Account& account, const fs::path& path, unsigned bit, char letter) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || (granted(account, status) & bit) != 0) return {};
  if (status.st_uid == account.user) return std::string("chmod u+") + letter + " " + path.string();
  std::string chmod = std::string("chmod g+") + letter + " " + path.string();
  if (has_group(account, status.st_gid)) return chmod;
  return "chgrp " + account.group_name() + " " + path.string() + " && " + chmod;
}

fs::path without_trailing_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

// Directories that others go through: 0755, whatever the umask is.
Result<void> make_parents(const fs::path& directory) {
  const mode_t before = ::umask(022);
  std::error_code error;
  fs::create_directories(directory.parent_path(), error);
  ::umask(before);
  if (error) return fail_errno(directory.parent_path().string(), error.value());
  return {};
}

Result<void> chown_descriptor(int fd, uid_t user, gid_t group, const std::string& path) {
  if (::fchownat(fd, "", user, group, AT_EMPTY_PATH) != 0) return fail_errno(path + ": changing its owner", errno);
  return {};
}

bool is_state_file(std::string_view name) {
  return std::ranges::any_of(kStateFiles, [&](std::string_view known) {
    // "tokens.json.XXXXXX" is one that was being written when the power went (base/atomic_file.h).
    return name == known || (name.size() == known.size() + 7 && name.starts_with(known) && name[known.size()] == '.');
  });
}

Result<void> hand_over_file(int directory, const fs::path& path, const Account& account) {
  const FileDescriptor file(::openat(directory, path.filename().c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  // EACCES: the directory is the user's own already, and root has not the power to look inside.
  if (!file && (errno == ENOENT || errno == EACCES)) return {};
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) return fail_errno(path.string(), errno);
  if (status.st_uid == account.user) return {};
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1) {
    return fail(ErrorCode::permission_denied, path.string() + ": is a link or no regular file, so it is not given to " +
                                                  account.name + "; remove it");
  }
  return chown_descriptor(file.get(), account.user, account.group, path.string());
}

// A link that root made is where root wants the state to be.
Result<FileDescriptor> open_directory(const fs::path& path) {
  FileDescriptor directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (directory) return directory;
  if (errno != ENOTDIR) return fail_errno(path.string(), errno);
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return fail_errno(path.string(), errno);
  if (!S_ISLNK(status.st_mode) || status.st_uid != ::geteuid()) {
    return fail(ErrorCode::permission_denied,
                path.string() + (S_ISLNK(status.st_mode) ? ": is a link that somebody else made: remove it"
                                                         : ": is no directory: move it away"));
  }
  directory = FileDescriptor(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail_errno(path.string(), errno);
  return directory;
}

Result<void> refuse_strangers_files(const fs::path& directory) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (is_state_file(entry.path().filename().string())) continue;
    return fail(ErrorCode::permission_denied,
                "state_dir: " + directory.string() + " holds " + entry.path().filename().string() +
                    ", which is none of the gateway's files: give state_dir a directory of its own");
  }
  if (error) return fail_errno("state_dir: " + directory.string(), error.value());
  return {};
}

// Whoever made a directory where others can make some, too, may have put keys and tokens of theirs into it.
Result<void> refuse_strangers_directory(const fs::path& path, const struct stat& status) {
  if (status.st_uid == 0) return {};
  if (const char* asked_sudo = std::getenv("SUDO_UID");
      asked_sudo != nullptr && std::to_string(status.st_uid) == asked_sudo) {
    return {};
  }
  struct stat parent{};
  const fs::path above = path.has_parent_path() ? path.parent_path() : fs::path(".");
  // Where only root makes directories, root gave this one away: to the user that the gateway was before.
  if (::stat(above.c_str(), &parent) == 0 && parent.st_uid == 0 && (parent.st_mode & 022U) == 0) return {};
  return fail(ErrorCode::permission_denied,
              "state_dir: " + path.string() + " belongs to user " + std::to_string(status.st_uid) +
                  ", who could have put keys and tokens there: look at it, then chown -R 0 " + path.string());
}

}  // namespace

Account Account::current() {
  Account account{.user = ::geteuid(), .group = ::getegid(), .groups = {}, .name = {}};
  account.groups.resize(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr))));
  const int count = ::getgroups(static_cast<int>(account.groups.size()), account.groups.data());
  account.groups.resize(static_cast<std::size_t>(std::max(0, count)));
  if (!has_group(account, account.group)) account.groups.push_back(account.group);
  std::ranges::sort(account.groups);
  const passwd* entry = ::getpwuid(account.user);
  account.name = entry == nullptr ? std::to_string(account.user) : entry->pw_name;
  return account;
}

std::string Account::group_name() const {
  const ::group* entry = ::getgrgid(group);
  return entry == nullptr ? std::to_string(group) : entry->gr_name;
}

Result<gid_t> group_named(std::string_view name, std::string_view key) {
  if (const auto number = number_of(name)) return *number;
  const std::string text(name);
  if (const group* entry = ::getgrnam(text.c_str())) return entry->gr_gid;
  return fail(ErrorCode::not_found, std::string(key) + ": there is no group " + text +
                                        " here; make it (groupadd --system " + text + "), or name another");
}

Result<Account> account_of(const ServerConfig::Process& settings) {
  return ::geteuid() == 0 ? named_account(settings) : Account::current();
}

Result<Account> named_account(const ServerConfig::Process& settings) {
  const auto colon = settings.user.find(':');
  const bool grouped_user = colon != std::string::npos;
  const std::string user = settings.user.substr(0, colon);
  std::optional<gid_t> group;
  if (const std::string name = grouped_user ? settings.user.substr(colon + 1) : settings.group; !name.empty()) {
    PENSTOCK_TRY(group, group_named(name, grouped_user ? "process.user" : "process.group"));
  }
  const auto number = number_of(user);
  const passwd* entry = number ? ::getpwuid(*number) : ::getpwnam(user.c_str());
  if (!number && entry == nullptr) {
    if (settings.user_given) {
      return fail(ErrorCode::not_found, "process.user: there is no user " + user + " here; make it (useradd --system " +
                                            "--no-create-home --shell /usr/sbin/nologin " + user +
                                            "), or name another");
    }
    Account root = Account::current();
    root.missing = true;
    root.group = group.value_or(root.group);
    if (!has_group(root, root.group)) root.groups.insert(std::ranges::upper_bound(root.groups, root.group), root.group);
    return root;
  }
  Account account;
  account.user = number ? *number : entry->pw_uid;
  account.name = entry != nullptr ? entry->pw_name : user;
  account.group = group.value_or(entry != nullptr ? entry->pw_gid : account.user);
  account.groups = entry != nullptr ? groups_of(account.name.c_str(), account.group) : std::vector{account.group};
  return account;
}

std::string commands_to_let_read(const Account& account, const fs::path& file) {
  std::error_code error;
  std::vector<fs::path> paths = {fs::absolute(file, error).lexically_normal()};
  if (const auto target = fs::canonical(file, error); !error && target != paths.front()) paths.push_back(target);
  std::vector<std::string> commands;
  const auto add = [&](std::optional<std::string> command) {
    if (command && std::ranges::find(commands, *command) == commands.end()) commands.push_back(*std::move(command));
  };
  for (const fs::path& path : paths) {
    fs::path directory;
    for (const fs::path& part : path.parent_path()) {
      directory /= part;
      add(command_to_let(account, directory, 1, 'x'));
    }
  }
  add(command_to_let(account, paths.back(), 4, 'r'));
  std::string text;
  for (const std::string& command : commands) text += (text.empty() ? "" : " && ") + command;
  return text;
}

FilesToReread::FilesToReread(Account account, const std::vector<fs::path>& files) : account_(std::move(account)) {
  for (const fs::path& file : files)
    if (!file.empty()) at_first_.emplace_back(file, commands_to_let_read(account_, file));
}

std::vector<fs::path> FilesToReread::unreadable() const {
  std::vector<fs::path> found;
  for (const auto& [file, commands] : at_first_)
    if (::access(file.c_str(), R_OK) != 0) found.push_back(file);
  return found;
}

std::string FilesToReread::commands_for(const fs::path& file) const {
  if (file.empty() || ::access(file.c_str(), R_OK) == 0) return {};
  const auto first = std::ranges::find(at_first_, file, &std::pair<fs::path, std::string>::first);
  std::error_code hidden;
  (void)fs::status(file, hidden);
  if (hidden && first != at_first_.end() && !first->second.empty()) return first->second;
  return commands_to_let_read(account_, file);
}

Result<void> make_state_directory(const fs::path& given, const Account& account) {
  const fs::path path = without_trailing_slash(given);
  const auto refused = [](const Error& error) {
    return fail(error.code, "state_dir: " + error.message + "; set state_dir to a directory that can be written");
  };
  if (auto made = make_parents(path); !made) return refused(made.error());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return refused(fail_errno(path.string(), errno).error());
  if (::geteuid() != 0) return {};

  PENSTOCK_TRY(const FileDescriptor directory, open_directory(path));
  struct stat status{};
  if (::fstat(directory.get(), &status) != 0) return fail_errno(path.string(), errno);
  const bool given_away = status.st_uid != account.user;
  if (given_away) {
    PENSTOCK_TRY_VOID(refuse_strangers_directory(path, status));
    PENSTOCK_TRY_VOID(refuse_strangers_files(path));
  }
  for (const std::string_view name : kStateFiles)
    PENSTOCK_TRY_VOID(hand_over_file(directory.get(), path / name, account));
  if (given_away) PENSTOCK_TRY_VOID(chown_descriptor(directory.get(), account.user, account.group, path.string()));
  return {};
}

bool make_socket_directory(const fs::path& directory, const Account& account) {
  if (::geteuid() != 0 || directory.empty()) return true;
  const bool made = make_parents(directory) && ::mkdir(directory.c_str(), 0755) == 0;
  const FileDescriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | (made ? O_NOFOLLOW : 0)));
  struct stat status{};
  if (!opened || ::fstat(opened.get(), &status) != 0) return false;
  const bool shared = directory == kSharedSocketDirectory && account.user != 0 && status.st_uid == 0;
  // If either fails, what is asked below has the answer.
  if (shared) {
    (void)(::fchown(opened.get(), 0, account.group) == 0 && ::fchmod(opened.get(), 01775) == 0);
  } else if (made) {
    (void)(::fchmod(opened.get(), 0755) == 0 && ::fchown(opened.get(), account.user, account.group) == 0);
  }
  return ::fstat(opened.get(), &status) == 0 && (granted(account, status) & 3U) == 3U;
}

Result<ActingAs> ActingAs::owner_of(const fs::path& directory) {
  ActingAs acting;
  struct stat status{};
  if (::geteuid() != 0 || ::stat(directory.c_str(), &status) != 0 || status.st_uid == 0) return acting;
  const Account root = Account::current();
  acting.groups_ = root.groups;
  acting.group_ = root.group;
  acting.acting_ = true;  // from here on there may be something to undo
  if (::setgroups(1, &status.st_gid) != 0 || ::setegid(status.st_gid) != 0 || ::seteuid(status.st_uid) != 0)
    return fail_errno("cannot act as user " + std::to_string(status.st_uid) + ", who owns " + directory.string(),
                      errno);
  return acting;
}

ActingAs::ActingAs(ActingAs&& other) noexcept
    : acting_(std::exchange(other.acting_, false)), groups_(std::move(other.groups_)), group_(other.group_) {}

ActingAs::~ActingAs() {
  if (!acting_) return;
  const bool root_again =
      ::seteuid(0) == 0 && ::setegid(group_) == 0 && ::setgroups(groups_.size(), groups_.data()) == 0;
  PENSTOCK_ASSERT(root_again);
}

}  // namespace penstock::gateway
