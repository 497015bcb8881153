#include "transport/channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/digest.h"

namespace penstock::transport {
namespace {

std::unexpected<Error> violated(const websocket::Violation& violation) {
  return fail(ErrorCode::protocol_error, "the peer broke the WebSocket protocol (" +
                                             std::to_string(violation.close_code) + "): " + violation.reason);
}

}  // namespace

Channel::Channel(std::unique_ptr<tls::Engine> engine, websocket::Role role, std::size_t max_message, Random& random)
    : engine_(std::move(engine)), role_(role), random_(&random), decoder_(role, max_message) {}

Channel Channel::server(std::unique_ptr<tls::Engine> engine, std::string path, std::size_t max_message, Random& random,
                        UpgradeJudge judge) {
  Channel channel(std::move(engine), websocket::Role::server, max_message, random);
  channel.target_ = std::move(path);
  channel.request_ = std::make_unique<websocket::UpgradeParser>();
  channel.judge_ = std::move(judge);
  return channel;
}

Channel Channel::client(std::unique_ptr<tls::Engine> engine, std::string host, std::string target,
                        std::size_t max_message, Random& random) {
  Channel channel(std::move(engine), websocket::Role::client, max_message, random);
  channel.host_ = std::move(host);
  channel.target_ = std::move(target);
  std::array<std::uint8_t, 16> nonce{};
  random.fill(nonce);
  channel.key_ = base64_encode(nonce);
  channel.response_ = std::make_unique<websocket::ResponseParser>();
  return channel;
}

Result<void> Channel::start() {
  if (engine_ && role_ == websocket::Role::client) PENSTOCK_TRY_VOID(engine_->start());
  return advance();
}

Result<void> Channel::receive(ByteView bytes) {
  if (state_ == State::closed) return {};  // what comes after the end is of no interest
  if (engine_) {
    if (auto received = engine_->receive(bytes, plain_); !received) {
      state_ = State::closed;
      return received;
    }
    peer_closed_ = peer_closed_ || engine_->peer_closed();
  } else {
    plain_.append(bytes);
  }
  return advance();
}

// Moves on from SECURING and UPGRADING as far as the bytes at hand allow.
Result<void> Channel::advance() {
  if (state_ == State::securing && (!engine_ || engine_->state() == tls::Engine::State::open)) {
    state_ = State::upgrading;
    if (role_ == websocket::Role::client)
      PENSTOCK_TRY_VOID(send_plain(as_bytes(websocket::upgrade_request(host_, target_, key_))));
  }
  if (state_ == State::upgrading && !plain_.empty()) {
    if (auto upgraded = upgrade(); !upgraded) {
      if (engine_) engine_->close();
      state_ = State::closed;
      return upgraded;
    }
  }
  return {};
}

Result<void> Channel::upgrade() {
  if (role_ == websocket::Role::server) return answer_upgrade();
  auto response = response_->next(plain_);
  if (!response) return std::unexpected(response.error());
  if (!*response) return {};
  if (auto checked = websocket::check_response(**response, key_); !checked) {
    refusal_ = std::make_unique<websocket::UpgradeResponse>(**std::move(response));
    return checked;
  }
  response_.reset();
  state_ = State::open;
  return {};
}

Result<void> Channel::answer_upgrade() {
  auto request = request_->next(plain_);
  if (!request) return refuse_upgrade(request.error());
  if (!*request) return {};
  auto response = websocket::accept_upgrade(**request, target_);
  if (!response) return refuse_upgrade(response.error());
  if (judge_) {
    if (const auto instead = judge_(**request)) return refuse_upgrade(instead->refusal, instead->headers);
  }
  PENSTOCK_TRY_VOID(send_plain(as_bytes(*response)));
  request_.reset();
  judge_ = {};
  state_ = State::open;
  return {};
}

Result<void> Channel::refuse_upgrade(const websocket::HttpRefusal& refusal, const websocket::HttpHeaders& headers) {
  PENSTOCK_TRY_VOID(send_plain(as_bytes(websocket::http_response(refusal, headers))));
  return fail(ErrorCode::protocol_error,
              "no WebSocket upgrade: answered " + std::to_string(refusal.status) + " (" + refusal.reason + ")");
}

Result<std::optional<websocket::Message>> Channel::next() {
  if (state_ != State::open) return std::nullopt;
  auto message = decoder_.next(plain_);
  if (!message) {
    close(message.error().close_code, message.error().reason);
    return violated(message.error());
  }
  if (!*message) return std::nullopt;
  if ((*message)->kind == websocket::Opcode::close) {
    peer_closed_ = true;
    // RFC 6455 section 5.5.1: the same code goes back; 1005 ("none was given") never stands on the wire.
    close((*message)->close_code == 1005 ? 1000 : (*message)->close_code, "");
  }
  return message.value();
}

Result<void> Channel::send_plain(ByteView bytes) {
  if (engine_) return engine_->send(bytes);
  output_.append(bytes);
  return {};
}

Result<void> Channel::send_frame(websocket::Opcode opcode, ByteView payload) {
  if (state_ != State::open) return fail(ErrorCode::closed, "the connection is not open");
  websocket::append_frame(staging_, role_, opcode, payload, *random_);
  auto sent = send_plain(staging_.view());
  staging_.clear();
  return sent;
}

Result<void> Channel::send_text(std::string_view text) { return send_frame(websocket::Opcode::text, as_bytes(text)); }

Result<void> Channel::send_ping() { return send_frame(websocket::Opcode::ping, {}); }

Result<void> Channel::send_pong(ByteView payload) { return send_frame(websocket::Opcode::pong, payload); }

Result<void> Channel::send_packets(std::span<const Packet> packets, const protocol::Format& format) {
  if (state_ != State::open) return fail(ErrorCode::closed, "the connection is not open");
  while (!packets.empty()) {
    const protocol::Message message = protocol::next_message(packets, format);
    PENSTOCK_TRY_VOID(stage_message(packets.first(message.packets), message.bytes, format.batches));
    packets = packets.subspan(message.packets);
  }
  auto sent = send_plain(staging_.view());
  staging_.clear();
  return sent;
}

// One binary message of `bytes` payload.
Result<void> Channel::stage_message(std::span<const Packet> packets, std::size_t bytes, bool batches) {
  const bool masked = role_ == websocket::Role::client;
  Mask mask{.key = masked ? mask_keys_.next(*random_) : 0};
  std::array<std::uint8_t, websocket::kMaxFrameHeader> header;
  const std::size_t header_size =
      websocket::write_frame_header(header.data(), role_, websocket::Opcode::binary, bytes, mask.key);
  PENSTOCK_TRY_VOID(stage({header.data(), header_size}, nullptr));
  Mask* const payload_mask = masked ? &mask : nullptr;
  for (const Packet& packet : packets) {
    if (batches) {
      std::array<std::uint8_t, protocol::kEntryHeader> entry;
      protocol::write_entry_header(entry.data(), packet);
      PENSTOCK_TRY_VOID(stage(entry, payload_mask));
    }
    PENSTOCK_TRY_VOID(stage(packet.bytes(), payload_mask));
  }
  return {};
}

// A record's worth at a time, so that what is copied here is still in the nearest cache when it is encrypted.
Result<void> Channel::stage(ByteView bytes, Mask* mask) {
  while (!bytes.empty()) {
    const ByteView part = bytes.first(std::min(bytes.size(), tls::kMaxRecordPlaintext - staging_.size()));
    if (mask == nullptr) {
      staging_.append(part);
    } else {
      copy_masked(staging_.prepare(part.size()).data(), part, mask->key, mask->offset);
      staging_.commit(part.size());
      mask->offset += part.size();
    }
    bytes = bytes.subspan(part.size());
    if (staging_.size() < tls::kMaxRecordPlaintext) return {};
    auto sent = send_plain(staging_.view());
    staging_.clear();
    PENSTOCK_TRY_VOID(sent);
  }
  return {};
}

void Channel::close(std::uint16_t code, std::string_view reason) {
  if (state_ == State::open) {
    websocket::append_close(staging_, role_, code, reason, *random_);
    // A failure to say goodbye changes nothing: the conversation is over.
    (void)send_plain(staging_.view());
    staging_.clear();
  }
  if (engine_ && state_ != State::closed) engine_->close();
  state_ = State::closed;
}

void Channel::release_idle_memory() {
  plain_.shrink();
  if (output_.empty()) output_.release();
  staging_.release();
  if (engine_) {
    if (engine_->output().empty()) engine_->output().release();
    engine_->release_idle_memory();
  }
}

}  // namespace penstock::transport
