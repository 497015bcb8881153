// A gateway with two event loops on two threads and clients on a third, over TLS on loopback: what is written for
// ThreadSanitizer to look at. Links move between the loops, packets cross, sessions are taken over, all at once.

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "base/log.h"
#include "net/asio_loop.h"
#include "net/resolver.h"
#include "net/tcp.h"
#include "test/support/network.h"
#include "tls/test_certificates.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kClients = 6;
constexpr int kPacketsEach = 500;
constexpr auto kDeadline = seconds(60);

// One client on the clients' loop; sends to the next one whenever it is connected.
struct Sender {
  Sender(net::AsioLoop& its_loop, const ClientConfig& its_config, std::shared_ptr<tls::ClientContext> context)
      : loop(its_loop), tunnel(its_loop), resolver(its_loop), config(its_config), tls(std::move(context)) {
    restart();
  }
  void restart() {
    client = std::make_unique<client::Client>(config, client::Surroundings{.loop = loop,
                                                                           .random = random,
                                                                           .resolver = resolver,
                                                                           .sockets = sockets,
                                                                           .tunnel = tunnel,
                                                                           .lease = lease,
                                                                           .tls = tls,
                                                                           .software = "penstock/test"});
    client->start();
  }
  bool connected() const { return client->status().state == client::State::connected; }

  net::AsioLoop& loop;
  test::FakeTunnel tunnel;
  test::MemoryLease lease;
  net::SystemResolver resolver;
  net::TcpSocketFactory sockets;
  SystemRandom random;
  ClientConfig config;
  std::shared_ptr<tls::ClientContext> tls;
  std::unique_ptr<client::Client> client;
};

class ThreadsTest : public testing::Test {
 protected:
  ThreadsTest() {
    const auto certificate = tls::make_test_certificate(directory.path());
    config = server_config_from_text("server: {tls_cert: x, tls_key: x}\nvpn: {tun: off}\nauth: {tokens: [a-token]}",
                                     "server.yaml")
                 .value();
    core =
        gateway::Core::create(config, {7}, {.loops = {&loops[0], &loops[1]}, .random = random, .state = state}).value();
    core->set_credentials(auth::Authenticator::create(gateway::credentials_of(config.auth.tokens)).value());
    core->set_tls(tls::ServerContext::create(certificate.cert_path, certificate.key_path).value());
    listener = net::TcpListener::create(loops[0], Endpoint::parse("127.0.0.1:0").value()).value();
    listener->on_accept([this](std::unique_ptr<net::StreamSocket> socket) { core->accept(std::move(socket)); });

    const std::string url = "wss://127.0.0.1:" + std::to_string(listener->local().port) + "/";
    const auto client_config = client_config_from_text(
        "server: {url: \"" + url + "\"}\nauth: {token: a-token}\nreconnect: {min_backoff: 20ms, max_backoff: 100ms}",
        "client.yaml");
    client_tls = tls::ClientContext::create({.pin = certificate.pin}).value();
    for (int i = 0; i < kClients; ++i)
      senders.push_back(std::make_unique<Sender>(client_loop, client_config.value(), client_tls));
    for (auto& loop : loops) threads.emplace_back([&loop] { loop.run(); });
    threads.emplace_back([this] { client_loop.run(); });
  }
  ~ThreadsTest() override {
    std::promise<void> gone;
    client_loop.post([&] {
      senders.clear();
      client_loop.stop();
      gone.set_value();
    });
    gone.get_future().wait();
    for (auto& loop : loops) loop.stop();
    for (auto& thread : threads) thread.join();
  }

