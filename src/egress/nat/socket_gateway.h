// The outside as sockets of this machine: a UDP socket for each mapped port, a ping socket for each mapped identifier,
// a TCP socket for each connection (tcp_gateway.h).
// It takes no privilege, no route and no rule; to its machine the gateway is a program like any other.
//
//   Nat --acquire()--> a socket is bound: its port is the outer end          release() --> it is closed
//   out: packet --> payload, hop limit, traffic class, DF --> sendmmsg, whole super-packets
//   in:  recvmmsg --> payload --> packet to the outer end --> Inside
//   TCP: ended here, and goes on as a stream
//   ICMP errors that the system keeps for a socket --> ICMP errors to the outer end --> Inside; so are refusals of
//   the system itself (too big, no route, forbidden)
//
// Fullness    a socket that is full drops what is sent to it, and counts it: where UDP meets a queue it loses. What
//             comes in is read as it comes; a client that is slower has a fair queue, which decides better than the
//             order of arrival in a socket's buffer would. But a turn of the loop reads no more than kSegmentsPerTurn
//             and kBytesPerTurn, of all sockets together: more would only wait behind a device or be dropped there,
//             after all the work. Sockets that find nothing left of it come first in the next turn, in their order.
// Memory      for each mapping its socket: about 90 bytes here, and what net/udp_socket.h says.
// Threads     its loop's.
// Ownership   the loop and Inside outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/random.h"
#include "egress/nat/external_gateway.h"
#include "egress/nat/tcp_gateway.h"
#include "net/ping_socket.h"
#include "net/udp_socket.h"

namespace penstock::egress {

class SocketGateway final : public ExternalGateway, public ExternalPorts {
 public:
  // What one turn of the loop reads; the last read may exceed it.
  static constexpr std::size_t kSegmentsPerTurn = 512;
  static constexpr std::size_t kBytesPerTurn = 512 * 1024;

  struct Settings {
    // The addresses of this machine that sockets are bound to; a family without one has no outside.
    std::optional<IpAddress> external4;
    std::optional<IpAddress> external6;
    net::UdpOptions udp;
    // Asked once more of each packet, right before it is sent; none: all may go.
    std::function<bool(std::uint8_t protocol, const IpAddress& to, std::uint16_t port)> may_send;
    std::size_t most_sockets = 16'384;         // of all kinds; each takes a descriptor and a port of the machine
    std::vector<std::uint16_t> forwarded_tcp;  // the ports of forwards
    SocketStreams::PeekOffset peek_offset = SocketStreams::PeekOffset::automatic;
    TcpTerminator::Settings tcp{};
  };
  struct Counters {
    std::uint64_t full = 0;       // packets that a socket had no room for
    std::uint64_t refused = 0;    // packets that the system would not send, or that no socket can (ICMP errors)
    std::uint64_t forbidden = 0;  // by Settings::may_send
    std::uint64_t malformed = 0;  // with a bad length or checksum, which a socket would make good
    std::uint64_t no_socket = 0;  // ends that the system would not give
    std::uint64_t closed = 0;     // packets whose mapping has gone meanwhile
  };

  SocketGateway(EventLoop& loop, Random& random, const Settings& settings);
  ~SocketGateway() override;

  Result<void> start(Inside& inside) override;
  void send_outbound(std::vector<OutboundPacket>& batch) override;
  void reached(std::span<const std::pair<Endpoint, Endpoint>> conversations) override { tcp_.reached(conversations); }
  void end_connections() override { tcp_.end_connections(); }
  // Ends keep their ports; nothing goes in or out.
  void stop() override {
    inside_ = nullptr;
    tcp_.stop();
  }

  std::expected<Endpoint, NoPort> acquire(Transport transport, Family family, Binding binding) override;
  void release(Transport transport, const Endpoint& external, Binding binding) override;
  void ended(Transport transport, const Endpoint& external, const Endpoint& remote) override;

  // Where ends that are acquired from now on are bound.
  void set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6);
  // The port of a forward, which is configured and stays until it is closed.
  void open_forward(net::UdpSocket socket, Binding binding);
  void open_forward(ForwardListener listener, Binding binding) { tcp_.open_forward(std::move(listener), binding); }
  void close_forward(Transport transport, Binding binding);

  const Counters& counters() const { return counters_; }
  const Settings& settings() const { return settings_; }
  std::size_t sockets() const { return count_ + tcp_.streams(); }
  // Null before start().
  const TcpTerminator* tcp() const { return tcp_.terminator(); }

 private:
  struct End;

  static TcpGateway::Settings tcp_settings(const Settings& settings);
  void put(Binding binding, std::unique_ptr<End> end);
  void share_sockets();
  void close(Binding binding);
  bool send_tcp(std::span<OutboundPacket> run);
  void send_run(End& end, std::span<OutboundPacket> run);
  void read_turn(std::uint32_t index);
  bool may_read() const { return segments_left_ != 0 && bytes_left_ != 0; }
  std::size_t slots_for_what_is_left() const;
  void spend(std::size_t segments, std::size_t bytes);
  void next_turn();
  void read_errors(End& end);
  bool may_send(const IpView& view, const TranslationView& at) const;
  void tell(const OutboundPacket& packet, const net::Refusal& refusal);
  void arm(std::uint32_t index);
  void deliver();
  End* end_of(Binding binding);

  EventLoop* loop_;
  Settings settings_;
  Inside* inside_ = nullptr;
  TcpGateway tcp_;
  net::DatagramArena arena_;
  std::vector<std::unique_ptr<End>> ends_;  // by the binding's index
  std::size_t count_ = 0;
  std::vector<net::Outgoing> outgoing_;
  PacketBatch arrived_;
  PacketBatch spare_;
  std::uint16_t identification_ = 0;
  std::size_t segments_left_ = kSegmentsPerTurn;  // to be read in this turn
  std::size_t bytes_left_ = kBytesPerTurn;
  std::size_t usual_segments_ = 1;  // of a message of the last read
  std::size_t usual_bytes_ = 1;
  bool turn_posted_ = false;
  std::vector<Binding> waiting_;  // for the next turn: readable, and not armed
  std::vector<Binding> resumed_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by the posted turn
  Counters counters_;
};

}  // namespace penstock::egress
