// A connection that has not been admitted yet: TLS, the upgrade, and the one message that says who it is.
//
//   CONNECTING --auth or reconnect--> LOGGING_IN --admitted--> handed to the Door, gone
//        |                                |
//        +--- deadline, anything else ----+--refused--> CLOSING --> gone
//
// The deadline is the peer's alone: it ends when the login is here, however long the registry takes to decide.
// Meanwhile pings are answered, and a second login ends both.
//
// Until it is admitted a peer gets nothing but refusals, and few words: a scanner learns that there is a web server.
//
// Ownership   the Door's; it asks the Door to be removed when its connection has closed or moved on.
// Threads     its Door's.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ingress/websocket/door.h"

namespace penstock::ingress {

class Handshake final : public transport::Connection::Handler {
 public:
  Handshake(Door& door, std::unique_ptr<net::StreamSocket> socket, transport::Channel channel);
  ~Handshake();
  void start();

 private:
  void on_open() override {}
  void on_text(std::string_view text) override;
  void on_binary(ByteView bytes) override;
  void on_closed(const transport::Ending& ending) override;

  void log_in(session::LoginRequest request);
  void answered(Result<session::Admission> result);
  void turn_away(std::string_view error);
  void refuse(std::string_view error);

  Door* door_;
  std::unique_ptr<transport::Connection> connection_;
  Timer deadline_;
  Endpoint outer_;
  std::string software_;
  bool logging_in_ = false;
  bool refused_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by the registry's answer
};

}  // namespace penstock::ingress
