// Drives one Channel over one socket on one event loop: reads, writes, deadlines, the end.
//
//   OPENING --upgrade done--> OPEN --close()/peer/failure--> CLOSING --flushed, or 2 s--> CLOSED
//
// The owner is told of messages through Handler and sends through the send functions, which write at once as far as the
// socket takes it. The rest waits in the channel's output; while anything waits there, writable() is false and packets
// belong in the owner's queue (bounded, fair), not here. on_writable() says when there is room again.
//
// Liveness      Nothing received for `silence_limit`, or output that makes no progress for as long: dead. A WebSocket
//               ping goes out every `ping_interval`, so that a healthy peer is never silent.
// Always true   on_closed is called exactly once, last, and never inside a call of the owner's.
// Bounds        A peer that asks and never reads cannot grow memory: with kMaxBacklog bytes, or
//               set_max_waiting() control messages, waiting to be sent, the next one ends the connection (1008), and so
//               does TLS if its own answers pile up to twice as much. Of pings only the latest waits for its pong (RFC
//               6455 section 5.5.3).
// Fairness      One turn reads and delivers only so much; the rest waits for the next, after the loop's other work. A
//               peer that floods its loop with small messages, or with many packets in each, gets its share of the
//               thread and no more.
// Slow ways     Encrypted bytes cannot be reordered or dropped any more, so there are never more of them, here
//               and unsent in the system, than the way takes in a few milliseconds (burst()); all else waits in the
//               owner's queue.
// Memory        Buffers (TLS records, frames: 35 KB, in a transfer ten times that) stay from one turn to the next with
//               WarmPlaces::kPlaces connections of a loop at most, those that are busy; all others give them back after
//               each turn. So ten thousand sessions, idle or not, hold a few megabytes of them, and a few in transfer
//               allocate nothing. Without packets between two pings a connection gives them back too.
// Ownership     The Connection owns socket and channel. Destroying it closes the socket without another callback. From
//               inside a callback of Handler it may be destroyed in on_closed only.
// Threads       Its loop's only. detach() and resume() take it to another one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "net/stream_socket.h"
#include "transport/channel.h"

namespace penstock::transport {

class Connection;

// The places of those connections of a loop that keep their buffers from one turn to the next. A place is held as long
// as its holder is busy; newcomers look at one place after the other for one that is free or was not used for a while.
class WarmPlaces {
 public:
  static constexpr std::size_t kPlaces = 64;
  static constexpr Duration kPatience = std::chrono::seconds(1);
  struct Place {
    Connection* holder = nullptr;
    TimePoint used;
  };
  Place& next() { return places_[++looked_at_ % kPlaces]; }

 private:
  std::array<Place, kPlaces> places_;
  std::size_t looked_at_ = 0;
};

// What all connections of one loop share.
struct ReadBuffer {
  static constexpr std::size_t kSize = 128 * 1024;
  std::unique_ptr<std::uint8_t[]> bytes{new std::uint8_t[kSize]};  // what sockets are read into
  WarmPlaces warm;
};

// How a connection ended, for logs and for the decision what to do next.
struct Ending {
  Error error;                   // what happened, in words; exhausted: the peer did not read what it asked for
  std::uint16_t close_code = 0;  // the WebSocket close code the peer sent; 0: none
};

class Connection {
 public:
  static constexpr std::size_t kMaxBacklog = 256 * 1024;
  static constexpr std::uint32_t kMaxWaiting = 256;
  static constexpr Duration kBurstTime = std::chrono::milliseconds(2);
  static constexpr std::size_t kLeastBurst = 4 * 1024;
  static constexpr std::size_t kMaxBurst = 128 * 1024;
  // How long one estimate of the way's speed is good.
  static constexpr Duration kRateLife = std::chrono::milliseconds(10);

  struct Timing {
    Duration ping_interval = std::chrono::seconds(20);
    Duration silence_limit = std::chrono::seconds(60);
  };

