#include "net/unix_listener.h"

#include <unistd.h>

#include <cerrno>

#include "net/system_socket.h"

namespace penstock::net {

Result<std::unique_ptr<UnixListener>> UnixListener::create(EventLoop& loop, const std::string& path,
                                                           std::string_view setting) {
  auto listening = UnixPath::listen(path, kBacklog);
  if (!listening) return fail(listening.error().code, std::string(setting) + ": " + listening.error().message);
  return std::unique_ptr<UnixListener>(new UnixListener(loop, *std::move(listening)));
}

UnixListener::UnixListener(EventLoop& loop, UnixPath::Listening listening)
    : Listener(loop, std::move(listening.fd), listening.file.path()), file_(std::move(listening.file)) {}

std::unique_ptr<StreamSocket> UnixListener::socket_of(EventLoop& loop, FileDescriptor fd) {
  return std::make_unique<SystemSocket>(loop, std::move(fd));
}

void UnixListener::stop_accepting() {
  Listener::stop_accepting();
  file_.remove();
}

Result<void> UnixListener::give_to(unsigned user_id, unsigned group_id) const {
  if (::lchown(path().c_str(), user_id, group_id) != 0) return fail_errno("owner of the socket " + path(), errno);
  return {};
}

}  // namespace penstock::net
