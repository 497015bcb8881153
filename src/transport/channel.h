// One conversation of WebSocket over TLS as a function from bytes to messages and back: no socket, no clock.
//
//   network --receive()--> [ TLS -> HTTP upgrade -> frames ] --next()--> messages
//   network <--output()--- [ TLS <- HTTP upgrade <- frames ] <--send_*-- messages
//
//   SECURING --TLS done--> UPGRADING --101--> OPEN --close sent or received--> CLOSED
//
// The same class serves both ends; a server answers the upgrade itself, so its owner sees nothing before OPEN but,
// where it wants to, the valid request that is about to be accepted (UpgradeJudge). Without a TLS engine (TLS ended by
// somebody in front, or a test) it begins in UPGRADING.
//
// Always true   a refused Channel stays refused; output() may then still hold the words that explain it to the peer
//               (an alert, an HTTP error page, a close frame), which the owner sends before it hangs up.
// Ownership     a view from next() is good until the next call of next() or receive().
// Threads       one at a time; may be handed to another loop between calls.
// Bounds        what receive() keeps is at most one incomplete frame (max_message and its header); messages are bounded
//               by the decoder. output() grows with what the owner sends: it looks at output_size() first.
// Not here      deadlines, keepalive, sockets (connection.h); what the messages mean (protocol/).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/random.h"
#include "base/result.h"
#include "packet/packet.h"
#include "protocol/batch.h"
#include "tls/engine.h"
#include "websocket/frame.h"
#include "websocket/upgrade.h"

namespace penstock::transport {

// What a valid upgrade is answered instead of a 101, with further header fields (Retry-After).
struct UpgradeRefusal {
  websocket::HttpRefusal refusal;
  websocket::HttpHeaders headers;
};
// Nothing: let it pass.
using UpgradeJudge = std::move_only_function<std::optional<UpgradeRefusal>(const websocket::UpgradeRequest&)>;

class Channel {
 public:
  enum class State : std::uint8_t { securing, upgrading, open, closed };

  // A server's end: accepts an upgrade on `path` that `judge`, if there is one, lets pass; answers anything else with a
  // small error page. The judge is asked inside receive(), at most once.
  static Channel server(std::unique_ptr<tls::Engine> engine, std::string path, std::size_t max_message, Random& random,
                        UpgradeJudge judge = {});
  // A client's end: `host` is the Host header ("gateway.example:8443"), `target` the path and query.
  static Channel client(std::unique_ptr<tls::Engine> engine, std::string host, std::string target,
                        std::size_t max_message, Random& random);

  // A client's first bytes go into output(); a server has none.
  Result<void> start();
  // Bytes from the network, all of them. Refusal: what the peer broke, in words.
  Result<void> receive(ByteView bytes);
  // The next whole message, or nullopt when more bytes are needed. Pings are the owner's to answer. Refusal: as
  // receive(); a close frame with the right code is in output().
  Result<std::optional<websocket::Message>> next();

  // All of these only while open.
  Result<void> send_text(std::string_view text);
  // As few binary messages as `format` allows (all of it adapted to that: protocol/batch.h), and as few TLS records as
  // hold them.
  Result<void> send_packets(std::span<const Packet> packets, const protocol::Format& format);
  Result<void> send_ping();
  Result<void> send_pong(ByteView payload);
  // Sends a close frame and the TLS close; nothing can be sent afterwards. In any other state: only what fits.
  void close(std::uint16_t code, std::string_view reason);

  // Bytes for the network; the owner sends and consumes them.
  ByteQueue& output() { return engine_ ? engine_->output() : output_; }
  std::size_t output_size() const { return engine_ ? engine_->output().size() : output_.size(); }
  State state() const { return state_; }
  // The peer ended its side in an orderly way (close frame or TLS close_notify).
  bool peer_closed() const { return peer_closed_; }
  // A client's: the answer that was no upgrade, where it got one.
  const websocket::UpgradeResponse* refusal() const { return refusal_.get(); }
  void set_max_message(std::size_t bytes) { decoder_.set_max_message(bytes); }
  // "TLSv1.3 TLS_AES_128_GCM_SHA256", or "plain".
  std::string description() const { return engine_ ? engine_->description() : "plain"; }
  // Gives back the buffers of an idle conversation; they come again when they are needed.
  void release_idle_memory();

 private:
  Channel(std::unique_ptr<tls::Engine> engine, websocket::Role role, std::size_t max_message, Random& random);
  Result<void> advance();
  Result<void> upgrade();
  Result<void> answer_upgrade();
  Result<void> refuse_upgrade(const websocket::HttpRefusal& refusal, const websocket::HttpHeaders& headers = {});
  Result<void> send_plain(ByteView bytes);
  Result<void> send_frame(websocket::Opcode opcode, ByteView payload);
  struct Mask {
    std::uint32_t key;
    std::size_t offset = 0;  // into the payload
  };
  Result<void> stage_message(std::span<const Packet> packets, std::size_t bytes, bool batches);
  Result<void> stage(ByteView bytes, Mask* mask);

  std::unique_ptr<tls::Engine> engine_;
  websocket::Role role_;
  Random* random_;
  State state_ = State::securing;
  bool peer_closed_ = false;
  std::string host_;    // client
  std::string target_;  // the path: asked for (client) or served (server)
  std::string key_;     // client: Sec-WebSocket-Key
  std::unique_ptr<websocket::UpgradeResponse> refusal_;
  // Only while upgrading.
  std::unique_ptr<websocket::UpgradeParser> request_;
  std::unique_ptr<websocket::ResponseParser> response_;
  UpgradeJudge judge_;
  websocket::MessageDecoder decoder_;
  websocket::MaskKeys mask_keys_;
  ByteQueue plain_;    // decrypted, not yet decoded
  ByteQueue staging_;  // frames on their way into TLS records; empty between two calls
  ByteQueue output_;   // only without an engine
};

}  // namespace penstock::transport
