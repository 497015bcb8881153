#include "client/core/client.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>
#include <variant>

#include "base/log.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"
#include "websocket/retry_after.h"

namespace penstock::client {
namespace {

std::string host_header(const GatewayUrl& url) {
  std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  if (url.port != 443) host += ":" + std::to_string(url.port);
  return host;
}

// Whatever the interface does not take whole is cut by ourselves.
std::optional<protocol::Receive> what_we_take(const ClientConfig& config) {
  using Gso = Offload::Gso;
  if (config.server.protocol == ClientConfig::Protocol::v1) return std::nullopt;
  const bool cut = config.vpn.offload == OffloadMode::off;
  return protocol::receive_of(cut ? GsoKinds{} : GsoKinds{Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6},
                              static_cast<std::uint32_t>(config.vpn.mtu));
}

// What all agree on: we send no larger packets, and the gateway says twice how large they may be.
int mtu_of(const ClientConfig& config, const protocol::AuthResponse& response) {
  auto mtu = static_cast<std::uint32_t>(config.vpn.mtu);
  if (response.mtu != 0) mtu = std::min(mtu, response.mtu);
  if (response.receive) mtu = std::min(mtu, response.receive->mtu);
  return static_cast<int>(mtu);
}

// Somebody who writes to the interface without end does not keep the loop from its other work.
constexpr int kBurstsPerTurn = 8;

// Nothing is put together with a packet of this size, so it need not be a Packet.
constexpr std::size_t kWorthNoCopy = 16 * 1024;

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
      gateway_log_(around_.loop),
      dialler_(around_.loop, around_.resolver, around_.sockets),
      backoff_(config_.reconnect.min_backoff, config_.reconnect.max_backoff, around_.random),
      retry_timer_(around_.loop),
      login_deadline_(around_.loop),
      pump_again_(around_.loop),
      not_before_(config_.server.urls.size()),
      receive_(what_we_take(config_)),
      queue_(FlowHashKey::drawn_from(around_.random), kQueueBytes),
      to_tunnel_(around_.loop, FlowHashKey::drawn_from(around_.random), *this) {}

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
    connection_->send_text(
        protocol::to_json(protocol::Reconnect{.lease = lease_, .client = around_.software, .receive = receive_}));
  } else if (settings_) {
    connection_->send_text(protocol::to_json(protocol::Reconnect{.token = config_.auth.token,
                                                                 .previous_ip = settings_->assigned_ip,
                                                                 .client = around_.software,
                                                                 .receive = receive_}));
  } else {
    connection_->send_text(protocol::to_json(
        protocol::Auth{.token = config_.auth.token, .client = around_.software, .receive = receive_}));
  }
}

void Client::on_text(std::string_view text) {
  using Kind = GatewayLog::Kind;
  using log::Level;
  const auto message = protocol::parse_control(text);
  if (!message) {
    return gateway_log_.write(Kind::not_understood, Level::warn, "message from the gateway not understood",
                              {"error", message.error().message});
  }
  if (const auto* response = std::get_if<protocol::AuthResponse>(&*message)) {
    if (state_ != State::connecting) return;
    if (response->success) return logged_in(*response);
    login_deadline_.cancel();
    refusal_ = GatewayLog::shortened(response->error);  // dealt with once the connection is gone
    return connection_->close(1000, response->error);
  }
  if (std::holds_alternative<protocol::Ping>(*message)) {
    connection_->send_text(protocol::to_json(protocol::Pong{}));
  } else if (const auto* goodbye = std::get_if<protocol::Goodbye>(&*message)) {
    wait_at_least_ = std::min<Duration>(std::chrono::seconds(goodbye->reconnect_after_seconds), kLongestAskedWait);
    if (goodbye->reason == protocol::kReplaced) replaced_ = true;
    // Another process has our lease and so our session: next time we ask for a session of our own.
    if (goodbye->reason == protocol::kTakenOver) lease_.clear();
    gateway_log_.write(Kind::goodbye, Level::info, "the gateway says goodbye", {"reason", goodbye->reason});
  } else if (const auto* notice = std::get_if<protocol::Notice>(&*message)) {
    gateway_log_.write(Kind::notice, Level::info, "notice from the gateway", {"text", notice->text});
  } else if (const auto* config = std::get_if<protocol::ConfigEvent>(&*message)) {
    if (state_ != State::connected) return;  // the settings that we have are another login's
    protocol::AuthResponse changed = *settings_;
    changed.routes = config->routes;
    changed.exclude = config->exclude;
    changed.dns = config->dns;
    changed.sites = config->sites;
    if (auto applied = apply(changed); !applied) {
      gateway_log_.write(Kind::settings, Level::error, "settings from the gateway not applied",
                         {"error", applied.error().message});
    }
  } else if (const auto* error = std::get_if<protocol::ErrorMessage>(&*message)) {
    gateway_log_.write(Kind::error, Level::warn, "the gateway reports an error", {"error", error->error});
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
  format_ = receive_ ? protocol::format_of(response.receive) : protocol::Format{};
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
                          {"tls", connection_->description()},
                          {"format", protocol::describe(format_)}});
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

