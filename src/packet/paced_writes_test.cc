#include "packet/paced_writes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "packet/super_packet.h"
#include "test/support/manual_loop.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

using Gso = Offload::Gso;

constexpr std::size_t kUdpHeaders = 28;

std::string datagram(std::size_t size, char port) {
  std::string text(8 + size, 'x');
  const std::string header{40, port, 40, 1, static_cast<char>((8 + size) >> 8), static_cast<char>(8 + size), 0, 0};
  return text.replace(0, header.size(), header);
}

// `size` bytes of payload in segments of `segment_size`.
Packet udp_super(std::size_t size, std::uint16_t segment_size, char port = 1) {
  Packet packet = test::ip_packet("10.0.0.1", "10.0.0.2", datagram(size, port));
  packet.mutable_bytes()[9] = kProtocolUdp;
  write_partial_checksum(packet.mutable_bytes(), *transport_of(packet.bytes()));
  packet.offload = {.gso = Gso::udp4, .needs_checksum = true, .segment_size = segment_size};
  return packet;
}
Packet small(char port) {
  Packet packet = udp_super(1, 1, port);
  packet.offload = {.needs_checksum = true};
  return packet;
}
Packet tcp_super(std::size_t size, std::uint16_t segment_size) {
  return test::super_packet("10.0.0.1", "10.0.0.2", size, segment_size);
}

class PacedWritesTest : public testing::Test, public PacedWrites::Device {
 protected:
  void write_now(Packet& packet) override {
    work += segments_of(packet);
    ports.push_back(packet.bytes()[21]);
    written.push_back(std::move(packet));
  }
  void lost_waiting(const FlowQueue::Losses& losses) override {
    lost.dropped_full += losses.dropped_full;
    lost.dropped_aqm += losses.dropped_aqm;
  }
  // What is written in the next turn, in segments.
  std::size_t turn() {
    work = 0;
    loop.run_one_step();
    return work;
  }

  test::ManualLoop loop;
  PacedWrites paced{loop, {.first = 1, .second = 2}, *this};
  PacketBatch written;
  std::vector<int> ports;
  std::size_t work = 0;
  FlowQueue::Losses lost;
};

TEST_F(PacedWritesTest, OrdinaryPacketsGoAtOnceHoweverMany) {
  for (int i = 0; i < 5000; ++i) paced.write(small(1));
  EXPECT_EQ(written.size(), 5000U);
  EXPECT_EQ(loop.run_until_idle(), 0U);
}

TEST_F(PacedWritesTest, FewWritesGoAtOnceAndManyWait) {
  paced.write(udp_super(64 * 100, 100));
  EXPECT_EQ(written.size(), 1U);
  paced.write(udp_super(64 * 100 + 1, 100));
  EXPECT_EQ(written.size(), 1U);
  EXPECT_TRUE(paced.waiting());
  loop.run_until_idle();
  EXPECT_EQ(written.size(), 2U);
  EXPECT_FALSE(paced.waiting());
}

TEST_F(PacedWritesTest, ATcpSuperPacketThatTheDeviceTakesIsFewWritesAndAUdpOneStillItsSegments) {
  paced.set_kinds({Gso::tcp4, Gso::udp4});
  paced.write(tcp_super(60000, 10));
  EXPECT_EQ(written.size(), 1U) << "12 writes of 512 segments";
  paced.write(udp_super(6500, 100));
  EXPECT_EQ(written.size(), 1U);
  loop.run_until_idle();
  paced.set_kinds({});
  paced.write(tcp_super(60000, 10));
  EXPECT_EQ(written.size(), 2U);
}

TEST_F(PacedWritesTest, SixtyFiveThousandSegmentsAreWrittenInManyTurns) {
  paced.write(udp_super(65000, 1));
  std::size_t turns = 0;
  std::size_t all = 0;
  for (; paced.waiting(); ++turns) {
    const std::size_t one = turn();
    EXPECT_LE(one, 2 * PacedWrites::kWorkPerTurn);
    all += one;
  }
  EXPECT_GE(turns, 65000 / (2 * PacedWrites::kWorkPerTurn));
  EXPECT_EQ(all, 65000U);
  std::size_t payload = 0;
  for (const Packet& packet : written) payload += packet.size() - kUdpHeaders;
  EXPECT_EQ(payload, 65000U);
}

TEST_F(PacedWritesTest, WhatComesWhileSomethingWaitsOvertakesOtherFlowsAndNeverItsOwn) {
  paced.write(udp_super(20000, 4, 1));
  paced.write(small(1));
  paced.write(small(2));
  turn();
  EXPECT_THAT(ports, testing::Contains(2)) << "in the first turn already";
  EXPECT_TRUE(paced.waiting());
  loop.run_until_idle();
  EXPECT_EQ(ports.back(), 1);
  EXPECT_EQ(written.back().size(), kUdpHeaders + 1);
  EXPECT_EQ(lost, FlowQueue::Losses{});
}

TEST_F(PacedWritesTest, ManyThatAreLittleWorkEachAreNotDoneAllInOneTurn) {
  for (int i = 0; i < 100; ++i) paced.write(udp_super(60, 1));
  EXPECT_EQ(written.size(), PacedWrites::kWorkPerTurn / 60);
  EXPECT_LE(turn(), 2 * PacedWrites::kWorkPerTurn);
  EXPECT_TRUE(paced.waiting());
  loop.run_until_idle();
  EXPECT_EQ(written.size(), 100U);
  written.clear();
  for (int i = 0; i < 10; ++i) paced.write(udp_super(60, 1));
  EXPECT_EQ(written.size(), 10U) << "a new turn";
}

TEST_F(PacedWritesTest, WhatWaitsIsBoundedAndEachLossIsTold) {
  std::size_t sent = 0;
  for (int i = 0; i < 100; ++i, sent += 60000) paced.write(udp_super(60000, 1));
  EXPECT_LE(paced.memory(), PacedWrites::kMaxBytes + 16 * 1024);
  EXPECT_GT(lost.dropped_full, 0U);
  loop.run_until_idle();
  std::size_t segments = 0;
  for (const Packet& packet : written) segments += segments_of(packet);
  EXPECT_EQ(segments + lost.dropped_full + lost.dropped_aqm, sent);
}

TEST_F(PacedWritesTest, ItsMemoryIsGivenBackOnceNothingWaits) {
  const std::size_t before = paced.memory();
  paced.write(udp_super(60000, 1));
  EXPECT_GT(paced.memory(), before);
  loop.run_until_idle();
  EXPECT_EQ(paced.memory(), before);
}

TEST_F(PacedWritesTest, NothingIsWrittenOnceItIsGone) {
  auto gone = std::make_unique<PacedWrites>(loop, FlowHashKey{}, *this);
  gone->write(udp_super(60000, 1));
  gone.reset();
  loop.run_until_idle();
  EXPECT_TRUE(written.empty());
}

}  // namespace
}  // namespace penstock
