#include "net/unix_path.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "net/unix_address.h"

namespace penstock::net {
namespace {

constexpr mode_t kFileMode = 0660;

// Makes way for our own file: nothing at `path`, or refuses.
Result<void> clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(path, errno);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return fail(ErrorCode::address_in_use, path + " exists and is not a socket: move it away or choose another path");
  }
  const FileDescriptor probe = unix_stream();
  if (!probe) return fail_errno("socket", errno);
  // EAGAIN: somebody listens, and is too busy to take us.
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN) {
    return fail(ErrorCode::address_in_use,
                "another process already serves " + path + ": stop it first, or choose another path");
  }
  if (errno != ECONNREFUSED) return fail_errno(path, errno);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("cannot remove the stale " + path, errno);
  return {};
}

Result<void> check_directory(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  struct stat found{};
  if (directory.empty() || (::stat(directory.c_str(), &found) == 0 && S_ISDIR(found.st_mode))) return {};
  return fail(ErrorCode::not_found, "there is no directory " + directory.string() + " for the socket " + path +
                                        ": make it, or choose another path");
}

}  // namespace

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::invalid_argument, "\"" + path + "\" cannot be a socket: its path must have 1 to " +
                                                 std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

FileDescriptor unix_stream() {
  return FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Result<UnixPath::Listening> UnixPath::listen(const std::string& path, int backlog) {
  PENSTOCK_TRY(const sockaddr_un address, unix_address(path));
  PENSTOCK_TRY_VOID(check_directory(path));
  PENSTOCK_TRY_VOID(clear_path(path, address));
  Listening made{.fd = unix_stream(), .file = {}};
  if (!made.fd) return fail_errno("socket", errno);
  // Before bind(), so that the file never exists with a wider mode; after it, because the umask may have narrowed it.
  if (::fchmod(made.fd.get(), kFileMode) != 0 || ::bind(made.fd.get(), generic(address), sizeof address) != 0) {
    return fail_errno("cannot make the socket " + path, errno);
  }
  made.file.path_ = path;
  struct stat file{};
  if (::stat(path.c_str(), &file) == 0) {
    made.file.device_ = file.st_dev;
    made.file.inode_ = file.st_ino;
  }
  if (::chmod(path.c_str(), kFileMode) != 0 || ::listen(made.fd.get(), backlog) != 0) {
    return fail_errno("cannot make the socket " + path, errno);
  }
  return made;
}

UnixPath::UnixPath(UnixPath&& other) noexcept
    : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_) {}

UnixPath& UnixPath::operator=(UnixPath&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  return *this;
}

void UnixPath::remove() {
  struct stat found{};
  const std::string path = std::exchange(path_, {});
  if (path.empty() || ::lstat(path.c_str(), &found) != 0) return;
  if (found.st_dev == device_ && found.st_ino == inode_) ::unlink(path.c_str());
}

}  // namespace penstock::net
