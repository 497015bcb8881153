#include "ingress/websocket/link.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "base/log.h"
#include "ingress/websocket/handshake_limiter.h"
#include "packet/super_packet.h"

namespace penstock::ingress {
namespace {

// RFC 6455 section 7.4.1.
constexpr std::uint16_t kGoingAway = 1001;
constexpr std::uint16_t kPolicy = 1008;
constexpr std::uint16_t kTooBig = 1009;

// Batches of up to so many packets are kept by an idle link.
constexpr std::size_t kKeptBatch = 4;

// What no packet to the client may exceed, its max_packet included: what the router refuses is answered, and what
// adapt() drops vanishes without a word.
std::uint32_t mtu_of(const protocol::Receive& receive, std::uint32_t ours) {
  return std::min({receive.mtu, receive.max_packet, ours});
}

// How many packets it stands for, if what is said of it is true.
std::size_t packets_in(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  return view && check_offload(packet.bytes(), *view, packet.offload) ? segments_of(packet) : 1;
}

}  // namespace

Link::Link(Door& door, std::unique_ptr<transport::Connection> connection, session::Admission admission, Peer peer)
    : door_(&door),
      connection_(std::move(connection)),
      admission_(std::move(admission)),
      peer_(std::move(peer)),
      format_(protocol::format_of(peer_.receive)),
      probe_deadline_(door.shard_->loop()) {}

Link::~Link() { *alive_ = false; }

router::Session* Link::session() { return attached_ ? door_->shard_->session(admission_.port) : nullptr; }

void Link::start() {
  connection_->set_max_message(format_.batches ? Door::kMaxBatch : Door::kMaxMessage);
  connection_->set_max_waiting(door_->settings_->queue_messages);
  connection_->resume(door_->shard_->loop(), door_->buffer_, door_->settings_->timing, *this);
  router::Session* session = door_->shard_->session(admission_.port);
  attached_ = session != nullptr && session->attach(*this, admission_.attachment, admission_.to_old_link);
  if (!attached_) return connection_->close(kPolicy, "the session was ended");
  session->set_mtu(peer_.receive ? mtu_of(*peer_.receive, door_->settings_->welcome.mtu) : Packet::kMaxSize);
  connection_->send_text(protocol::to_json(response()));
  door_->registry_->attached(admission_.session);
}

protocol::AuthResponse Link::response() {
  protocol::AuthResponse response = door_->settings_->welcome;
  response.success = true;
  response.assigned_ip = admission_.address;
  if (peer_.software.empty()) {
    // A plain v1 client gets the fields of v1 and no others.
    return {.success = true,
            .assigned_ip = response.assigned_ip,
            .subnet = response.subnet,
            .server_ip = response.server_ip,
            .mtu = response.mtu};
  }
  response.assigned_ip6 = admission_.address6;
  response.lease = admission_.lease;
  if (!peer_.receive) response.receive.reset();
  response.resumed = admission_.resumed;
  // The subnets behind others are to be sent here; its own it has.
  response.sites = session()->sites();
  for (const Prefix& site : door_->shard_->sites())
    if (std::ranges::find(response.sites, site) == response.sites.end()) response.routes.push_back(site);
  return response;
}

void Link::sites_changed() {
  if (peer_.software.empty()) return;
  protocol::AuthResponse now = response();
  connection_->send_text(protocol::to_json(protocol::ConfigEvent{.routes = std::move(now.routes),
                                                                 .exclude = std::move(now.exclude),
                                                                 .dns = std::move(now.dns),
                                                                 .sites = std::move(now.sites)}));
}

void Link::on_text(std::string_view text) {
  alive_seen();
  if (text.size() > Door::kMaxControlMessage) return close(kTooBig, "a control message is too large");
  const auto message = protocol::parse_control(text);
  if (!message) {
    connection_->send_text(protocol::to_json(protocol::ErrorMessage{message.error().message}));
  } else if (std::holds_alternative<protocol::Ping>(*message)) {
    connection_->send_text(protocol::to_json(protocol::Pong{}));
  } else if (std::holds_alternative<protocol::Auth>(*message) ||
             std::holds_alternative<protocol::Reconnect>(*message)) {
    connection_->send_text(protocol::to_json(protocol::ErrorMessage{"this connection is logged in already"}));
  }
  // The rest (pong, error, what only a server says) asks for no answer.
}

std::size_t Link::on_binary(MaskedView bytes) {
  alive_seen();
  if (format_.batches) return take_batch(bytes);
  if (bytes.size() > Packet::kMaxSize) {
    door_->shard_->router().drops().count(router::Drop::malformed);
  } else {
    take_packet(bytes, {});
  }
  return 1;
}

// What is said of the packets is for the router to believe or not.
std::size_t Link::take_batch(MaskedView message) {
  protocol::BatchReader reader(message);
  std::size_t packets = 0;
  for (; const auto entry = reader.next(); ++packets) take_packet(entry->packet, entry->offload);
  if (reader.malformed()) door_->shard_->router().drops().count(router::Drop::malformed);
  return packets;
}

void Link::take_packet(MaskedView bytes, const Offload& offload) {
  received_.push_back(Packet::copy_of(bytes));
  received_.back().offload = offload;
  if (received_.size() == kMaxBatch) on_turn_end();
}

void Link::on_turn_end() {
  if (received_.empty()) return;
  if (router::Session* session = this->session()) {
    door_->shard_->router().from_session(*session, received_);
  } else {
    for (const Packet& packet : received_)
      door_->shard_->router().drops().count(router::Drop::session_gone, packets_in(packet));
    received_.clear();
  }
}

void Link::on_idle() {
  for (PacketBatch* batch : {&received_, &sending_, &scratch_}) {
    if (batch->empty() && batch->capacity() > kKeptBatch) PacketBatch().swap(*batch);
  }
  if (router::Session* session = this->session()) session->release_idle_memory();
}

void Link::packets_waiting() {
  if (std::exchange(pump_posted_, true)) return;
  door_->shard_->loop().post([this, alive = alive_] {
    if (!*alive) return;
    pump_posted_ = false;
    pump();
  });
}

void Link::pump() {
  router::Session* session = this->session();
  if (session != nullptr && session->has_packets() && connection_->writable()) {
    const std::size_t burst = connection_->burst();
    session->take(sending_, burst, burst);
    const std::size_t too_big = protocol::adapt(sending_, format_, scratch_);
    if (too_big != 0) door_->shard_->router().drops().count(router::Drop::too_big, too_big);
    connection_->send_packets(sending_, format_);
    sending_.clear();
    // The next burst after all else that this loop has to do: other sessions, and the exits' devices.
    if (session->has_packets() && connection_->writable()) packets_waiting();
  }
}

void Link::probe(Duration patience, std::move_only_function<void(bool)> answer) {
  probes_.push_back(std::move(answer));
  connection_->send_ping();
  if (!probe_deadline_.running()) probe_deadline_.start(patience, [this] { answer_probes(false); });
}

void Link::answer_probes(bool alive) {
  probe_deadline_.cancel();
  for (auto& answer : std::exchange(probes_, {})) answer(alive);
}

// The session has another link, or none any more; this one has nothing to report.
void Link::end(std::string_view reason) {
  attached_ = false;
  close(kPolicy, reason);
}

void Link::say_goodbye() { close(kGoingAway, "the gateway is shutting down"); }

void Link::close(std::uint16_t code, std::string_view reason) {
  if (!peer_.software.empty())
    connection_->send_text(protocol::to_json(protocol::Goodbye{.reason = std::string(reason)}));
  connection_->close(code, reason);
}

void Link::on_closed(const transport::Ending& ending) {
  if (ending.error.code == ErrorCode::exhausted) door_->limiter_->count(Limit::queue_messages);
  answer_probes(false);
  if (router::Session* session = this->session()) {
    session->detach();
    log::debug("link closed", {{"session", admission_.session.slot}, {"reason", ending.error.message}});
  }
  attached_ = false;
  door_->registry_->detached(admission_.session, admission_.attachment, ending.error.message);
  door_->remove(*this);
}

}  // namespace penstock::ingress
