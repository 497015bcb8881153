#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/atomic_file.h"
#include "base/file_trust.h"

namespace penstock {
namespace {

// Room for an entry of the user or group database. One with more members than fit is not found, and so not private.
using EntryText = std::array<char, 16384>;

std::optional<passwd> find_user(uid_t user, EntryText& text) {
  passwd entry{};
  passwd* found = nullptr;
  ::getpwuid_r(user, &entry, text.data(), text.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(entry);
}

std::optional<group> find_group(gid_t id, EntryText& text) {
  group entry{};
  group* found = nullptr;
  ::getgrgid_r(id, &entry, text.data(), text.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(entry);
}

std::string user_name(uid_t user) {
  EntryText text;
  const auto entry = find_user(user, text);
  return entry ? entry->pw_name : std::to_string(user);
}

std::string group_name(gid_t id) {
  EntryText text;
  const auto entry = find_group(id, text);
  return entry ? entry->gr_name : std::to_string(id);
}

std::string access_of(const struct stat& status) {
  std::array<char, 8> mode{};
  std::to_chars(mode.data(), mode.data() + mode.size() - 1, status.st_mode & 07777U, 8);
  return "mode 0" + std::string(mode.data()) + ", owner " + user_name(status.st_uid) + ", group " +
         group_name(status.st_gid);
}

bool is_private_group_of(uid_t user, gid_t id) {
  EntryText group_text;
  EntryText user_text;
  const auto named = find_group(id, group_text);
  if (!named) return id == user;
  const auto owner = find_user(user, user_text);
  if (!owner || owner->pw_gid != id || std::strcmp(owner->pw_name, named->gr_name) != 0) return false;
  for (char** member = named->gr_mem; *member != nullptr; ++member)
    if (std::strcmp(*member, owner->pw_name) != 0) return false;
  return true;
}

// Users whose word is believed.
class Believed {
 public:
  Believed() : users_{0, ::geteuid()} {
    const char* asked_by = std::getenv("SUDO_UID");
    uid_t user = 0;
    if (asked_by != nullptr && std::from_chars(asked_by, asked_by + std::strlen(asked_by), user).ec == std::errc{})
      users_.push_back(user);
  }
  void add(uid_t user) { users_.push_back(user); }
  bool has(uid_t user) const { return std::ranges::find(users_, user) != users_.end(); }
  bool has_private_group(gid_t id) const {
    return std::ranges::any_of(users_, [&](uid_t user) { return is_private_group_of(user, id); });
  }

 private:
  std::vector<uid_t> users_;
};

// What is wrong with one inode and which command mends it; `what` says which it is: "it", "directory /srv".
std::optional<std::string> complaint(const struct stat& status, const std::string& what, const std::string& path,
                                     const Believed& believed) {
  const auto say = [&](const std::string& wrong, const std::string& command) {
    return what + " " + wrong + " (" + access_of(status) + "); run: " + command + " " + path;
  };
  if (!believed.has(status.st_uid)) {
    return say("belongs to user " + user_name(status.st_uid) + ", who is neither root nor the user that this runs as",
               S_ISLNK(status.st_mode) ? "chown -h root" : "chown root");
  }
  if (S_ISLNK(status.st_mode)) return {};  // its mode means nothing
  if (S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0) return {};
  if ((status.st_mode & S_IWOTH) != 0) return say("may be written to by everybody", "chmod go-w");
  if ((status.st_mode & S_IWGRP) != 0 && !believed.has_private_group(status.st_gid))
    return say("may be written to by group " + group_name(status.st_gid), "chmod g-w");
  return {};
}

// Goes from / to the file that a path names, and looks at each directory in which a name is looked up, at each link
// that is followed, and at the file.
class Walk {
 public:
  Walk(const std::string& path, const Believed& believed) : path_(path), believed_(believed) {}

  Result<void> run() {
    std::error_code error;
    const auto start = std::filesystem::absolute(path_, error);
    if (error) return fail_errno(path_, error.value());
    go_on_with(start.relative_path());
    while (!names_.empty()) {
      const std::filesystem::path name = std::move(names_.back());
      names_.pop_back();
      if (name == "..") {
        at_ = at_.parent_path();
      } else if (!name.empty() && name != ".") {
        PENSTOCK_TRY_VOID(step(name));
      }
    }
    return {};
  }

 private:
  static constexpr int kMaxLinks = 40;  // as Linux has it

  void go_on_with(const std::filesystem::path& names) {
    std::vector<std::filesystem::path> reversed(names.begin(), names.end());
    names_.insert(names_.end(), reversed.rbegin(), reversed.rend());
  }

  Result<void> step(const std::filesystem::path& name) {
    struct stat status{};
    if (::stat(at_.c_str(), &status) != 0) return fail_errno(path_, errno);
    const std::string directory = at_.string();
    PENSTOCK_TRY_VOID(check(
        status, names_.empty() ? "its directory " + directory : "directory " + directory + " on the way to it", at_));
    const std::filesystem::path next = at_ / name;
    if (::lstat(next.c_str(), &status) != 0) return fail_errno(path_, errno);
    if (S_ISLNK(status.st_mode)) return follow(next, status);
    at_ = next;
    if (S_ISDIR(status.st_mode)) return {};
    return check(status, links_ == 0 ? "it" : next.string(), next);
  }

  Result<void> follow(const std::filesystem::path& link, const struct stat& status) {
    if (++links_ > kMaxLinks) return fail_errno(path_, ELOOP);
    PENSTOCK_TRY_VOID(check(status, "symbolic link " + link.string(), link));
    std::error_code error;
    const auto target = std::filesystem::read_symlink(link, error);
    if (error) return fail_errno(path_, error.value());
    if (target.is_absolute()) at_ = "/";
    go_on_with(target.relative_path());
    return {};
  }

  Result<void> check(const struct stat& status, const std::string& what, const std::filesystem::path& path) const {
    const auto wrong = complaint(status, what, path.string(), believed_);
    if (wrong) return fail(ErrorCode::permission_denied, path_ + ": " + *wrong);
    return {};
  }

  const std::string& path_;
  const Believed& believed_;
  std::filesystem::path at_ = "/";            // without links
  std::vector<std::filesystem::path> names_;  // what is left to go, the next one last
  int links_ = 0;
};

Result<void> check_file(const std::string& path, bool believe_owner) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return fail_errno(path, errno);
  if (!S_ISREG(status.st_mode)) return {};
  Believed believed;
  if (believe_owner) believed.add(status.st_uid);
  return Walk(path, believed).run();
}

}  // namespace

Result<void> refuse_if_writable_by_others(const std::string& path) { return check_file(path, false); }
Result<void> refuse_if_writable_by_others_than_owner(const std::string& path) { return check_file(path, true); }

bool readable_by_everybody(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & S_IROTH) != 0;
}

std::string describe_access(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? access_of(status) : std::string();
}

}  // namespace penstock
