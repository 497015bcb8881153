// Clients' TCP connections: queries in, several at a time, answers out as they come (RFC 7766).
//
//   add() --> READING <--too many queries wait, or too many bytes of answers do--> RESTING
//                |  \-- the peer has ended its side --> ANSWERING: what waits is still answered
//                '-- all answered after that, idle for Limits::idle, reset, no DNS, kMaxHeld, forget()
//                                                                                              --> CLOSED: on_closed
//
// Idle          is a connection in which for that long no whole query came and no answer went: one that trickles bytes
//               is, and so is one that does not fetch its answers.
// Too many      connections, in all or of one client: the new one is closed at once (RFC 7766 section 6.2.2).
// Always true   on_closed is called once for each stream, after which its number means nothing; numbers are never 0 and
//               never given twice. on_query runs in the turn of a socket or inside answer(), never inside add() or
//               forget().
// Bounds        a connection has kMaxWaiting queries in flight, one block and one query of up to kMaxQuery bytes in,
//               and it rests from kMaxUnsent bytes of answers on. Those that it waited for still come: one that holds
//               kMaxHeld bytes then is closed, for its peer fetches nothing.
// Ownership     the loop outlives it; it owns the sockets. A query lives during the call.
// Threads       the loop's.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "base/event_loop.h"
#include "dns/forwarder.h"
#include "net/stream_socket.h"

namespace penstock::dns {

class StreamClients {
 public:
  static constexpr std::size_t kMaxQuery = 4096;
  static constexpr std::size_t kMaxWaiting = 32;
  static constexpr std::size_t kMaxUnsent = std::size_t{64} * 1024;
  static constexpr std::size_t kMaxHeld = std::size_t{256} * 1024;

  struct Limits {
    std::size_t connections = 256;
    std::size_t of_client = 16;
    Duration idle = std::chrono::seconds(10);  // RFC 7766 section 6.2.3
  };
  struct Counters {
    std::uint64_t accepted = 0;
    std::uint64_t too_many = 0;  // closed at once
    std::uint64_t idle = 0;      // closed for that
    std::uint64_t broken = 0;    // reset, what came is no DNS, answers are not fetched
  };
  struct Events {
    // Whether it will be answered.
    std::function<bool(const ClientKey&, ByteView query)> on_query;
    std::function<void(std::uint64_t stream)> on_closed;
  };

  StreamClients(EventLoop& loop, const Limits& limits, Events events);
  // Closes all, without a word.
  ~StreamClients();
  StreamClients(const StreamClients&) = delete;
  StreamClients& operator=(const StreamClients&) = delete;

  // `client` is whose it is, ClientKey::client.
  void add(std::unique_ptr<net::StreamSocket> socket, std::uint64_t client);
  // To one of its queries. Streams that are closed are passed over.
  void answer(std::uint64_t stream, ByteView message);
  // Closes all connections of the client.
  void forget(std::uint64_t client);

  std::size_t open() const { return connections_.size(); }
  const Counters& counters() const { return counters_; }

 private:
  struct Connection;

  Connection* find(std::uint64_t stream);
  void on_readable(std::uint64_t stream);
  // Does all that can be done now, and waits for what cannot. The connection may be closed by it.
  void go_on(Connection& connection);
  void take_queries(Connection& connection);
  bool flush(Connection& connection);
  void break_off(Connection& connection);
  void start_idle(Connection& connection);
  void close(std::uint64_t stream);

  EventLoop* loop_;
  Limits limits_;
  Events events_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::unordered_map<std::uint64_t, std::size_t> of_client_;  // how many each has, at least 1
  std::uint64_t last_ = 0;
  Counters counters_;
};

}  // namespace penstock::dns
