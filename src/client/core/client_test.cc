// A client against the plainest gateway: one that answers logins and sends packets back. Everything between the two is
// real but for the engine, the wires and the clock. With a whole gateway: test/e2e/lan_test.cc.
#include "client/core/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"
#include "packet/super_packet.h"
#include "test/support/client_surroundings.h"
#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"
#include "test/support/packets.h"
#include "tls/fake_engine.h"

namespace penstock::client {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

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
  void say(std::string_view text) { connection_->send_text(text); }
  // To a client that takes everything whole.
  void send(const Packet& packet) {
    using Gso = Offload::Gso;
    const auto all = protocol::receive_of({Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6}, 1400);
    connection_->send_packets(std::span(&packet, 1), protocol::format_of(all));
  }
  void on_text(std::string_view text) override {
    const auto message = protocol::parse_control(text).value();
    if (std::holds_alternative<protocol::Ping>(message)) return;
    logins.push_back(message);
    const auto* again = std::get_if<protocol::Reconnect>(&message);
    answer.resumed = again != nullptr;
    connection_->send_text(protocol::to_json(answer));
  }
  std::size_t on_binary(MaskedView bytes) override {
    received.push_back(Packet::copy_of(bytes));
    return 1;
  }
  void on_turn_end() override {
    if (!received.empty()) connection_->send_packets(received, {});
    received.clear();
  }
  void on_closed(const transport::Ending&) override {}

