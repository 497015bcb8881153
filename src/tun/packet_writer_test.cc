#include "tun/packet_writer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "packet/super_packet.h"
#include "tun/transport_packets_testing.h"
#include "tun/vnet_header.h"

namespace penstock::tun {
namespace {

using Gso = Offload::Gso;
using testing::ElementsAre;
using testing::SizeIs;

constexpr GsoKinds kAll{Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6};
constexpr GsoKinds kTcp{Gso::tcp4, Gso::tcp6};

// A kernel that keeps what it gets and, as far as a test says so, refuses.
struct Kernel {
  PacketWriter with_offloads(GsoKinds kinds) {
    header_size = kVnetHeaderSize;
    return PacketWriter::with_offloads(sink(), kinds);
  }
  PacketWriter plain() { return PacketWriter::plain(sink()); }
  PacketWriter::Sink sink() {
    return [this](ByteView header, ByteView bytes) {
      EXPECT_EQ(header.size(), header_size);
      Packet packet = Packet::copy_of(bytes);
      if (header_size != 0) {
        const auto offload = take_vnet_header(header, packet.mutable_bytes());
        EXPECT_TRUE(offload) << "what is written could be read";
        packet.offload = offload.value_or(Offload{});
      }
      ++tries;
      if (refuses.has(packet.offload.gso) && packet.offload.gso != Gso::none) return EINVAL;
      if (tries == down_at) return EIO;
      got.push_back(std::move(packet));
      return 0;
    };
  }
  // The payloads of TCP or UDP, one after the other.
  std::string text() const {
    std::string all;
    for (const Packet& packet : got) {
      const auto transport = transport_of(packet.bytes(), parse_ip(packet.bytes()).value());
      all += as_text(packet.bytes().subspan(transport->payload));
    }
    return all;
  }
  std::vector<std::size_t> segments() const {
    std::vector<std::size_t> counts;
    for (const Packet& packet : got) counts.push_back(segments_of(packet));
    return counts;
  }

  std::size_t header_size = 0;
  GsoKinds refuses;
  std::size_t down_at = 0;  // the try at which the interface is down for a moment
  std::size_t tries = 0;
  PacketBatch got;
};

std::string payload(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(payload_byte(i)));
  return text;
}

Packet tcp4(std::size_t size, std::uint16_t segment_size) {
  return super_packet(tcp_packet("10.0.0.1", "10.0.0.2", size), Gso::tcp4, segment_size);
}
Packet udp6(std::size_t size, std::uint16_t segment_size) {
  return super_packet(udp_packet("fd00::1", "fd00::2", size), Gso::udp6, segment_size);
}

bool write(PacketWriter& writer, Packet packet) { return writer.write(packet); }

TEST(PacketWriter, ASuperPacketOfATakenKindGoesWhole) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kAll);
  ASSERT_TRUE(write(writer, tcp4(60000, 1360)));
  ASSERT_TRUE(write(writer, udp6(60000, 1200)));
  EXPECT_THAT(kernel.segments(), ElementsAre(45, 50));
  EXPECT_EQ(kernel.got[1].offload, udp6(60000, 1200).offload);
  EXPECT_EQ(kernel.text(), payload(60000) + payload(60000));
}

TEST(PacketWriter, WhatNeedsNoWorkIsWrittenAsItLies) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kTcp);
  const Packet super = tcp4(60000, 1360);
  ASSERT_TRUE(writer.write_as_it_lies(super.bytes(), super.offload));
  const Packet echo = test::echo_request("10.0.0.1", "10.0.0.2");
  ASSERT_TRUE(writer.write_as_it_lies(echo.bytes(), echo.offload));
  EXPECT_THAT(kernel.segments(), ElementsAre(45, 1));
  EXPECT_EQ(kernel.got[0].offload, super.offload);
  EXPECT_TRUE(std::ranges::equal(kernel.got[0].bytes(), super.bytes()));
}

TEST(PacketWriter, WhatNeedsWorkIsNotWrittenAsItLies) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kTcp);
  for (const Packet& packet : test::batch_of(udp6(3000, 1200), tcp4(1000, 1360), tcp4(60000, 100), Packet()))
    EXPECT_FALSE(writer.write_as_it_lies(packet.bytes(), packet.offload));
  EXPECT_EQ(kernel.tries, 0U);
  PacketWriter plain = kernel.plain();
  const Packet unfinished = udp_packet("10.0.0.1", "10.0.0.2", 77);
  EXPECT_FALSE(plain.write_as_it_lies(unfinished.bytes(), unfinished.offload));
  EXPECT_EQ(kernel.tries, 0U);
}

TEST(PacketWriter, WhatIsRefusedAsItLiesMayGoInSegments) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kAll);
  kernel.refuses = {Gso::tcp4};
  Packet super = tcp4(3000, 1360);
  EXPECT_FALSE(writer.write_as_it_lies(super.bytes(), super.offload));
  EXPECT_TRUE(writer.write(super));
  EXPECT_THAT(kernel.segments(), ElementsAre(1, 1, 1));
  EXPECT_EQ(kernel.text(), payload(3000));
}

