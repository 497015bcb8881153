// A client against the plainest gateway: one that answers logins and sends packets back. Everything between the two is
// real but for the engine, the wires and the clock. With a whole gateway: test/e2e/lan_test.cc.
#include "client/core/client.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "test/support/client_surroundings.h"
#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"
#include "test/support/packets.h"
#include "tls/fake_engine.h"

namespace penstock::client {
namespace {

using namespace std::chrono_literals;

class PlainGateway final : public net::SocketFactory, public transport::Connection::Handler {
 public:
  PlainGateway(EventLoop& loop, Random& random) : loop_(loop), random_(random) {}

  std::unique_ptr<Attempt> connect(EventLoop& loop, const Endpoint&, Done done) override {
    loop.post([this, done = std::move(done)]() mutable {
      auto [near, far] = test::memory_socket_pair(loop_, loop_);
      wire = far.get();
      auto engine = std::make_unique<tls::FakeEngine>(tls::FakeEngine::Role::server);
      connection_ = std::make_unique<transport::Connection>(
          loop_, buffer_, std::move(far), transport::Channel::server(std::move(engine), "/vpn", 70000, random_),
          transport::Connection::Timing{}, *this);
      connection_->start();
      done(std::move(near));
    });
    return std::make_unique<Attempt>();
  }

  void on_open() override {}
  void on_text(std::string_view text) override {
    const auto message = protocol::parse_control(text).value();
    if (std::holds_alternative<protocol::Ping>(message)) return;
    logins.push_back(message);
    const auto* again = std::get_if<protocol::Reconnect>(&message);
    connection_->send_text(protocol::to_json(protocol::AuthResponse{.success = true,
                                                                    .assigned_ip = IpAddress::parse("10.0.0.2").value(),
                                                                    .subnet = Prefix::parse("10.0.0.0/24").value(),
                                                                    .server_ip = IpAddress::parse("10.0.0.1").value(),
                                                                    .mtu = 1400,
                                                                    .lease = "a-lease",
                                                                    .resumed = again != nullptr}));
  }
  void on_binary(MaskedView bytes) override { received.push_back(Packet::copy_of(bytes)); }
  void on_turn_end() override {
    if (!received.empty()) connection_->send_packets(received, {});
    received.clear();
  }
  void on_closed(const transport::Ending&) override {}

  test::MemorySocket* wire = nullptr;  // of the latest connection
  std::vector<protocol::ControlMessage> logins;
  PacketBatch received;

 private:
  EventLoop& loop_;
  Random& random_;
  transport::ReadBuffer buffer_;
  std::unique_ptr<transport::Connection> connection_;
};

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    client_.start();
    loop_.run_until_idle();
  }
  test::ManualLoop loop_;
  SeededRandom random_{1};
  PlainGateway gateway_{loop_, random_};
  test::LiteralResolver resolver_{loop_};
  test::FakeTunnel tunnel_{loop_};
  test::MemoryLease lease_;
  std::shared_ptr<tls::FakeClientContext> tls_ = std::make_shared<tls::FakeClientContext>();
  Client client_{
      client_config_from_text(R"({"server": {"url": "wss://gateway.example/vpn"}, "auth": {"token": "a-token"}})",
                              "client.json", {}, UserEnvironment{.home = "home"})
          .value(),
      {.loop = loop_,
       .random = random_,
       .resolver = resolver_,
       .sockets = gateway_,
       .tunnel = tunnel_,
       .lease = lease_,
       .tls = tls_,
       .software = "penstock/test"}};
};

TEST_F(ClientTest, ItLogsInThroughTheEngineItIsGivenAndBringsTheInterfaceUp) {
  ASSERT_EQ(client_.status().state, State::connected) << client_.status().last_error;
  EXPECT_EQ(tls_->server_names, std::vector<std::string>{"gateway.example"});
  ASSERT_EQ(gateway_.logins.size(), 1U);
  EXPECT_EQ(std::get<protocol::Auth>(gateway_.logins[0]).token, "a-token");
  ASSERT_EQ(tunnel_.settings.size(), 1U);
  EXPECT_EQ(tunnel_.settings[0].addresses[0].first.to_string(), "10.0.0.2");
  EXPECT_EQ(tunnel_.settings[0].mtu, 1400);
}

TEST_F(ClientTest, PacketsPassBothWays) {
  for (int i = 0; i < 100; ++i)
    tunnel_.inject(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(static_cast<std::size_t>(i) * 10, 'x')));
  loop_.run_until_idle();
  ASSERT_EQ(tunnel_.written.size(), 100U);
  EXPECT_EQ(tunnel_.written[99].bytes().size(), 20U + 990U);
  EXPECT_EQ(client_.status().up_packets, 100U);
}

TEST_F(ClientTest, WhenTheWireIsCutItComesBackByItsLeaseAndLeavesTheInterfaceAlone) {
  gateway_.wire->cut();
  loop_.advance(45s);  // dead_after, and the first wait
  ASSERT_EQ(client_.status().state, State::connected) << client_.status().last_error;
  ASSERT_EQ(gateway_.logins.size(), 2U);
  EXPECT_EQ(std::get<protocol::Reconnect>(gateway_.logins[1]).lease, "a-lease");
  EXPECT_EQ(client_.status().resumed, 1U);
  EXPECT_EQ(tunnel_.settings.size(), 1U);
}

TEST_F(ClientTest, StoppingSaysGoodbyeFirst) {
  bool stopped = false;
  client_.stop([&] { stopped = true; });
  loop_.run_until_idle();
  EXPECT_TRUE(stopped);
  EXPECT_EQ(client_.status().state, State::stopped);
}

}  // namespace
}  // namespace penstock::client
