// TCP that ends here on its way from a client to a server: one connection towards the client, spoken by this code in
// packets, and one towards the server, a socket of this machine.
//
//   client --packets--> [ TcpTerminator ] --bytes--> HostStreams --> server
//   client <--packets-- [ TcpTerminator ] <--bytes-- HostStreams <-- server
//
// To the client it is the server, to the server it is a program of this machine. What a single connection does, and how
// long it waits for what, stands in tcp_connection.h; here they are found, touched and taken away.
//
// Batches     from_client(), ready() and the others change state only; flush() then does for each connection that was
//             touched what follows: one write, one consume, one peek, packets of up to 64 KiB, one acknowledgement. Who
//             has more to send than kBytesATurn goes on in a later turn of the loop.
// Re-entry    Clients may call back from_client() and flush() from to_clients(): a flush() inside of a flush() leaves
//             the work to the one outside.
// Order       a connection's last packets are delivered before closed() is told.
// Bounds      Settings. Where there are most_connections, one that waits out its time makes room; else a SYN is told
//             that the network is unreachable.
// Memory      some 650 bytes a connection, nothing besides while it is idle; 16 KiB for all timers, 256 KiB to peek
// into. Cost        a keyed hash for each packet, and for each connection that is touched in a batch its system calls.
// Nothing
//             is allocated for packets but their buffers.
// Threads     its loop's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/random.h"
#include "egress/tcp/host_streams.h"
#include "packet/icmp.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/port.h"
#include "router/port_id.h"

namespace penstock::egress {

// The ends of a connection, as the packets between client and terminator name them. Of one family.
struct TcpEnds {
  Endpoint client{};
  Endpoint server{};
  friend constexpr bool operator==(const TcpEnds&, const TcpEnds&) = default;
};

class TcpTerminator final : private HostStreams::Events {
 public:
  class Clients {
   public:
    // Packets to clients, from servers; leaves `batch` empty. May call back from_client() inside.
    virtual void to_clients(PacketBatch& batch) = 0;
    // What may be sent to this client now without a loss in a queue of ours, in bytes of Packet::footprint(); SIZE_MAX
    // where no such queue is known.
    virtual std::size_t credit(const Endpoint& client) = 0;
    // `waiter` is told once there is credit again; at once, in a later turn, or never where the client is gone. The
    // name of where it waits, for cancel_wait().
    virtual router::PortId wait_for_credit(const Endpoint& client, router::CreditWaiter& waiter) = 0;
    virtual void cancel_wait(router::PortId port, router::CreditWaiter& waiter) = 0;
    // Nothing is left of this connection. Not told of what abort() ended.
    virtual void closed(const TcpEnds& ends) = 0;

   protected:
    ~Clients() = default;
  };

  struct Settings {
    std::size_t most_connections = 65'536;  // all together, those that wait out their time included
    std::size_t most_from_outside = 4096;   // of these: strangers shall not take what clients need
    std::size_t most_time_wait = 4096;      // the oldest makes room
    // Of clients' data that servers' sockets have no room for, in memory: of all, and of one client (Packet::source).
    // Beyond it a connection takes what is next alone, and little of that.
    std::size_t held_bytes = std::size_t{256} << 20;
    std::size_t held_bytes_of_client = std::size_t{16} << 20;
    Duration keepalive = std::chrono::hours(2);  // of silence, until the client is asked whether it lives
  };
  struct Counters {
    std::uint64_t opened = 0;     // by clients
    std::uint64_t accepted = 0;   // from outside
    std::uint64_t refused = 0;    // outside said no at once: refused, unreachable, prohibited
    std::uint64_t timed_out = 0;  // nobody answered outside, or the client no more
    std::uint64_t reset_by_client = 0;
    std::uint64_t reset_by_server = 0;
    std::uint64_t exhausted = 0;      // no socket could be had, or too many connections
    std::uint64_t malformed = 0;      // segments with bad checksums or headers
    std::uint64_t out_of_window = 0;  // segments that are none of the connection's now
    std::uint64_t no_connection = 0;  // segments of none; they were answered with RST
    std::uint64_t retransmitted = 0;  // segments
  };

  // `loop`, `random`, `streams` and `clients` outlive it.
  TcpTerminator(EventLoop& loop, Random& random, const Settings& settings, HostStreams& streams, Clients& clients);
  ~TcpTerminator();

  // Whom `streams` tells.
  HostStreams::Events& events() { return *this; }

  // A TCP packet from a client to a server, which parse_ip() believed as `view`, a super-packet that check_offload()
  // believed. What follows from it is done by flush(), once a batch.
  void from_client(Packet&& packet, const IpView& view);
  void flush();
  // A client or a router on the way to it says that the segment with `sequence` did not arrive. `mtu` 0: it is not
  // reachable, else the largest packet that passes.
  void undeliverable(const TcpEnds& ends, std::uint32_t sequence, std::uint32_t mtu);
  // A stream that came in from outside and is connected; the client is asked whether it takes it. False, and the stream
  // is closed, where there is no room or such a connection is there already.
  bool open(const TcpEnds& ends, HostStreams::Stream stream);
  // The client was away and is back: what was sent in vain goes again at once, with flush().
  void reached(const TcpEnds& ends);
  // Breaks off all of them, and both ends are told.
  void end_all();
  // Breaks it off without a word to the client, if there is such a one.
  void abort(const TcpEnds& ends);

  std::size_t connections() const;
  // Timers that will do something; 0 where nothing is left.
  std::size_t timers() const;
  // Of its own, besides packets.
  std::size_t memory() const;
  const Counters& counters() const;

 private:
  void ready(std::uint64_t cookie, Ready what) override;
  void turn_ends() override;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::egress
