// Scripts about TcpTerminator: a client that says what the test says, segment by segment, and servers in memory.
//
//   client.sends(kSyn, {.mss = 1460, .scale = 7});
//   client.expects_nothing();
//   server.accepts();
//   client.expects(kSyn | kAck, {.seq = 0, .ack = 1, .mss = 1460});
//   client.sends(kAck);
//
// Always true  of each packet that a client gets, whatever the script: good checksums and offload fields; all flags but
//              the first SYN's and a RST's have ACK; nothing is beyond the client's window (one byte, that asks whether
//              it is still closed, may be) nor larger than its MSS; what acknowledges goes neither back nor beyond what
//              was sent; the right edge of the window goes not back (RFC 9293 section 3.8.6.2.1) but by what scaling
//              takes (RFC 7323 section 2.4); timestamps are on all segments or on none (RFC 7323 section 3.2) and go
//              not back; SACK blocks are of what was sent; data is what the server said at that place.
// Time         moves by after() and waits() alone. A failed test shows the dialogue.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <source_location>

#include "egress/tcp/fake_streams_testing.h"
#include "egress/tcp/tcp_script_segment_testing.h"
#include "egress/tcp/tcp_terminator.h"
#include "packet/super_packet.h"
#include "test/support/manual_loop.h"

namespace penstock::egress::testing {

using namespace std::chrono_literals;
using Where = std::source_location;

class ScriptClient;

class TcpWorld final : public TcpTerminator::Clients {
 public:
  explicit TcpWorld(const TcpTerminator::Settings& settings = {}, std::uint64_t seed = 1)
      : random(seed), terminator(loop, random, settings, streams, *this) {
    streams.set_events(terminator.events());
  }

  void after(Duration time) { loop.advance(time); }
  // What is sent in `script` comes in one batch.
  void together(const std::function<void()>& script) {
    held_ = true;
    script();
    held_ = false;
    settle();
  }
  void settle() {
    if (held_) return;
    terminator.flush();
    loop.run_until_idle();
  }
  // The queues to clients have room for so much.
  void grants(std::size_t credit) {
    credit_ = credit;
    for (router::CreditWaiter* waiter : std::exchange(waiters, {})) waiter->on_credit();
    loop.run_until_idle();
  }
  bool was_closed(const TcpEnds& ends) const { return std::ranges::find(gone, ends) != gone.end(); }
  const TcpTerminator::Counters& counters() const { return terminator.counters(); }

  void log(std::string line) {
    if (dialogue_.size() == kLines) dialogue_.pop_front();
    const double now = std::chrono::duration<double>(loop.now() - began_).count();
    dialogue_.push_back(std::to_string(now) + " " + std::move(line));
  }
  std::string dialogue() const {
    std::string text;
    for (const std::string& line : dialogue_) text += line + "\n";
    return text;
  }
  std::uint32_t milliseconds() const {
    return static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(loop.now() - began_).count());
  }

  test::ManualLoop loop;
  SeededRandom random;
  FakeStreams streams{loop};
  std::vector<router::CreditWaiter*> waiters;
  TcpTerminator terminator;
  std::vector<ScriptClient*> clients;
  std::vector<TcpEnds> gone;  // in the order in which nothing was left of them

 private:
  static constexpr std::size_t kLines = 200;

  void to_clients(PacketBatch& batch) override;
  std::size_t credit(const Endpoint&) override { return credit_; }
  router::PortId wait_for_credit(const Endpoint&, router::CreditWaiter& waiter) override {
    waiters.push_back(&waiter);
    return {.slot = 1, .generation = 1};
  }
  void cancel_wait(router::PortId, router::CreditWaiter& waiter) override { std::erase(waiters, &waiter); }
  void closed(const TcpEnds& ends) override;

  const TimePoint began_ = loop.now();
  bool held_ = false;
  std::size_t credit_ = SIZE_MAX;
  std::deque<std::string> dialogue_;
};

class ScriptClient {
 public:
  static constexpr std::uint16_t kSegment = 1400;  // of the super-packets that it sends

  explicit ScriptClient(TcpWorld& world, std::string_view client = "10.100.0.2:40000",
                        std::string_view server = "192.0.2.1:80", std::uint32_t first = 1'000'000)
      : ends{Endpoint::parse(client).value(), Endpoint::parse(server).value()}, world_(world), first_(first) {
    world_.clients.push_back(this);
  }
  ~ScriptClient() { std::erase(world_.clients, this); }
  ScriptClient(const ScriptClient&) = delete;
  ScriptClient& operator=(const ScriptClient&) = delete;

  // ---- says ----

