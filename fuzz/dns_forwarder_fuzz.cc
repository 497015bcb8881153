// The DNS forwarder in a world of chance: queries good and bad, replies good, forged, late and cut, dead sockets,
// clients that leave, other servers, time. Every exchange is closed once, bounds hold, and when all time is over
// nothing waits.
#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/timer_queue.h"
#include "dns/forwarder.h"

namespace {

using namespace penstock;
using namespace penstock::dns;

constexpr std::size_t kInFlight = 6;
constexpr std::uint32_t kClientInFlight = 3;

// The input as numbers and runs of bytes; zeros when it is used up.
class Dice {
 public:
  explicit Dice(ByteView bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const std::uint8_t byte = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  ByteView take(std::size_t size) {
    const ByteView run = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(run.size());
    return run;
  }

 private:
  ByteView bytes_;
};

// Timers alone: the forwarder wants nothing else of a loop.
class Loop final : public EventLoop {
 public:
  TimePoint now() const override { return clock_.now(); }
  WallTime wall_now() const override { return clock_.wall_now(); }
  void post(Task) override { PENSTOCK_ASSERT(false); }
  TimerId start_timer(TimePoint at, Task task) override { return timers_.start(at, std::move(task)); }
  void cancel_timer(TimerId id) override { timers_.cancel(id); }
  std::unique_ptr<Watch> watch(NativeHandle) override { return nullptr; }

  void advance(Duration by) {
    const TimePoint until = now() + by;
    while (const auto next = timers_.next()) {
      if (*next > until) break;
      if (*next > now()) clock_.advance(*next - now());
      timers_.pop_due(now())();
    }
    clock_.advance(until - now());
  }

 private:
  ManualClock clock_;
  TimerQueue timers_;
};

class Wire final : public Upstream {
 public:
  struct Sent {
    Endpoint server;
    std::vector<std::uint8_t> bytes;
  };
  bool send(const Endpoint& server, ByteView query, Exchange exchange) override {
    return sockets && take(server, query, exchange);
  }
  bool send_stream(const Endpoint& server, ByteView query, Exchange exchange) override {
    return streams && take(server, query, exchange);
  }
  void close(Exchange exchange) override { PENSTOCK_ASSERT(open.erase(exchange) == 1); }

  std::map<Exchange, Sent> open;
  bool sockets = true;
  bool streams = true;

