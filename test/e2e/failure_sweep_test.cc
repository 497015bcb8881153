// Breaks the way from the first byte to the first packet at every operation of the sockets and at every timer, in every
// way that it can break, and looks that nothing is left behind and that the next attempt works.
//
//   alice --[ TLS or plain, 1st, 2nd, ... Nth read or write of either end ]-- gateway
//                    ^ reset, silence, the gateway's process dies, alice's process dies

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/network.h"
#include "tls/test_certificates.h"

namespace penstock {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using test::Network;
using test::TestClient;

constexpr const char* kServer = R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, tun: off}
auth: {tokens: [a-token]}
)";

enum class Way : std::uint8_t { reset, silence, gateway_dies, client_dies };

struct Case {
  Way way;
  bool tls;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  constexpr const char* kNames[] = {"Reset", "Silence", "GatewayDies", "ClientDies"};
  return kNames[static_cast<int>(info.param.way)] + std::string(info.param.tls ? "WithTls" : "");
}

class FailureSweep : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!GetParam().tls) return;
    const auto certificate = tls::make_test_certificate(directory_.path());
    server_tls_ = tls::ServerContext::create(certificate.cert_path, certificate.key_path).value();
    client_tls_ = tls::ClientContext::create({.pin = certificate.pin}).value();
  }

  // A gateway, and alice who has not started yet.
  std::unique_ptr<Network> make_network() {
    auto net = std::make_unique<Network>(kServer);
    timers_when_idle_ = net->home().timers();
    secure(*net);
    net->make_client("a-token");
    alice(*net).tls = client_tls_;
    alice(*net).restart();
    return net;
  }
  static TestClient& alice(Network& net) { return *net.clients.front(); }

  void secure(Network& net) const {
    if (server_tls_) net.core->set_tls(server_tls_);
    net.run();
  }

  void break_now(Network& net) {
    TestClient& client = alice(net);
    switch (GetParam().way) {
      case Way::reset:
        if (client.wire != nullptr) client.wire->reset();
        break;
      case Way::silence:
        if (client.wire != nullptr) client.wire->cut();
        break;
      case Way::gateway_dies:
        net.kill_gateway();
        net.start_gateway();
        secure(net);
        break;
      case Way::client_dies:
        client.client.reset();
        client.restart();
        client.client->start();
        break;
    }
  }

  // What must be true whatever happened before: alice comes back, packets flow, and in the end nothing is left.
  void expect_recovery(Network& net) {
    net.advance(minutes(2));
    ASSERT_TRUE(alice(net).connected());
    ASSERT_LE(net.core->registry().sessions().size(), 2U);
    alice(net).tunnel.written.clear();
    alice(net).tunnel.inject(test::echo_request(alice(net).status().address->to_string(), "10.100.0.1"));
    net.run();
    ASSERT_EQ(alice(net).tunnel.written.size(), 1U);
    net.advance(minutes(6));  // what the broken attempt left behind is gone after the grace time
    ASSERT_EQ(net.core->registry().sessions().size(), 1U);
    ASSERT_EQ(net.core->registry().pool().leased(), 1U);
    ASSERT_EQ(net.core->connections(), 1U);
    bool stopped = false;
    alice(net).client->stop([&] { stopped = true; });
    net.advance(seconds(3));
    ASSERT_TRUE(stopped);
    ASSERT_EQ(net.core->connections(), 0U);
    net.clients.clear();
    net.advance(minutes(6));
    ASSERT_EQ(net.core->registry().sessions().size(), 0U);
    ASSERT_EQ(net.core->registry().pool().leased(), 0U);
    ASSERT_EQ(net.home().timers(), timers_when_idle_) << "a timer was left behind";
  }

 private:
  log::Capture quiet_;
  tls::TestDirectory directory_;
  std::shared_ptr<tls::ServerContext> server_tls_;
  std::shared_ptr<tls::ClientContext> client_tls_;
  std::size_t timers_when_idle_ = 0;
};

TEST_P(FailureSweep, WhateverOperationFailsTheNextAttemptWorksAndNothingIsLeft) {
  std::uint64_t step = 1;
  for (bool broken = true; broken; ++step) {
    SCOPED_TRACE(step);
    const auto net = make_network();
    auto io = std::make_shared<test::MemoryIo>();
    alice(*net).next_wire = {.max_read = 64, .max_write = 64, .io = io};
    alice(*net).client->start();
    while (io->operations < step && net->run_one_step()) {
    }
    broken = io->operations >= step;
    if (broken) break_now(*net);
    expect_recovery(*net);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(step, 20U) << "the sweep ends before the login does";
}

TEST_P(FailureSweep, BetweenWhicheverTimersItFailsTheNextAttemptWorksAndNothingIsLeft) {
  std::size_t swept = 0;
  for (std::size_t timers = 1;; ++timers) {
    SCOPED_TRACE(timers);
    const auto net = make_network();
    Duration passed{};
    alice(*net).client->start();
    net->run();
    for (std::size_t fired = 0; fired < timers; ++fired) {
      Duration next = Duration::max();
      for (test::ManualLoop* loop : net->all_loops()) {
        if (const auto at = loop->next_timer()) next = std::min(next, *at - loop->now());
      }
      passed += next;
      for (test::ManualLoop* loop : net->all_loops()) loop->advance(next);
      net->run();
    }
    if (passed > seconds(75)) break;  // more than the longest silence limit
    break_now(*net);
    expect_recovery(*net);
    if (HasFatalFailure()) return;
    ++swept;
  }
  EXPECT_GE(swept, 10U);
}

// Nobody answers: at each stage it is a deadline that ends the attempt, of the client, of the gateway, or of both.
class SilenceSweep : public FailureSweep {};

TEST_P(SilenceSweep, WhereverThePeerFallsSilentADeadlineEndsTheAttempt) {
  for (std::uint64_t step = 1;; ++step) {
    SCOPED_TRACE(step);
    const auto net = make_network();
    auto io = std::make_shared<test::MemoryIo>();
    alice(*net).next_wire = {.max_read = 64, .max_write = 64, .io = io};
    alice(*net).client->start();
    while (io->operations < step && net->run_one_step()) {
    }
    if (io->operations < step) break;
    break_now(*net);
    alice(*net).reachable = false;
    net->advance(seconds(75));
    ASSERT_FALSE(alice(*net).connected());
    ASSERT_EQ(net->core->connections(), 0U) << "the gateway still waits for somebody who is gone";
    ASSERT_TRUE(alice(*net).wire == nullptr || alice(*net).status().state != client::State::connected);
    alice(*net).reachable = true;
    expect_recovery(*net);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, FailureSweep,
                         testing::Values(Case{Way::reset, false}, Case{Way::silence, false},
                                         Case{Way::gateway_dies, false}, Case{Way::client_dies, false},
                                         Case{Way::reset, true}, Case{Way::silence, true},
                                         Case{Way::gateway_dies, true}, Case{Way::client_dies, true}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Ways, SilenceSweep, testing::Values(Case{Way::silence, false}, Case{Way::silence, true}),
                         name_of);

}  // namespace
}  // namespace penstock
