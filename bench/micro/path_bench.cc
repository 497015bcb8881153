// What a packet meets besides: the frame around it, and the table that says where it goes.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/random.h"
#include "router/route_table.h"
#include "websocket/frame.h"

namespace penstock {
namespace {

void mask(benchmark::State& state) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(state.range(0)), 0x55);
  for (auto round : state) {
    websocket::apply_mask(bytes, 0x12345678);
    benchmark::DoNotOptimize(bytes.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(mask)->Arg(64)->Arg(1448)->Arg(65536);

// A client's frame, unmasked where it lies; putting it into the queue is part of what is measured.
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
BENCHMARK(read_frame)->Arg(64)->Arg(1448)->Arg(65536);

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
BENCHMARK(write_frame)->Arg(64)->Arg(1448)->Arg(65536);

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
BENCHMARK(find_route)->Arg(1)->Arg(10'000);

}  // namespace
}  // namespace penstock
