// A connection that has begun and was not admitted yet: TLS, the upgrade, and the one message that says who it is.
//
//   CONNECTING --upgrade--> CONNECTED --auth or reconnect--> LOGGING_IN --admitted--> handed to the Door, gone
//        |                      |                               |
//        +- refused: 404, 429 --+--- deadline, anything else ---+--refused--> CLOSING --> gone
//
// The deadline is the peer's alone: it ends when the login is here, however long the registry takes to decide.
// Meanwhile pings are answered, and a second login ends both.
//
// Until it is admitted a peer gets nothing but refusals, and few words: a scanner learns that there is a web server.
// An address that failed to log in too often is told at the upgrade when to come again (429, Retry-After); a login that
// was under way already is refused unheard.
//
// What counts as a failed login is the peer's own: a token that nobody has, something else than a login. That there is
// no room is not its fault, and a lease is nothing that could be guessed: it is void for many clients at once when the
// gateway lost its key, and they must not lock each other out.
//
// Ownership   the Door's; it asks the Door to be removed when its connection has closed or moved on.
// Threads     its Door's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "ingress/websocket/door.h"
#include "ingress/websocket/doorstep.h"

namespace penstock::ingress {

class Handshake final : public transport::Connection::Handler {
 public:
  // Messages that are no login, to be answered with what is wrong with them.
  static constexpr int kMostMessages = 32;

  Handshake(Door& door, Visitor visitor);
  ~Handshake();
  void start();

 private:
  void on_open() override {}
  void on_text(std::string_view text) override;
  std::size_t on_binary(MaskedView bytes) override;
  void on_closed(const transport::Ending& ending) override;

  std::optional<transport::UpgradeRefusal> judge(const websocket::UpgradeRequest& request);
  std::optional<transport::UpgradeRefusal> meet_client(const websocket::UpgradeRequest& request);
  void introduce(std::string_view client, std::optional<protocol::Receive> receive);
  void log_in(session::LoginRequest request);
  void answered(Result<session::Admission> result);
  void turn_away(std::string_view error);
  void count_failed_login();
  void refuse(std::string_view error);
  Duration blocked_for() const;

  Door* door_;
  Visitor visitor_;  // but for its socket, which is the connection's
  std::unique_ptr<transport::Connection> connection_;
  Timer deadline_;
  Peer peer_;
  int messages_ = 0;
  bool by_lease_ = false;
  bool logging_in_ = false;
  bool refused_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by the registry's answer
};

}  // namespace penstock::ingress
