// What connections share: a client's queue, the memory for what servers do not read, sockets, and patience.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <deque>
#include <map>

#include "egress/tcp/arrivals.h"
#include "egress/tcp/socket_streams.h"
#include "egress/tcp/tcp_connection.h"
#include "egress/tcp/tcp_script_testing.h"
#include "net/file_descriptor.h"

namespace penstock::egress::testing {
namespace {

const Says plain{.mss = 1460, .scale = 7, .sack = true};

// A client's queue, as router::Session has one: so many bytes of memory, and a link that takes them.
class QueuePort final : public router::Port {
 public:
  explicit QueuePort(std::size_t most) : most_(most) {}
  void send(PacketBatch& batch) override {
    for (Packet& packet : batch) push(std::move(packet));
    batch.clear();
  }
  void push(Packet&& packet) {
    bytes_ += packet.footprint();
    queue_.push_back(std::move(packet));
  }
  std::size_t credit() const override { return most_ > bytes_ ? most_ - bytes_ : 0; }
  PacketBatch take(std::size_t burst) {
    PacketBatch taken;
    if (queue_.empty()) return taken;  // as Link::pump()
    std::size_t bytes = 0;
    while (!queue_.empty() && bytes < burst) {
      bytes += queue_.front().size();
      bytes_ -= queue_.front().footprint();
      taken.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    grant_credit();
    return taken;
  }
  bool empty() const { return queue_.empty(); }

 private:
  std::size_t most_;
  std::size_t bytes_ = 0;
  std::deque<Packet> queue_;
};

// Clients with queues of their own, by address; they acknowledge what they get.
class QueueWorld final : public TcpTerminator::Clients {
 public:
  explicit QueueWorld(std::size_t queue, const TcpTerminator::Settings& settings = {})
      : queue_(queue), terminator(loop, random, settings, streams, *this) {
    streams.set_events(terminator.events());
  }
  struct One {
    TcpEnds ends;
    std::uint32_t next = 1;      // it says
    std::uint32_t received = 0;  // in order
    std::uint64_t got = 0;
    HostStreams::Stream stream = HostStreams::kNone;
  };
  QueuePort& port(const Endpoint& client) {
    auto& port = ports[client.address.to_string()];
    if (!port) port = std::make_unique<QueuePort>(queue_);
    return *port;
  }
  void say(const One& one, std::uint8_t flags) {
    TcpHeader header{.from = one.ends.client, .to = one.ends.server, .sequence = one.next, .flags = flags};
    if ((flags & kAck) != 0) header.acknowledgement = one.received;
    header.window = 65535;
    if ((flags & kSyn) != 0) {
      header.sequence = 0;
      header.options.mss = 1460;
      header.options.window_scale = 10;
      header.options.sack_permitted = true;
    }
    Packet packet = tcp_packet(header);
    const IpView view = parse_ip(std::as_const(packet).bytes()).value();
    terminator.from_client(std::move(packet), view);
  }
  One& opens(std::string_view client, std::string_view server = "192.0.2.1:80") {
    One& one = ones.emplace_back();
    one.ends = {Endpoint::parse(client).value(), Endpoint::parse(server).value()};
    say(one, kSyn);
    terminator.flush();
    one.stream = streams.last();
    streams.accept(one.stream);
    loop.run_until_idle();
    drain(one, SIZE_MAX);
    drain(one, SIZE_MAX);
    return one;
  }
  void arrives(const Packet& packet) {
    const IpView view = parse_ip(packet.bytes()).value();
    const TcpView segment = parse_tcp(packet.bytes(), view).value();
    for (One& one : ones) {
      if (one.ends.client != Endpoint{view.destination, segment.destination}) continue;
      if ((segment.flags & kSyn) != 0) one.received = segment.sequence;
      const std::uint32_t end = segment.sequence + length_of(segment);
      if (length_of(segment) == 0) return;
      if (segment.sequence == one.received) {
        one.received = end;
        one.got += segment.payload_size;
      }
      say(one, kAck);
    }
  }
  void drain(const One& one, std::size_t burst) {
    for (const Packet& packet : port(one.ends.client).take(burst)) arrives(packet);
    terminator.flush();
    loop.run_until_idle();
  }

