// A terminator between hostile clients and servers that do as they like: servers hear what clients sent at those
// sequence numbers and nothing else, clients what the servers said, nothing grows without bound, and when everybody
// falls silent nothing is left.
//
// The input: steps of a byte that says what happens (and in its upper bits to whom) and the bytes that this takes. A
// segment's numbers are given relative to those that matter: what was acknowledged, was sent, is offered.
#include <algorithm>
#include <array>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/result.h"
#include "egress/tcp/fake_streams_testing.h"
#include "egress/tcp/simulation_testing.h"
#include "egress/tcp/tcp_terminator.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "test/support/manual_loop.h"

namespace {

using namespace penstock;
using namespace penstock::egress;
using penstock::egress::testing::FakeStreams;
using penstock::egress::testing::Pattern;

constexpr std::size_t kEnds = 4;
constexpr std::size_t kMostConnections = 3;
constexpr std::size_t kMostMemory = 8 << 20;

// Bytes by their sequence numbers, which is all that a client promises.
std::uint8_t client_byte(std::uint32_t sequence) { return static_cast<std::uint8_t>((sequence * 2654435761U) >> 24); }

class Input {
 public:
  explicit Input(ByteView bytes) : bytes_(bytes) {}
  bool done() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint16_t pair() {
    const unsigned upper = byte();
    return static_cast<std::uint16_t>(upper << 8 | byte());
  }
  std::uint32_t number() { return static_cast<std::uint32_t>(pair()) << 16 | pair(); }
  // Near zero, or somewhat farther.
  std::uint32_t offset() {
    const auto small = static_cast<std::int8_t>(byte());
    return static_cast<std::uint32_t>(small % 2 == 0 ? small / 2 : small * 600);
  }

 private:
  ByteView bytes_;
};

// What the packets of the terminator say of one connection.
struct Known {
  TcpEnds ends;
  HostStreams::Stream stream = HostStreams::kNone;
  std::uint32_t origin = 0x10000;  // of the client
  std::optional<std::uint32_t> peer_origin;
  std::uint32_t sent = 0;  // by the terminator, up to here
  std::uint32_t acknowledged = 0;
  std::uint32_t edge = 0;
  std::uint32_t timestamp = 1;
  bool former = false;  // there was one before, of which something may still be under way until this one speaks
};

class World final : private TcpTerminator::Clients {
 public:
  World() {
    for (std::size_t i = 0; i < kEnds; ++i) {
      const auto number = static_cast<std::uint16_t>(i);
      known_[i].ends = {.client = {IpAddress::v4(0x0A000002), static_cast<std::uint16_t>(1000 + number)},
                        .server = {IpAddress::v4(0xC0000201), static_cast<std::uint16_t>(80 + number)}};
    }
    streams_.set_events(terminator_.events());
  }

  void play(Input input) {
    while (!input.done()) {
      step(input);
      PENSTOCK_ASSERT(terminator_.connections() <= kMostConnections);
      PENSTOCK_ASSERT(terminator_.memory() <= kMostMemory);
    }
    fall_silent();
  }

 private:
  void step(Input& input) {
    const std::uint8_t what = input.byte();
    Known& one = known_[what >> 4 & 3];
    switch (what & 15) {
      case 0: return loop_.advance(std::chrono::milliseconds(input.byte()) * 4);
      case 1: return loop_.advance(std::chrono::seconds(input.byte()));
      case 2: return accept(one);
      case 3: return refuse(one, input.byte());
      case 4: return say(one, input.pair() % 5000U);
      case 5: return end(one);
      case 6: return reset(one);
      case 7:
        if (streams_.open.contains(one.stream)) streams_.set_room(one.stream, input.pair());
        return run();
      case 8: return give_credit(input.byte());
      case 9: {
        const std::uint32_t sequence = one.sent - input.pair();
        terminator_.undeliverable(one.ends, sequence, input.pair());
        terminator_.flush();
        return run();
      }
      case 10:
        if ((what & 0x80) == 0) return;
        terminator_.abort(one.ends);
        return run();
      case 11: return come_from_outside(one);
      case 12: terminator_.flush(); return run();
      default: return segment(one, input);
    }
  }

