// What translation costs a packet, with few and with many mappings, each of one flow; and what they take of memory. And
// what the exit around it costs, where packets of many conversations come together.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

#include "base/random.h"
#include "bench/micro/iterations.h"
#include "egress/nat/nat.h"
#include "egress/nat/nat_exit.h"
#include "packet/super_packet.h"
#include "test/support/packets.h"

namespace penstock::egress {
namespace {

// Two addresses with all their ports.
class TwoAddresses final : public ExternalPorts {
 public:
  std::expected<Endpoint, NoPort> acquire(Transport, Family, Binding) override {
    const std::uint32_t number = next_++;
    return Endpoint{IpAddress::v4(0xC0000201 + number / kPorts), static_cast<std::uint16_t>(1024 + number % kPorts)};
  }
  void release(Transport, const Endpoint&, Binding) override {}

 private:
  static constexpr std::uint32_t kPorts = 64512;
  std::uint32_t next_ = 0;
};

constexpr std::uint32_t kServer = 0x5DB8D822;

Packet datagram(std::uint32_t from, std::uint16_t port) {
  const std::string udp{static_cast<char>(port >> 8), static_cast<char>(port), 0, 53, 0, 72, 0, 0};
  Packet packet =
      test::ip_packet(IpAddress::v4(from).to_string(), IpAddress::v4(kServer).to_string(), udp + std::string(64, 'x'));
  write_partial_checksum(packet.mutable_bytes(), transport_of(packet.bytes()).value());
  packet.offload.needs_checksum = true;
  return packet;
}

// Each member has 64 conversations.
struct Place {
  explicit Place(std::size_t mappings) : nat({1, 2}, {}, ports, clock.now()) {
    for (std::size_t i = 0; i < mappings; ++i) {
      const auto member = static_cast<std::uint32_t>(i / 64);
      Packet packet = datagram(0x0A640002 + member, static_cast<std::uint16_t>(1000 + i % 64));
      packet.source = {.slot = member + 1, .generation = 1};
      if (asked.size() < 4096) asked.push_back(packet.clone());
      if (!nat.translate_outbound(packet, parse_ip(packet.bytes()).value(), clock.now())) std::abort();
    }
    SeededRandom random(1);
    for (std::size_t i = asked.size(); i-- > 1;) std::swap(asked[i], asked[random.next32() % (i + 1)]);
  }
  ManualClock clock;
  TwoAddresses ports;
  Nat nat;
  std::vector<Packet> asked;  // some of them, in any order
};

// Out and in: the packet comes back to where it was, so it serves again.
void translate_out_and_in(benchmark::State& state) {
  Place place(static_cast<std::size_t>(state.range(0)));
  std::size_t next = 0;
  for (auto round : state) {
    Packet& packet = place.asked[next++ % place.asked.size()];
    const IpView out = parse_ip(std::as_const(packet).bytes()).value();
    if (!place.nat.translate_outbound(packet, out, place.clock.now())) std::abort();
    const TranslationView at = translation_of(std::as_const(packet).bytes(), out).value();
    const IpView sent = parse_ip(std::as_const(packet).bytes()).value();
    rewrite(packet, at, Side::destination, {sent.source, at.ends.source});
    rewrite(packet, at, Side::source, {IpAddress::v4(kServer), 53});
    const IpView in = parse_ip(std::as_const(packet).bytes()).value();
    if (!place.nat.translate_inbound(packet, in, place.clock.now())) std::abort();
    const IpView back = parse_ip(std::as_const(packet).bytes()).value();
    const TranslationView home = translation_of(std::as_const(packet).bytes(), back).value();
    rewrite(packet, home, Side::source, {back.destination, home.ends.destination});
    rewrite(packet, home, Side::destination, {IpAddress::v4(kServer), 53});
  }
  state.counters["bytes_a_mapping"] =
      static_cast<double>(place.nat.table().memory()) / static_cast<double>(place.nat.table().mappings());
}
BENCHMARK(translate_out_and_in)->Arg(10)->Arg(1'000)->Arg(100'000)->Apply(iterations_asked_for);

// ---- the exit ----

class StandingStill final : public EventLoop {
 public:
  TimePoint now() const override { return clock_.now(); }
  WallTime wall_now() const override { return clock_.wall_now(); }
  void post(Task) override {}
  TimerId start_timer(TimePoint, Task) override { return {}; }
  void cancel_timer(TimerId) override {}
  std::unique_ptr<Watch> watch(NativeHandle) override { std::abort(); }

 private:
  ManualClock clock_;
};

// Counts, and forgets.
class Outside final : public ExternalGateway {
 public:
  Result<void> start(Inside& inside) override {
    inside_ = &inside;
    return {};
  }
  void send_outbound(std::vector<OutboundPacket>& batch) override {
    if (keep) {
      for (OutboundPacket& one : batch) kept.push_back(std::move(one.packet));
    }
    count += batch.size();
    batch.clear();
  }
  void stop() override {}
  Inside& inside() { return *inside_; }