TEST(PacketWriter, ASuperPacketOfAnotherKindGoesInFinishedSegments) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kTcp);
  ASSERT_TRUE(write(writer, udp6(3000, 1200)));
  ASSERT_THAT(kernel.got, SizeIs(3));
  for (const Packet& packet : kernel.got) {
    EXPECT_EQ(packet.offload, Offload{});
    EXPECT_TRUE(has_good_checksum(packet));
  }
  EXPECT_EQ(kernel.text(), payload(3000));
  EXPECT_EQ(writer.refused_whole(), 0U) << "it was not tried";
}

TEST(PacketWriter, WithoutAHeaderEverythingIsDoneHere) {
  Kernel kernel;
  PacketWriter writer = kernel.plain();
  EXPECT_TRUE(writer.takes().empty());
  ASSERT_TRUE(write(writer, tcp4(3000, 1360)));
  ASSERT_TRUE(write(writer, udp_packet("10.0.0.1", "10.0.0.2", 77)));
  ASSERT_TRUE(write(writer, test::echo_request("10.0.0.1", "10.0.0.2")));
  ASSERT_THAT(kernel.got, SizeIs(5));
  for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(has_good_checksum(kernel.got[i])) << i;
}

TEST(PacketWriter, APartialChecksumIsLeftToAKernelThatFinishesIt) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kTcp);
  ASSERT_TRUE(write(writer, udp_packet("10.0.0.1", "10.0.0.2", 77)));
  EXPECT_EQ(kernel.got[0].offload, (Offload{.needs_checksum = true}));
}

TEST(PacketWriter, WhatExceedsTheBoundGoesInPiecesWithinIt) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kAll);
  ASSERT_TRUE(write(writer, udp6(60000, 500)));
  EXPECT_THAT(kernel.segments(), ElementsAre(64, 56));
  EXPECT_EQ(kernel.text(), payload(60000));
  kernel.got.clear();
  ASSERT_TRUE(write(writer, tcp4(60000, 100)));
  EXPECT_THAT(kernel.segments(), ElementsAre(512, 88));
  EXPECT_EQ(kernel.text(), payload(60000));
  kernel.got.clear();
  ASSERT_TRUE(write(writer, udp6(65 * 100, 100)));
  EXPECT_THAT(kernel.segments(), ElementsAre(64, 1)) << "what is left is one segment, and no super-packet";
  EXPECT_EQ(kernel.got[1].offload, (Offload{.needs_checksum = true}));
}

TEST(PacketWriter, TheSmallestSegmentsOfTheLargestPacketComeThrough) {
  Kernel kernel;
  PacketWriter writer = kernel.plain();
  ASSERT_TRUE(write(writer, udp6(65000, 1)));
  EXPECT_THAT(kernel.got, SizeIs(65000));
  EXPECT_EQ(kernel.text(), payload(65000));
}

TEST(PacketWriter, ASingleSegmentIsWrittenAsAnOrdinaryPacket) {
  Kernel kernel;
  kernel.refuses = kAll;
  PacketWriter writer = kernel.with_offloads(kAll);
  ASSERT_TRUE(write(writer, tcp4(1000, 0xFFFF)));
  EXPECT_EQ(kernel.got[0].offload, (Offload{.needs_checksum = true}));
  EXPECT_EQ(writer.takes(), kAll);
}

TEST(PacketWriter, AKindThatIsRefusedFromTheStartIsNotTriedAgain) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kAll);
  kernel.refuses = {Gso::udp6};
  ASSERT_TRUE(write(writer, udp6(3000, 1200))) << "nothing is lost";
  EXPECT_EQ(kernel.tries, 4U);
  EXPECT_EQ(writer.refused_whole(), 1U);
  EXPECT_EQ(writer.takes(), (GsoKinds{Gso::tcp4, Gso::tcp6, Gso::udp4}));
  ASSERT_TRUE(write(writer, udp6(3000, 1200)));
  EXPECT_EQ(kernel.tries, 7U);
  EXPECT_EQ(writer.refused_whole(), 1U);
  EXPECT_EQ(kernel.text(), payload(3000) + payload(3000));
  for (const Packet& packet : kernel.got) EXPECT_TRUE(has_good_checksum(packet));
}

TEST(PacketWriter, OneRefusalDoesNotSlowDownAKindThatWasTakenBefore) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kAll);
  ASSERT_TRUE(write(writer, tcp4(3000, 1360)));
  kernel.refuses = {Gso::tcp4};
  ASSERT_TRUE(write(writer, tcp4(3000, 1360)));
  kernel.refuses = {};
  ASSERT_TRUE(write(writer, tcp4(3000, 1360)));
  EXPECT_THAT(kernel.segments(), ElementsAre(3, 1, 1, 1, 3));
  EXPECT_EQ(writer.refused_whole(), 1U);
  EXPECT_EQ(writer.takes(), kAll);
}

TEST(PacketWriter, OtherErrorsAreRefusalsForGood) {
  Kernel kernel;
  PacketWriter writer = kernel.with_offloads(kTcp);
  kernel.down_at = 1;
  EXPECT_FALSE(write(writer, tcp4(3000, 1360)));
  EXPECT_THAT(kernel.got, SizeIs(0));
  EXPECT_EQ(writer.takes(), kTcp);
  kernel.down_at = 3;
  EXPECT_FALSE(write(writer, udp6(3000, 1200)));
  EXPECT_THAT(kernel.got, SizeIs(2)) << "the segments before and after that one";
  EXPECT_FALSE(write(writer, Packet()));
}

}  // namespace
}  // namespace penstock::tun
