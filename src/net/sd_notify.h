// Tells the service manager how the process is doing (systemd's sd_notify protocol, sd_notify(3)), without its library.
//
// Messages are single datagrams to the socket that $NOTIFY_SOCKET names, a path or an abstract name ("@..."). Without
// one every call does nothing. A message that cannot be sent is logged once and otherwise ignored: a gateway must not
// stop for its supervisor's sake. One thread.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"

namespace penstock::net {

class ServiceNotifier {
 public:
  // $NOTIFY_SOCKET's value; empty for none.
  explicit ServiceNotifier(std::string socket) : socket_(std::move(socket)) {}
  // Reads $NOTIFY_SOCKET and removes it, so that child processes do not speak for this one. Before threads start.
  static ServiceNotifier from_environment();

  bool enabled() const { return !socket_.empty(); }
  void ready() { send("READY=1"); }
  void stopping() { send("STOPPING=1"); }
  // Followed by ready() when the new configuration is in force. Type=notify-reload wants to know when it began.
  void reloading(TimePoint now);
  // One line for `systemctl status`.
  void status(std::string_view text);
  // For WatchdogSec=: at least twice in that time.
  void alive() { send("WATCHDOG=1"); }

 private:
  void send(std::string_view message);

  std::string socket_;
  bool complained_ = false;
};

}  // namespace penstock::net