  // ---- servers ----

  FakeStreams::One* open_stream(const Known& one) {
    const auto found = streams_.open.find(one.stream);
    return found == streams_.open.end() ? nullptr : &found->second;
  }
  void accept(const Known& one) {
    const FakeStreams::One* stream = open_stream(one);
    if (stream != nullptr && !stream->connected) {
      connected_.insert(one.stream);
      streams_.accept(one.stream);
    }
    run();
  }
  void refuse(const Known& one, std::uint8_t why) {
    const FakeStreams::One* stream = open_stream(one);
    if (stream != nullptr && !stream->connected) streams_.refuse(one.stream, static_cast<StreamError>(1 + why % 7));
    run();
  }
  bool may_say(const FakeStreams::One* stream) const {
    return stream != nullptr && stream->connected && !stream->server_ended && stream->error == StreamError::none;
  }
  void say(const Known& one, std::size_t size) {
    if (!may_say(open_stream(one))) return;
    std::vector<std::uint8_t> bytes(size);
    std::uint64_t& said = said_[one.stream];
    pattern_.fill(said, bytes);
    said += size;
    streams_.say(one.stream, bytes);
    run();
  }
  void end(const Known& one) {
    if (may_say(open_stream(one))) streams_.end_of_server(one.stream);
    run();
  }
  void reset(const Known& one) {
    const FakeStreams::One* stream = open_stream(one);
    if (stream != nullptr && stream->connected) streams_.reset_by_server(one.stream);
    run();
  }
  void come_from_outside(Known& one) {
    const Known before = one;
    const HostStreams::Stream stream = streams_.incoming(one.ends.server);
    connected_.insert(stream);
    notice();
    if (!terminator_.open(one.ends, stream)) one = before;
    run();
  }
  void notice() {
    while (noticed_ < streams_.last()) {
      const auto found = streams_.open.find(++noticed_);
      if (found == streams_.open.end()) continue;
      for (Known& one : known_) {
        if (one.ends.server != found->second.to) continue;
        one.former = one.stream != HostStreams::kNone;
        one.stream = noticed_;
        one.peer_origin.reset();
        one.acknowledged = one.edge = one.origin + 1;
      }
    }
  }

  // ---- clients ----