// Brings the interface to what the gateway says, and back to it where somebody changed it since.
Result<void> Client::apply(const protocol::AuthResponse& response) {
  TunnelSettings wanted;
  wanted.mtu = mtu_of(config_, response);
  const bool carries_ipv6 = wanted.mtu >= kLeastIpv6Mtu;
  const auto warn = [&](std::string_view message, const log::Field& field) {
    gateway_log_.write(GatewayLog::Kind::settings, log::Level::warn, message, field);
  };
  wanted.addresses.emplace_back(response.assigned_ip, response.subnet.length());
  if (response.assigned_ip6 && carries_ipv6) {
    wanted.addresses.emplace_back(*response.assigned_ip6, response.subnet6 ? response.subnet6->length() : 128);
  } else if (response.assigned_ip6) {
    warn("no IPv6 inside: it needs a vpn.mtu of 1280 or more", {"mtu", wanted.mtu});
  }
  const auto add_route = [&](const Prefix& route) {
    if (!route.is_v4() && !carries_ipv6) return;
    // A route over the gateway's outer address would lead the tunnel into itself.
    if (route.contains(connection_->peer().address)) {
      warn("route not used: the gateway itself lies in it", {"route", route});
    } else if (std::find(wanted.routes.begin(), wanted.routes.end(), route) == wanted.routes.end()) {
      wanted.routes.push_back(route);
    }
  };
  for (const Prefix& route : config_.vpn.routes) add_route(route);
  for (const Prefix& route : response.routes) add_route(route);
  wanted.sites = response.sites;
  PENSTOCK_TRY_VOID(around_.tunnel.configure(wanted));
  log::debug("interface configured", {{"address", response.assigned_ip}, {"mtu", wanted.mtu}});
  tunnel_settings_ = std::move(wanted);
  settings_ = response;
  return {};
}

void Client::drop_connection() {
  login_deadline_.cancel();
  connection_.reset();
}

// ---- losing and waiting ----

void Client::on_closed(const transport::Ending& ending) {
  std::string reason = ending.error.message;
  const bool was_connected = state_ == State::connected;
  if (const auto* refusal = connection_->refusal()) {
    heed_retry_after(*refusal);
    const Duration asked = not_before_[next_url_] - around_.loop.now();
    if (asked > Duration{}) reason += "; it asks to be left alone for " + in_seconds(asked);
  }
  drop_connection();
  counters_.dropped_not_connected += queue_.clear();
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
  not_before_[next_url_] = around_.loop.now() + std::min<Duration>(*asked, kLongestAskedWait);
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
  if (!read_tunnel()) return;
  pump();
  arm_tunnel();
}

// What waits in the interface stands in one line, where nothing overtakes. So it is emptied twice as fast as packets
// are sent, and they wait in the queue.
bool Client::read_tunnel() {
  auto read = around_.tunnel.read(from_tunnel_, kTunnelBatch, kTunnelBytes);
  if (!read) {
    if (failed_) failed_(std::move(read).error());
    return false;
  }
  if (state_ == State::connected) {
    const TimePoint now = around_.loop.now();
    for (Packet& packet : from_tunnel_) queue_.push(std::move(packet), now);
  } else {
    for (const Packet& packet : from_tunnel_) counters_.dropped_not_connected += segments_of(packet);
  }
  from_tunnel_.clear();
  return true;
}

