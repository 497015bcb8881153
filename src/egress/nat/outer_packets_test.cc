#include "egress/nat/outer_packets.h"

#include <gtest/gtest.h>

#include "egress/nat/nat_packets_testing.h"

namespace penstock::egress {
namespace {

using test::ip;

TEST(OuterPackets, AnErrorArrivesWithTheHopsAndTheClassThatItHad) {
  const net::SocketError told{
      .type = 11, .reporter = ip("203.0.113.1"), .ttl = 57, .tos = 0xC0, .to = end("198.51.100.2:33434")};
  const Packet packet = error_packet_of(told, Transport::udp, end("192.0.2.1:40000"));
  EXPECT_EQ(parse_ip(packet.bytes())->ttl, 57);
  EXPECT_EQ(packet.bytes()[1], 0xC0);

  const net::SocketError told6{
      .type = 3, .reporter = ip("2001:db8::1"), .ttl = 57, .tos = 0x12, .to = end("[2001:db8::2]:33434")};
  const Packet packet6 = error_packet_of(told6, Transport::udp, end("[2001:db8::3]:40000"));
  EXPECT_EQ(parse_ip(packet6.bytes())->ttl, 57);
  EXPECT_EQ(load_be16(&packet6.bytes()[0]), 0x6120);
}

TEST(OuterPackets, WhereNothingIsToldOfTheErrorItHasTheUsualHops) {
  const net::SocketError told{.type = 11, .reporter = ip("203.0.113.1"), .to = end("198.51.100.2:33434")};
  EXPECT_EQ(parse_ip(error_packet_of(told, Transport::udp, end("192.0.2.1:40000")).bytes())->ttl, 64);
}

// RFC 792: the pointer is the first byte of the second word. RFC 4443 section 3.4: it is all of it.
TEST(OuterPackets, AParameterProblemPointsToWhereItDid) {
  const net::SocketError told{.type = 12, .info = 20, .reporter = ip("203.0.113.1"), .to = end("198.51.100.2:33434")};
  EXPECT_EQ(load_be32(&error_packet_of(told, Transport::udp, end("192.0.2.1:40000")).bytes()[24]), 20U << 24);
  const net::SocketError told6{.type = 4, .info = 20, .reporter = ip("2001:db8::1"), .to = end("[2001:db8::2]:33434")};
  EXPECT_EQ(load_be32(&error_packet_of(told6, Transport::udp, end("[2001:db8::3]:40000")).bytes()[44]), 20U);
}

}  // namespace
}  // namespace penstock::egress
