#include "net/congestion_control.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

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

// It was tried at the start, but rights may have gone since, and a route may insist.
void use_or_tell(int socket, const CongestionControl::Name& name) {
  const int error = use(socket, name);
  if (error != 0 && log::enabled(log::Level::debug)) {
    log::debug("a connection keeps its congestion control",
               {{"wanted", text_of(name)}, {"error", std::generic_category().message(error)}});
  }
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

CongestionControl CongestionControl::for_long_ways(std::string_view name, Duration least, Duration proof) {
  CongestionControl made = always(name);
  made.when_ = When::on_long_ways;
  made.long_ = least;
  made.proof_ = proof;
  return made;
}

Result<CongestionControl> CongestionControl::from_setting(std::string_view setting) {
  if (setting == "system") return CongestionControl();
  const CongestionControl wanted = setting == "auto" ? for_long_ways("bbr") : always(setting);
  const FileDescriptor trial(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!trial) return fail_errno("cannot make a TCP socket", errno);
  const int error = use(trial.get(), wanted.name_);
  const std::string name(text_of(wanted.name_));
  if (error == ENOENT) {
    return fail(ErrorCode::unavailable, "this kernel has no congestion control " + name +
                                            ", or has not loaded it (as root: modprobe tcp_" + name + ")");
  }
  if (error == EPERM) {
    return fail(ErrorCode::permission_denied, name +
                                                  " is not allowed to this process: add it to the system's list "
                                                  "net.ipv4.tcp_allowed_congestion_control");
  }
  if (error != 0) return fail_errno("cannot use congestion control " + name, error);
  return wanted;
}

void CongestionControl::begin(int socket) const {
  if (when_ == When::always) use_or_tell(socket, name_);
}

bool CongestionControl::suit(int socket, Duration shortest_round_trip, Duration busy) const {
  if (when_ != When::on_long_ways) return true;
  if (shortest_round_trip < long_ || busy < proof_) return false;
  if (is_usual(congestion_control_of(socket))) use_or_tell(socket, name_);
  return true;
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