  void sends(std::uint8_t flags, const Says& says = {});
  void acks(std::uint32_t ack, std::vector<SackBlock> sacks = {}) {
    sends(kAck, {.ack = ack, .sacks = std::move(sacks)});
  }
  // The three steps, with what it offers.
  void opens(const Says& offer = {}, Where at = Where::current());
  // The same ends anew; `first` is absolute.
  void starts_over(std::uint32_t first) {
    seen_.clear();
    *this = Fresh{first};
  }
  // A stream from outside for it.
  bool is_called() {
    stream = world_.streams.incoming(
        Endpoint::parse(ends.server.address.is_v4() ? "203.0.113.9:5000" : "[2001:db8:9::9]:5000").value());
    const bool taken = world_.terminator.open(ends, stream);
    world_.settle();
    return taken;
  }
  // It has a link again.
  void is_back() {
    world_.terminator.reached(ends);
    world_.settle();
  }
  void is_told_undeliverable(std::uint32_t seq, std::uint32_t mtu) {
    world_.terminator.undeliverable(ends, server_first_ + seq, mtu);
    world_.settle();
  }

  // ---- sees ----

  Seen expects(std::uint8_t flags, const Wants& wants = {}, Where at = Where::current());
  void expects_nothing(Where at = Where::current()) {
    if (!seen_.empty()) fail(at, "wanted nothing, saw " + to_text(seen_.front()));
    drain();
  }
  // `size` bytes from `seq` on, in order, in as many segments as it likes.
  std::vector<Seen> expects_data(std::uint32_t seq, std::size_t size, Where at = Where::current());
  // All up to `ack` is acknowledged, now or a little later: RFC 9293 section 3.8.6.3 has half a second, we have less.
  void expects_ack(std::uint32_t ack, Duration soon = 60ms, Where at = Where::current());
  void expects_ack_now(std::uint32_t ack, Where at = Where::current()) { expects_ack(ack, {}, at); }
  // A RST that the client believes: at exactly the place it waits for (RFC 5961 section 3.2).
  void expects_reset(std::uint32_t seq, Where at = Where::current()) {
    while (!seen_.empty() && !seen_.front().has(kRst) && seen_.front().length() == 0) seen_.pop_front();
    if (seen_.empty()) return fail(at, "wanted a reset, saw nothing");
    const Seen seen = take();
    if (!seen.has(kRst) || seen.seq != seq) fail(at, "wanted R " + std::to_string(seq) + ", saw " + to_text(seen));
  }
  void expects_icmp(std::uint8_t type, std::uint8_t code, Where at = Where::current()) {
    if (seen_.empty()) return fail(at, "wanted an ICMP error, saw nothing");
    const Seen seen = take();
    if (seen.icmp != std::pair(type, code))
      fail(at, "wanted icmp " + std::to_string(type) + "/" + std::to_string(code) + ", saw " + to_text(seen));
  }
  // How many seconds go by until it sees something, at most `most`.
  double waits(Duration most = 10min);
  // Everything that has come, as received.
  std::vector<Seen> drain() {
    std::vector<Seen> all;
    while (!seen_.empty()) all.push_back(take());
    return all;
  }
  // Whether the byte (or FIN) at `seq` is in what has come, all of which it receives.
  bool gets(std::uint32_t seq) {
    bool got = false;
    for (const Seen& seen : drain()) got |= seen.length() != 0 && !before(seq, seen.seq) && before(seq, seen.end());
    return got;
  }
  // What has come is lost: the first `count` segments.
  void loses(std::size_t count, Where at = Where::current()) {
    if (seen_.size() < count) fail(at, "there are but " + std::to_string(seen_.size()) + " segments to lose");
    for (; count != 0 && !seen_.empty(); --count) seen_.pop_front();
  }
  void loses_all() { seen_.clear(); }
  bool has_seen_nothing() const { return seen_.empty(); }

  // ---- knows ----

  std::uint32_t next() const { return s_.next; }                           // what it says next
  std::uint32_t received() const { return s_.received; }                   // of the server's, in order
  std::uint32_t acknowledged() const { return s_.their_ack.value_or(0); }  // of what it said
  std::uint32_t right_edge() const { return s_.their_edge; }               // of the terminator's window
  std::uint32_t absolute(std::uint32_t seq) const { return first_ + seq; }
  std::uint32_t server_first() const { return server_first_; }
  std::uint32_t stamp() const { return 1000 + world_.milliseconds(); }
  std::uint32_t last_stamp_seen() const { return s_.their_stamp.value_or(0); }
  TcpWorld& world() { return world_; }

  const TcpEnds ends;
  std::uint16_t window = 65535;  // as it says it, unscaled in SYNs
  HostStreams::Stream stream = HostStreams::kNone;
  PacketBatch packets;  // as they came, since the last forget_packets()

