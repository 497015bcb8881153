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
#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"
#include "test/support/packets.h"
#include "tun/fake_device.h"

namespace penstock::test {

// A client's interface in memory.
class FakeTunnel final : public client::Tunnel {
 public:
  explicit FakeTunnel(EventLoop& loop) : loop_(&loop) {}
  Result<void> configure(const client::TunnelSettings& wanted) override {
    settings.push_back(wanted);
    return {};
  }
  Result<std::size_t> read(PacketBatch& into, std::size_t max) override {
    if (removed) return fail(ErrorCode::closed, "the interface is gone");
    std::size_t count = 0;
    for (; count < max && !waiting_.empty(); ++count) {
      into.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    return count;
  }
  bool write(const Packet& packet) override {
    written.push_back(Packet::copy_of(packet.bytes()));
    return true;
  }
  void when_readable(Task task) override {
    reader_ = std::move(task);
    if (!waiting_.empty()) wake();
  }
  void inject(Packet packet) {
    waiting_.push_back(std::move(packet));
    wake();
  }
  void remove() {
    removed = true;
    wake();
  }

  std::vector<client::TunnelSettings> settings;  // each configure(), in order
  PacketBatch written;
  bool removed = false;

 private:
  void wake() {
    loop_->post([this] {
      if (reader_) std::exchange(reader_, nullptr)();
    });
  }
  EventLoop* loop_;
  std::deque<Packet> waiting_;
  Task reader_;
};

class MemoryLease final : public client::LeaseStore {
 public:
  std::string load() override { return lease; }
  void save(const std::string& value) override { lease = value; }
  std::string lease;
};

// Names that are addresses, found at once.
class LiteralResolver final : public net::Resolver {
 public:
  explicit LiteralResolver(EventLoop& loop) : loop_(&loop) {}
  std::unique_ptr<Lookup> resolve(const std::string&, Family family, Done done) override {
    loop_->post([family, done = std::move(done)]() mutable {
      if (family == Family::ipv4) return done(std::vector{IpAddress::v4(0xC0000202)});
      done(fail(ErrorCode::not_found, "no address of this family"));
    });
    return std::make_unique<Lookup>();
  }

 private:
  EventLoop* loop_;
};

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
  MemorySocket* wire = nullptr;   // of the latest connection; dangles when that is over
  bool reachable = true;          // false: connections are refused
  MemorySocketOptions next_wire;  // of the next connection only
  std::unique_ptr<client::Client> client;

  client::Status status() const { return client->status(); }
  bool connected() const { return status().state == client::State::connected; }
};

class Network {
 public:
  explicit Network(std::string server_config, int loop_count = 1) : server_config_(std::move(server_config)) {
    for (int i = 0; i < loop_count; ++i) loops.push_back(std::make_unique<ManualLoop>());
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
    core->start();
    run();
  }
  // As kill -9: no goodbye, but the kernel closes the sockets.
  void kill_gateway() {
    core.reset();
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
      for (const auto& loop : loops) busy = loop->run_until_idle() != 0 || busy;
    }
  }
  // All loops' time goes on together, in small steps.
  void advance(Duration by) {
    run();
    for (const Duration step = std::chrono::milliseconds(50); by > Duration{}; by -= step) {
      for (const auto& loop : loops) loop->advance(std::min(step, by));
      run();
    }
  }
  ManualLoop& home() { return *loops.front(); }

  std::vector<std::unique_ptr<ManualLoop>> loops;
  SeededRandom random{1};
  session::StateFile state{""};
  auth::TicketSealer::Key lease_key{7};
  std::unique_ptr<tun::FakeDevice> device;  // null: tun off
  ServerConfig config;
  std::unique_ptr<gateway::Core> core;
  std::vector<std::unique_ptr<TestClient>> clients;

 private:
  std::string server_config_;
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
      tunnel(net.home()),
      resolver(net.home()),
      sockets(std::make_unique<MemorySocketFactory>(*this)) {
  restart();
}

inline void TestClient::restart() {
  client = std::make_unique<client::Client>(config, client::Surroundings{.loop = network->home(),
                                                                         .random = network->random,
                                                                         .resolver = resolver,
                                                                         .sockets = *sockets,
                                                                         .tunnel = tunnel,
                                                                         .lease = lease,
                                                                         .tls = nullptr,
                                                                         .software = "penstock/test"});
}

}  // namespace penstock::test
