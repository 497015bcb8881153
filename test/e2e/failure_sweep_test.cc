// Breaks the way from the first byte to the first packet at every step, and looks that nothing is left behind and that
// the next attempt works.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/network.h"

namespace penstock {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using test::ip_packet;
using test::Network;
using test::TestClient;

constexpr const char* kServer = R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, tun: off}
auth: {tokens: [a-token]}
)";

// More than a login, a packet each way and a ping take.
constexpr std::uint64_t kSteps = 40;

class FailureSweep : public testing::TestWithParam<bool> {
 protected:
  // Connects over a wire that breaks at its `step`-th operation and reports whether it did.
  bool break_at(Network& net, TestClient& alice, std::uint64_t step) {
    auto io = std::make_shared<test::MemoryIo>();
    if (!GetParam()) io->fail_at = step;
    alice.next_wire = {.max_read = 64, .max_write = 64, .io = io};  // many small steps
    alice.client->start();
    if (GetParam()) {
      // Silence in place of a reset: nobody is told, only time tells.
      while (net.home().run_one_step()) {
        if (io->operations >= step && alice.wire != nullptr) {
          alice.wire->cut();
          break;
        }
      }
    }
    net.run();
    return io->operations >= step;
  }
  log::Capture quiet;
};

TEST_P(FailureSweep, WhateverStepFailsTheNextAttemptWorksAndNothingIsLeft) {
  int broken = 0;
  for (std::uint64_t step = 1; step <= kSteps; ++step) {
    SCOPED_TRACE(step);
    Network net(kServer);
    TestClient& alice = net.make_client("a-token");
    if (break_at(net, alice, step)) ++broken;
    net.advance(minutes(2));
    ASSERT_TRUE(alice.connected());
    ASSERT_LE(net.core->registry().sessions().size(), 2U);
    alice.tunnel.inject(test::echo_request(alice.status().address->to_string(), "10.100.0.1"));
    net.run();
    ASSERT_EQ(alice.tunnel.written.size(), 1U);
    net.advance(minutes(6));  // what the broken attempt left behind is gone after the grace time
    ASSERT_EQ(net.core->registry().sessions().size(), 1U);
    ASSERT_EQ(net.core->registry().pool().leased(), 1U);
    ASSERT_EQ(net.core->connections(), 1U);
    bool stopped = false;
    alice.client->stop([&] { stopped = true; });
    net.advance(seconds(3));
    ASSERT_TRUE(stopped);
    ASSERT_EQ(net.core->connections(), 0U);
  }
  EXPECT_GE(broken, 20) << "the sweep ends before the login does";
}

INSTANTIATE_TEST_SUITE_P(Kinds, FailureSweep, testing::Values(false, true),
                         [](const auto& silent) { return silent.param ? "Silence" : "Reset"; });

}  // namespace
}  // namespace penstock
