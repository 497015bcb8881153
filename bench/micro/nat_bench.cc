// What translation costs a packet, with few and with many mappings, each of one flow; and what they take of memory.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

#include "base/random.h"
#include "bench/micro/iterations.h"
#include "egress/nat/nat.h"
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

}  // namespace
}  // namespace penstock::egress
