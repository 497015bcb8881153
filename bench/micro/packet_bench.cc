// What the primitives of packet/ cost: a super-packet of 64 KiB as a kernel makes it, ordinary packets, and the queue.
#include <benchmark/benchmark.h>

#include "bench/micro/iterations.h"
#include "packet/checksum.h"
#include "packet/coalesce.h"
#include "packet/flow_queue.h"
#include "packet/packet_samples.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

using Gso = Offload::Gso;

constexpr std::uint16_t kMss = 1448;

samples::Sample sample_of(std::size_t payload) {
  SeededRandom random(1);
  samples::Sample sample;
  sample.options = samples::Bytes(12, 1);
  sample.payload = samples::random_bytes(random, payload);
  return sample;
}

Packet super_packet(std::size_t segments) {
  samples::Sample sample = sample_of(segments * kMss);
  sample.offload = {.gso = Gso::tcp4, .needs_checksum = true, .segment_size = kMss};
  return make(sample);
}

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * static_cast<std::int64_t>(state.iterations()));
}

void checksum(benchmark::State& state) {
  const samples::Bytes bytes(static_cast<std::size_t>(state.range(0)), 0x55);
  for (auto round : state) benchmark::DoNotOptimize(checksum_add(bytes));
  count_bytes(state, bytes.size());
}
BENCHMARK(checksum)->Arg(20)->Arg(1448)->Arg(65535)->Apply(iterations_asked_for);

void copy_and_checksum(benchmark::State& state) {
  const samples::Bytes from(static_cast<std::size_t>(state.range(0)), 0x55);
  samples::Bytes to(from.size());
  for (auto round : state) benchmark::DoNotOptimize(checksum_copy(to.data(), from));
  count_bytes(state, from.size());
}
BENCHMARK(copy_and_checksum)->Arg(1448)->Arg(65535)->Apply(iterations_asked_for);

// A copy of the super-packet, since it is consumed, is part of what is measured; copy_super_packet says how much.
void copy_super_packet(benchmark::State& state) {
  const Packet super = super_packet(static_cast<std::size_t>(state.range(0)));
  for (auto round : state) benchmark::DoNotOptimize(super.clone());
  count_bytes(state, super.size());
}
BENCHMARK(copy_super_packet)->Arg(2)->Arg(44)->Apply(iterations_asked_for);

void segment_super_packet(benchmark::State& state) {
  const Packet super = super_packet(static_cast<std::size_t>(state.range(0)));
  PacketBatch out;
  for (auto round : state) {
    segment(super.clone(), out);
    benchmark::DoNotOptimize(out.data());
    out.clear();
  }
  count_bytes(state, super.size());
}
BENCHMARK(segment_super_packet)->Arg(2)->Arg(44)->Apply(iterations_asked_for);

void split_super_packet(benchmark::State& state) {
  const Packet super = super_packet(44);
  for (auto round : state) {
    Packet rest = super.clone();
    benchmark::DoNotOptimize(split_front(rest, static_cast<std::size_t>(state.range(0))));
  }
  count_bytes(state, super.size());
}
BENCHMARK(split_super_packet)->Arg(1)->Arg(22)->Arg(43)->Apply(iterations_asked_for);

// Segments of `flows` flows in turn; making the batch anew is part of it, as copy_batch says.
PacketBatch segments_of_flows(std::int64_t flows, std::size_t payload) {
  PacketBatch batch;
  samples::Sample sample = sample_of(payload);
  for (int i = 0; i < 44; ++i) {
    sample.source_port = static_cast<std::uint16_t>(i % flows);
    if (i % flows == 0) {
      sample.sequence += static_cast<std::uint32_t>(payload);
      ++sample.identification;
    }
    batch.push_back(make(sample));
  }
  return batch;
}

void coalesce_batch(benchmark::State& state, bool coalescing, std::int64_t flows, std::size_t payload) {
  const PacketBatch segments = segments_of_flows(flows, payload);
  Coalescer coalescer({Gso::tcp4, Gso::tcp6});
  PacketBatch batch;
  for (auto round : state) {
    for (const Packet& packet : segments) batch.push_back(packet.clone());
    if (coalescing) coalescer.coalesce(batch);
    benchmark::DoNotOptimize(batch.data());
    batch.clear();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(segments.size()) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK_CAPTURE(coalesce_batch, copies_alone, false, 1, kMss)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(coalesce_batch, one_flow, true, 1, kMss)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(coalesce_batch, eight_flows, true, 8, kMss)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(coalesce_batch, no_neighbours, true, 44, kMss)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(coalesce_batch, copies_of_acknowledgements_alone, false, 1, 0)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(coalesce_batch, acknowledgements, true, 1, 0)->Apply(iterations_asked_for);

void parse(benchmark::State& state) {
  const Packet packet = super_packet(1);
  for (auto round : state) benchmark::DoNotOptimize(parse_ip(packet.bytes()));
}
BENCHMARK(parse)->Apply(iterations_asked_for);

void find_transport(benchmark::State& state) {
  const Packet packet = super_packet(1);
  const IpView view = *parse_ip(packet.bytes());
  for (auto round : state) benchmark::DoNotOptimize(transport_of(packet.bytes(), view));
}
BENCHMARK(find_transport)->Apply(iterations_asked_for);

void check(benchmark::State& state) {
  const Packet packet = super_packet(2);
  const IpView view = *parse_ip(packet.bytes());
  for (auto round : state) benchmark::DoNotOptimize(check_offload(packet.bytes(), view, packet.offload));
}
BENCHMARK(check)->Apply(iterations_asked_for);

// A turn's worth of ordinary packets of `flows` flows, pushed and taken; the packets come back, so nothing is copied.
void push_and_take(benchmark::State& state) {
  ManualClock clock;
  FlowQueue queue({.first = 1, .second = 2}, std::size_t{1} << 30);
  PacketBatch batch = segments_of_flows(state.range(0), kMss);
  PacketBatch out;
  for (auto round : state) {
    for (Packet& packet : batch) queue.push(std::move(packet), clock.now());
    batch.clear();
    queue.take(out, std::size_t{1} << 20, 0, clock.now());
    batch.swap(out);
    clock.advance(std::chrono::microseconds(100));
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(batch.size()) * static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(push_and_take)->Arg(1)->Arg(8)->Arg(44)->Apply(iterations_asked_for);

}  // namespace
}  // namespace penstock