  std::size_t count = 0;
  bool keep = false;
  PacketBatch kept;

 private:
  Inside* inside_ = nullptr;
};

class Members final : public router::Port {
 public:
  void send(PacketBatch& batch) override {
    count += batch.size();
    batch.clear();
  }
  std::size_t credit() const override { return SIZE_MAX; }
  std::size_t count = 0;
};

constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kAck = 0x10;

Packet segment_of(const Endpoint& from, const Endpoint& to, std::uint8_t flags) {
  std::string tcp(20 + 64, 'x');
  store_be16(reinterpret_cast<std::uint8_t*>(tcp.data()), from.port);
  store_be16(reinterpret_cast<std::uint8_t*>(tcp.data()) + 2, to.port);
  tcp[12] = 0x50;
  tcp[13] = static_cast<char>(flags);
  Packet packet = test::ip_packet(from.address.to_string(), to.address.to_string(), tcp, kProtocolTcp);
  write_partial_checksum(packet.mutable_bytes(), transport_of(packet.bytes()).value());
  packet.offload.needs_checksum = true;
  return packet;
}

struct ExitPlace {
  static constexpr std::size_t kTogether = 16;

  explicit ExitPlace(bool tcp) {
    shard.router().set_routes(router::RouteTable()
                                  .with(Prefix::parse("10.100.0.0/16").value(), shard.router().add_port(members))
                                  .with(Prefix::parse("0.0.0.0/0").value(), exit.id()));
    if (!exit.start()) std::abort();
    const Endpoint server{IpAddress::v4(kServer), tcp ? std::uint16_t{443} : std::uint16_t{53}};
    for (std::uint16_t i = 0; i < kTogether * 16; ++i) {
      const Endpoint member{IpAddress::v4(0x0A640002), static_cast<std::uint16_t>(1000 + i)};
      Packet first = tcp ? segment_of(member, server, kSyn) : datagram(0x0A640002, member.port);
      first.source = {.slot = 1, .generation = 1};
      out.push_back(tcp ? segment_of(member, server, kAck) : first.clone());
      out.back().source = first.source;
      PacketBatch batch;
      batch.push_back(std::move(first));
      outside.keep = true;
      exit.send(batch);
      outside.keep = false;
      if (outside.kept.size() != 1) std::abort();
      const Packet sent = std::move(outside.kept.front());
      outside.kept.clear();
      const IpView view = parse_ip(sent.bytes()).value();
      const Endpoint outer{view.source, ports_of(sent.bytes(), view)->source};
      in.push_back(tcp ? segment_of(server, outer, kAck) : answer_of(sent, outer));
    }
  }
  static Packet answer_of(const Packet& sent, const Endpoint& outer) {
    Packet answer = sent.clone();
    const IpView view = parse_ip(sent.bytes()).value();
    const TranslationView at = translation_of(sent.bytes(), view).value();
    rewrite(answer, at, Side::source, {view.destination, at.ends.destination});
    rewrite(answer, at, Side::destination, outer);
    return answer;
  }

  StandingStill loop;
  router::Shard shard{0, loop};
  TwoAddresses ports;
  Outside outside;
  Members members;
  NatExit exit{shard,
               {.nat = {}, .fragments = {}, .inner4 = {}, .inner6 = {}},
               {.table = {1, 2}, .fragments = {}},
               ExitPolicy({}),
               outside,
               ports};
  PacketBatch out;
  PacketBatch in;
};

// Sixteen packets of as many conversations out and sixteen in, copies of their packets included.
void through_the_exit(benchmark::State& state) {
  ExitPlace place(state.range(0) != 0);
  const std::size_t before = place.outside.count;
  std::size_t next = 0;
  PacketBatch batch;
  for (auto round : state) {
    for (std::size_t i = 0; i < ExitPlace::kTogether; ++i) batch.push_back(place.out[(next + i) % 256].clone());
    place.exit.send(batch);
    for (std::size_t i = 0; i < ExitPlace::kTogether; ++i) batch.push_back(place.in[(next + i) % 256].clone());
    place.outside.inside().from_outside(batch);
    next += ExitPlace::kTogether;
  }
  const std::size_t packets = static_cast<std::size_t>(state.iterations()) * ExitPlace::kTogether;
  if (place.outside.count - before != packets || place.members.count != packets) std::abort();
}
BENCHMARK(through_the_exit)->ArgName("tcp")->Arg(0)->Arg(1)->Apply(iterations_asked_for);

}  // namespace
}  // namespace penstock::egress