  class Handler {
   public:
    virtual void on_open() = 0;
    virtual void on_text(std::string_view text) = 0;
    // One binary message; `bytes` is good until the call returns. Returns how many packets were in it.
    virtual std::size_t on_binary(MaskedView bytes) = 0;
    virtual void on_pong() {}
    // All messages of this turn have been delivered: time to hand on what was gathered.
    virtual void on_turn_end() {}
    // writable() is true again.
    virtual void on_writable() {}
    // The connection gave its buffers back: time for the handler to do the same.
    virtual void on_idle() {}
    virtual void on_closed(const Ending& ending) = 0;

   protected:
    ~Handler() = default;
  };

  Connection(EventLoop& loop, ReadBuffer& buffer, std::unique_ptr<net::StreamSocket> socket, Channel channel,
             Timing timing, Handler& handler);
  ~Connection();

  // `received` was read from the socket already. It is delivered before this returns, but on_closed is not called.
  void start(ByteView received = {});
  bool writable() const;  // open, and nothing waits to be sent
  void send_text(std::string_view text);
  // At most burst() of them at a time, while writable(); `format` as of Channel::send_packets().
  void send_packets(std::span<const Packet> packets, const protocol::Format& format);
  // Bytes that are worth handing over at a time: what the way to the peer takes in kBurstTime. More would only wait
  // where nothing can overtake it any more.
  std::size_t burst() const { return burst_; }
  void send_ping();
  // Ends the conversation: what waits is sent, then a close frame, then the socket closes.
  void close(std::uint16_t code, std::string_view reason);
  // Takes the connection off its loop and its handler, between callbacks; then resume() gives it to new ones, on the
  // thread of `loop`. In between it does nothing.
  void detach();
  void resume(EventLoop& loop, ReadBuffer& buffer, Timing timing, Handler& handler);
  void set_max_message(std::size_t bytes) { channel_.set_max_message(bytes); }
  // Control messages that may wait to be sent.
  void set_max_waiting(std::uint32_t messages) { max_waiting_ = messages; }
  // Whom the socket's peer speaks for: shown in its place.
  void set_peer(const Endpoint& peer) { peer_ = peer; }

  Endpoint peer() const { return peer_; }
  std::string description() const { return channel_.description(); }
  // Channel::refusal().
  const websocket::UpgradeResponse* refusal() const { return channel_.refusal(); }
  TimePoint last_received() const { return last_received_; }
  Channel::State state() const { return channel_.state(); }

 private:
  void await_turn();
  void read_turn();
  void end_turn();
  void read_some();
  bool take(ByteView bytes);
  bool deliver();
  void flush();
  void await_room();
  std::size_t measure_way();
  void tick();
  void schedule_tick();
  void give_up_on_reader();
  void lose(Error error);
  void finish(Error error);
  void after_send(const Result<void>& sent);
  void settle();
  void cool_down();
  void release_buffers();

  EventLoop* loop_;
  ReadBuffer* buffer_;
  std::unique_ptr<net::StreamSocket> socket_;
  Channel channel_;
  Timing timing_;
  Handler* handler_;
  Endpoint peer_;

  bool open_announced_ = false;
  bool closing_ = false;
  bool closed_ = false;
  bool shut_down_ = false;
  bool write_armed_ = false;
  bool busy_ = false;  // packets moved since the last ping
  bool pong_waits_ = false;
  bool messages_wait_ = false;  // received, to be delivered in the next turn
  bool in_turn_ = false;        // messages are being handed over
  int work_left_ = 0;           // in this turn
  std::uint32_t max_waiting_ = kMaxWaiting;
  std::uint32_t waiting_ = 0;                // control messages sent since the output was empty
  WarmPlaces::Place* warm_place_ = nullptr;  // held by this connection
  std::string pong_payload_;
  Ending ending_;
  TimePoint closing_since_;
  TimePoint last_received_;
  TimePoint last_progress_;  // of the output
  TimePoint last_ping_;
  TimePoint measured_;  // the way
  std::size_t burst_ = kMaxBurst;
  // Outlives what runs on the loop: posted tasks ask it whether the connection is still there.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Timer> timer_;
};

}  // namespace penstock::transport
