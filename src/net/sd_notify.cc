#include "net/sd_notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "base/log.h"
#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

// 0 or errno.
int send_datagram(const std::string& to, std::string_view message) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (to.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, to.data(), to.size());
  if (to.front() == '@') address.sun_path[0] = '\0';
  // An abstract name is exactly as long as it is said to be: no terminator.
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + to.size());
  const FileDescriptor fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  const ssize_t sent = ::sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&address), size);
  return sent < 0 ? errno : 0;
}

}  // namespace

ServiceNotifier ServiceNotifier::from_environment() {
  const char* value = std::getenv("NOTIFY_SOCKET");
  ServiceNotifier notifier(value == nullptr ? "" : value);
  ::unsetenv("NOTIFY_SOCKET");
  return notifier;
}

void ServiceNotifier::reloading(TimePoint now) {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(since.count()));
}

void ServiceNotifier::status(std::string_view text) {
  // A line break would begin another assignment.
  std::string line = "STATUS=" + std::string(text);
  std::ranges::replace(line, '\n', ' ');
  send(line);
}

void ServiceNotifier::send(std::string_view message) {
  if (!enabled()) return;
  const int error = send_datagram(socket_, message);
  if (error == 0 || complained_) return;
  complained_ = true;
  log::warn("cannot notify the service manager",
            {{"socket", socket_}, {"reason", std::generic_category().message(error)}});
}

}  // namespace penstock::net