 private:
  friend class TcpWorld;
  friend class ScriptServer;
  struct Fresh {
    std::uint32_t first;
  };
  // All of one connection.
  struct State {
    std::uint32_t next = 0;
    std::uint32_t received = 0;
    std::map<std::uint32_t, std::uint32_t> early;  // received, with gaps before them
    std::uint16_t mss = 0;                         // it may be sent
    std::optional<std::uint8_t> offered_scale;
    bool offered_ts = false;
    bool offered_sack = false;
    bool ts = false;
    std::uint8_t our_scale = 0;
    std::uint8_t their_scale = 0;
    std::uint32_t edge = 0;  // the furthest it ever allowed
    bool opened = false;     // it has sent an ACK
    std::optional<std::uint32_t> their_ack;
    std::uint32_t their_edge = 0;
    std::optional<std::uint32_t> their_stamp;
    std::size_t said = 0;  // by the server
  };
  ScriptClient& operator=(Fresh fresh) {
    first_ = fresh.first;
    server_first_ = 0;
    server_known_ = false;
    s_ = {};
    return *this;
  }

  void fail(Where at, const std::string& text) { ADD_FAILURE_AT(at.file_name(), static_cast<int>(at.line())) << text; }
  Seen take() {
    Seen seen = std::move(seen_.front());
    seen_.pop_front();
    if (seen.icmp || seen.has(kRst) || seen.length() == 0) return seen;
    s_.early[seen.seq] = std::max(s_.early[seen.seq], seen.end());
    while (!s_.early.empty() && !before(s_.received, s_.early.begin()->first)) {
      s_.received = std::max(s_.received, s_.early.begin()->second);
      s_.early.erase(s_.early.begin());
    }
    return seen;
  }
  void arrives(Packet packet);
  void arrives_segment(const Packet& packet);
  // What is always true of a segment.
  void check(const Seen& seen);

  TcpWorld& world_;
  std::uint32_t first_;
  std::uint32_t server_first_ = 0;
  bool server_known_ = false;
  State s_;
  std::deque<Seen> seen_;
};

// The server of one client's connection.
class ScriptServer {
 public:
  explicit ScriptServer(ScriptClient& client) : client_(client), streams_(client.world().streams) {}

  void accepts() {
    does([this] { streams_.accept(client_.stream); });
  }
  void refuses(StreamError error) {
    does([&] { streams_.refuse(client_.stream, error); });
  }
  void says(std::size_t size) {
    const std::string text = pattern(static_cast<std::uint32_t>(client_.s_.said), size);
    client_.s_.said += size;
    does([&] { streams_.say(client_.stream, as_bytes(text)); });
  }
  void ends() {
    does([this] { streams_.end_of_server(client_.stream); });
  }
  void resets() {
    does([this] { streams_.reset_by_server(client_.stream); });
  }
  void has_room(std::size_t room) {
    does([&] { streams_.set_room(client_.stream, room); });
  }

  bool is_open() const { return streams_.open.contains(client_.stream); }
  // Of what it was told: the first `size` bytes of the client's, and nothing else.
  void heard(std::size_t size, Where at = Where::current()) {
    const auto& bytes = is_open() ? streams_.at(client_.stream).heard : streams_.closed.at(client_.stream).heard;
    if (bytes.size() != size || as_text(bytes) != pattern(0, bytes.size()))
      client_.fail(at, "the server heard " + std::to_string(bytes.size()) + " bytes, wanted " + std::to_string(size) +
                           (as_text(bytes) == pattern(0, bytes.size()) ? "" : ", and others than were sent"));
  }
  std::string heard_text() const { return std::string(as_text(streams_.at(client_.stream).heard)); }
  bool saw_the_end() const {
    return is_open() ? streams_.at(client_.stream).ended : streams_.closed.at(client_.stream).ended;
  }
  // Its socket was closed: broken off, or not.
  bool was_aborted() const { return !is_open() && streams_.closed.at(client_.stream).aborted; }
  bool was_closed() const { return !is_open() && !streams_.closed.at(client_.stream).aborted; }
  // Said and not yet acknowledged by the client.
  std::size_t waiting() const { return streams_.at(client_.stream).inbox.size(); }

 private:
  void does(const std::function<void()>& what) {
    what();
    client_.world().settle();
  }

  ScriptClient& client_;
  FakeStreams& streams_;
};

// One client and its server.
class TcpScript : public ::testing::Test {
 protected:
  explicit TcpScript(const TcpTerminator::Settings& settings = {}) : world(settings) {}
  void TearDown() override {
    if (HasFailure()) std::cerr << world.dialogue();
  }
  void after(Duration time) { world.after(time); }

  TcpWorld world;
  ScriptClient client{world};
  ScriptServer server{client};
};

}  // namespace penstock::egress::testing
