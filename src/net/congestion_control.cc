#include "net/congestion_control.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

std::string_view text_of(const CongestionControl::Name& name) {
  return {name.data(), ::strnlen(name.data(), name.size())};
}

// 0 or errno.
int use(int socket, const CongestionControl::Name& name) {
  const std::string_view text = text_of(name);
  return ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, text.data(), static_cast<socklen_t>(text.size())) == 0
             ? 0
             : errno;
}

// Those that go by losses alone. Whoever chose another for the system knew why.
bool is_usual(const CongestionControl::Name& name) { return text_of(name) == "cubic" || text_of(name) == "reno"; }

}  // namespace

CongestionControl CongestionControl::always(std::string_view name) {
  CongestionControl made;
  PENSTOCK_ASSERT(name.size() < made.name_.size());
  made.when_ = When::always;
  std::ranges::copy(name, made.name_.begin());
  return made;
}

CongestionControl CongestionControl::for_long_ways(std::string_view name, Duration least) {
  CongestionControl made = always(name);
  made.when_ = When::on_long_ways;
  made.long_ = least;
  return made;
}

Result<CongestionControl> CongestionControl::from_setting(std::string_view setting) {
  if (setting == "system") return CongestionControl();
  const CongestionControl wanted = setting == "auto" ? for_long_ways("bbr") : always(setting);
  const FileDescriptor trial(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!trial) return fail_errno("cannot make a TCP socket", errno);
  const int error = use(trial.get(), wanted.name_);
  const std::string name(text_of(wanted.name_));
  if (error == ENOENT) return fail(ErrorCode::unavailable, "this kernel has no congestion control " + name);
  if (error == EPERM) {
    return fail(ErrorCode::permission_denied, name +
                                                  " is not allowed to this process: add it to the system's list "
                                                  "net.ipv4.tcp_allowed_congestion_control");
  }
  if (error != 0) return fail_errno("cannot use congestion control " + name, error);
  return wanted;
}

void CongestionControl::begin(int socket) const {
  if (when_ == When::always) static_cast<void>(use(socket, name_));
}

void CongestionControl::suit(int socket, Duration shortest_round_trip, Name& system) const {
  if (when_ != When::on_long_ways) return;
  const bool is_long = shortest_round_trip >= long_;
  if (system.front() == '\0') {
    if (!is_long) return;
    system = congestion_control_of(socket);
    if (is_usual(system)) static_cast<void>(use(socket, name_));
  } else if (!is_long) {
    // It was busy when it was measured first.
    if (is_usual(system)) static_cast<void>(use(socket, system));
    system = {};
  }
}

CongestionControl congestion_control_by(std::string_view setting) {
  auto wanted = CongestionControl::from_setting(setting);
  if (wanted) return *wanted;
  const bool by_itself = setting == "auto";
  log::write(by_itself ? log::Level::info : log::Level::warn, "connections keep the system's congestion control",
             {{"performance.congestion_control", setting}, {"reason", wanted.error().message}});
  return {};
}

CongestionControl::Name congestion_control_of(int socket) {
  CongestionControl::Name name{};
  socklen_t size = name.size();
  if (::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0) return {};
  name.back() = '\0';
  return name;
}

}  // namespace penstock::net