void Client::pump() {
  for (int bursts = 0; state_ == State::connected && !queue_.empty() && connection_->writable(); ++bursts) {
    if (bursts == kBurstsPerTurn) {
      pump_again_.start({}, [this] { pump(); });
      break;
    }
    const std::size_t burst = connection_->burst();
    queue_.take(sending_, burst, burst, around_.loop.now());
    for (const Packet& packet : sending_) {
      counters_.up_packets += segments_of(packet);
      counters_.up_bytes += segmented_size_of(packet);
    }
    counters_.dropped_too_big += protocol::adapt(sending_, format_, scratch_);
    connection_->send_packets(sending_, format_);
    sending_.clear();
    if (!read_tunnel()) break;
  }
  count_losses();
}

void Client::count_losses() {
  const FlowQueue::Losses losses = queue_.take_losses();
  counters_.dropped_queue_full += losses.dropped_full;
  counters_.dropped_queue_delay += losses.dropped_aqm;
}

std::size_t Client::on_binary(MaskedView bytes) {
  if (state_ != State::connected) return 1;
  PENSTOCK_ASSERT(bytes.is_bare());  // a gateway masks nothing (RFC 6455 section 5.1), or the decoder has refused it
  if (format_.batches) return take_batch(bytes);
  if (bytes.empty() || bytes.size() > Packet::kMaxSize) {
    ++counters_.dropped_malformed;
  } else {
    take_packet(bytes.bytes(), {});
  }
  return 1;
}

std::size_t Client::take_batch(MaskedView message) {
  protocol::BatchReader reader(message);
  std::size_t packets = 0;
  while (const auto entry = reader.next()) {
    ++packets;
    const ByteView packet = entry->packet.bytes();
    const auto view = parse_ip(packet);
    if (view && check_offload(packet, *view, entry->offload)) {
      take_packet(packet, entry->offload);
    } else {
      ++counters_.dropped_malformed;
    }
  }
  if (reader.malformed()) ++counters_.dropped_malformed;
  return packets;
}

void Client::take_packet(ByteView bytes, const Offload& offload) {
  if (bytes.size() >= kWorthNoCopy) {
    on_turn_end();  // what came before it goes before it
    if (!to_tunnel_.waiting() && around_.tunnel.write_as_it_lies(bytes, offload)) {
      counters_.down_packets += segments_of(bytes, offload);
      counters_.down_bytes += segmented_size_of(bytes, offload);
      return;
    }
  }
  received_.push_back(Packet::copy_of(bytes));
  received_.back().offload = offload;
  if (received_.size() == kTunnelBatch) on_turn_end();
}

void Client::on_turn_end() {
  if (received_.empty()) return;
  for (const Packet& packet : received_) {
    counters_.down_packets += segments_of(packet);
    counters_.down_bytes += segmented_size_of(packet);
  }
  const GsoKinds takes = around_.tunnel.takes();
  coalescer_.set_kinds(takes);
  coalescer_.coalesce(received_);
  to_tunnel_.set_kinds(takes);
  for (Packet& packet : received_) to_tunnel_.write(std::move(packet));
  received_.clear();
}

void Client::write_now(Packet& packet) {
  const std::size_t segments = segments_of(packet);
  if (!around_.tunnel.write(packet)) counters_.dropped_interface += segments;
}

void Client::lost_waiting(const FlowQueue::Losses& losses) {
  counters_.dropped_queue_full += losses.dropped_full;
  counters_.dropped_queue_delay += losses.dropped_aqm;
}

Status Client::status() const {
  Status status = counters_;
  const TimePoint now = around_.loop.now();
  status.state = state_;
  status.gateway = config_.server.urls[next_url_].to_string();
  if (proxy_) status.proxy = proxy_->to_string();
  if (connection_) status.outer = connection_->peer();
  status.mtu = around_.tunnel.mtu();
  if (settings_) {
    status.address = settings_->assigned_ip;
    if (status.mtu >= kLeastIpv6Mtu) status.address6 = settings_->assigned_ip6;
    status.subnet = settings_->subnet;
    status.server_ip = settings_->server_ip;
  }
  if (state_ == State::connected) status.connected_for = now - connected_since_;
  if (state_ == State::waiting) status.retry_in = std::max(Duration{}, retry_at_ - now);
  return status;
}

}  // namespace penstock::client
