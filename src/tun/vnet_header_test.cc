#include "tun/vnet_header.h"

#include <gmock/gmock.h>

#include <array>
#include <vector>

#include "tun/transport_packets_testing.h"

namespace penstock::tun {
namespace {

using Gso = Offload::Gso;

constexpr std::size_t kGsoType = 1;
constexpr std::size_t kGsoSize = 4;
constexpr std::size_t kChecksumStart = 6;
constexpr std::size_t kChecksumOffset = 8;

// By hand it stands in TheHeaderIsBuiltFromThePacketsOwnHeaders.
VnetHeader header_of(const Packet& packet) { return make_vnet_header(packet.bytes(), packet.offload); }

Packet tcp4(std::size_t payload = 3000, char flags = 0) {
  return super_packet(tcp_packet("10.0.0.1", "10.0.0.2", payload, flags), Gso::tcp4, 1360);
}
Packet tcp6() { return super_packet(tcp_packet("fd00::1", "fd00::2", 3000), Gso::tcp6, 1340); }
Packet udp4() { return super_packet(udp_packet("10.0.0.1", "10.0.0.2", 3000), Gso::udp4, 1200); }
Packet udp6() { return super_packet(udp_packet("fd00::1", "fd00::2", 3000), Gso::udp6, 1200); }

TEST(VnetHeader, TheHeaderIsBuiltFromThePacketsOwnHeaders) {
  struct Case {
    Packet packet;
    VnetHeader header;
  };
  std::vector<Case> cases;
  cases.push_back({test::echo_request("10.0.0.1", "10.0.0.2"), {}});
  cases.push_back({tcp_packet("10.0.0.1", "10.0.0.2", 5), {1, 0, 40, 0, 0, 0, 20, 0, 16, 0}});
  cases.push_back({udp_packet("fd00::1", "fd00::2", 5), {1, 0, 48, 0, 0, 0, 40, 0, 6, 0}});
  cases.push_back({tcp4(), {1, 1, 40, 0, 0x50, 0x05, 20, 0, 16, 0}});
  cases.push_back({tcp6(), {1, 4, 60, 0, 0x3C, 0x05, 40, 0, 16, 0}});
  cases.push_back({udp4(), {1, 5, 28, 0, 0xB0, 0x04, 20, 0, 6, 0}});
  cases.push_back({udp6(), {1, 5, 48, 0, 0xB0, 0x04, 40, 0, 6, 0}});
  cases.push_back({tcp4(3000, '\x80'), {1, 0x81, 40, 0, 0x50, 0x05, 20, 0, 16, 0}});
  for (const Case& each : cases) EXPECT_THAT(header_of(each.packet), testing::ElementsAreArray(each.header));
}

TEST(VnetHeader, WhatIsWrittenIsReadAgain) {
  PacketBatch packets = test::batch_of(test::echo_request("10.0.0.1", "10.0.0.2"),
                                       tcp_packet("10.0.0.1", "10.0.0.2", 5), tcp4(), tcp6(), udp4(), udp6());
  packets.push_back(tcp4(3000, '\x80'));
  for (const Packet& packet : packets) {
    const VnetHeader header = header_of(packet);
    Packet read = Packet::copy_of(packet.bytes());
    EXPECT_EQ(take_vnet_header(header, read.mutable_bytes()), packet.offload);
    EXPECT_TRUE(std::ranges::equal(read.bytes(), packet.bytes()));
  }
}

TEST(VnetHeader, TheLengthOfTheHeadersIsNotBelievedAndNotMissed) {
  Packet packet = tcp4();
  VnetHeader header = header_of(packet);
  header[2] = header[3] = 0xFF;
  EXPECT_EQ(take_vnet_header(header, packet.mutable_bytes()), packet.offload);
}

TEST(VnetHeader, FlagsThatLeaveNothingToDoAreNoOffload) {
  Packet packet = test::echo_request("10.0.0.1", "10.0.0.2");
  EXPECT_EQ(take_vnet_header(VnetHeader{2}, packet.mutable_bytes()), Offload{}) << "DATA_VALID";
}

TEST(VnetHeader, ASuperPacketThatDoesNotAgreeWithItsHeadersIsNotBelieved) {
  const auto refused = [](Packet packet, std::size_t at, std::uint8_t value) {
    VnetHeader header = header_of(packet);
    header[at] = value;
    return !take_vnet_header(header, packet.mutable_bytes());
  };
  EXPECT_FALSE(refused(tcp4(), 0, 1)) << "as it is";
  EXPECT_TRUE(refused(tcp4(), 0, 0)) << "without a partial checksum";
  EXPECT_TRUE(refused(tcp4(), kGsoType, 4)) << "IPv6's in an IPv4 packet";
  EXPECT_TRUE(refused(tcp6(), kGsoType, 1));
  EXPECT_TRUE(refused(tcp4(), kGsoType, 5)) << "UDP's in TCP";
  EXPECT_TRUE(refused(udp4(), kGsoType, 1));
  EXPECT_TRUE(refused(udp4(), kGsoType, 3)) << "UDP fragments (UFO)";
  EXPECT_TRUE(refused(udp4(), kGsoType, 0x85)) << "CWR in UDP";
  EXPECT_TRUE(refused(tcp4(), kGsoType, 99));
  EXPECT_TRUE(refused(tcp4(), kGsoType, 0x80));
  EXPECT_TRUE(refused(tcp4(), kChecksumStart, 24));
  EXPECT_TRUE(refused(tcp4(), kChecksumStart + 1, 0xFF));
  EXPECT_TRUE(refused(tcp4(), kChecksumOffset, 6));
  EXPECT_TRUE(refused(tcp4(2, '\x02'), 0, 1)) << "a SYN";

  Packet packet = tcp4();
  VnetHeader header = header_of(packet);
  header[kGsoSize] = header[kGsoSize + 1] = 0;
  EXPECT_FALSE(take_vnet_header(header, packet.mutable_bytes())) << "segments of nothing";
  header = header_of(packet);
  EXPECT_FALSE(take_vnet_header(header, packet.mutable_bytes().first(2000))) << "a packet that was cut off";
  EXPECT_FALSE(take_vnet_header(header, packet.mutable_bytes().first(0)));
}

// An ICMP checksum is nowhere left partial today; but it is a checksum where TCP and UDP have none.
TEST(VnetHeader, AChecksumInAnotherPlaceIsFinishedAtOnce) {
  Packet packet = test::echo_request("10.0.0.1", "10.0.0.2");
  const Packet whole = packet.clone();
  store_be16(&packet.mutable_bytes()[22], 0);
  EXPECT_EQ(take_vnet_header(VnetHeader{1, 0, 0, 0, 0, 0, 20, 0, 2, 0}, packet.mutable_bytes()), Offload{});
  EXPECT_TRUE(std::ranges::equal(packet.bytes(), whole.bytes()));
}

TEST(VnetHeader, UdpBehindAnExtensionHeaderIsFinishedAtOnce) {
  // Destination options (RFC 8200 section 4.6) of eight bytes: next header, length 0, PadN of four.
  Packet plain = udp_packet("fd00::1", "fd00::2", 11);
  const std::string options("\x11\x00\x01\x04\x00\x00\x00\x00", 8);
  Packet packet = test::ip_packet("fd00::1", "fd00::2", options + test::payload_of(plain), 60);
  EXPECT_EQ(take_vnet_header(VnetHeader{1, 0, 0, 0, 0, 0, 48, 0, 6, 0}, packet.mutable_bytes()), Offload{});
  Packet inner = test::ip_packet("fd00::1", "fd00::2", test::payload_of(packet).substr(8));
  EXPECT_TRUE(has_good_checksum(inner));
}

TEST(VnetHeader, AChecksumOfZeroIsWrittenAsAllOnes) {
  Packet packet = udp_packet("10.0.0.1", "10.0.0.2", 2);
  // Chosen so that all else sums to 0xFFFF, which leaves a checksum of 0; a start one word late makes it unusual.
  const MutableByteView bytes = packet.mutable_bytes();
  store_be16(&bytes[28], 0);
  store_be16(&bytes[28], internet_checksum(bytes.subspan(22)));
  EXPECT_EQ(take_vnet_header(VnetHeader{1, 0, 0, 0, 0, 0, 22, 0, 4, 0}, bytes), Offload{});
  EXPECT_EQ(load_be16(&bytes[26]), 0xFFFF);
}

TEST(VnetHeader, AChecksumOutsideThePacketIsNotBelieved) {
  Packet packet = test::echo_request("10.0.0.1", "10.0.0.2");  // 32 bytes
  const auto taken = [&](std::uint8_t start, std::uint8_t offset) {
    return take_vnet_header(VnetHeader{1, 0, 0, 0, 0, 0, start, 0, offset, 0}, packet.mutable_bytes()).has_value();
  };
  EXPECT_TRUE(taken(20, 10));
  EXPECT_FALSE(taken(20, 11));
  EXPECT_FALSE(taken(32, 0));
  EXPECT_FALSE(take_vnet_header(VnetHeader{1, 0, 0, 0, 0, 0, 255, 255, 255, 255}, packet.mutable_bytes()));
}

}  // namespace
}  // namespace penstock::tun