  void segment(Known& one, Input& input) {
    const std::uint8_t form = input.byte();
    TcpHeader header{.from = one.ends.client, .to = one.ends.server, .flags = input.byte(), .window = 0xFFFF};
    const std::array sequences{one.acknowledged, one.edge, one.origin, one.acknowledged};
    header.sequence = sequences[form & 3] + ((form & 4) != 0 ? input.offset() : 0);
    const std::array acknowledgements{one.sent, one.peer_origin.value_or(0) + 1};
    header.acknowledgement = acknowledgements[form >> 3 & 1] + ((form & 16) != 0 ? input.offset() : 0);
    if ((form & 32) != 0) header.window = input.pair();
    if ((form & 64) != 0) options(header.options, one, input);
    std::size_t size = (form & 128) != 0 ? input.pair() % 4000U : 0;
    if ((header.flags & kTcpSyn) != 0) {
      // Far from what was there, or near.
      if ((form & 3) == 3) one.origin = input.number();
      header.sequence = (form & 3) == 3 ? one.origin : header.sequence;
    }
    const bool whole = (header.flags & (kTcpSyn | kTcpRst | kTcpUrg)) != 0;
    Packet packet = Packet::with_size(tcp_headers_size(header) + size);
    const MutableByteView payload = packet.mutable_bytes().subspan(tcp_headers_size(header));
    for (std::size_t i = 0; i < size; ++i) payload[i] = client_byte(header.sequence + static_cast<std::uint32_t>(i));
    if ((header.flags & kTcpSyn) != 0) {
      for (std::size_t i = 0; i < size; ++i)
        payload[i] = client_byte(header.sequence + 1 + static_cast<std::uint32_t>(i));
    }
    write_tcp_headers(packet, header, whole || size == 0 ? 0xFFFF : 1 + size / (1 + form % 5U));
    bool broken = false;
    if ((form & 7) == 7 && packet.offload.gso == Offload::Gso::none) {
      finish_checksum(packet);
      broken = input.byte() == 0;
      if (broken) packet.mutable_bytes()[24 + form % 16U] ^= 0x55;
    }
    const auto view = parse_ip(std::as_const(packet).bytes());
    PENSTOCK_ASSERT(view);
    const std::uint64_t malformed = terminator_.counters().malformed;
    const HostStreams::Stream before = streams_.last();
    terminator_.from_client(std::move(packet), *view);
    PENSTOCK_ASSERT(!broken || terminator_.counters().malformed == malformed + 1);
    if (streams_.last() != before) {
      PENSTOCK_ASSERT(!broken && (header.flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn);
      one.origin = header.sequence;
      first_of_[streams_.last()] = header.sequence + 1;
    }
    // The answer to a SYN from outside.
    if ((header.flags & kTcpSyn) != 0 && !first_of_.contains(one.stream))
      answers_[one.stream].push_back(header.sequence + 1);
    notice();
    if (input.done() || (form & 1) != 0) {
      terminator_.flush();
      run();
    }
  }

  static void options(TcpOptions& options, Known& one, Input& input) {
    const std::uint8_t which = input.byte();
    if ((which & 1) != 0) options.mss = input.pair();
    if ((which & 2) != 0) options.window_scale = static_cast<std::uint8_t>(which >> 4);
    options.sack_permitted = (which & 4) != 0;
    if ((which & 8) != 0) {
      one.timestamp += input.offset();
      options.timestamps = TcpTimestamps{.value = one.timestamp, .echo = input.byte()};
    }
    if ((which & 0x80) == 0) return;
    options.sack_count = static_cast<std::uint8_t>(which >> 5 & 3 ? 2 : 1);
    for (std::size_t i = 0; i < options.sack_count; ++i) {
      const std::uint32_t first = one.sent - input.pair();
      options.sacks[i] = {.first = first, .end = first + input.offset()};
    }
  }

  void to_clients(PacketBatch& batch) override {
    notice();
    for (const Packet& packet : batch) {
      const auto view = parse_ip(packet.bytes());
      PENSTOCK_ASSERT(view && check_offload(packet.bytes(), *view, packet.offload));
      const auto segment = parse_tcp(packet.bytes(), *view);
      if (segment) heard_by_client(packet, *segment);
      credit_ -= std::min(credit_, packet.footprint());
    }
    batch.clear();
  }

  void heard_by_client(const Packet& packet, const TcpView& segment) {
    const auto found =
        std::ranges::find_if(known_, [&](const Known& each) { return each.ends.client.port == segment.destination; });
    PENSTOCK_ASSERT(found != known_.end() && found->ends.server.port == segment.source);
    Known& one = *found;
    if ((segment.flags & kTcpRst) != 0) {
      PENSTOCK_ASSERT(segment.payload_size == 0);
      return;
    }
    const bool speaks = (segment.flags & kTcpSyn) != 0 && connected_.contains(one.stream);
    if (!one.peer_origin && !speaks && one.former) return;
    if ((segment.flags & kTcpSyn) != 0) {
      PENSTOCK_ASSERT(connected_.contains(one.stream) && segment.payload_size == 0);
      PENSTOCK_ASSERT(!one.peer_origin || *one.peer_origin == segment.sequence);
      one.peer_origin = segment.sequence;
    }
    PENSTOCK_ASSERT(one.peer_origin);
    const std::uint32_t end = segment.sequence + static_cast<std::uint32_t>(segment.payload_size) +
                              ((segment.flags & (kTcpFin | kTcpSyn)) != 0 ? 1 : 0);
    if ((segment.flags & kTcpSyn) != 0 || static_cast<std::int32_t>(end - one.sent) > 0) one.sent = end;
    if ((segment.flags & kTcpAck) != 0) {
      one.acknowledged = segment.acknowledgement;
      one.edge = segment.acknowledgement + (std::uint32_t{segment.window} << 7);
    }
    if (segment.payload_size == 0) return;
    const std::uint32_t place = segment.sequence - *one.peer_origin - 1;
    PENSTOCK_ASSERT(place + segment.payload_size <= said_[one.stream]);
    const ByteView bytes = packet.bytes().subspan(segment.payload, segment.payload_size);
    PENSTOCK_ASSERT(pattern_.matching(place, bytes) == bytes.size());
  }

  // ---- the queue ----

  std::size_t credit(const Endpoint& /*client*/) override { return credit_; }
  router::PortId wait_for_credit(const Endpoint& /*client*/, router::CreditWaiter& waiter) override {
    PENSTOCK_ASSERT(std::ranges::find(waiters_, &waiter) == waiters_.end());
    waiters_.push_back(&waiter);
    return {.shard = 0, .slot = 0, .generation = 1};
  }
  void cancel_wait(router::PortId /*port*/, router::CreditWaiter& waiter) override { std::erase(waiters_, &waiter); }
  void closed(const TcpEnds& ends) override {
    PENSTOCK_ASSERT(std::ranges::any_of(known_, [&](const Known& each) { return each.ends == ends; }));
  }
  void give_credit(std::uint8_t how_much) {
    credit_ = how_much == 255 ? SIZE_MAX : std::size_t{how_much} * how_much * 8;
    tell();
    run();
  }
  void tell() {
    for (std::size_t turns = waiters_.size(); turns > 0 && !waiters_.empty() && credit_ > 0; --turns) {
      router::CreditWaiter* const waiter = waiters_.front();
      waiters_.pop_front();
      waiter->on_credit();
    }
  }

  // ---- how it ends ----

  void run() {
    loop_.run_until_idle();
    notice();
    for (const auto& [stream, what] : streams_.open) check_heard(stream, what.heard);
    for (const auto& [stream, what] : streams_.closed) check_heard(stream, what.heard);
    streams_.closed.clear();
  }
  void check_heard(HostStreams::Stream stream, const std::vector<std::uint8_t>& heard) {
    if (heard.empty()) return;
    const auto is_from = [&](std::uint32_t first) {
      for (std::size_t i = 0; i < heard.size(); ++i)
        if (heard[i] != client_byte(first + static_cast<std::uint32_t>(i))) return false;
      return true;
    };
    const auto found = first_of_.find(stream);
    PENSTOCK_ASSERT(found != first_of_.end() ? is_from(found->second) : std::ranges::any_of(answers_[stream], is_from));
  }
  void fall_silent() {
    credit_ = SIZE_MAX;
    for (int i = 0; i < 3; ++i) {
      terminator_.flush();
      tell();
      std::vector<HostStreams::Stream> waiting;
      for (const auto& [stream, what] : streams_.open)
        if (!what.connected && what.error == StreamError::none) waiting.push_back(stream);
      for (const HostStreams::Stream stream : waiting) streams_.refuse(stream, StreamError::timed_out);
      credit_ = SIZE_MAX;
      loop_.advance(std::chrono::hours(3));
      run();
    }
    PENSTOCK_ASSERT(terminator_.connections() == 0 && terminator_.timers() == 0);
    PENSTOCK_ASSERT(streams_.open.empty() && waiters_.empty() && loop_.timers() == 0);
  }

  test::ManualLoop loop_;
  SeededRandom random_{1};
  FakeStreams streams_{loop_};
  TcpTerminator::Settings settings_{.most_connections = kMostConnections,
                                    .most_time_wait = 2,
                                    .held_bytes_of_client = 20'000,
                                    .keepalive = std::chrono::minutes(10)};
  TcpTerminator terminator_{loop_, random_, settings_, streams_, *this};
  std::array<Known, kEnds> known_;
  Pattern pattern_{7};
  HostStreams::Stream noticed_ = 0;
  std::map<HostStreams::Stream, std::uint64_t> said_;
  std::map<HostStreams::Stream, std::uint32_t> first_of_;              // where each stream's client begins
  std::map<HostStreams::Stream, std::vector<std::uint32_t>> answers_;  // or may have begun
  std::set<HostStreams::Stream> connected_;                            // or were
  std::list<router::CreditWaiter*> waiters_;
  std::size_t credit_ = SIZE_MAX;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  World world;
  world.play(Input({data, std::min<std::size_t>(size, 4096)}));
  return 0;
}
