#include "ingress/websocket/handshake.h"

#include <utility>
#include <variant>

#include "base/log.h"
#include "ingress/websocket/warnings.h"
#include "session/outer.h"
#include "websocket/forwarded.h"

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

// RFC 9110 section 10.2.3: whole seconds, of which the last has passed too.
std::string seconds_of(Duration wait) { return std::to_string(std::chrono::ceil<std::chrono::seconds>(wait).count()); }

transport::UpgradeRefusal come_again(Duration wait, std::string reason) {
  return {.refusal = {.status = 429, .reason = std::move(reason)}, .headers = {{"Retry-After", seconds_of(wait)}}};
}

}  // namespace

Handshake::Handshake(Door& door, Visitor visitor)
    : door_(&door), visitor_(std::move(visitor)), deadline_(door.shard_->loop()) {
  auto channel = transport::Channel::server(visitor_.plain_http ? nullptr : door.tls_->new_engine(),
                                            door.settings_->path, Door::kMaxControlMessage, *door.random_,
                                            [this](const auto& request) { return judge(request); });
  connection_ = std::make_unique<transport::Connection>(door.shard_->loop(), door.buffer_, std::move(visitor_.socket),
                                                        std::move(channel), door.settings_->timing, *this);
  connection_->set_peer(visitor_.outer);
}

Handshake::~Handshake() { *alive_ = false; }

void Handshake::start() {
  visitor_.ticket.on_evicted([this] {
    log::debug("handshake made room for a newer one", {{"outer", session::outer_name(visitor_.outer)}});
    door_->remove(*this);
  });
  deadline_.start_at(visitor_.deadline, [this] {
    refused_ = true;
    door_->limiter_->count(Limit::login_timeout);
    door_->registry_->count_refused_login(visitor_.outer, "no login in time");
    connection_->close(1008, "no login in time");
  });
  connection_->start(visitor_.said.view());
  visitor_.said.release();
}

// ---- the upgrade ----

std::optional<transport::UpgradeRefusal> Handshake::judge(const websocket::UpgradeRequest& request) {
  if (visitor_.proxy) {
    if (auto refusal = meet_client(request)) return refusal;
  }
  const Duration wait = blocked_for();
  if (wait <= Duration{}) return std::nullopt;
  door_->limiter_->count(Limit::login_blocked);
  return come_again(wait, "too many failed logins");
}

// A proxy says whom it speaks for; only now is it known whose limits hold.
std::optional<transport::UpgradeRefusal> Handshake::meet_client(const websocket::UpgradeRequest& request) {
  const IpAddress proxy = visitor_.outer.address;
  const auto client = websocket::forwarded_client(
      request, visitor_.outer, [&](const IpAddress& address) { return address == proxy || door_->trusts(address); });
  if (!client) {
    door_->limiter_->count(Limit::proxy_header);
    if (door_->warnings_->proxies.lets_through(door_->shard_->loop().now())) {
      log::warn("proxy refused", {{"proxy", session::outer_name(visitor_.outer)}, {"reason", client.error().message}});
    }
    return transport::UpgradeRefusal{.refusal = {.status = 400, .reason = client.error().message}, .headers = {}};
  }
  visitor_.outer = *client;
  connection_->set_peer(*client);
  const auto claimed = visitor_.ticket.claim(client->address);
  if (claimed) return std::nullopt;
  return come_again(std::chrono::seconds(1), std::string(to_string(claimed.error())));
}

Duration Handshake::blocked_for() const {
  return door_->limiter_->blocked_for(visitor_.outer.address, door_->shard_->loop().now());
}

// ---- the login ----

void Handshake::on_text(std::string_view text) {
  if (refused_) return;
  if (++messages_ > kMostMessages) return turn_away("too many messages before the login");
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
    introduce(auth->client, std::move(auth->receive));
    return log_in({.token = std::move(auth->token)});
  }
  if (auto* reconnect = std::get_if<protocol::Reconnect>(&*message)) {
    introduce(reconnect->client, std::move(reconnect->receive));
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

std::size_t Handshake::on_binary(MaskedView) {
  if (!refused_) turn_away("log in first");
  return 1;
}

// Who does not say its name is a plain v1 client, whatever else it says.
void Handshake::introduce(std::string_view client, std::optional<protocol::Receive> receive) {
  peer_.software = software_name(client);
  peer_.receive = client.empty() ? std::nullopt : std::move(receive);
}

// Refused here, so that the registry has not heard of it yet.
void Handshake::turn_away(std::string_view error) {
  count_failed_login();
  door_->registry_->count_refused_login(visitor_.outer, std::string(error));
  refuse(error);
}

void Handshake::count_failed_login() {
  const TimePoint now = door_->shard_->loop().now();
  const auto blocked = door_->limiter_->login_failed(visitor_.outer.address, now);
  if (!blocked || !door_->warnings_->blocked.lets_through(now)) return;
  log::warn("address blocked after failed logins",
            {{"address", blocked->name()}, {"for", seconds_of(blocked->wait) + "s"}, {"failures", blocked->failures}});
}

void Handshake::log_in(session::LoginRequest request) {
  deadline_.cancel();  // the rest is the gateway's own time
  if (const Duration wait = blocked_for(); wait > Duration{}) {
    constexpr std::string_view kError = "too many failed logins";
    door_->limiter_->count(Limit::login_blocked);
    door_->registry_->count_refused_login(visitor_.outer, std::string(kError));
    return refuse(std::string(kError) + ": try again in " + seconds_of(wait) + " s");
  }
  logging_in_ = true;
  by_lease_ = !request.lease.empty();
  request.software = peer_.software;
  request.format = protocol::describe(protocol::format_of(peer_.receive));
  request.outer = visitor_.outer;
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
  if (!result) {
    if (result.error().code == ErrorCode::unauthenticated && !by_lease_) count_failed_login();
    return refuse(result.error().message);
  }
  door_->admit(std::move(connection_), std::move(*result), std::move(peer_));
  door_->remove(*this);
}

void Handshake::refuse(std::string_view error) {
  refused_ = true;
  deadline_.cancel();
  connection_->send_text(protocol::to_json(protocol::AuthResponse{.success = false, .error = std::string(error)}));
  connection_->close(1008, error);
}

void Handshake::on_closed(const transport::Ending& ending) {
  if (ending.error.code == ErrorCode::exhausted) door_->limiter_->count(Limit::queue_messages);
  log::debug("connection closed before login",
             {{"outer", session::outer_name(visitor_.outer)}, {"reason", ending.error.message}});
  door_->remove(*this);
}

}  // namespace penstock::ingress
