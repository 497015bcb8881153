// What a packet meets besides: the batch and the frame around it, and the router that says where it goes.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/mask.h"
#include "base/random.h"
#include "bench/micro/iterations.h"
#include "packet/super_packet.h"
#include "protocol/batch.h"
#include "router/route_table.h"
#include "router/router.h"
#include "test/support/packets.h"
#include "websocket/frame.h"

namespace penstock {
namespace {

void mask(benchmark::State& state) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(state.range(0)), 0x55);
  for (auto round : state) {
    apply_mask(bytes, 0x12345678);
    benchmark::DoNotOptimize(bytes.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(mask)->Arg(64)->Arg(1448)->Arg(65536)->Apply(iterations_asked_for);

void mask_a_copy(benchmark::State& state) {
  const std::vector<std::uint8_t> from(static_cast<std::size_t>(state.range(0)), 0x55);
  std::vector<std::uint8_t> to(from.size());
  for (auto round : state) {
    copy_masked(to.data(), from, 0x12345678);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(mask_a_copy)->Arg(64)->Arg(1448)->Arg(65536)->Apply(iterations_asked_for);

// A client's frame, left masked where it lies; putting it into the queue is part of what is measured.
void read_frame(benchmark::State& state) {
  SeededRandom random(1);
  const std::vector<std::uint8_t> payload(static_cast<std::size_t>(state.range(0)), 0x55);
  ByteQueue frame;
  websocket::append_frame(frame, websocket::Role::client, websocket::Opcode::binary, payload, random);
  websocket::MessageDecoder decoder(websocket::Role::server, payload.size());
  ByteQueue in;
  for (auto round : state) {
    in.append(frame.view());
    while (true) {
      const auto message = decoder.next(in);
      benchmark::DoNotOptimize(message);
      if (!message || !*message) break;
    }
  }
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(read_frame)->Arg(64)->Arg(1448)->Arg(65536)->Apply(iterations_asked_for);

void write_frame(benchmark::State& state) {
  SeededRandom random(1);
  const std::vector<std::uint8_t> payload(static_cast<std::size_t>(state.range(0)), 0x55);
  ByteQueue out;
  for (auto round : state) {
    websocket::append_frame(out, websocket::Role::client, websocket::Opcode::binary, payload, random);
    benchmark::DoNotOptimize(out.view().data());
    out.clear();
  }
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(write_frame)->Arg(64)->Arg(1448)->Arg(65536)->Apply(iterations_asked_for);

// A client's message of some packets of some size: decoded, taken apart, each packet copied out of it, which unmasks
// it, and its headers believed or not.
void read_batch(benchmark::State& state) {
  SeededRandom random(1);
  const auto packets = static_cast<std::size_t>(state.range(0));
  const auto size = static_cast<std::size_t>(state.range(1));
  std::vector<std::uint8_t> payload;
  for (std::size_t i = 0; i < packets; ++i) {
    const Packet packet = test::ip_packet("10.0.0.2", "10.0.0.3", std::string(size - 20, 'x'));
    payload.resize(payload.size() + protocol::kEntryHeader);
    protocol::write_entry_header(&payload[payload.size() - protocol::kEntryHeader], packet);
    payload.insert(payload.end(), packet.bytes().begin(), packet.bytes().end());
  }
  ByteQueue frame;
  websocket::append_frame(frame, websocket::Role::client, websocket::Opcode::binary, payload, random);
  websocket::MessageDecoder decoder(websocket::Role::server, payload.size());
  ByteQueue in;
  for (auto round : state) {
    in.append(frame.view());
    while (true) {
      const auto message = decoder.next(in);
      if (!message || !*message) break;
      protocol::BatchReader reader((*message)->masked());
      while (const auto entry = reader.next()) {
        const Packet packet = Packet::copy_of(entry->packet);
        const auto view = parse_ip(packet.bytes());
        if (!view || !check_offload(packet.bytes(), *view, entry->offload)) std::abort();
      }
    }
  }
  state.SetItemsProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(read_batch)
    ->Args({1, 64})
    ->Args({45, 64})
    ->Args({45, 1420})
    ->Args({1, 65535})
    ->Args({2, 65535})
    ->Apply(iterations_asked_for);

// A /32 for each session, one pool, and the way out.
void find_route(benchmark::State& state) {
  const IpAddress base = IpAddress::v4(0x0A640000);
  router::RouteTable table = router::RouteTable().with(Prefix(), {.slot = 1, .generation = 1});
  table = table.with(Prefix(base, 16), {.slot = 2, .generation = 1});
  const auto sessions = static_cast<std::uint32_t>(state.range(0));
  for (std::uint32_t i = 0; i < sessions; ++i) {
    table = table.with(Prefix::host(base.plus(i)), {.slot = i, .generation = 1});
  }
  SeededRandom random(1);
  std::vector<IpAddress> asked(1024);
  for (IpAddress& address : asked) address = base.plus(random.next32() % sessions);
  std::size_t next = 0;
  for (auto round : state) benchmark::DoNotOptimize(table.find(asked[next++ % asked.size()]));
}
BENCHMARK(find_route)->Arg(1)->Arg(10'000)->Apply(iterations_asked_for);

// From one session's link to another's: guard, meter, route, queue. 16 packets a turn; copying them is part of it.
void route_a_batch(benchmark::State& state) {
  class SilentLink final : public router::SessionLink {
   public:
    void packets_waiting() override {}
    void end(std::string_view) override {}
    void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(true); }
  };
  constexpr int kBatch = 16;
  router::DropCounters drops;
  const ManualClock clock;
  const auto session = [&](std::uint32_t slot, const char* address) {
    return std::make_unique<router::Session>(router::SessionSpec{.id = {.slot = slot, .generation = 1},
                                                                 .name = address,
                                                                 .prefixes = {Prefix::parse(address).value()},
                                                                 .queue_bytes = std::size_t{8} << 20,
                                                                 .usage = std::make_shared<router::Usage>(),
                                                                 .member = slot},
                                             drops, clock);
  };
  const auto alice = session(1, "10.0.0.2");
  const auto bob = session(2, "10.0.0.3");
  SilentLink link;
  bob->attach(link, 1, "");
  router::Router router(0, [](router::PortId, PacketBatch&) {}, [](Task) {});
  router.set_routes(router::RouteTable()
                        .with(Prefix::parse("10.0.0.2").value(), router.add_port(*alice))
                        .with(Prefix::parse("10.0.0.3").value(), router.add_port(*bob)));
  const auto size = static_cast<std::size_t>(state.range(0));
  const Packet pattern = size > 1420 ? test::super_packet("10.0.0.2", "10.0.0.3", size - 40, 1380)
                                     : test::ip_packet("10.0.0.2", "10.0.0.3", std::string(size - 20, 'x'));
  PacketBatch in, out;
  std::size_t arrived = 0;
  for (auto round : state) {
    for (int i = 0; i < kBatch; ++i) in.push_back(pattern.clone());
    router.from_session(*alice, in);
    bob->take(out, std::size_t{8} << 20);
    arrived += out.size();
    out.clear();
  }
  if (arrived != kBatch * static_cast<std::size_t>(state.iterations())) state.SkipWithError("packets were lost");
  state.SetItemsProcessed(kBatch * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(route_a_batch)->Arg(64)->Arg(1420)->Arg(65535)->Apply(iterations_asked_for);

}  // namespace
}  // namespace penstock
