#include "net/file_descriptor.h"

#include <unistd.h>

namespace penstock::net {

void FileDescriptor::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace penstock::net
