// swarm: opens many sessions with a gateway that runs already, looks at what they cost, and prints it as JSON.
//
//   logins --> idle --> every member sends --> a few members send, one phase a packet size --> packets at a slow pace
//
// run.py beside this file starts the gateway for it and prints tables.

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "bench/swarm/swarm.h"
#include "net/process_info.h"

namespace penstock::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Plan {
  Settings settings;
  int gateway_pid = 0;
  double idle_seconds = 30;
  double exchange_seconds = 5;
  std::vector<std::size_t> packet_sizes{64, 1400};
  std::size_t busy_members = 10;
  std::size_t busy_window = 64;
  std::size_t window = 2;
  std::size_t pace = 20000;
};

Duration duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

Json memory_json(const Memory& now, const Memory& before, std::size_t sessions) {
  const auto each = [sessions](std::uint64_t later, std::uint64_t earlier) {
    return (static_cast<double>(later) - static_cast<double>(earlier)) / static_cast<double>(sessions);
  };
  return {{"resident", now.resident},
          {"anonymous", now.anonymous},
          {"resident_per_session", each(now.resident, before.resident)},
          {"anonymous_per_session", each(now.anonymous, before.anonymous)}};
}

Json traffic_json(const std::string& senders, const Traffic& traffic) {
  return {{"senders", senders},
          {"members", traffic.members},
          {"packet_size", traffic.packet_size},
          {"window", traffic.window},
          {"packets", traffic.packets},
          {"packets_per_second", static_cast<double>(traffic.packets) / traffic.seconds},
          {"gateway_cpu_ns_per_packet",
           traffic.packets == 0 ? 0.0 : traffic.gateway_cpu * 1e9 / static_cast<double>(traffic.packets)},
          {"gateway_cpu_share", traffic.gateway_cpu / traffic.seconds},
          {"misplaced", traffic.misplaced},
          {"lost", traffic.lost}};
}

Json delays_json(const Delays& delays, std::size_t packet_size, std::size_t pace) {
  return {{"packet_size", packet_size}, {"packets_per_second", pace},
          {"packets", delays.packets},  {"median_us", delays.median * 1e6},
          {"p99_us", delays.p99 * 1e6}, {"most_us", delays.most * 1e6},
          {"lost", delays.lost}};
}

int run(Plan plan) {
  const Observed gateway(plan.gateway_pid);
  auto tls = tls::ClientContext::create({.verify = !plan.settings.pin.empty(), .pin = plan.settings.pin});
  if (!tls) {
    std::cerr << "swarm: " << tls.error().message << "\n";
    return 2;
  }
  Swarm swarm(plan.settings, gateway, *tls);
  Json report;
  report["sessions"] = plan.settings.members;
  const Memory before = gateway.memory();
  const KernelMemory kernel_before = kernel_memory();

  const Logins logins = swarm.log_in();
  report["logins"] = {{"ready", logins.ready},
                      {"failed", logins.failed},
                      {"first_failure", logins.first_failure},
                      {"seconds", logins.seconds},
                      {"per_second", static_cast<double>(logins.ready) / logins.seconds},
                      {"gateway_cpu_us_each", logins.gateway_cpu * 1e6 / static_cast<double>(logins.ready)}};
  if (logins.ready != plan.settings.members) {
    std::cerr << "swarm: " << logins.ready << " of " << plan.settings.members
              << " logins succeeded; the first failure: " << logins.first_failure << "\n";
    if (logins.ready == 0) return 1;
  }
  report["before"] = {{"resident", before.resident}, {"anonymous", before.anonymous}};
  report["after_logins"] = memory_json(gateway.memory(), before, logins.ready);

  const double cpu = gateway.cpu_seconds();
  swarm.idle(duration(plan.idle_seconds));
  report["idle"] = memory_json(gateway.memory(), before, logins.ready);
  report["idle"]["seconds"] = plan.idle_seconds;
  report["idle"]["gateway_cpu_share"] = plan.idle_seconds > 0 ? (gateway.cpu_seconds() - cpu) / plan.idle_seconds : 0.0;
  const KernelMemory kernel = kernel_memory();
  report["kernel"] = {{"tcp_sockets", kernel.sockets},
                      {"tcp_queue_pages", kernel.pages},
                      // Two sockets a session stand on this machine, the gateway's and the swarm's.
                      {"slab_per_socket", (static_cast<double>(kernel.slab) - static_cast<double>(kernel_before.slab)) /
                                              static_cast<double>(2 * logins.ready)}};

  report["traffic"] = Json::array();
  if (plan.exchange_seconds <= 0) plan.packet_sizes.clear();
  for (const std::size_t size : plan.packet_sizes) {
    const Duration time = duration(plan.exchange_seconds);
    report["traffic"].push_back(traffic_json("all", swarm.exchange(logins.ready, size, plan.window, time)));
    report["traffic"].push_back(traffic_json(std::to_string(plan.busy_members),
                                             swarm.exchange(plan.busy_members, size, plan.busy_window, time)));
  }
  report["delays"] = Json::array();
  for (const std::size_t size : plan.packet_sizes)
    report["delays"].push_back(
        delays_json(swarm.pace(size, plan.pace, duration(plan.exchange_seconds)), size, plan.pace));
  report["after_traffic"] = memory_json(gateway.memory(), before, logins.ready);
  report["still_there"] = swarm.ready();
  std::cout << report.dump(2) << "\n";
  return logins.ready == plan.settings.members && swarm.ready() == logins.ready ? 0 : 1;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  using namespace penstock;
  bench::Plan plan;
  std::string gateway = "127.0.0.1:443";
  double patience = 300;
  CLI::App app("Opens many sessions with a gateway and passes packets among them.");
  app.add_option("--gateway", gateway, "where it listens")->capture_default_str();
  app.add_option("--pid", plan.gateway_pid, "of the gateway")->required();
  app.add_option("--pin", plan.settings.pin, "of its key; none: whoever answers");
  app.add_option("--token", plan.settings.token)->required();
  app.add_option("--client", plan.settings.software, "log in as such a client; none: as plain v1");
  app.add_option("--sessions", plan.settings.members)->capture_default_str();
  app.add_option("--concurrency", plan.settings.concurrency, "handshakes at a time")->capture_default_str();
  app.add_option("--patience", patience, "seconds for all logins")->capture_default_str();
  app.add_option("--idle", plan.idle_seconds, "seconds without packets")->capture_default_str();
  app.add_option("--exchange", plan.exchange_seconds, "seconds of each phase with packets; 0: none")
      ->capture_default_str();
  app.add_option("--sizes", plan.packet_sizes, "of packets")->delimiter(',');
  app.add_option("--window", plan.window, "packets on the way of each member when all send")->capture_default_str();
  app.add_option("--busy", plan.busy_members, "members when few send, chosen at random")->capture_default_str();
  app.add_option("--busy-window", plan.busy_window, "packets on the way of each of them")->capture_default_str();
  app.add_option("--pace", plan.pace, "packets a second while delays are measured")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto endpoint = Endpoint::parse(gateway);
  if (!endpoint) {
    std::cerr << "swarm: --gateway: " << endpoint.error().message << "\n";
    return 2;
  }
  plan.settings.gateway = *endpoint;
  plan.settings.patience = bench::duration(patience);
  log::configure(log::Level::warn, log::Format::logfmt);
  if (auto limit = net::raise_open_files_limit(); !limit) std::cerr << "swarm: " << limit.error().message << "\n";
  return bench::run(plan);
}