  void to_clients(PacketBatch& batch) override {
    for (Packet& packet : batch) {
      const IpView view = parse_ip(std::as_const(packet).bytes()).value();
      port({view.destination, 0}).push(std::move(packet));
    }
    batch.clear();
  }
  std::size_t credit(const Endpoint& client) override { return port(client).credit(); }
  router::PortId wait_for_credit(const Endpoint& client, router::CreditWaiter& waiter) override {
    port(client).wait_for_credit(waiter);
    waiting_at = &port(client);
    return {.slot = 1, .generation = 1};
  }
  void cancel_wait(router::PortId, router::CreditWaiter& waiter) override {
    for (auto& [name, port] : ports) port->cancel_wait(waiter);
  }
  void closed(const TcpEnds&) override {}

  std::size_t queue_;
  test::ManualLoop loop;
  SeededRandom random{1};
  FakeStreams streams{loop};
  std::map<std::string, std::unique_ptr<QueuePort>> ports;
  QueuePort* waiting_at = nullptr;
  std::deque<One> ones;
  TcpTerminator terminator;
};

TEST(TcpSharing, DownloadsThatShareAFullQueueShareItEvenly) {
  constexpr int kDownloads = 8;
  QueueWorld world(1 << 20);
  for (int i = 0; i < kDownloads; ++i) {
    auto& one = world.opens("10.8.0.2:" + std::to_string(4000 + i));
    world.streams.say(one.stream, std::vector<std::uint8_t>(std::size_t{8} << 20));
  }
  world.loop.run_until_idle();
  for (int turn = 0; turn < 320; ++turn) {
    world.drain(world.ones.front(), 64 * 1024);
    world.loop.advance(1ms);
  }
  for (const auto& one : world.ones) EXPECT_GT(one.got, std::size_t{1} << 20) << one.ends.client.port;
}

// What has not left yet is taken off everybody's credit, and need not be his.
TEST(TcpSharing, PacketsForOthersDoNotStopAClient) {
  QueueWorld world(128 * 1024);  // as QueueBudget::kWhenSpent
  for (int i = 0; i < 8; ++i) world.opens("10.8.0." + std::to_string(2 + i) + ":4000");
  auto& events = world.terminator.events();
  for (auto& one : world.ones) {
    auto& stream = world.streams.at(one.stream);
    stream.inbox.assign(40'000, 7);
    events.ready(stream.cookie, {.readable = true});
  }
  events.turn_ends();
  for (int turn = 0; turn < 100; ++turn) {
    for (auto& one : world.ones) world.drain(one, SIZE_MAX);
    world.loop.advance(1s);
  }
  for (const auto& one : world.ones) EXPECT_EQ(one.got, 40'000U) << one.ends.client.to_string();
}

TEST(TcpSharing, WhoFillsTheHeldBytesDoesNotSlowOthersWhoseServersRead) {
  TcpWorld world({.held_bytes_of_client = 1 << 20});
  std::vector<std::unique_ptr<ScriptClient>> hostile;
  for (int i = 0; i < 8; ++i) {
    hostile.push_back(std::make_unique<ScriptClient>(world, "10.100.0.2:" + std::to_string(10'000 + i)));
    ScriptClient& client = *hostile.back();
    ScriptServer server{client};
    client.opens(plain);
    server.has_room(0);
    for (int turns = 0; turns < 1000 && client.next() != client.right_edge(); ++turns) {
      const std::size_t most = client.right_edge() - client.next();
      client.sends(kAck, {.data = std::min<std::size_t>(most, 14'000)});
      client.drain();
    }
  }
  ScriptClient good(world, "10.100.0.3:4000");
  ScriptServer server{good};
  good.opens(plain);
  // An upload with a round trip of 50 ms, for 10 s: each time all that the window has room for.
  const std::uint32_t from = good.acknowledged();
  for (int i = 0; i < 200; ++i) {
    const std::uint32_t room = std::min(good.right_edge() - good.next(), 256U * 1024);
    world.together([&] {
      for (std::uint32_t left = room; left != 0;) {
        const std::uint32_t some = std::min(left, 1400U);
        good.sends(kAck, {.data = some});
        left -= some;
      }
    });
    world.after(50ms);
    good.drain();
    while (before(good.acknowledged(), good.next())) {  // what was refused, again: a segment a round trip
      good.sends(kAck, {.seq = good.acknowledged(), .data = std::min(good.next() - good.acknowledged(), 1400U)});
      world.after(50ms);
      good.drain();
      ++i;
    }
  }
  EXPECT_GE(good.acknowledged() - from, 10U << 20) << "though its server reads all";
}

TEST(TcpSharing, AWindowThatIsFullIsFullForSmallSegmentsToo) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.opens(plain);
  server.has_room(0);
  std::uint32_t said = 0;
  for (int turns = 0; turns < 20'000; ++turns) {
    const std::uint32_t most = client.right_edge() - client.next();
    if (most == 0) break;
    const std::uint32_t some = most > 1400 ? 1400 : std::min(most, 100U);
    client.sends(kAck, {.data = some});
    said += some;
    client.sends(kAck, {.seq = client.next() - some, .data = some});  // again: is acknowledged at once
    client.drain();
  }
  EXPECT_LE(client.acknowledged(), TcpConnection::kFirstWindow + 64U * 1024) << "held for one connection";
}

Packet filled(std::size_t size) { return Packet::with_size(size); }

TEST(TcpSharing, SmallPiecesDoNotHoldLargeBuffers) {
  Arrivals arrivals;
  arrivals.start(100'000);
  for (int i = 0; i < 200; ++i) arrivals.put(arrivals.next() - 60'000, filled(65'535), 65'535 - 60'001, 60'001);
  EXPECT_EQ(arrivals.waiting(), 200U);
  EXPECT_LE(arrivals.footprint(), std::size_t{200} * 2048);
}

TEST(TcpSharing, WhileTheLinkIsAwayAClosedWindowCostsNoPatience) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.opens(plain);
  client.sends(kAck, {.window = 0});
  server.says(10'000);
  world.grants(0);  // the link is away: credit 0
  world.after(20min);
  client.loses_all();
  EXPECT_EQ(world.terminator.connections(), 1U);
}
TEST(TcpSharing, WhileTheLinkIsAwayKeepaliveCostsNoPatience) {
  TcpWorld world;
  ScriptClient client(world);
  client.opens(plain);
  world.after(2h - 1min);
  world.grants(0);
  world.after(20min);
  client.loses_all();
  EXPECT_EQ(world.terminator.connections(), 1U);
}

TEST(TcpSharing, AnAckAfterATimeoutWithoutCreditMakesUpForIt) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.window = 60'000;
  client.opens(plain);
  server.says(20'000);
  client.drain();
  world.grants(0);
  world.after(2s);  // RTO, no credit
  client.acks(1 + 10'000);
  world.grants(1 << 20);
  world.after(1ms);
  EXPECT_EQ(world.counters().retransmitted, 0U);
}

TEST(TcpSharing, AKeepaliveThatIsOverdueDoesNotSpin) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.opens(plain);
  world.after(2h - 100ms);
  client.drain();
  world.grants(0);
  world.grants(1 << 20);
  server.says(1000);
  world.grants(0);  // and the link goes
  client.loses_all();
  world.after(1s);
  int wakes = 0;
  for (const TimePoint until = world.loop.now() + 10s; world.loop.next_timer() && *world.loop.next_timer() < until;) {
    world.after(*world.loop.next_timer() - world.loop.now());
    ++wakes;
  }
  EXPECT_LE(wakes, 50);
}

// A link that was dead for half a minute.
TEST(TcpSharing, AClientThatIsHeardAgainIsSentWhatItMissesSoon) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.window = 60'000;
  client.opens({.mss = 1460, .scale = 7, .sack = true, .ts = true});
  server.says(1000);
  for (int i = 0; i < 300; ++i) {  // nothing gets through, as nobody knows yet
    world.after(100ms);
    client.loses_all();
  }
  client.sends(kAck, {.data = 1});  // a key is pressed
  const double waited = [&] {
    double sum = 0;
    while (!client.gets(1)) {
      world.after(100ms);
      sum += 0.1;
      if (sum > 100) break;
    }
    return sum;
  }();
  EXPECT_LE(waited, 1.0) << "seconds";
}

// Round trips that slow start hears of, at one acknowledgement for two segments and timestamps on all.
TEST(TcpSharing, SlowStartHearsOfEnoughRoundTripsToLeaveInTime) {
  TcpWorld world;
  ScriptClient client(world);
  ScriptServer server{client};
  client.window = 65'535;
  client.opens({.mss = 1460, .scale = 12, .sack = true, .ts = true});
  server.says(6 << 20);
  // The round trip is 20 ms, then grows by 10 ms each round: HyStart++ would leave slow start by the fourth round.
  std::size_t flight = 0;
  for (int round = 0; round < 8; ++round) {
    world.after(20ms + round * 20ms);
    const auto segments = client.drain();
    flight = 0;
    for (const Seen& seen : segments) {
      flight += seen.length();
      if (seen.length() == 0) continue;
      client.sends(kAck, {.ack = seen.end(), .stamps = TcpTimestamps{client.stamp(), seen.options.timestamps->value}});
    }
  }
  EXPECT_LE(flight, 600'000U) << "bytes a round, after the round trip has grown from 20 to 100 ms";
}

struct NoClients final : TcpTerminator::Clients {
  void to_clients(PacketBatch& batch) override { batch.clear(); }
  std::size_t credit(const Endpoint&) override { return SIZE_MAX; }
  router::PortId wait_for_credit(const Endpoint&, router::CreditWaiter&) override { return {}; }
  void cancel_wait(router::PortId, router::CreditWaiter&) override {}
  void closed(const TcpEnds&) override {}
};
TEST(TcpSharing, AStreamFromOutsideWhoseEndsAreTakenIsClosed) {
  test::ManualLoop loop;
  SeededRandom random{1};
  NoClients clients;
  auto streams = SocketStreams::create(loop, {}).value();
  TcpTerminator terminator(loop, random, {}, *streams, clients);
  streams->set_events(terminator.events());
  const TcpEnds ends{Endpoint::parse("192.0.2.1:8080").value(), Endpoint::parse("203.0.113.9:5000").value()};
  for (const bool is_first : {true, false}) {
    std::array<int, 2> pair{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()), 0);
    const net::FileDescriptor caller(pair[1]);
    EXPECT_EQ(terminator.open(ends, pair[0]), is_first);
  }
  EXPECT_EQ(streams->streams(), 1U);
}

TEST(TcpSharing, StrangersHaveNoMoreThanTheirPartOfTheConnections) {
  TcpWorld world({.most_from_outside = 2});
  ScriptClient first(world, "192.0.2.9:8080", "203.0.113.9:1");
  ScriptClient second(world, "192.0.2.9:8080", "203.0.113.9:2");
  ScriptClient third(world, "192.0.2.9:8080", "203.0.113.9:3");
  EXPECT_TRUE(first.is_called());
  EXPECT_TRUE(second.is_called());
  EXPECT_FALSE(third.is_called());
  ScriptClient member(world, "10.100.0.2:4000");
  member.opens(plain);
  world.terminator.abort(first.ends);
  EXPECT_TRUE(third.is_called());
}

}  // namespace
}  // namespace penstock::egress::testing
