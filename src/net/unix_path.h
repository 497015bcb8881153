// The file of a listening Unix socket: made where nothing live is in the way, removed when it is no longer served.
//
// Who may connect is decided by the file: mode 0660, owner and group of the process.
// Ownership  the object owns its file and removes it, unless another process has replaced it meanwhile.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "net/file_descriptor.h"

namespace penstock::net {

class UnixPath {
 public:
  UnixPath() = default;
  UnixPath(UnixPath&& other) noexcept;
  UnixPath& operator=(UnixPath&& other) noexcept;
  ~UnixPath() { remove(); }

  struct Listening;
  // A non-blocking socket that listens at `path`, whose directory exists. The file of a process that is gone is
  // replaced. Refusals: address_in_use (a live process serves it, or the file is no socket), permission_denied,
  // not_found (no such directory), invalid_argument (too long a path).
  static Result<Listening> listen(const std::string& path, int backlog);

  const std::string& path() const { return path_; }
  // Removes the file, if it is still the one that was made here. Again: nothing.
  void remove();

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct UnixPath::Listening {
  FileDescriptor fd;
  UnixPath file;
};

}  // namespace penstock::net
