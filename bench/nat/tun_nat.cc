// tun_nat: translation in user space and nothing else: a TUN device on one side, sockets on the other.
//
//   inside:  TUN --read--> NatExit --> SocketGateway --> sockets              of the namespace --outside
//            TUN <-- TunExit <-- router <-- NatExit <-- SocketGateway <-- sockets
//
// It is what a gateway does with packets to the internet, less tunnel and sessions: one session sends everything. It is
// started in the namespace of whoever is to use it, makes its device there, and then goes to the one outside. Whoever
// started it gives the device addresses and routes once it has said "ready". On SIGTERM it prints what it dropped.

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/random.h"
#include "egress/nat/nat_exit.h"
#include "egress/nat/socket_gateway.h"
#include "egress/tun/tun_exit.h"
#include "net/asio_loop.h"
#include "net/process_info.h"
#include "router/shard.h"
#include "tun/device_linux.h"

namespace penstock::bench {
namespace {

struct Plan {
  std::string device = "nat0";
  std::string outside;
  std::string external;
  std::string inner = "10.99.0.1";
  std::string subnet = "10.99.0.0/24";
  std::string allow;
  std::size_t sockets = 20'000;
  bool offload = true;
};

Result<void> enter(const std::string& network_namespace) {
  const int fd = ::open(network_namespace.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) return fail_errno("cannot enter " + network_namespace, errno);
  ::close(fd);
  return {};
}

// As TunExit reads, but for the session that the packets are of: what comes by an exit has none.
class Reader {
 public:
  Reader(EventLoop& loop, tun::Device& device, egress::NatExit& exit)
      : device_(&device), exit_(&exit), watch_(loop.watch(device.handle())) {
    arm();
  }

 private:
  void arm() {
    watch_->when_readable([this] { read_turn(); });
  }
  void read_turn() {
    if (!device_->read(read_, egress::TunExit::kBatch, egress::TunExit::kBatchBytes)) return;
    // What a router does before: it lets nothing through that it cannot read.
    std::erase_if(read_, [](const Packet& packet) { return !parse_ip(packet.bytes()); });
    for (Packet& packet : read_) packet.source = kOnlySession;
    exit_->send(read_);
    arm();
  }

  static constexpr SessionId kOnlySession{.slot = 1, .generation = 1};
  tun::Device* device_;
  egress::NatExit* exit_;
  PacketBatch read_;
  std::unique_ptr<Watch> watch_;
};

Result<void> run(const Plan& plan) {
  PENSTOCK_TRY_VOID(net::raise_open_files_limit());
  PENSTOCK_TRY(
      const auto device,
      tun::open_device({.name = plan.device, .offload = plan.offload ? OffloadMode::automatic : OffloadMode::off}));
  PENSTOCK_TRY_VOID(enter(plan.outside));
  PENSTOCK_TRY(const IpAddress external, IpAddress::parse(plan.external));
  PENSTOCK_TRY(const IpAddress inner, IpAddress::parse(plan.inner));
  PENSTOCK_TRY(const Prefix subnet, Prefix::parse(plan.subnet));
  PENSTOCK_TRY(const Prefix allowed, Prefix::parse(plan.allow));

  SystemRandom random;
  net::AsioLoop loop;
  router::Shard shard(0, loop);
  egress::SocketGateway gateway(loop, random,
                                {.external4 = external, .external6 = {}, .udp = {}, .most_sockets = plan.sockets});
  egress::NatExit::Settings settings{.nat = {}, .fragments = {}, .inner4 = inner, .inner6 = {}};
  settings.nat.bounds.flows_of_owner = plan.sockets;
  settings.nat.flow_rate = 0;
  egress::ExitPolicy::Settings policy;
  policy.allow.push_back({.to = allowed, .ports = {}});
  policy.own = {external, inner};
  egress::NatExit exit(shard, settings, {{random.next64(), random.next64()}, FlowHashKey::drawn_from(random)},
                       egress::ExitPolicy(std::move(policy)), gateway, gateway);
  egress::TunExit inside(shard, *device, {}, FlowHashKey::drawn_from(random));
  shard.router().set_routes(router::RouteTable().with(subnet, inside.id()));
  PENSTOCK_TRY_VOID(exit.start());
  const Reader reader(loop, *device, exit);

  loop.on_signal({SIGTERM, SIGINT}, [&](int) { loop.stop(); });
  std::cout << "ready" << std::endl;
  loop.run();
  const egress::NatExit::Counters& dropped = exit.counters();
  const egress::TcpTerminator::Counters& tcp = gateway.tcp()->counters();
  std::cout << nlohmann::ordered_json{{"mappings", exit.nat().table().mappings()},
                                      {"socket_full", gateway.counters().full},
                                      {"socket_refused", gateway.counters().refused},
                                      {"no_socket", gateway.counters().no_socket},
                                      {"denied", std::reduce(dropped.denied.begin(), dropped.denied.end())},
                                      {"no_port", dropped.no_port},
                                      {"unasked", dropped.unasked},
                                      {"interface_refused", shard.router().drops().of(router::Drop::interface_refused)},
                                      {"queue_full", shard.router().drops().of(router::Drop::queue_full)},
                                      {"tcp_opened", tcp.opened},
                                      {"tcp_refused", tcp.refused},
                                      {"tcp_timed_out", tcp.timed_out},
                                      {"tcp_exhausted", tcp.exhausted},
                                      {"tcp_malformed", tcp.malformed},
                                      {"tcp_out_of_window", tcp.out_of_window},
                                      {"tcp_no_connection", tcp.no_connection},
                                      {"tcp_retransmitted", tcp.retransmitted}}
            << std::endl;
  return {};
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  CLI::App app("User-space NAT fed by a TUN device.");
  penstock::bench::Plan plan;
  app.add_option("--device", plan.device)->capture_default_str();
  app.add_option("--outside", plan.outside, "path of the network namespace where its sockets are")->required();
  app.add_option("--external", plan.external, "the address there")->required();
  app.add_option("--inner", plan.inner, "its own address inside")->capture_default_str();
  app.add_option("--subnet", plan.subnet, "what is behind the device")->capture_default_str();
  app.add_option("--allow", plan.allow, "what may be reached though it is no internet")->required();
  app.add_option("--sockets", plan.sockets, "at most")->capture_default_str();
  app.add_flag("!--no-offload", plan.offload, "packets of one segment between kernel and us");
  CLI11_PARSE(app, argc, argv);
  if (const auto done = penstock::bench::run(plan); !done) {
    std::cerr << "tun_nat: " << done.error().message << std::endl;
    return 1;
  }
  return 0;
}
