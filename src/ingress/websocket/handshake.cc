#include "ingress/websocket/handshake.h"

#include <utility>
#include <variant>

#include "base/log.h"

namespace penstock::ingress {
namespace {

// What a stranger says of itself goes into logs and status: a line's worth of plain characters.
std::string software_name(std::string_view said) {
  std::string name(said.substr(0, 64));
  for (char& c : name) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return name;
}

}  // namespace

Handshake::Handshake(Door& door, std::unique_ptr<net::StreamSocket> socket, transport::Channel channel)
    : door_(&door),
      connection_(std::make_unique<transport::Connection>(door.shard_->loop(), door.buffer_, std::move(socket),
                                                          std::move(channel), door.settings_->timing, *this)),
      deadline_(door.shard_->loop()),
      outer_(connection_->peer()) {}

Handshake::~Handshake() { *alive_ = false; }

void Handshake::start() {
  connection_->start();
  deadline_.start(Door::kLoginDeadline, [this] {
    refused_ = true;
    door_->registry_->count_refused_login(outer_, "no login in time");
    connection_->close(1008, "no login in time");
  });
}

void Handshake::on_text(std::string_view text) {
  if (refused_) return;
  auto message = protocol::parse_control(text);
  if (!message) {
    // A peer that does not know better may try again until the deadline.
    connection_->send_text(protocol::to_json(protocol::ErrorMessage{message.error().message}));
    return;
  }
  const bool login =
      std::holds_alternative<protocol::Auth>(*message) || std::holds_alternative<protocol::Reconnect>(*message);
  if (login && logging_in_) return turn_away("one login at a time");
  if (auto* auth = std::get_if<protocol::Auth>(&*message)) {
    software_ = software_name(auth->client);
    return log_in({.token = std::move(auth->token)});
  }
  if (auto* reconnect = std::get_if<protocol::Reconnect>(&*message)) {
    software_ = software_name(reconnect->client);
    return log_in({.token = std::move(reconnect->token),
                   .lease = std::move(reconnect->lease),
                   .previous_ip = reconnect->previous_ip});
  }
  if (std::holds_alternative<protocol::Ping>(*message))
    return connection_->send_text(protocol::to_json(protocol::Pong{}));
  if (std::holds_alternative<protocol::Pong>(*message) || std::holds_alternative<protocol::ErrorMessage>(*message))
    return;
  turn_away("log in first");
}

void Handshake::on_binary(ByteView) {
  if (!refused_) turn_away("log in first");
}

// Refused here, so that the registry has not heard of it yet.
void Handshake::turn_away(std::string_view error) {
  door_->registry_->count_refused_login(outer_, std::string(error));
  refuse(error);
}

void Handshake::log_in(session::LoginRequest request) {
  logging_in_ = true;
  deadline_.cancel();  // the rest is the gateway's own time
  request.software = software_;
  request.outer = outer_;
  request.shard = door_->shard_->index();
  // The answer may come when this handshake is gone.
  door_->registry_->login(std::move(request), door_->shard_->loop(),
                          [this, alive = alive_, door = door_](Result<session::Admission> result) {
                            if (*alive) return answered(std::move(result));
                            if (result) door->abandon(std::move(*result));
                          });
}

void Handshake::answered(Result<session::Admission> result) {
  logging_in_ = false;
  if (refused_) {  // for something that it did meanwhile
    if (result) door_->abandon(std::move(*result));
    return;
  }
  if (!result) return refuse(result.error().message);
  door_->admit(std::move(connection_), std::move(*result), std::move(software_));
  door_->remove(*this);
}

void Handshake::refuse(std::string_view error) {
  refused_ = true;
  connection_->send_text(protocol::to_json(protocol::AuthResponse{.success = false, .error = std::string(error)}));
  connection_->close(1008, error);
}

void Handshake::on_closed(const transport::Ending& ending) {
  log::debug("connection closed before login", {{"outer", outer_}, {"reason", ending.error.message}});
  door_->remove(*this);
}

}  // namespace penstock::ingress
