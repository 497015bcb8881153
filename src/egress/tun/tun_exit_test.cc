#include "egress/tun/tun_exit.h"

#include <gtest/gtest.h>

#include "packet/super_packet.h"
#include "test/support/manual_loop.h"
#include "test/support/packets.h"
#include "tun/fake_device.h"

namespace penstock::egress {
namespace {

class TunExitTest : public testing::Test {
 protected:
  void send(Packet packet) {
    auto batch = test::batch_of(std::move(packet));
    exit.send(batch);
  }
  static Packet super_packet(std::size_t payload, std::uint16_t segment_size) {
    return test::super_packet("10.0.0.2", "10.0.0.1", payload, segment_size);
  }
  std::uint64_t drops(router::Drop reason) { return shard.router().drops().of(reason); }
  std::uint64_t written() const { return segments_of(device.written); }

  test::ManualLoop loop;
  router::Shard shard{0, loop};
  tun::FakeDevice device;
  TunExit exit{shard, device, nullptr, {.first = 1, .second = 2}};
};

TEST_F(TunExitTest, WhatIsLittleWorkIsWrittenAtOnce) {
  send(test::echo_request("10.0.0.2", "10.0.0.1"));
  send(super_packet(60000, 1400));
  device.kinds = {Offload::Gso::tcp4};
  send(super_packet(60000, 100));
  EXPECT_EQ(device.written.size(), 3U);
}

TEST_F(TunExitTest, SixtyThousandSegmentsHoldUpNeitherTheLoopNorAPing) {
  send(super_packet(60000, 1));
  send(test::echo_request("10.0.0.2", "10.0.0.1"));
  EXPECT_EQ(written(), 0U);
  loop.run_one_step();
  EXPECT_LT(written(), 3000U);
  EXPECT_TRUE(std::ranges::any_of(device.written, [](const Packet& packet) { return packet.bytes()[9] == 1; }));
  loop.run_until_idle();
  EXPECT_EQ(written(), 60001U);
}

TEST_F(TunExitTest, WhatIsToEverybodyWaitsToo) {
  PacketBatch batch = test::batch_of(super_packet(60000, 1));
  batch[0].source = {.slot = 1, .generation = 1};
  exit.flood(batch);
  EXPECT_EQ(written(), 0U);
  loop.run_until_idle();
  EXPECT_EQ(written(), 60000U);
}

TEST_F(TunExitTest, WhatTheInterfaceRefusesAndWhatDoesNotFitCountsAsThePacketsThatItStandsFor) {
  device.refuse_writes = true;
  send(super_packet(3500, 1000));
  EXPECT_EQ(drops(router::Drop::interface_refused), 4U);
  device.refuse_writes = false;
  for (int i = 0; i < 40; ++i) send(super_packet(60000, 10));
  loop.run_until_idle();
  EXPECT_GT(drops(router::Drop::queue_full), 0U);
  EXPECT_EQ(written() + drops(router::Drop::queue_full) + drops(router::Drop::queue_delay), 40U * 6000);
}

}  // namespace
}  // namespace penstock::egress
