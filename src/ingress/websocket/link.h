// The transport connection of an admitted session: WebSocket messages to packets and back.
//
//   socket --> Connection --on_binary--> [ batch ] --turn's end--> router (source guard, routes)
//   socket <-- Connection <--send_packets-- pump() <--adapt-- <--take-- the session's queue <-- router
//
// Packets are taken from the session's queue only while the socket takes bytes, a burst at a time, so what waits stays
// in that bounded queue where it can be dropped fairly, and not in the kernel or in TLS records. Super-packets go out
// whole to a client that takes them, and as the packets that they stand for to any other (protocol/batch.h).
//
//   STARTED --session attached--> ATTACHED --end() or closed--> ENDED
//
// Ownership   the Door's. The session borrows it while attached.
// Threads     its Door's.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ingress/websocket/door.h"
#include "router/session.h"

namespace penstock::ingress {

class Link final : public transport::Connection::Handler, public router::SessionLink {
 public:
  // Packets that are gathered before the router gets them.
  static constexpr std::size_t kMaxBatch = 256;

  Link(Door& door, std::unique_ptr<transport::Connection> connection, session::Admission admission, Peer peer);
  ~Link();

  // Attaches to the session and tells the client; or, when the session is gone or a later link has it, closes.
  void start();
  // The gateway stops: close code 1001, and in words to those who understand them.
  void say_goodbye();

 private:
  void on_open() override {}
  void on_text(std::string_view text) override;
  std::size_t on_binary(MaskedView bytes) override;
  void on_pong() override { alive_seen(); }
  void on_turn_end() override;
  void on_writable() override { pump(); }
  void on_idle() override;
  void on_closed(const transport::Ending& ending) override;

  void packets_waiting() override;
  void end(std::string_view reason) override;
  void sites_changed() override;
  void probe(Duration patience, std::move_only_function<void(bool)> answer) override;

  protocol::AuthResponse response();
  router::Session* session();
  std::size_t take_batch(MaskedView message);
  void take_packet(MaskedView bytes, const Offload& offload);
  void pump();
  void alive_seen() {
    if (!probes_.empty()) answer_probes(true);
  }
  void answer_probes(bool alive);
  void close(std::uint16_t code, std::string_view reason);

  Door* door_;
  std::unique_ptr<transport::Connection> connection_;
  session::Admission admission_;
  Peer peer_;
  protocol::Format format_;  // what the client takes
  bool attached_ = false;
  bool pump_posted_ = false;
  PacketBatch received_;
  PacketBatch sending_;
  PacketBatch scratch_;
  std::vector<std::move_only_function<void(bool)>> probes_;  // all wait for the same sign of life
  Timer probe_deadline_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by the posted pump
};

}  // namespace penstock::ingress
