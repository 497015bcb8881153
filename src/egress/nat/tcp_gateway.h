// The part of SocketGateway that is TCP: connections that are ended here towards members, and go on as sockets of this
// machine.
//
//   Nat --> [packets from outer ends] --> TcpTerminator --> SocketStreams --> servers
//   Nat <-- [packets to outer ends] <---- TcpTerminator <-- SocketStreams <-- servers
//                                             ^-- ForwardListener <-- whoever connects to a forward
//
// Outer ends   are numbers of this table alone (numbered_ports.h), since the port that a server sees is its socket's
//              own; the outer address is the machine's. A forward's is real.
// Errors       of ICMP about packets that went to members, theirs and the router's, are told to the connection.
// Always true  a connection and its flow in the Nat end together: what the terminator ends is told by Inside::closed(),
//              what the Nat ends by ended().
// Threads      its loop's.
// Ownership    loop and Inside outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "base/random.h"
#include "egress/nat/external_gateway.h"
#include "egress/nat/numbered_ports.h"
#include "egress/tcp/forward_listener.h"
#include "egress/tcp/socket_streams.h"
#include "egress/tcp/tcp_terminator.h"

namespace penstock::egress {

class TcpGateway final : private TcpTerminator::Clients {
 public:
  struct Settings {
    SocketStreams::Settings streams;
    TcpTerminator::Settings terminator;
    std::vector<std::uint16_t> forwarded;  // ports of forwards, which are nobody's number
  };

  TcpGateway(EventLoop& loop, Random& random, const Settings& settings);
  ~TcpGateway();

  // Refusal: exhausted, no descriptor.
  Result<void> start(ExternalGateway::Inside& inside);
  // All connections are broken off.
  void stop();

  std::expected<Endpoint, NoPort> acquire(Family family, Binding binding);
  void release(const Endpoint& external, Binding binding);
  void ended(const Endpoint& external, const Endpoint& remote);
  void reached(std::span<const std::pair<Endpoint, Endpoint>> conversations);

  // A TCP packet from an outer end, or an ICMP error from one about what came to it; flush() after a batch of them.
  // False: neither.
  bool send(Packet&& packet, const IpView& view);
  void flush();
  void end_connections();

  void set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6);
  // How many sockets it may have from now on.
  void set_most_streams(std::size_t most);
  void open_forward(ForwardListener listener, Binding binding);
  void close_forward(Binding binding);

  // 0 before start().
  std::size_t streams() const { return streams_ ? streams_->streams() : 0; }
  const TcpTerminator* terminator() const { return terminator_.get(); }

 private:
  // Of an address that there are ends at, or will be.
  struct Numbers {
    IpAddress address;
    std::unique_ptr<NumberedPorts> ports;
    std::size_t given = 0;
  };
  Numbers& numbers_of(const IpAddress& address);

  void to_clients(PacketBatch& batch) override;
  std::size_t credit(const Endpoint& client) override;
  router::PortId wait_for_credit(const Endpoint& client, router::CreditWaiter& waiter) override;
  void cancel_wait(router::PortId port, router::CreditWaiter& waiter) override;
  void closed(const TcpEnds& ends) override;
  bool take_error(const Packet& packet, const IpView& view);

  EventLoop* loop_;
  Random* random_;
  Settings settings_;
  std::vector<Numbers> numbers_;
  ExternalGateway::Inside* inside_ = nullptr;
  std::unique_ptr<SocketStreams> streams_;
  std::unique_ptr<TcpTerminator> terminator_;                                        // before streams_ in destruction
  std::unordered_map<std::uint32_t, std::pair<Binding, ForwardListener>> forwards_;  // by the binding's index
};

}  // namespace penstock::egress
