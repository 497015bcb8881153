// A TCP endpoint for simulations, simple and strict, with habits that can be chosen: the client of a terminator, or two
// of them each other's peer. It shares the reading and writing of segments with the code under test, and nothing else.
//
//   IDLE --connect()--> SYN_SENT --SYN-ACK--> OPEN --both ends said, ours first--> TIME_WAIT --a minute--> GONE
//     \---listen()--> LISTEN --SYN--> SYN_RECEIVED --ACK--^  \--ours last, or a reset from either--> GONE
//
// It sends the bytes of one Pattern, as many as offer() has allowed, and expects those of another. What it takes is
// compared at once and not kept. GONE it answers whatever comes as a host without that connection does: with RST.
//
// Places   as in tcp_audit_testing.h.
// Threads  one loop's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "egress/tcp/simulation_testing.h"
#include "egress/tcp/tcp_audit_testing.h"
#include "packet/packet.h"
#include "packet/tcp_segment.h"

namespace penstock::egress::testing {

struct ClientHabits {
  std::uint32_t initial_sequence = 0;
  std::optional<std::uint16_t> mss = 1460;
  std::optional<std::uint8_t> window_scale = std::uint8_t{7};
  bool sack = true;
  bool timestamps = true;
  std::uint32_t first_timestamp = 0;
  bool duplicate_sacks = false;    // tells what came twice (RFC 2883)
  std::size_t capacity = 65535;    // bytes that it keeps until they are read
  bool tells_every_window = true;  // also where it has grown by less than a segment
  bool takes_fin_without_room = true;
  unsigned acknowledges_every = 2;  // segments
  Duration acknowledges_within = std::chrono::milliseconds(40);
  Duration timeout = std::chrono::milliseconds(300);  // the first
  Duration longest_timeout = std::chrono::seconds(10);
  unsigned tries = 40;      // until it takes its peer for dead
  std::size_t flight = 16;  // segments that it has unacknowledged at most
  std::size_t burst = 1;    // segments in its largest packet
  bool fast_retransmit = true;
  bool goes_back = false;             // after a timeout sends all again that was unacknowledged
  bool cuts_anew = false;             // retransmissions have other borders than what was sent first
  bool probes_with_old_byte = false;  // asks for a window with what was acknowledged, not with the next byte
  bool urgent = false;                // says URG sometimes, which means nothing
  Duration time_wait = std::chrono::seconds(60);
  bool reuses = false;  // these ends had a connection before
};

class SimulatedClient {
 public:
  enum class Phase : std::uint8_t { idle, listen, syn_sent, syn_received, open, time_wait, gone };
  // Why it is gone.
  enum class Why : std::uint8_t { none, ended, reset_by_peer, reset, no_answer };
  using Output = std::function<void(PacketBatch&)>;

  // Packets go to `output`, which leaves the batch empty.
  SimulatedClient(EventLoop& loop, Dice dice, const Endpoint& self, const Endpoint& peer, const ClientHabits& habits,
                  Pattern sends, Pattern expects, Output output);
  SimulatedClient(const SimulatedClient&) = delete;
  SimulatedClient& operator=(const SimulatedClient&) = delete;

  // ---- its application ----

  void connect();
  void listen();
  // `bytes` more are to be sent.
  void offer(std::size_t bytes);
  // Nothing more will be offered.
  void end();
  // RST. What it offered may be lost.
  void abort();
  // Hears and says nothing any more, in no way.
  void vanish();
  // Takes up to `bytes` that arrived; SIZE_MAX: those, and all that come later at once.
  void read(std::size_t bytes);
  // Told when something was received, or it is gone.
  std::function<void()> changed;

  // ---- its network ----

  // Every packet of the peer as it leaves it.
  void audit(const Packet& packet) { audit_.see(packet); }
  void receive(const Packet& packet);

