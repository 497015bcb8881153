// Whole gateways and clients in memory: no root, no sockets, and time that the test moves.
//
//   Network net(R"(vpn: {subnet: 10.100.0.0/24} ...)");
//   TestClient& alice = net.add_client("a-token");
//   net.run();                                   // everything that can happen now
//   alice.tunnel.inject(packet);                 // what alice's machine sends
//   net.run();
//   bob.tunnel.written                           // what bob's machine got
//
//   alice, bob --MemorySocket pairs--> gateway::Core (loops on one ManualLoop each) --FakeDevice or the local host
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/digest.h"
#include "client/core/client.h"
#include "config/client_config.h"
#include "config/server_config.h"
#include "gateway/core.h"
#include "test/support/client_surroundings.h"
#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"
#include "test/support/packets.h"
#include "tun/fake_device.h"

namespace penstock::test {

class Network;

// One client machine with everything that a Client borrows.
struct TestClient {
  TestClient(Network& net, const std::string& config_text);
  void restart();  // the process; the lease on its disk stays

  Network* network;
  ClientConfig config;
  FakeTunnel tunnel;
  MemoryLease lease;
  LiteralResolver resolver;
  std::unique_ptr<net::SocketFactory> sockets;
  std::shared_ptr<tls::ClientContext> tls;  // null: without TLS; for the next restart()
  MemorySocket* wire = nullptr;             // of the latest connection; dangles when that is over
  bool reachable = true;                    // false: connections are refused
  MemorySocketOptions next_wire;            // of the next connection only
  std::unique_ptr<client::Client> client;

  client::Status status() const { return client->status(); }
  bool connected() const { return status().state == client::State::connected; }
};

class Network {
 public:
  explicit Network(std::string server_config, int loop_count = 1) : server_config_(std::move(server_config)) {
    for (int i = 0; i < loop_count; ++i) all_loops_.push_back(loops.emplace_back(std::make_unique<ManualLoop>()).get());
    start_gateway();
  }
  ~Network() {
    clients.clear();
    core.reset();
  }

  void start_gateway() {
    config = server_config_from_text(server_config_, "server.yaml").value();
    std::vector<EventLoop*> list;
    for (const auto& loop : loops) list.push_back(loop.get());
    core = gateway::Core::create(config, lease_key,
                                 {.loops = list, .random = random, .state = state, .device = device.get()})
               .value();
    core->set_credentials(auth::Authenticator::create(gateway::credentials_of(config.auth.tokens)).value());
    core->restore();
    PENSTOCK_ASSERT(core->start().has_value());
    run();
  }
  // As kill -9: no goodbye, but the kernel closes the sockets. May come between any two steps.
  void kill_gateway() {
    for (const auto& loop : loops) loop->discard();
    core.reset();
    for (const auto& loop : loops) loop->discard();
    run();
  }
  // A client that was not started yet.
  TestClient& make_client(const std::string& token, const std::string& more = "") {
    clients.push_back(std::make_unique<TestClient>(
        *this, "server: {url: \"wss://192.0.2.2/\"}\nauth: {token: " + token + "}\n" + more));
    return *clients.back();
  }
  TestClient& add_client(const std::string& token, const std::string& more = "") {
    TestClient& client = make_client(token, more);
    client.client->start();
    run();
    return client;
  }
  // Runs all loops until none has anything to do.
  void run() {
    for (bool busy = true; busy;) {
      busy = false;
      for (ManualLoop* loop : all_loops()) busy = loop->run_until_idle() != 0 || busy;
    }
  }
  // Runs one task, timer or descriptor of the first loop that has one; false when none has.
  bool run_one_step() {
    return std::ranges::any_of(all_loops(), [](ManualLoop* loop) { return loop->run_one_step(); });
  }
  // All loops' time goes on together, in small steps.
  void advance(Duration by) {
    run();
    for (const Duration step = std::chrono::milliseconds(50); by > Duration{}; by -= step) {
      for (ManualLoop* loop : all_loops()) loop->advance(std::min(step, by));
      run();
    }
  }
  ManualLoop& home() { return *loops.front(); }
  const std::vector<ManualLoop*>& all_loops() const { return all_loops_; }

  std::vector<std::unique_ptr<ManualLoop>> loops;  // the gateway's
  ManualLoop client_loop;                          // that of all clients
  SeededRandom random{1};
  session::StateFile state{""};
  auth::TicketSealer::Key lease_key{7};
  std::unique_ptr<tun::FakeDevice> device;  // null: tun off
  ServerConfig config;
  std::unique_ptr<gateway::Core> core;
  std::vector<std::unique_ptr<TestClient>> clients;

 private:
  std::string server_config_;
  std::vector<ManualLoop*> all_loops_{&client_loop};
};

// Joins a client to the gateway, or refuses as a host does whose process is gone.
class MemorySocketFactory final : public net::SocketFactory {
 public:
  explicit MemorySocketFactory(TestClient& client) : client_(&client) {}
  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint& to, Done done) override {
    auto attempt = std::make_unique<Alive>();
    loop.post([this, &loop, to, alive = attempt->alive, done = std::move(done)]() mutable {
      if (!*alive) return;
      Network& network = *client_->network;
      if (!client_->reachable || !network.core) return done(fail(ErrorCode::unavailable, "Connection refused"));
      MemorySocketOptions wire = std::exchange(client_->next_wire, {});
      wire.endpoints = {Endpoint{IpAddress::v4(0xC0000201), 50000}, to};
      auto [near, far] = memory_socket_pair(loop, network.home(), std::move(wire));
      client_->wire = near.get();
      network.core->accept(std::move(far));
      done(std::move(near));
    });
    return attempt;
  }

 private:
  struct Alive final : Attempt {
    ~Alive() override { *alive = false; }
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
  TestClient* client_;
};

inline TestClient::TestClient(Network& net, const std::string& config_text)
    : network(&net),
      config(client_config_from_text(config_text, "client.yaml").value()),
      tunnel(net.client_loop),
      resolver(net.client_loop),
      sockets(std::make_unique<MemorySocketFactory>(*this)) {
  restart();
}

inline void TestClient::restart() {
  client = std::make_unique<client::Client>(config, client::Surroundings{.loop = network->client_loop,
                                                                         .random = network->random,
                                                                         .resolver = resolver,
                                                                         .sockets = *sockets,
                                                                         .tunnel = tunnel,
                                                                         .lease = lease,
                                                                         .tls = tls,
                                                                         .software = "penstock/test"});
}

}  // namespace penstock::test