 private:
  bool take(const Endpoint& server, ByteView query, Exchange exchange) {
    PENSTOCK_ASSERT(Message::parse(query) && exchange != 0);
    PENSTOCK_ASSERT(open.emplace(exchange, Sent{server, {query.begin(), query.end()}}).second);
    return true;
  }
};

class Members final : public LanNames {
 public:
  std::vector<IpAddress> find(std::string_view) const override { return {}; }
  std::optional<std::string> find(const IpAddress&) const override { return std::nullopt; }
};

Endpoint server(unsigned n) { return {IpAddress::v4(0xC0000200U + n), 53}; }

std::vector<std::uint8_t> some_query(Dice& dice) {
  constexpr std::array kNames{"a.example", "b.example", "localhost", "x.penstock.internal", "9.0.100.10.in-addr.arpa"};
  const std::uint8_t kind = dice.next();
  if (kind % 8 == 0) {
    const ByteView raw = dice.take(dice.next());
    return {raw.begin(), raw.end()};
  }
  Head head;
  head.header.id = dice.next();
  head.header.recursion_desired = kind % 8 != 1;
  head.question = {Name::parse(kNames[dice.next() % kNames.size()]).value(), kind < 32 ? type::kAaaa : type::kA,
                   kClassIn};
  if (kind >= 128) head.edns = Edns{.udp_size = kOwnUdpSize, .version = 0, .dnssec_ok = kind >= 192};
  return write(head, {});
}

// Good, but for what the dice say.
std::vector<std::uint8_t> some_reply(Dice& dice, const Wire::Sent& sent) {
  Head head = Message::parse(sent.bytes).value();
  const std::uint8_t kind = dice.next();
  head.header.response = true;
  head.header.rcode = kind % 8;
  head.header.truncated = kind >= 224;
  if (kind % 16 >= 8) head.edns.reset();
  if (kind % 32 >= 24) head.spelling.clear();
  Records records;
  const std::uint8_t count = dice.next() % 8;
  for (std::uint8_t i = 0; i < count; ++i)
    records.add_address(Section::answer, head.question.name, dice.next(), IpAddress::v4(i));
  if (kind % 64 >= 48) records.add_soa(Section::authority, Name::parse("example").value(), dice.next());
  auto bytes = write(head, records);
  for (std::uint8_t flips = dice.next() % 4; flips > 1; --flips) bytes[dice.next() % bytes.size()] ^= dice.next();
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Dice dice({data, size});
  Loop loop;
  SeededRandom random(dice.next());
  const Members members;
  const LocalZones zones({.subnets = {Prefix(IpAddress::v4(0x0A640000), 24)}}, members);
  Wire wire;
  {
    Forwarder forwarder(loop, random, wire, zones,
                        {.in_flight = kInFlight,
                         .client = {.rate = 50, .burst = 20, .in_flight = kClientInFlight},
                         .cache = {.entries = 4, .bytes = 4000}},
                        [](const ClientKey& client, ByteView answer) {
                          PENSTOCK_ASSERT(parse_header(answer)->response);
                          PENSTOCK_ASSERT(client.stream != 0 || answer.size() <= kOwnUdpSize);
                          PENSTOCK_ASSERT(answer.size() == kHeaderSize || Message::parse(answer));
                        });
    forwarder.set_servers(std::array{server(1), server(2)});
    for (int turns = 0; !dice.empty() && turns < 2000; ++turns) {
      const std::uint8_t move = dice.next();
      const auto open = [&] { return std::next(wire.open.begin(), dice.next() % static_cast<int>(wire.open.size())); };
      switch (move % 8) {
        case 0:
        case 1: {
          const std::uint8_t who = dice.next();
          const ClientKey client{.client = who % 4U, .from = server(who % 8U), .stream = who >= 128 ? 1U : 0U};
          forwarder.on_query(client, some_query(dice));
          break;
        }
        case 2:
        case 3:
          if (!wire.open.empty()) {
            const auto it = open();
            const auto [exchange, sent] = *it;
            forwarder.on_reply(exchange, move < 240 ? sent.server : server(3), some_reply(dice, sent));
          } else {
            forwarder.on_reply(dice.next(), server(1), dice.take(dice.next()));
          }
          break;
        case 4:
          if (!wire.open.empty()) {
            const Exchange exchange = open()->first;
            wire.open.erase(exchange);
            forwarder.on_failed(exchange);
          }
          break;
        case 5: loop.advance(std::chrono::milliseconds(10 * dice.next())); break;
        case 6:
          wire.sockets = move < 224;
          wire.streams = move % 16 < 8;
          break;
        case 7:
          if (move < 64) {
            forwarder.set_servers(std::array{server(dice.next() % 3U), server(2)});
          } else {
            forwarder.forget(dice.next() % 4U);
          }
          break;
      }
      PENSTOCK_ASSERT(forwarder.waiting() <= kInFlight && forwarder.questions() <= kInFlight);
      PENSTOCK_ASSERT(wire.open.size() <= kInFlight * Forwarder::kMaxAttempts);
      PENSTOCK_ASSERT(forwarder.cache().entries() <= 4 && forwarder.cache().bytes() <= 4000);
      PENSTOCK_ASSERT(forwarder.questions() > 0 || wire.open.empty());
    }
    if (size % 2 == 0) {
      loop.advance(Forwarder::kPatience);
      PENSTOCK_ASSERT(forwarder.waiting() == 0 && forwarder.questions() == 0 && wire.open.empty());
    }
  }
  PENSTOCK_ASSERT(wire.open.empty());
  return 0;
}
