// How often a benchmark runs, where somebody counts its instructions: so many times and no more, by
// PENSTOCK_BENCH_ITERATIONS. Google Benchmark has no option for it.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdlib>

namespace penstock {

// BENCHMARK(x)->Apply(iterations_asked_for)
inline void iterations_asked_for(benchmark::internal::Benchmark* benchmark) {
  if (const char* asked = std::getenv("PENSTOCK_BENCH_ITERATIONS")) benchmark->Iterations(std::atoll(asked));
}

}  // namespace penstock
