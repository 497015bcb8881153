#include "egress/nat/rewrite.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "egress/nat/nat_packets_testing.h"

namespace penstock::egress {
namespace {

using test::ip;

TranslationView view_of(const Packet& packet) {
  return translation_of(packet.bytes(), parse_ip(packet.bytes()).value()).value();
}

bool is_translatable(const Packet& packet) {
  return translation_of(packet.bytes(), parse_ip(packet.bytes()).value()).has_value();
}

// The same bytes as if the packet had been made with that end: so every checksum is right.
void expect_rewritten(Packet packet, Side side, const Endpoint& to, const Packet& expected) {
  rewrite(packet, view_of(packet), side, to);
  EXPECT_TRUE(same_bytes(packet, expected));
}

TEST(Rewrite, ASourceAndADestinationBecomeOthersWithAllChecksums) {
  for (const auto& [inner, remote, outer] :
       {std::tuple("10.100.0.2:1000", "198.51.100.9:53", "192.0.2.1:40000"),
        std::tuple("[fd00::2]:1000", "[2001:db8:5::9]:53", "[2001:db8::1]:40000")}) {
    expect_rewritten(udp_packet(end(inner), end(remote)), Side::source, end(outer),
                     udp_packet(end(outer), end(remote)));
    expect_rewritten(udp_packet(end(remote), end(outer)), Side::destination, end(inner),
                     udp_packet(end(remote), end(inner)));
    expect_rewritten(tcp_packet(end(inner), end(remote)), Side::source, end(outer),
                     tcp_packet(end(outer), end(remote)));
    expect_rewritten(tcp_packet(end(remote), end(outer)), Side::destination, end(inner),
                     tcp_packet(end(remote), end(inner)));
    expect_rewritten(echo_packet(end(inner).address, end(remote).address, 7), Side::source, end(outer),
                     echo_packet(end(outer).address, end(remote).address, 40000));
    expect_rewritten(echo_packet(end(remote).address, end(outer).address, 40000, true), Side::destination, end(inner),
                     echo_packet(end(remote).address, end(inner).address, 1000, true));
  }
}

TEST(Rewrite, AnyEndsAndPayloadsGiveWhatWouldHaveBeenMadeAnew) {
  SeededRandom random(3);
  const auto any_end = [&](bool v4) {
    std::array<std::uint8_t, 16> bytes{};
    random.fill(bytes);
    return Endpoint{IpAddress::from_bytes(ByteView(bytes).first(v4 ? 4 : 16)),
                    static_cast<std::uint16_t>(random.next32())};
  };
  for (int i = 0; i < 5000; ++i) {
    const bool v4 = random.next32() % 2 == 0;
    const Endpoint from = any_end(v4);
    const Endpoint to = any_end(v4);
    const Endpoint other = any_end(v4);
    std::string payload(random.next32() % 60, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(payload.data()), payload.size()});
    const auto make = random.next32() % 2 == 0 ? udp_packet : tcp_packet;
    Packet packet = make(from, to, payload);
    const bool source = random.next32() % 2 == 0;
    rewrite(packet, view_of(packet), source ? Side::source : Side::destination, other);
    const Packet expected = source ? make(other, to, payload) : make(from, other, payload);
    // A sum of zero has two forms (RFC 1071); both verify.
    const TransportView at = transport_of(packet.bytes()).value();
    EXPECT_TRUE(same_bytes(packet, expected) || has_good_checksums(packet, at)) << i;
  }
}

TEST(Rewrite, APartialChecksumIsUpdatedAsTheSumThatItIs) {
  for (const auto& [inner, remote, outer] :
       {std::tuple("10.100.0.2:1000", "198.51.100.9:53", "192.0.2.1:40000"),
        std::tuple("[fd00::2]:1000", "[2001:db8:5::9]:53", "[2001:db8::1]:40000")}) {
    for (const auto make : {udp_packet, tcp_packet}) {
      Packet packet = make(end(inner), end(remote), "data");
      write_partial_checksum(packet.mutable_bytes(), transport_of(packet.bytes()).value());
      packet.offload.needs_checksum = true;
      rewrite(packet, view_of(packet), Side::source, end(outer));
      finish_checksum(packet);
      EXPECT_TRUE(same_bytes(packet, make(end(outer), end(remote), "data")));
    }
  }
}

// As a kernel makes them and as the router believes them: each segment is as if it had been made with that end.
TEST(Rewrite, ASuperPacketOfTcpIsRewrittenForAllItsSegments) {
  for (const auto& [inner, remote, outer] :
       {std::tuple("10.100.0.2:1000", "198.51.100.9:443", "192.0.2.1:40000"),
        std::tuple("[fd00::2]:1000", "[2001:db8:5::9]:443", "[2001:db8::1]:40000")}) {
    const auto super_packet = [](const Endpoint& from, const Endpoint& to) {
      Packet packet = tcp_packet(from, to, std::string(3501, 'x'));
      const TransportView at = transport_of(packet.bytes()).value();
      write_partial_checksum(packet.mutable_bytes(), at);
      packet.offload = {.gso = gso_of(at), .needs_checksum = true, .segment_size = 1000};
      return packet;
    };
    const auto expect_segments = [](Packet packet, Packet expected) {
      EXPECT_TRUE(check_offload(packet.bytes(), parse_ip(packet.bytes()).value(), packet.offload));
      PacketBatch segments;
      PacketBatch all;
      segment(std::move(packet), segments);
      segment(std::move(expected), all);
      ASSERT_EQ(segments.size(), 4U);
      ASSERT_EQ(all.size(), 4U);
      for (std::size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(same_bytes(segments[i], all[i])) << i;
    };
    Packet out = super_packet(end(inner), end(remote));
    rewrite(out, view_of(out), Side::source, end(outer));
    expect_segments(std::move(out), super_packet(end(outer), end(remote)));
    Packet in = super_packet(end(remote), end(outer));
    rewrite(in, view_of(in), Side::destination, end(inner));
    expect_segments(std::move(in), super_packet(end(remote), end(inner)));
  }
}

TEST(Rewrite, AUdpPacketWithoutAChecksumStaysWithoutOne) {
  Packet packet = udp_packet(end("10.100.0.2:1000"), end("198.51.100.9:53"));
  store_be16(&packet.mutable_bytes()[26], 0);
  rewrite(packet, view_of(packet), Side::source, end("192.0.2.1:40000"));
  EXPECT_EQ(load_be16(&packet.bytes()[26]), 0);
}

TEST(Rewrite, AChecksumThatWasWrongStaysWrong) {
  Packet packet = udp_packet(end("10.100.0.2:1000"), end("198.51.100.9:53"));
  packet.mutable_bytes()[29] ^= 1;
  rewrite(packet, view_of(packet), Side::source, end("192.0.2.1:40000"));
  EXPECT_FALSE(has_good_checksums(packet, transport_of(packet.bytes()).value()));
}

TEST(Rewrite, WhatCannotBeTranslatedByItselfIsNotFoundToBe) {
  EXPECT_FALSE(is_translatable(test::ip_packet("10.0.0.1", "10.0.0.2", "xxxxxxxx", 47))) << "GRE";
  EXPECT_FALSE(is_translatable(test::ip_packet("10.0.0.1", "10.0.0.2", "xxxxxxx", 17))) << "cut short";
  EXPECT_FALSE(is_translatable(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(19, 'x'), 6))) << "cut short";
  EXPECT_FALSE(
      is_translatable(error_packet(ip("10.0.0.1"), ip("10.0.0.2"), udp_packet(end("10.0.0.2:1"), end("10.0.0.1:2")))));
  EXPECT_FALSE(is_translatable(test::ip_packet("fd00::1", "fd00::2", std::string(8, '\x08'), 1))) << "ICMPv4 in IPv6";
  Packet fragment = udp_packet(end("10.0.0.1:1"), end("10.0.0.2:2"));
  fragment.mutable_bytes()[6] = 0x20;
  EXPECT_FALSE(is_translatable(fragment));
}

TEST(Rewrite, AQuotedPacketIsRewrittenAsFarAsItIsThere) {
  const Packet sent = udp_packet(end("192.0.2.1:40000"), end("198.51.100.9:53"));
  const Packet expected = udp_packet(end("10.100.0.2:1000"), end("198.51.100.9:53"));
  for (std::size_t size = 20; size <= sent.size(); ++size) {
    std::string quoted(as_text(sent.bytes().first(size)));
    rewrite_quoted({reinterpret_cast<std::uint8_t*>(quoted.data()), size}, 20, Transport::udp, Side::source,
                   end("10.100.0.2:1000"));
    const std::string_view all = as_text(expected.bytes());
    // The port is there from 22 bytes on, the checksum from 28.
    const std::size_t alike = size >= 28   ? size
                              : size >= 22 ? std::min<std::size_t>(size, 26)
                                           : std::min<std::size_t>(size, 20);
    EXPECT_EQ(quoted.substr(0, alike), all.substr(0, alike)) << size;
  }
}

}  // namespace
}  // namespace penstock::egress
