// The status socket: how `penstock status` and its kin ask a running process, one question a connection.
//
//   client                          server
//   connect
//   "status json\n"       ---->     handler("status json")
//                         <----     answer
//                         <----     end of stream
//
// The request is one line of at most kMostRequestBytes and may be empty; the end of the client's stream ends it too.
// Each connection has kPatience for its request and again for taking its answer; then it is closed.
//
// Ownership  the socket owns its file (unix_path.h), which says who may ask: mode 0660.
// Threads    StatusSocket: the loop's. ask_status() blocks and belongs in a command-line tool, not on a loop.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/result.h"
#include "net/file_descriptor.h"
#include "net/unix_path.h"

namespace penstock::net {

class StatusSocket {
 public:
  static constexpr std::size_t kMostRequestBytes = 4096;
  static constexpr std::size_t kMostConnections = 32;  // more are closed unanswered
  static constexpr auto kPatience = std::chrono::seconds(2);

  // Gets the line without its end. Must not destroy the StatusSocket.
  using Handler = std::move_only_function<std::string(std::string_view request)>;

  // Makes the directory if it is missing (0755) and replaces the file of a process that is gone. Refusals:
  // address_in_use (a live process serves it, or the file is no socket), permission_denied, invalid_argument (too long
  // a path).
  static Result<std::unique_ptr<StatusSocket>> create(EventLoop& loop, const std::string& path, Handler handler);
  ~StatusSocket();
  StatusSocket(const StatusSocket&) = delete;
  StatusSocket& operator=(const StatusSocket&) = delete;

  const std::string& path() const { return file_.path(); }

 private:
  class Connection;

  StatusSocket(EventLoop& loop, FileDescriptor fd, UnixPath file, Handler handler);
  void accept_some();
  void drop(Connection* connection);

  EventLoop& loop_;
  FileDescriptor fd_;
  UnixPath file_;
  std::unique_ptr<Watch> watch_;
  Timer pause_;
  Handler handler_;
  std::list<std::unique_ptr<Connection>> connections_;
};

// Asks and waits for the whole answer. Refusals: unavailable (nobody serves `path`), permission_denied, timed_out,
// protocol_error (a request with a line break, an answer without end).
Result<std::string> ask_status(const std::string& path, std::string_view request, Duration timeout);

}  // namespace penstock::net
