// One connection that ends here: TCP towards the client (RFC 9293), a stream of HostStreams towards the server.
//
//   by a client      CONNECTING --the server is there--> SYN_RECEIVED --ACK--> OPEN
//                        \--refused, unreachable--> GONE, and the client is told as the network would
//   from outside     SYN_SENT --SYN, ACK--> OPEN            (a forward; RST or silence: the stream is aborted)
//
//   OPEN --both have ended, the client first--> GONE
//        --both have ended, the server first--> TIME_WAIT --kTimeWait--> GONE
//        --RST of one, silence--> GONE, and the other is told
//
//   client's bytes:  packet --> [arrivals: only what the socket has no room for] --> write()
//   server's bytes:  in the socket --peek()--> packet, as often as it takes --ACK--> consume()
//
// Sending       CUBIC's window (congestion.h) and the client's; SACK or NewReno recovery (scoreboard.h); a timeout that
//               is found to have been none is taken back (Eifel, RFC 3522). No more than the queue towards the client
//               has room for (Clients::credit()), where that is known; while there is none, as when the client's link
//               is away, nothing is sent again and no time counts. Once it is back, it goes at once (reached()).
// Receiving     the window begins at kFirstWindow and doubles while the client fills it and the server takes all, up to
//               kMostWindow; what a slow server leaves takes it up again. It never retracts. ACKs wait for kAckDelay at
//               most, and for two segments.
// Small windows nothing below a segment, or half of the largest window, goes out while something is under way; what is
//               offered grows by two segments at least (RFC 9293 section 3.8.6.2).
// Patience      SYNs 5 times, data kMostRetries times (RFC 9293 section 3.8.3), and as often probes of a closed window;
//               a silent client kMostProbes times. Who answers may keep his window closed for as long as he likes.
// Not taken     urgent data (is data), simultaneous opens (RST), data in a SYN (comes again).
// Strangers     RSTs and SYNs within the window but not exact are challenged (RFC 5961), as is what acknowledges the
//               future; old timestamps are dropped (PAWS).
//
// Always true   every byte is passed on once and in order; after gone() it holds no stream, timer or credit.
// Memory        kMostSize, and nothing else while idle.
// Threads       its loop's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/random.h"
#include "egress/tcp/arrivals.h"
#include "egress/tcp/congestion.h"
#include "egress/tcp/host_streams.h"
#include "egress/tcp/round_trip.h"
#include "egress/tcp/scoreboard.h"
#include "egress/tcp/sequence.h"
#include "egress/tcp/tcp_terminator.h"
#include "egress/tcp/timer_wheel.h"
#include "packet/tcp_segment.h"

namespace penstock::egress {

// The numbers that a segment takes (SEG.LEN).
inline std::uint32_t length_of(const TcpView& segment) {
  return static_cast<std::uint32_t>(segment.payload_size) + ((segment.flags & kTcpSyn) != 0 ? 1U : 0U) +
         ((segment.flags & kTcpFin) != 0 ? 1U : 0U);
}

// What all connections of a terminator share.
class TcpShared {
 public:
  static constexpr std::size_t kPacketsAPeek = 4;

  TcpShared(EventLoop& its_loop, Random& its_random, const TcpTerminator::Settings& its_settings,
            HostStreams& its_streams, TcpTerminator::Clients& its_clients)
      : loop(its_loop),
        random(its_random),
        settings(its_settings),
        streams(its_streams),
        clients(its_clients),
        wheel(its_loop.now()) {}
  virtual ~TcpShared() = default;

  // flush() is due: in this turn, or in a later one so that others have theirs.
  virtual void touch(std::uint64_t cookie) = 0;
  virtual void touch_later(std::uint64_t cookie) = 0;
  // Does at once what is due, unless that is under way.
  virtual void flush() = 0;

  EventLoop& loop;
  Random& random;
  const TcpTerminator::Settings settings;
  HostStreams& streams;
  TcpTerminator::Clients& clients;
  TcpTerminator::Counters counters;
  TimerWheel wheel;
  // What servers have no room for, in memory: `owner` has `after` of it now and had `before`.
  void hold(SessionId owner, std::size_t before, std::size_t after) {
    if (before == after) return;
    if (held_of_.size() <= owner.slot) held_of_.resize(owner.slot + std::size_t{1});
    held_ += after - before;
    held_of_[owner.slot] += after - before;
  }
  // Whether `owner` has so much of it that others could want. Where all together have too much, those who have more
  // than a little are the ones.
  bool holds_too_much(SessionId owner) const {
    const std::size_t own = owner.slot < held_of_.size() ? held_of_[owner.slot] : 0;
    return own > (held_ > settings.held_bytes ? settings.held_bytes_of_client / 16 : settings.held_bytes_of_client);
  }
  std::size_t held() const { return held_; }