  protocol::AuthResponse answer{.success = true,  // to every login
                                .assigned_ip = IpAddress::parse("10.0.0.2").value(),
                                .subnet = Prefix::parse("10.0.0.0/24").value(),
                                .server_ip = IpAddress::parse("10.0.0.1").value(),
                                .mtu = 1400,
                                .lease = "a-lease"};
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
  void come_back() {
    gateway_.wire->cut();
    loop_.advance(45s);  // dead_after, and the first wait
    ASSERT_EQ(client_.status().state, State::connected) << client_.status().last_error;
  }
  std::vector<std::string> addresses() const {
    std::vector<std::string> texts;
    for (const auto& [address, length] : tunnel_.settings.back().addresses) texts.push_back(address.to_string());
    return texts;
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

TEST_F(ClientTest, ASuperPacketOfTinySegmentsHoldsUpNeitherTheLoopNorTheInterface) {
  gateway_.answer.receive = protocol::receive_of({}, 1400);
  come_back();
  gateway_.send(test::super_packet("10.0.0.1", "10.0.0.2", 60000, 1));
  gateway_.send(test::echo_request("10.0.0.1", "10.0.0.2"));
  while (tunnel_.written.empty()) ASSERT_TRUE(loop_.run_one_step());
  EXPECT_LT(segments_of(tunnel_.written), 3000U);
  EXPECT_TRUE(std::ranges::any_of(tunnel_.written, [](const Packet& packet) { return packet.bytes()[9] == 1; }))
      << "the ping waits for no more than that";
  loop_.run_until_idle();
  EXPECT_EQ(segments_of(tunnel_.written), 60001U);
  EXPECT_EQ(client_.status().dropped(), 0U);
}

TEST_F(ClientTest, MoreThanATurnSendsGoesOnInTheNext) {
  constexpr std::size_t kPackets = 60;
  for (std::size_t i = 0; i < kPackets; ++i)
    tunnel_.inject(test::ip_packet("10.0.0.2", "10.0.0.1", std::string(60000, 'x')));
  loop_.run_until_idle();
  EXPECT_EQ(client_.status().up_packets, kPackets);
  EXPECT_EQ(tunnel_.written.size(), kPackets);
}

TEST_F(ClientTest, WhenTheWireIsCutItComesBackByItsLeaseAndLeavesTheInterfaceAlone) {
  come_back();
  ASSERT_EQ(gateway_.logins.size(), 2U);
  EXPECT_EQ(std::get<protocol::Reconnect>(gateway_.logins[1]).lease, "a-lease");
  EXPECT_EQ(client_.status().resumed, 1U);
  EXPECT_EQ(tunnel_.settings.size(), 1U);
  EXPECT_EQ(tunnel_.configured, 2U) << "but sees to it that all is still there";
}

TEST_F(ClientTest, TheInterfaceSendsNothingLargerThanEitherMtuOfTheGateway) {
  const struct {
    std::uint32_t mtu;
    std::uint32_t receive;
    int agreed;
  } answers[] = {{1300, 1400, 1300}, {1400, 1300, 1300}, {9000, 9000, 1420}, {1400, 0xFFFFFFFF, 1400}};
  for (const auto& [mtu, receive, agreed] : answers) {
    gateway_.answer.mtu = mtu;
    gateway_.answer.receive = protocol::Receive{.mtu = receive};
    come_back();
    EXPECT_EQ(tunnel_.settings.back().mtu, agreed);
  }
}

TEST_F(ClientTest, BelowTheLeastMtuOfIpv6ItAsksForNoIpv6) {
  gateway_.answer.assigned_ip6 = IpAddress::parse("fd00::2").value();
  gateway_.answer.server_ip6 = IpAddress::parse("fd00::1").value();
  gateway_.answer.subnet6 = Prefix::parse("fd00::/64").value();
  gateway_.answer.routes = {Prefix::parse("10.5.0.0/16").value(), Prefix::parse("fd05::/48").value()};
  gateway_.answer.receive = protocol::Receive{.mtu = 1279};
  come_back();
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.2"));
  EXPECT_THAT(tunnel_.settings.back().routes, ElementsAre(gateway_.answer.routes[0]));
  EXPECT_EQ(client_.status().address6, std::nullopt);

  gateway_.answer.receive = protocol::Receive{.mtu = 1280};
  come_back();
  EXPECT_THAT(addresses(), ElementsAre("10.0.0.2", "fd00::2"));
  EXPECT_EQ(tunnel_.settings.back().routes, gateway_.answer.routes);
  EXPECT_EQ(client_.status().address6, gateway_.answer.assigned_ip6);
}

TEST_F(ClientTest, TheStatusShowsTheMtuThatTheInterfaceHas) {
  EXPECT_EQ(client_.status().mtu, 1400);
  tunnel_.mtu_by_hand = 1000;
  EXPECT_EQ(client_.status().mtu, 1000);
}

TEST_F(ClientTest, AGatewayThatTalksAndTalksFillsNoLog) {
  const log::Capture logs;
  const std::string much(10000, 'x');
  for (int i = 0; i < 1000; ++i) {
    gateway_.say("no message " + much);
    gateway_.say(protocol::to_json(protocol::Notice{.text = much}));
    gateway_.say(protocol::to_json(protocol::ErrorMessage{.error = much}));
    gateway_.say(protocol::to_json(protocol::Goodbye{.reason = much}));
    gateway_.say(protocol::to_json(protocol::ConfigEvent{.routes = {Prefix::parse("0.0.0.0/0").value()}}));
    loop_.run_until_idle();
  }
  EXPECT_EQ(client_.status().state, State::connected);
  loop_.advance(LogGate::kWindow);
  for (const auto* held_back :
       {"more messages from the gateway not understood", "more notices from the gateway",
        "more errors from the gateway", "more goodbyes from the gateway", "more about settings from the gateway"})
    EXPECT_THAT(logs.text(), HasSubstr("msg=\"" + std::string(held_back) + "\" count=980"));
  EXPECT_LT(logs.text().size(), 5 * LogGate::kLines * 400);
}

TEST_F(ClientTest, ARefusalInManyWordsIsCutShort) {
  const log::Capture logs;
  gateway_.answer = {.error = std::string(10000, 'x')};
  gateway_.wire->cut();
  loop_.advance(60s);
  EXPECT_THAT(logs.text(), HasSubstr("the gateway refused the login: xxx"));
  EXPECT_LT(client_.status().last_error.size(), 500U);
  EXPECT_LT(logs.text().size(), 10000U);
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
