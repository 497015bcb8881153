#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/atomic_file.h"

namespace penstock {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

// The temporary file, which disappears unless it was renamed.
class Leftover {
 public:
  explicit Leftover(const std::string& path) : path_(&path) {}
  Leftover(const Leftover&) = delete;
  Leftover& operator=(const Leftover&) = delete;
  ~Leftover() {
    if (path_ != nullptr) ::unlink(path_->c_str());
  }
  void keep() { path_ = nullptr; }

 private:
  const std::string* path_;
};

Result<void> write_all(int fd, ByteView content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(path, errno);
    content = content.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<void> write_file_atomically(const std::string& path, ByteView content, mode_t mode) {
  const std::string directory = directory_of(path);
  const Descriptor parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid()) return fail_errno(path + ": directory " + directory, errno);

  // mkostemp makes the file 0600, so a secret is never readable by others, not even before fchmod.
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.valid()) return fail_errno(path + ": a new file beside it", errno);
  Leftover leftover(temporary);

  PENSTOCK_TRY_VOID(write_all(file.get(), content, path));
  if (::fchmod(file.get(), mode) != 0 || ::fsync(file.get()) != 0) return fail_errno(path, errno);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno(path, errno);
  leftover.keep();

  // Some file systems cannot sync a directory and say EINVAL: there is nothing more to be had from them.
  if (::fsync(parent.get()) != 0 && errno != EINVAL) return fail_errno(path + ": directory " + directory, errno);
  return {};
}

Result<std::string> read_whole_file(const std::string& path, std::size_t max_size) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail_errno(path, errno);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno(path, errno);
  if (S_ISDIR(status.st_mode)) return fail(ErrorCode::invalid_argument, path + ": is a directory");

  // Not by st_size alone: it is 0 for pipes and for what the kernel makes up, and the file may grow meanwhile.
  std::string content;
  std::size_t used = 0;
  while (true) {
    if (used == content.size()) {
      const std::size_t expected = std::max<std::size_t>(static_cast<std::size_t>(status.st_size), 4096);
      content.resize(std::min(std::max(expected, used * 2), max_size) + 1);
    }
    const ssize_t got = ::read(file.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(path, errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    if (used > max_size)
      return fail(ErrorCode::exhausted,
                  path + ": larger than the " + std::to_string(max_size) + " bytes that it may have");
  }
  content.resize(used);
  return content;
}

}  // namespace penstock
