// What TLS costs a packet once the handshake is done: a record of the cipher alone, by each library that is here, and
// the record layer around it.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <limits>
#include <vector>

#include "bench/micro/iterations.h"
#include "tls/record_layer.h"

namespace penstock::tls {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::array<std::uint8_t, 5> kHeader{23, 3, 3, 0, 0};
constexpr std::uint8_t kType = 23;

std::unique_ptr<Aead> make_or_skip(benchmark::State& state, MakeAead make) {
  auto aead = make(AeadKey());
  if (!aead) state.SkipWithError("this library is not built in, or not faster on this processor");
  return aead;
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.range(0) * static_cast<std::int64_t>(state.iterations()));
}

void seal_record(benchmark::State& state, MakeAead make) {
  const auto aead = make_or_skip(state, make);
  if (!aead) return;
  const Bytes text(static_cast<std::size_t>(state.range(0)), 0x55);
  Bytes out(text.size() + 1 + kAeadTagSize);
  AeadNonce nonce{};
  std::uint64_t sequence = 0;
  for (auto round : state) {
    store_be64(nonce.data() + 4, ++sequence);
    aead->seal(nonce, kHeader, text, kType, out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void open_record(benchmark::State& state, MakeAead make) {
  const auto aead = make_or_skip(state, make);
  if (!aead) return;
  const Bytes text(static_cast<std::size_t>(state.range(0)), 0x55);
  Bytes sealed(text.size() + 1 + kAeadTagSize);
  Bytes out(text.size() + 1);
  aead->seal({}, kHeader, text, kType, sealed.data());
  for (auto round : state) {
    if (!aead->open({}, kHeader, sealed, out.data())) std::abort();
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

// A small packet, an ordinary one, a full record.
BENCHMARK_CAPTURE(seal_record, openssl, new_evp_aead)->Arg(64)->Arg(1400)->Arg(16384)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(seal_record, ipsec_mb, new_ipsec_mb_aead)
    ->Arg(64)
    ->Arg(1400)
    ->Arg(16384)
    ->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(open_record, openssl, new_evp_aead)->Arg(64)->Arg(1400)->Arg(16384)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(open_record, ipsec_mb, new_ipsec_mb_aead)
    ->Arg(64)
    ->Arg(1400)
    ->Arg(16384)
    ->Apply(iterations_asked_for);

// What one send() of a burst becomes. Opening alone cannot be had: each record opens once.
void record_layer(benchmark::State& state, MakeAead make, bool opening) {
  if (!make_or_skip(state, make)) return;
  RecordLayer::Secrets secrets;
  secrets.client.fill(0xC1);
  secrets.server.fill(0x5E);
  constexpr auto kOneKey = std::numeric_limits<std::uint64_t>::max();
  RecordLayer sender(Role::client, secrets, kOneKey, make);
  RecordLayer receiver(Role::server, secrets, kOneKey, make);
  const Bytes burst(static_cast<std::size_t>(state.range(0)), 0x55);
  ByteQueue wire, plain, answers;
  for (auto round : state) {
    sender.seal(burst, wire);
    if (opening && receiver.open(wire.view(), plain, answers)) std::abort();
    benchmark::ClobberMemory();
    wire.clear();
    plain.clear();
  }
  count_bytes(state);
}
BENCHMARK_CAPTURE(record_layer, openssl_seals, new_evp_aead, false)->Arg(128 * 1024)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(record_layer, openssl_seals_and_opens, new_evp_aead, true)
    ->Arg(128 * 1024)
    ->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(record_layer, ipsec_mb_seals, new_ipsec_mb_aead, false)->Arg(128 * 1024)->Apply(iterations_asked_for);
BENCHMARK_CAPTURE(record_layer, ipsec_mb_seals_and_opens, new_ipsec_mb_aead, true)
    ->Arg(128 * 1024)
    ->Apply(iterations_asked_for);

}  // namespace
}  // namespace penstock::tls
