// One client of the swarm: a real connection by TLS and WebSocket, without a tunnel and without a will of its own.
//
//   CONNECTING --TLS, upgrade--> LOGGING_IN --auth_response--> READY --closed--> GONE
//
// Ownership   the Swarm's, which outlives it.
// Threads     the swarm's loop.
#pragma once

#include <memory>
#include <string>

#include "base/ip.h"
#include "net/stream_socket.h"
#include "packet/packet.h"
#include "transport/connection.h"

namespace penstock::bench {

class Swarm;

class Member final : public transport::Connection::Handler {
 public:
  Member(Swarm& swarm, std::size_t index) : swarm_(&swarm), index_(index) {}

  // From `source`, any port. False, with errno, where the system has no socket for it.
  bool connect(const IpAddress& source, const Endpoint& gateway);
  bool ready() const { return ready_; }
  std::size_t index() const { return index_; }
  const IpAddress& address() const { return address_; }

  // Packets of one flow that wait until the turn that makes them is over, so that they leave together.
  void queue(Packet packet);
  void send_queued();

 private:
  void on_open() override;
  void on_text(std::string_view text) override;
  std::size_t on_binary(MaskedView bytes) override;
  void on_turn_end() override;
  void on_closed(const transport::Ending& ending) override;

  Swarm* swarm_;
  std::size_t index_;
  std::unique_ptr<transport::Connection> connection_;
  IpAddress address_;
  bool ready_ = false;
  PacketBatch queued_;
};

}  // namespace penstock::bench