  PacketBatch out;                          // to clients
  std::size_t out_footprint = 0;            // of these
  std::array<Packet, kPacketsAPeek> blank;  // of the largest size, to be peeked into

 private:
  std::size_t held_ = 0;
  std::vector<std::size_t> held_of_;  // by the session's slot
};

class TcpConnection final : public TimerWheel::Member, private router::CreditWaiter {
 public:
  enum class State : std::uint8_t { connecting, syn_received, syn_sent, open, time_wait, gone };

  static constexpr std::size_t kMostSize = 640;  // of one, in bytes
  static constexpr std::uint32_t kFirstWindow = 256 * 1024;
  static constexpr std::uint32_t kMostWindow = 4 * 1024 * 1024;
  static constexpr std::uint8_t kWindowScale = 7;
  static constexpr Duration kAckDelay = std::chrono::milliseconds(40);
  static constexpr Duration kTimeWait = std::chrono::seconds(60);
  static constexpr int kMostSyns = 6;
  static constexpr int kMostRetries = 15;
  static constexpr int kMostProbes = 9;  // of a client that is silent
  static constexpr Duration kProbeInterval = std::chrono::seconds(75);
  static constexpr std::size_t kBytesATurn = 512 * 1024;

  TcpConnection(TcpShared& shared, const TcpEnds& ends, std::uint64_t cookie);
  ~TcpConnection();

  // Whose it is, for what is held of it.
  void set_owner(SessionId owner) { owner_ = owner; }
  // The first word of a client, a SYN. `above`: what our numbers begin beyond, since a connection before this one got
  // so far (RFC 9293 section 3.6.1).
  void begin(const TcpView& syn, std::optional<Sequence> above);
  // Of a stream from outside.
  void begin(HostStreams::Stream stream);

  // A segment with good checksums. What follows from it, flush() does.
  void receive(Packet&& packet, const TcpView& segment);
  void ready(HostStreams::Events::Ready what);
  void flush();
  // Its slot of the wheel has come.
  void on_timer(TimePoint now);
  void undeliverable(Sequence sequence, std::uint32_t mtu);
  // The client was away and is back.
  void reached();
  // With a reset, to both.
  void end();
  // Without a word to the client.
  void abort();

  State state() const { return state_; }
  bool gone() const { return state_ == State::gone; }
  const TcpEnds& ends() const { return ends_; }
  bool is_from_outside() const { return from_outside_; }
  std::uint64_t cookie() const { return cookie_; }
  Sequence next() const { return nxt_; }
  // Whether a SYN in TIME_WAIT is of a new connection (RFC 9293 section 3.10.7.4, RFC 6191).
  bool may_begin_anew(const TcpView& syn) const;
  std::size_t memory() const { return arrivals_.memory() + board_.memory(); }

  // The terminator's: in its bucket's chain, and of those that flush() is due for.
  std::uint32_t next_in_bucket = 0;
  bool touched = false;

 private:
  enum class Recovery : std::uint8_t { none, fast, timeout };
  enum class Ack : std::uint8_t { none, delayed, now };

  void receive_in_syn_sent(const TcpView& segment);
  void receive_in_time_wait(const TcpView& segment);
  bool is_acceptable(const TcpView& segment) const;
  bool passes_timestamps(const TcpView& segment);
  void receive_reset(const TcpView& segment);
  bool take_acknowledgement(const TcpView& segment);
  void acknowledged(Sequence acknowledgement, const TcpView& segment);
  // `outstanding`: bytes that were not acknowledged before.
  void look_for_losses(bool duplicate, bool news, std::uint32_t outstanding);
  void enter_recovery(std::uint32_t outstanding);
  void take_payload(Packet&& packet, const TcpView& segment);
  // Of bytes within the window, which begin at `first`. False: they are not taken.
  bool hold(Sequence first, Packet&& packet, std::size_t at, std::size_t size);
  void take_fin(Sequence at);
  void take_options(const TcpOptions& options);
  void established();
  void connected();
  void could_not_connect(StreamError error);

  void write_to_server();
  void consume_acknowledged();
  void send_data();
  // Numbers that are to be sent next, of which the last may be the FIN's.
  struct Chosen {
    Sequence first = 0;
    std::uint32_t size = 0;
    bool again = false;
  };
  std::optional<Chosen> choose();
  // How much was sent; 0: nothing can be now.
  std::size_t peek_and_send(const Chosen& chosen, std::size_t& credit);
  void emit(Packet& blank, std::size_t size, Sequence first, std::uint8_t flags);
  void widen(Sequence end);
  void note_sent(Sequence first, Sequence end, bool again);
  void send_fin();
  bool fin_is_due() const { return server_ended_ && !fin_sent_ && nxt_ == data_end_; }
  std::uint32_t usable_window() const { return distance(nxt_, una_ + window_); }

