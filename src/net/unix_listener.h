// A listener on a Unix socket, for a proxy on this machine that ends TLS in front.
//
// Ownership  it owns its file (unix_path.h), which goes with stop_accepting() or with the listener.
// Threads    the loop's.
#pragma once

#include <memory>
#include <string>

#include "net/listener.h"
#include "net/unix_path.h"

namespace penstock::net {

class UnixListener final : public Listener {
 public:
  // Listens at once; connections wait in the backlog until on_accept(). Refusals: those of UnixPath::listen, with
  // `setting`, which the operator changes to get another path.
  static Result<std::unique_ptr<UnixListener>> create(EventLoop& loop, const std::string& path,
                                                      std::string_view setting = "server.listen_http");

  void stop_accepting() override;
  // Hands the file to another owner and group (chown); the mode stays 0660. Refusal: permission_denied.
  Result<void> give_to(unsigned user_id, unsigned group_id) const;
  const std::string& path() const { return file_.path(); }

 private:
  UnixListener(EventLoop& loop, UnixPath::Listening listening);
  std::unique_ptr<StreamSocket> socket_of(EventLoop& loop, FileDescriptor fd) override;

  UnixPath file_;
};

}  // namespace penstock::net
