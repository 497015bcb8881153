// switch_bench: what the switch costs a packet with few and with many sessions, in memory.
//
//   --once SESSIONS   one world, all packets once: for callgrind, whose instructions run.py divides
//   otherwise         a small and a large world in turn, the processor time of each round: prints JSON with the medians

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "bench/switch/world.h"

namespace penstock::bench {
namespace {

double cpu_nanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

struct Contestant {
  Contestant(std::size_t sessions, std::size_t packet_size, std::size_t packets)
      : world(sessions, packet_size), pairs(world.random_pairs(packets, random)) {
    world.warm_up();
  }
  double nanoseconds_per_packet() {
    const double begin = cpu_nanoseconds();
    const std::uint64_t arrived = switch_packets(world, pairs);
    const double passed = cpu_nanoseconds() - begin;
    PENSTOCK_ASSERT(arrived == pairs.size());
    return passed / static_cast<double>(arrived);
  }

  SeededRandom random{7};
  World world;
  std::vector<Pair> pairs;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  using namespace penstock::bench;
  std::size_t once = 0;
  std::size_t few = 10;
  std::size_t many = 10000;
  std::size_t packets = 200000;
  std::size_t packet_size = 64;
  int rounds = 21;
  CLI::App app("The switch in memory: random pairs of sessions, one packet a turn.");
  app.add_option("--once", once, "sessions of the only world");
  app.add_option("--few", few)->capture_default_str();
  app.add_option("--many", many)->capture_default_str();
  app.add_option("--packets", packets)->capture_default_str();
  app.add_option("--size", packet_size)->capture_default_str();
  app.add_option("--rounds", rounds)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  if (once != 0) {
    Contestant only(once, packet_size, packets);
    PENSTOCK_ASSERT(switch_packets(only.world, only.pairs) == packets);
    return 0;
  }
  Contestant small(few, packet_size, packets);
  Contestant large(many, packet_size, packets);
  std::vector<double> of_small;
  std::vector<double> of_large;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    of_small.push_back(small.nanoseconds_per_packet());
    of_large.push_back(large.nanoseconds_per_packet());
    ratios.push_back(of_large.back() / of_small.back());
  }
  const nlohmann::ordered_json report{{"few", few},
                                      {"many", many},
                                      {"packets", packets},
                                      {"rounds", rounds},
                                      {"cpu_ns_per_packet_few", median(of_small)},
                                      {"cpu_ns_per_packet_many", median(of_large)},
                                      {"cpu_ratio", median(ratios)}};
  std::cout << report.dump(2) << "\n";
  return 0;
}