  // Says what is acknowledged, and counts it as said.
  TcpHeader header(Sequence sequence, std::uint8_t flags);
  void push(Packet&& packet) {
    shared_->out_footprint += packet.footprint();
    shared_->out.push_back(std::move(packet));
  }
  void send_syn();
  void send_ack();
  void send_probe();
  void challenge();
  void answer_with_reset(const TcpView& segment);
  void reset_client();
  void finish_if_both_ended();
  void leave();
  void release_stream(bool abort);
  void wait_for_credit();
  void stop_waiting();
  void on_credit() override;

  // Moves the right edge of what is offered, if it is worth it.
  void open_window();
  std::uint32_t affordable() const;
  void grow_window(TimePoint now);
  std::uint32_t in_flight() const;
  bool has_something_for_client() const { return more_ || fin_is_due(); }
  std::uint32_t now_stamp() const;
  std::size_t headers_size() const;
  Duration round_trip_of(const TcpView& segment, TimePoint now);
  void retransmission_timeout(TimePoint now);
  void resend(TimePoint now);
  void restart_resend_timer();
  void arm();

  TcpShared* shared_;
  TcpEnds ends_;
  std::uint64_t cookie_;
  SessionId owner_;
  HostStreams::Stream stream_ = HostStreams::kNone;
  State state_ = State::connecting;
  bool from_outside_ = false;

  // What the client offered, and holds from its SYN on.
  bool sack_ok_ = false;
  bool stamps_ok_ = false;
  bool scaling_ok_ = false;
  std::uint8_t scale_ = 0;           // of its windows
  std::uint16_t offered_mss_ = 536;  // as the client asked for it
  std::uint16_t mss_ = 536;          // payload of a segment to it, options taken off: what the way takes

  // Towards the client. Its bytes begin at iss_ + 1.
  bool more_ = false;          // the socket may have something to peek
  bool server_ended_ = false;  // data_end_ is where
  bool fin_sent_ = false;
  bool fin_acknowledged_ = false;
  bool closed_first_ = false;   // our FIN was sent before the client's came
  bool window_limits_ = false;  // CUBIC's window held the last data back
  bool failed_ = false;         // the stream is broken
  bool starved_ = false;        // a timeout passed while there was no credit
  Recovery recovery_ = Recovery::none;
  std::uint8_t duplicates_ = 0;
  std::uint8_t retries_ = 0;
  Sequence iss_ = 0;
  Sequence una_ = 0;   // the first that is not acknowledged
  Sequence nxt_ = 0;   // the next that was never sent
  Sequence head_ = 0;  // the socket's first byte
  Sequence data_end_ = 0;
  std::uint32_t widened_ = 64 * 1024;  // what the server may send before the client acknowledges
  Sequence recovery_point_ = 0;
  std::uint32_t window_ = 0;  // the client's, in bytes
  std::uint32_t largest_window_ = 0;
  Sequence window_sequence_ = 0;  // of the segment that it was last taken from (SND.WL1, SND.WL2)
  Sequence window_acknowledgement_ = 0;
  std::uint32_t resent_stamp_ = 0;  // when the last timeout sent something again
  Sequence timed_end_ = 0;          // what is being timed
  TimePoint timed_at_;              // none: nothing is
  RoundTrip round_trip_;
  Congestion congestion_;
  Scoreboard board_;

  // From the client.
  bool stream_full_ = false;
  bool client_ended_ = false;
  bool stream_ended_ = false;  // the server was told so
  bool fin_waits_ = false;     // behind a gap, at fin_at_
  Ack ack_ = Ack::none;
  Sequence irs_ = 0;
  Sequence fin_at_ = 0;
  Sequence edge_ = 0;  // the right edge of what was offered
  std::uint32_t limit_ = kFirstWindow;
  Sequence grown_from_ = 0;  // what was next when the round trip began that grow_window() counts in
  TimePoint grown_at_;
  std::uint32_t unacknowledged_ = 0;  // bytes since the last ACK
  Sequence acknowledged_ = 0;         // the last ACK that was sent
  std::uint32_t recent_stamp_ = 0;
  std::uint32_t stamp_offset_ = 0;
  Arrivals arrivals_;

  router::PortId waits_at_;
  bool waits_ = false;

  // None of them: max().
  TimePoint resend_at_ = TimePoint::max();
  TimePoint ack_at_ = TimePoint::max();
  TimePoint heard_at_;
  TimePoint challenged_at_;
};

static_assert(sizeof(TcpConnection) <= TcpConnection::kMostSize);

}  // namespace penstock::egress
