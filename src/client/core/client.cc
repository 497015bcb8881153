#include "client/core/client.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <variant>

#include "base/log.h"
#include "websocket/retry_after.h"

namespace penstock::client {
namespace {

std::string host_header(const GatewayUrl& url) {
  std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  if (url.port != 443) host += ":" + std::to_string(url.port);
  return host;
}

std::string in_seconds(Duration delay) {
  std::array<char, 32> text{};
  const double seconds = std::chrono::duration<double>(delay).count();
  std::snprintf(text.data(), text.size(), seconds < 10 ? "%.1fs" : "%.0fs", seconds);
  return text.data();
}

}  // namespace

std::string_view to_string(State state) {
  switch (state) {
    case State::connecting: return "connecting";
    case State::connected: return "connected";
    case State::waiting: return "waiting";
    case State::stopped: return "stopped";
  }
  return "stopped";
}

Client::Client(const ClientConfig& config, Surroundings surroundings)
    : config_(config),
      around_(std::move(surroundings)),
      dialler_(around_.loop, around_.resolver, around_.sockets),
      backoff_(config_.reconnect.min_backoff, config_.reconnect.max_backoff, around_.random),
      retry_timer_(around_.loop),
      login_deadline_(around_.loop),
      not_before_(config_.server.urls.size()) {}

Client::~Client() = default;

void Client::start() {
  lease_ = around_.lease.load();
  arm_tunnel();
  attempt();
}

// ---- connecting ----

void Client::attempt() {
  // wait() has seen to it that one of them may be.
  for (std::size_t i = 0; i < not_before_.size() && !may_be_tried(next_url_); ++i)
    next_url_ = (next_url_ + 1) % not_before_.size();
  state_ = State::connecting;
  refusal_.reset();
  ++counters_.attempts;
  if (counters_.successes != 0) ++counters_.reconnect_attempts;
  const GatewayUrl& url = config_.server.urls[next_url_];
  auto proxy = proxy_for(url, config_.server, around_.proxy_environment);
  if (!proxy) return retry(proxy.error().message);
  proxy_ = *std::move(proxy);
  log::debug("connecting", {{"gateway", url}, {"proxy", proxy_ ? proxy_->to_string() : ""}});
  dialler_.connect(url, proxy_, config_.reconnect.connect_timeout,
                   [this](Result<std::unique_ptr<net::StreamSocket>> socket) { connected(std::move(socket)); });
}

void Client::connected(Result<std::unique_ptr<net::StreamSocket>> socket) {
  if (!socket) return retry(socket.error().message);
  const GatewayUrl& url = config_.server.urls[next_url_];
  auto channel = transport::Channel::client(around_.tls ? around_.tls->new_engine(url.host) : nullptr, host_header(url),
                                            url.path, kMaxMessage, around_.random);
  const transport::Connection::Timing timing{.ping_interval = Duration(config_.reconnect.dead_after) / 3,
                                             .silence_limit = config_.reconnect.dead_after};
  connection_ = std::make_unique<transport::Connection>(around_.loop, buffer_, std::move(*socket), std::move(channel),
                                                        timing, *this);
  login_deadline_.start(config_.reconnect.connect_timeout, [this] {
    drop_connection();
    retry("the gateway took the connection but did not answer the login within " +
          in_seconds(config_.reconnect.connect_timeout));
  });
  connection_->start();
}

void Client::log_in() {
  tried_lease_ = !lease_.empty();
  if (tried_lease_) {
    connection_->send_text(protocol::to_json(protocol::Reconnect{.lease = lease_, .client = around_.software}));
  } else if (settings_) {
    connection_->send_text(protocol::to_json(protocol::Reconnect{
        .token = config_.auth.token, .previous_ip = settings_->assigned_ip, .client = around_.software}));
  } else {
    connection_->send_text(protocol::to_json(protocol::Auth{.token = config_.auth.token, .client = around_.software}));
  }
}

void Client::on_text(std::string_view text) {
  const auto message = protocol::parse_control(text);
  if (!message) {
    log::warn("message from the gateway not understood", {{"error", message.error().message}});
    return;
  }
  if (const auto* response = std::get_if<protocol::AuthResponse>(&*message)) {
    if (state_ != State::connecting) return;
    if (response->success) return logged_in(*response);
    login_deadline_.cancel();
    refusal_ = response->error;  // dealt with once the connection is gone
    return connection_->close(1000, response->error);
  }
  if (std::holds_alternative<protocol::Ping>(*message)) {
    connection_->send_text(protocol::to_json(protocol::Pong{}));
  } else if (const auto* goodbye = std::get_if<protocol::Goodbye>(&*message)) {
    wait_at_least_ = std::min<Duration>(std::chrono::seconds(goodbye->reconnect_after_seconds), kLongestAskedWait);
    if (goodbye->reason == protocol::kReplaced) replaced_ = true;
    // Another process has our lease and so our session: next time we ask for a session of our own.
    if (goodbye->reason == protocol::kTakenOver) lease_.clear();
    log::info("the gateway says goodbye", {{"reason", goodbye->reason}});
  } else if (const auto* notice = std::get_if<protocol::Notice>(&*message)) {
    log::info("notice from the gateway", {{"text", notice->text}});
  } else if (const auto* config = std::get_if<protocol::ConfigEvent>(&*message)) {
    if (!settings_) return;
    protocol::AuthResponse changed = *settings_;
    changed.routes = config->routes;
    changed.exclude = config->exclude;
    changed.dns = config->dns;
    changed.sites = config->sites;
    if (auto applied = apply(changed); !applied)
      log::error("settings from the gateway not applied", {{"error", applied.error().message}});
  } else if (const auto* error = std::get_if<protocol::ErrorMessage>(&*message)) {
    log::warn("the gateway reports an error", {{"error", error->error}});
  }
}

void Client::logged_in(const protocol::AuthResponse& response) {
  login_deadline_.cancel();
  // First of all the lease: without it every failure from here on would leave another session at the gateway.
  if (!response.lease.empty() && response.lease != lease_) {
    lease_ = response.lease;
    around_.lease.save(lease_);
  }
  if (auto applied = apply(response); !applied) return connection_->close(1000, applied.error().message);
  state_ = State::connected;
  failures_ = 0;
  connected_since_ = around_.loop.now();
  replaced_ = false;
  backoff_.reset();
  if (counters_.successes++ != 0) ++counters_.reconnects;
  if (response.resumed) ++counters_.resumed;
  counters_.last_error.clear();
  log::info("connected", {{"gateway", config_.server.urls[next_url_]},
                          {"outer", connection_->peer()},
                          {"proxy", proxy_ ? proxy_->to_string() : ""},
                          {"address", response.assigned_ip},
                          {"address6", response.assigned_ip6 ? response.assigned_ip6->to_string() : ""},
                          {"resumed", response.resumed},
                          {"tls", connection_->description()}});
  pump();
}

void Client::login_refused(const std::string& error) {
  replaced_ = error == protocol::kReplaced;
  if (replaced_) return wait(backoff_.longest(), "another machine uses this token now (" + error + ")");
  if (tried_lease_) {
    // The lease may be from another life of the gateway: the token has the last word, and at once.
    log::info("lease refused, logging in with the token", {{"reason", error}});
    lease_.clear();
    around_.lease.save(lease_);
    return attempt();
  }
  retry("the gateway refused the login: " + error +
        " (is auth.token right? whoever runs the gateway can issue a new profile)");
}

// Brings the interface to what the gateway says. What is so already is not touched.
Result<void> Client::apply(const protocol::AuthResponse& response) {
  TunnelSettings wanted;
  wanted.mtu = config_.vpn.mtu;
  if (response.mtu != 0) wanted.mtu = std::min(wanted.mtu, static_cast<int>(response.mtu));
  wanted.addresses.emplace_back(response.assigned_ip, response.subnet.length());
  if (response.assigned_ip6 && wanted.mtu < kLeastIpv6Mtu) {
    log::warn("no IPv6 inside: it needs a vpn.mtu of 1280 or more", {{"mtu", wanted.mtu}});
  } else if (response.assigned_ip6) {
    wanted.addresses.emplace_back(*response.assigned_ip6, response.subnet6 ? response.subnet6->length() : 128);
  }
  const auto add_route = [&](const Prefix& route) {
    // A route over the gateway's outer address would lead the tunnel into itself.
    if (route.contains(connection_->peer().address)) {
      log::warn("route not used: the gateway itself lies in it", {{"route", route}});
    } else if (std::find(wanted.routes.begin(), wanted.routes.end(), route) == wanted.routes.end()) {
      wanted.routes.push_back(route);
    }
  };
  for (const Prefix& route : config_.vpn.routes) add_route(route);
  for (const Prefix& route : response.routes) add_route(route);
  wanted.sites = response.sites;
  if (tunnel_settings_ != wanted) {
    PENSTOCK_TRY_VOID(around_.tunnel.configure(wanted));
    log::debug("interface configured", {{"address", response.assigned_ip}, {"mtu", wanted.mtu}});
    tunnel_settings_ = wanted;
  }
  settings_ = response;
  return {};
}

void Client::drop_connection() {
  login_deadline_.cancel();
  connection_.reset();
}

// ---- losing and waiting ----

void Client::on_closed(const transport::Ending& ending) {
  const std::string reason = ending.error.message;
  const bool was_connected = state_ == State::connected;
  if (const auto* refusal = connection_->refusal()) heed_retry_after(*refusal);
  drop_connection();
  counters_.dropped_not_connected += queue_.packets();
  queue_.clear();
  if (stopping_) {
    state_ = State::stopped;
    if (stopped_) stopped_();
    return;
  }
  if (refusal_) return login_refused(*std::exchange(refusal_, std::nullopt));
  if (was_connected) {
    log::warn("connection lost", {{"reason", reason}});
    if (replaced_) return wait(backoff_.longest(), "another machine uses this token now (" + reason + ")");
    return wait(std::max(backoff_.next(), std::exchange(wait_at_least_, Duration{})), reason);
  }
  retry(reason);
}

void Client::heed_retry_after(const websocket::UpgradeResponse& refusal) {
  const auto asked = websocket::retry_after(refusal, around_.loop.wall_now());
  if (!asked || asked->count() == 0) return;
  const Duration delay = std::min<Duration>(*asked, kLongestAskedWait);
  not_before_[next_url_] = around_.loop.now() + delay;
  log::warn("the gateway asks to be left alone for a while",
            {{"gateway", config_.server.urls[next_url_]}, {"status", refusal.status}, {"for", in_seconds(delay)}});
}

void Client::retry(const std::string& error) {
  do {
    next_url_ = (next_url_ + 1) % config_.server.urls.size();
  } while (next_url_ != 0 && !may_be_tried(next_url_));
  if (next_url_ != 0) {
    log::warn("gateway not reached, trying the next", {{"error", error}});
    counters_.last_error = error;
    return attempt();
  }
  wait(std::max(backoff_.next(), std::exchange(wait_at_least_, Duration{})), error);
}

void Client::wait(Duration delay, const std::string& error) {
  state_ = State::waiting;
  counters_.last_error = error;
  delay = std::max(delay, *std::ranges::min_element(not_before_) - around_.loop.now());
  if (++failures_ == kFailuresUntilRoutesGo) withdraw_routes();
  log::warn("Connection failed, retrying in " + in_seconds(delay), {{"error", error}, {"attempt", failures_}});
  retry_at_ = around_.loop.now() + delay;
  retry_timer_.start_at(retry_at_, [this] { attempt(); });
}

// Perhaps it is our own routes that lead the way to the gateway, or to its name, into the tunnel that is not there.
void Client::withdraw_routes() {
  if (!tunnel_settings_ || tunnel_settings_->routes.empty()) return;
  TunnelSettings bare = *tunnel_settings_;
  bare.routes.clear();
  log::warn("routes withdrawn until the gateway is reached again", {{"routes", tunnel_settings_->routes.size()}});
  if (auto configured = around_.tunnel.configure(bare); !configured) {
    log::error("routes not withdrawn", {{"error", configured.error().message}});
    return;
  }
  tunnel_settings_ = bare;
}

void Client::stop(Task done) {
  stopping_ = true;
  stopped_ = std::move(done);
  dialler_.cancel();
  retry_timer_.cancel();
  login_deadline_.cancel();
  if (connection_) {
    connection_->close(1000, "the client stops");
  } else {
    state_ = State::stopped;
    around_.loop.post([this] { stopped_(); });
  }
}

// ---- packets ----

void Client::arm_tunnel() {
  around_.tunnel.when_readable([this] { tunnel_turn(); });
}

void Client::tunnel_turn() {
  auto read = around_.tunnel.read(from_tunnel_, kTunnelBatch);
  if (!read) {
    if (failed_) failed_(std::move(read).error());
    return;
  }
  for (Packet& packet : from_tunnel_) {
    if (state_ != State::connected) {
      ++counters_.dropped_not_connected;
    } else if (!queue_.push(std::move(packet))) {
      ++counters_.dropped_queue_full;
    }
  }
  from_tunnel_.clear();
  pump();
  arm_tunnel();
}

void Client::pump() {
  while (state_ == State::connected && !queue_.empty() && connection_->writable()) {
    const std::size_t bytes = queue_.pop_into(sending_, kBurst);
    counters_.up_packets += sending_.size();
    counters_.up_bytes += bytes;
    connection_->send_packets(sending_);
    sending_.clear();
  }
}

void Client::on_binary(ByteView bytes) {
  if (state_ != State::connected) return;
  if (bytes.empty() || bytes.size() > Packet::kMaxSize) {
    ++counters_.dropped_malformed;
    return;
  }
  received_.push_back(Packet::copy_of(bytes));
  if (received_.size() == kTunnelBatch) on_turn_end();
}

void Client::on_turn_end() {
  for (const Packet& packet : received_) {
    if (around_.tunnel.write(packet)) {
      ++counters_.down_packets;
      counters_.down_bytes += packet.size();
    } else {
      ++counters_.dropped_interface;
    }
  }
  received_.clear();
}

Status Client::status() const {
  Status status = counters_;
  const TimePoint now = around_.loop.now();
  status.state = state_;
  status.gateway = config_.server.urls[next_url_].to_string();
  if (proxy_) status.proxy = proxy_->to_string();
  if (connection_) status.outer = connection_->peer();
  if (settings_) {
    status.address = settings_->assigned_ip;
    status.address6 = settings_->assigned_ip6;
    status.subnet = settings_->subnet;
    status.server_ip = settings_->server_ip;
  }
  status.mtu = tunnel_settings_ ? tunnel_settings_->mtu : config_.vpn.mtu;
  if (state_ == State::connected) status.connected_for = now - connected_since_;
  if (state_ == State::waiting) status.retry_in = std::max(Duration{}, retry_at_ - now);
  return status;
}

}  // namespace penstock::client
