// The sockets by which the forwarder asks its servers: one for each exchange, and closed with it.
//
//   send() -------> a UDP socket, bound to a fresh port --when readable--> on_reply, as often as something comes
//                                                       --ICMP error-----> on_failed
//   send_stream() -> CONNECTING --> WRITING --> READING --a whole message--> on_reply
//                        +------------+------------+-- refused, reset, ended, no DNS --> on_failed
//   close() ------> closed at once
//
// The port of chance   is the system's: Linux draws it anew for each socket out of ip_local_port_range (28 232 of them
//               by default), knows which are taken and leaves those alone that ip_local_reserved_ports keeps for
//               somebody. Drawn here it could be out of more, and now and then would be the one that another program
//               of this machine is about to listen on. With the id and the case of the name (upstream_query.h) there is
//               enough to guess. The source address is what the system's routes make of the server's; a socket is of
//               the server's family.
// Errors        ICMP errors end an exchange, but not "too big": whoever may say of a query that it is refused must know
//               its port. Replies that wait are read before errors are.
// Always true   no callback runs inside send(), send_stream() or close(), nor about an exchange after close() or
//               on_failed; each descriptor belongs to an open exchange.
// Bounds        kMaxSockets in all, kMaxStreams of them TCP, each of which holds at most one message and its length,
//               beside a block that was just read. How long an exchange lives is the forwarder's to say.
// Ownership     the loop outlives it. Bytes given out are valid during the call.
// Threads       the loop's.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "base/event_loop.h"
#include "dns/forwarder.h"
#include "net/connect.h"
#include "net/datagram_arena.h"
#include "net/tcp.h"

namespace penstock::dns {

class UpstreamSockets final : public Upstream {
 public:
  static constexpr std::size_t kMaxSockets = 1024;
  static constexpr std::size_t kMaxStreams = 128;

  // What is told of exchanges: Forwarder::on_reply and on_failed.
  struct Events {
    std::function<void(Exchange, const Endpoint& from, ByteView reply)> on_reply;
    std::function<void(Exchange)> on_failed;
  };
  // Whether anything may be sent there by that protocol (kProtocolUdp, kProtocolTcp). None: everything may.
  using MaySend = std::function<bool(std::uint8_t protocol, const Endpoint& to)>;
  struct Counters {
    std::uint64_t forbidden = 0;  // by MaySend
    std::uint64_t no_socket = 0;  // too many are open, or the system had none
    std::uint64_t refused = 0;    // the system would not send or connect, or ICMP said no
  };

  UpstreamSockets(EventLoop& loop, Events events, MaySend may_send = {});
  ~UpstreamSockets() override;

  bool send(const Endpoint& server, ByteView query, Exchange exchange) override;
  bool send_stream(const Endpoint& server, ByteView query, Exchange exchange) override;
  void close(Exchange exchange) override;

  std::size_t open() const { return datagrams_.size() + streams_.size(); }
  const Counters& counters() const { return counters_; }

 private:
  struct Datagrams;
  struct Stream;

  bool admit(std::uint8_t protocol, const Endpoint& server);
  void read_datagrams(Exchange exchange);
  void connected(Exchange exchange, Result<std::unique_ptr<net::StreamSocket>> socket);
  void write(Exchange exchange);
  void read(Exchange exchange);
  void fail(Exchange exchange);

  EventLoop* loop_;
  Events events_;
  MaySend may_send_;
  net::TcpSocketFactory dialler_;
  net::DatagramArena arena_;
  std::unordered_map<Exchange, std::unique_ptr<Datagrams>> datagrams_;
  std::unordered_map<Exchange, std::unique_ptr<Stream>> streams_;
  Counters counters_;
};

}  // namespace penstock::dns