  Phase phase() const { return phase_; }
  Why why() const { return why_; }
  bool established() const { return established_; }
  // Nothing of it will happen without somebody's doing.
  bool at_rest() const;
  std::uint64_t received() const { return static_cast<std::uint64_t>(std::max<std::int64_t>(0, taken_ - 1)); }
  std::uint64_t acknowledged() const;
  bool heard_end() const { return heard_end_; }
  bool end_acknowledged() const { return ended_ && una_ > fin_place(); }
  std::uint32_t next_sequence() const { return facts_.origin + static_cast<std::uint32_t>(facts_.sent); }
  std::uint64_t bad_checksums() const { return bad_checksums_; }
  std::uint64_t retransmitted() const { return retransmitted_; }
  const TcpAudit& audited() const { return audit_; }
  std::vector<std::string> complaints() const;
  std::string describe() const;

 private:
  void receive_one(const Packet& packet);
  void receive_in_listen(const TcpView& segment);
  void receive_in_syn_sent(const TcpView& segment);
  void receive_in_connection(const Packet& packet, const TcpView& segment);
  bool take_acknowledgement(const TcpView& segment);
  void take_data(const Packet& packet, const TcpView& segment, std::int64_t first);
  void join(std::int64_t first, std::int64_t end);
  void agree_on(const TcpOptions& options);
  void become_open();
  void leave_if_done();
  void go(Why why);

  TcpHeader header(std::uint8_t flags, std::int64_t place);
  std::uint16_t window_field(bool syn);
  void send_syn();
  void acknowledge();
  void reset(std::uint32_t sequence);
  void transmit(std::int64_t first, std::int64_t end, bool super);
  void retransmit_from(std::int64_t place);
  void push();
  void watch_over();
  void on_timeout();
  void on_persist();
  void flush();

  std::int64_t fin_place() const { return 1 + offered_; }
  std::int64_t all() const { return 1 + offered_ + (ended_ ? 1 : 0); }
  std::int64_t room() const;
  std::size_t segment_size() const;
  std::uint32_t timestamp() const;

  EventLoop* loop_;
  Dice dice_;
  ClientHabits habits_;
  AuditFacts facts_;
  TcpAudit audit_;
  Pattern sends_;
  Pattern expects_;
  Output output_;
  PacketBatch out_;

  Phase phase_ = Phase::idle;
  Why why_ = Why::none;
  bool vanished_ = false;
  bool established_ = false;

  // Of what we send.
  std::int64_t offered_ = 0;
  bool ended_ = false;
  std::int64_t una_ = 0;        // first place unacknowledged
  std::int64_t next_ = 0;       // first place to be sent next; facts_.sent: never sent
  std::int64_t highest_ = 1;    // first place that was never sent but to ask for a window
  std::int64_t peer_edge_ = 0;  // its window's
  std::uint16_t peer_mss_ = 0;
  std::uint8_t peer_scale_ = 0;
  unsigned repeats_ = 0;      // of the same acknowledgement
  std::int64_t recover_ = 0;  // until that place is acknowledged, a loss is being mended
  unsigned tries_ = 0;
  std::map<std::int64_t, std::int64_t> sacked_;
  std::uint64_t retransmitted_ = 0;

  // Of what we receive.
  std::uint32_t peer_origin_ = 0;
  std::int64_t arrived_ = 0;  // first place missing
  std::int64_t taken_ = 1;    // read up to here, the FIN not counted
  bool reads_all_ = false;
  std::map<std::int64_t, std::int64_t> islands_;
  std::deque<std::int64_t> recent_;  // firsts of the islands that grew last, newest first
  std::optional<SackBlock> twice_;
  std::optional<std::int64_t> peer_end_;
  bool heard_end_ = false;
  bool scale_ = false;
  bool sack_ = false;
  bool timestamps_ = false;
  std::uint32_t echo_ = 0;
  std::int64_t last_acknowledged_ = 0;  // as we told it
  std::int64_t told_edge_ = 0;
  unsigned unacknowledged_ = 0;  // segments
  bool must_acknowledge_ = false;
  bool ours_first_ = false;  // our FIN was sent before theirs arrived

  std::uint64_t bad_checksums_ = 0;
  std::vector<std::string> complaints_;

  Timer retransmission_;
  Timer acknowledgement_;
  Timer waiting_;
};

}  // namespace penstock::egress::testing