  // Waits until `done` says so on the clients' loop; false when the deadline passes.
  bool await(std::move_only_function<bool()> done) {
    std::promise<bool> result;
    const TimePoint deadline = client_loop.now() + kDeadline;
    auto timer = std::make_shared<std::unique_ptr<Timer>>();
    auto poll = std::make_shared<std::move_only_function<void()>>();
    *poll = [&, timer, weak = std::weak_ptr(poll)] {
      const bool ok = done();
      if (ok || client_loop.now() > deadline) return result.set_value(ok);
      (*timer)->start(milliseconds(5), [again = weak.lock()] { (*again)(); });
    };
    client_loop.post([&, timer, poll] {
      *timer = std::make_unique<Timer>(client_loop);
      (*poll)();
    });
    const bool ok = result.get_future().get();
    std::promise<void> cleared;
    client_loop.post([&, timer] {
      timer->reset();
      cleared.set_value();
    });
    cleared.get_future().wait();
    return ok;
  }
  void on_client_loop(std::move_only_function<void()> task) {
    std::promise<void> done;
    client_loop.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  bool all_connected() {
    return std::all_of(senders.begin(), senders.end(), [](const auto& sender) { return sender->connected(); });
  }

  tls::TestDirectory directory;
  log::Capture quiet;
  SystemRandom random;
  session::StateFile state{""};
  ServerConfig config;
  std::array<net::AsioLoop, 2> loops;
  net::AsioLoop client_loop;
  std::unique_ptr<gateway::Core> core;
  std::unique_ptr<net::TcpListener> listener;
  std::shared_ptr<tls::ClientContext> client_tls;
  std::vector<std::unique_ptr<Sender>> senders;
  std::vector<std::thread> threads;
};

TEST_F(ThreadsTest, PacketsCrossLoopsWhileClientsComeAndGo) {
  ASSERT_TRUE(await([this] { return all_connected(); }));
  // Everybody sends to the next; a few at a time, so that queues stay short and every packet arrives.
  int sent = 0;
  ASSERT_TRUE(await([&] {
    std::size_t received = 0;
    for (const auto& sender : senders) received += sender->tunnel.written.size();
    if (sent < kPacketsEach && received + 300 >= static_cast<std::size_t>(sent) * kClients) {
      for (int burst = 0; burst < 20 && sent < kPacketsEach; ++burst, ++sent) {
        for (std::size_t i = 0; i < senders.size(); ++i) {
          const auto from = senders[i]->client->status().address->to_string();
          const auto to = senders[(i + 1) % senders.size()]->client->status().address->to_string();
          senders[i]->tunnel.inject(test::ip_packet(from, to, std::string(1000, 'x')));
        }
      }
    }
    return received == static_cast<std::size_t>(kPacketsEach) * kClients;
  }));

  // Half of them start again and resume, by other links that begin on other loops.
  std::vector<IpAddress> before;
  on_client_loop([&] {
    for (std::size_t i = 0; i < senders.size(); i += 2) {
      before.push_back(*senders[i]->client->status().address);
      senders[i]->restart();
    }
  });
  ASSERT_TRUE(await([this] { return all_connected(); }));
  on_client_loop([&] {
    for (std::size_t i = 0; i < senders.size(); i += 2) EXPECT_EQ(*senders[i]->client->status().address, before[i / 2]);
  });

  // Revoking the token from the home loop ends the sessions of both.
  loops[0].post([this] { core->set_credentials(auth::Authenticator()); });
  ASSERT_TRUE(await([this] {
    return std::none_of(senders.begin(), senders.end(), [](const auto& sender) { return sender->connected(); });
  }));
}

TEST_F(ThreadsTest, WhatIsSaidToEverybodyReachesTheClientsOfBothLoops) {
  ASSERT_TRUE(await([this] { return all_connected(); }));
  on_client_loop([&] {
    for (const auto& sender : senders) {
      const auto from = sender->client->status().address->to_string();
      for (int i = 0; i < 10; ++i) sender->tunnel.inject(test::ip_packet(from, "224.0.0.251", std::string(100, 'x')));
    }
  });
  EXPECT_TRUE(await([this] {
    return std::ranges::all_of(senders,
                               [](const auto& sender) { return sender->tunnel.written.size() == 10 * (kClients - 1); });
  }));
}

TEST_F(ThreadsTest, AStopClosesTheLinksOfBothLoops) {
  ASSERT_TRUE(await([this] { return all_connected(); }));
  std::promise<void> stopped;
  loops[0].post([&] {
    listener->stop_accepting();
    core->stop(seconds(5), [&] { stopped.set_value(); });
  });
  ASSERT_EQ(stopped.get_future().wait_for(kDeadline), std::future_status::ready);
}

}  // namespace
}  // namespace penstock
