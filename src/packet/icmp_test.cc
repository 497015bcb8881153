#include "packet/icmp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "packet/checksum.h"

namespace penstock {
namespace {

using Bytes = std::vector<std::uint8_t>;

const IpAddress gateway4 = *IpAddress::parse("10.100.0.1");
const IpAddress gateway6 = *IpAddress::parse("fd00::1");

// An IP packet with good checksums around `payload`; an ICMP payload gets its own as well.
Bytes packet(const char* source, const char* destination, std::uint8_t protocol, Bytes payload) {
  const auto from = *IpAddress::parse(source);
  const auto to = *IpAddress::parse(destination);
  Bytes bytes(from.is_v4() ? 20 : 40);
  if (protocol == kProtocolIcmp) store_be16(&payload[2], internet_checksum(payload));
  if (protocol == kProtocolIcmp6) {
    const auto pseudo = pseudo_header_sum(from, to, protocol, payload.size());
    store_be16(&payload[2], checksum_finish(checksum_add(payload, pseudo)));
  }
  const std::size_t size = bytes.size() + payload.size();
  if (from.is_v4()) {
    bytes[0] = 0x45;
    bytes[1] = 0x10;
    store_be16(&bytes[2], static_cast<std::uint16_t>(size));
    store_be16(&bytes[4], 0xBEEF);
    bytes[8] = 9;
    bytes[9] = protocol;
    std::ranges::copy(from.bytes(), &bytes[12]);
    std::ranges::copy(to.bytes(), &bytes[16]);
    store_be16(&bytes[10], internet_checksum(bytes));
  } else {
    bytes[0] = 0x61;
    bytes[1] = 0x23;
    store_be16(&bytes[4], static_cast<std::uint16_t>(payload.size()));
    bytes[6] = protocol;
    bytes[7] = 9;
    std::ranges::copy(from.bytes(), &bytes[8]);
    std::ranges::copy(to.bytes(), &bytes[24]);
  }
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

std::optional<Packet> reply_to(const Bytes& request) {
  return echo_reply(Packet::copy_of(request), *parse_ip(request));
}

// Parses `made` and checks every checksum in it.
IpView checked(const Packet& made) {
  const ByteView bytes = made.bytes();
  const auto view = parse_ip(bytes);
  EXPECT_TRUE(view);
  const ByteView icmp = bytes.subspan(view->header_size);
  if (view->family == Family::ipv4) {
    EXPECT_EQ(internet_checksum(bytes.first(view->header_size)), 0);
    EXPECT_EQ(internet_checksum(icmp), 0);
  } else {
    const auto pseudo = pseudo_header_sum(view->source, view->destination, kProtocolIcmp6, icmp.size());
    EXPECT_EQ(checksum_finish(checksum_add(icmp, pseudo)), 0);
  }
  return *view;
}

const Bytes echo4{8, 0, 0, 0, 0x12, 0x34, 0, 7, 'd', 'a', 't', 'a', '!'};
const Bytes echo6{128, 0, 0, 0, 0x12, 0x34, 0, 7, 'd', 'a', 't', 'a', '!'};

TEST(EchoReply, AnswersIpv4WithTheSameData) {
  const auto reply = reply_to(packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, echo4));
  ASSERT_TRUE(reply);
  const IpView view = checked(*reply);
  EXPECT_EQ(view.source.to_string(), "10.100.0.1");
  EXPECT_EQ(view.destination.to_string(), "10.100.0.2");
  EXPECT_EQ(view.ttl, 64);
  EXPECT_EQ(reply->bytes()[1], 0x10) << "type of service of the request";
  EXPECT_EQ(reply->bytes()[20], 0);
  EXPECT_TRUE(std::ranges::equal(reply->bytes().subspan(24), ByteView(echo4).subspan(4)));
  EXPECT_FALSE(reply->source) << "it is the gateway's own";
}

TEST(EchoReply, AnswersIpv6WithTheSameData) {
  const auto reply = reply_to(packet("fd00::2", "fd00::1", kProtocolIcmp6, echo6));
  ASSERT_TRUE(reply);
  const IpView view = checked(*reply);
  EXPECT_EQ(view.source.to_string(), "fd00::1");
  EXPECT_EQ(view.destination.to_string(), "fd00::2");
  EXPECT_EQ(reply->bytes()[0], 0x61);
  EXPECT_EQ(reply->bytes()[1], 0x20) << "traffic class of the request, no flow label";
  EXPECT_EQ(reply->bytes()[40], 129);
  EXPECT_TRUE(std::ranges::equal(reply->bytes().subspan(44), ByteView(echo6).subspan(4)));
}

TEST(EchoReply, IsSilentAboutEverythingElse) {
  Bytes broken4 = packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, echo4);
  broken4.back() ^= 1;
  Bytes broken6 = packet("fd00::2", "fd00::1", kProtocolIcmp6, echo6);
  broken6.back() ^= 1;
  Bytes fragment = packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, echo4);
  fragment[6] = 0x20;
  const struct {
    const char* name;
    Bytes request;
  } cases[] = {
      {"bad checksum", broken4},
      {"bad checksum, IPv6", broken6},
      {"fragment", fragment},
      {"reply", packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, {0, 0, 0, 0, 0, 1, 0, 1})},
      {"code", packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, {8, 1, 0, 0, 0, 1, 0, 1})},
      {"short", packet("10.100.0.2", "10.100.0.1", kProtocolIcmp, {8, 0, 0, 0, 0, 1, 0})},
      {"UDP", packet("10.100.0.2", "10.100.0.1", kProtocolUdp, echo4)},
      {"ICMPv6 in IPv4", packet("10.100.0.2", "10.100.0.1", 58, echo6)},
      {"to a group", packet("10.100.0.2", "224.0.0.1", kProtocolIcmp, echo4)},
      {"to everybody", packet("10.100.0.2", "255.255.255.255", kProtocolIcmp, echo4)},
      {"from nobody", packet("0.0.0.0", "10.100.0.1", kProtocolIcmp, echo4)},
      {"from a group", packet("ff02::1", "fd00::1", kProtocolIcmp6, echo6)},
      {"reply, IPv6", packet("fd00::2", "fd00::1", kProtocolIcmp6, {129, 0, 0, 0, 0, 1, 0, 1})},
  };
  for (const auto& [name, request] : cases) EXPECT_FALSE(reply_to(request)) << name;
}

TEST(Unreachable, QuotesTheOffendingPacket) {
  const struct {
    Unreachable code;
    int v4, v6;
  } codes[] = {{Unreachable::network, 0, 0},
               {Unreachable::host, 1, 3},
               {Unreachable::port, 3, 4},
               {Unreachable::prohibited, 13, 1}};
  const Bytes four = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(20, 'x'));
  const Bytes six = packet("fd00::2", "fd00::9", kProtocolUdp, Bytes(20, 'x'));
  for (const auto& [code, v4, v6] : codes) {
    const auto error4 = unreachable(*parse_ip(four), four, gateway4, code);
    ASSERT_TRUE(error4);
    const IpView view = checked(*error4);
    EXPECT_EQ(view.source, gateway4);
    EXPECT_EQ(view.destination.to_string(), "10.100.0.2");
    EXPECT_EQ(error4->bytes()[20], 3);
    EXPECT_EQ(error4->bytes()[21], v4);
    EXPECT_EQ(load_be32(&error4->bytes()[24]), 0U);
    EXPECT_TRUE(std::ranges::equal(error4->bytes().subspan(28), four));

    const auto error6 = unreachable(*parse_ip(six), six, gateway6, code);
    ASSERT_TRUE(error6);
    checked(*error6);
    EXPECT_EQ(error6->bytes()[40], 1);
    EXPECT_EQ(error6->bytes()[41], v6);
    EXPECT_TRUE(std::ranges::equal(error6->bytes().subspan(48), six));
  }
}

TEST(Unreachable, IsNeverLargerThanEveryHostCanTake) {
  const Bytes four = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(1400, 'x'));
  EXPECT_EQ(unreachable(*parse_ip(four), four, gateway4, Unreachable::host)->size(), 576U);
  const Bytes six = packet("fd00::2", "fd00::9", kProtocolUdp, Bytes(1400, 'x'));
  EXPECT_EQ(unreachable(*parse_ip(six), six, gateway6, Unreachable::host)->size(), 1280U);
}

TEST(Unreachable, IsSilentWhereAnAnswerCouldStartAStorm) {
  Bytes later_fragment = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(20, 'x'));
  later_fragment[7] = 1;
  Bytes hidden_error{kProtocolIcmp6, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
  const struct {
    const char* name;
    Bytes offending;
  } cases[] = {
      {"an ICMP error", packet("10.100.0.2", "10.100.0.9", kProtocolIcmp, {3, 1, 0, 0, 0, 0, 0, 0})},
      {"a redirect", packet("10.100.0.2", "10.100.0.9", kProtocolIcmp, {5, 1, 0, 0, 0, 0, 0, 0})},
      {"an ICMPv6 error", packet("fd00::2", "fd00::9", kProtocolIcmp6, {1, 0, 0, 0, 0, 0, 0, 0})},
      {"an ICMPv6 redirect", packet("fd00::2", "fd00::9", kProtocolIcmp6, {137, 0, 0, 0, 0, 0, 0, 0})},
      {"an ICMPv6 error behind options", packet("fd00::2", "fd00::9", 0, hidden_error)},
      {"ICMP without a type", packet("fd00::2", "fd00::9", 0, {58, 0, 1, 4, 0, 0, 0, 0})},
      {"a later fragment", later_fragment},
      {"to a group", packet("10.100.0.2", "239.1.2.3", kProtocolUdp, Bytes(20))},
      {"to everybody", packet("10.100.0.2", "255.255.255.255", kProtocolUdp, Bytes(20))},
      {"to an IPv6 group", packet("fd00::2", "ff02::fb", kProtocolUdp, Bytes(20))},
      {"from nobody", packet("0.0.0.0", "10.100.0.9", kProtocolUdp, Bytes(20))},
      {"from this network", packet("0.1.2.3", "10.100.0.9", kProtocolUdp, Bytes(20))},
      {"from loopback", packet("127.0.0.1", "10.100.0.9", kProtocolUdp, Bytes(20))},
      {"from a group", packet("224.0.0.1", "10.100.0.9", kProtocolUdp, Bytes(20))},
      {"from everybody", packet("255.255.255.255", "10.100.0.9", kProtocolUdp, Bytes(20))},
      {"from ::", packet("::", "fd00::9", kProtocolUdp, Bytes(20))},
      {"from an IPv6 group", packet("ff02::1", "fd00::9", kProtocolUdp, Bytes(20))},
  };
  for (const auto& [name, offending] : cases) {
    const auto view = *parse_ip(offending);
    EXPECT_FALSE(unreachable(view, offending, view.family == Family::ipv4 ? gateway4 : gateway6, Unreachable::host))
        << name;
  }
  const Bytes fine = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(20));
  EXPECT_FALSE(unreachable(*parse_ip(fine), fine, gateway6, Unreachable::host)) << "gateway of the other family";
}

TEST(Unreachable, AnswersAnEchoRequest) {
  const Bytes request = packet("10.100.0.2", "10.100.0.9", kProtocolIcmp, echo4);
  EXPECT_TRUE(unreachable(*parse_ip(request), request, gateway4, Unreachable::host));
  const Bytes request6 = packet("fd00::2", "fd00::9", kProtocolIcmp6, echo6);
  EXPECT_TRUE(unreachable(*parse_ip(request6), request6, gateway6, Unreachable::host));
}

TEST(TimeExceeded, QuotesThePacketWhoseWayEnded) {
  const Bytes four = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(20, 'x'));
  const auto error4 = time_exceeded(*parse_ip(four), four, gateway4);
  ASSERT_TRUE(error4);
  EXPECT_EQ(checked(*error4).destination.to_string(), "10.100.0.2");
  EXPECT_EQ(error4->bytes()[20], 11);
  EXPECT_EQ(error4->bytes()[21], 0);
  EXPECT_EQ(load_be32(&error4->bytes()[24]), 0U);
  EXPECT_TRUE(std::ranges::equal(error4->bytes().subspan(28), four));

  const Bytes six = packet("fd00::2", "fd00::9", kProtocolUdp, Bytes(20, 'x'));
  const auto error6 = time_exceeded(*parse_ip(six), six, gateway6);
  ASSERT_TRUE(error6);
  checked(*error6);
  EXPECT_EQ(error6->bytes()[40], 3);
  EXPECT_EQ(error6->bytes()[41], 0);
  EXPECT_TRUE(std::ranges::equal(error6->bytes().subspan(48), six));
}

TEST(TimeExceeded, IsSilentAboutErrorsAndGroups) {
  const Bytes error = packet("10.100.0.2", "10.100.0.9", kProtocolIcmp, {11, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_FALSE(time_exceeded(*parse_ip(error), error, gateway4));
  const Bytes group = packet("10.100.0.2", "239.1.2.3", kProtocolUdp, Bytes(20));
  EXPECT_FALSE(time_exceeded(*parse_ip(group), group, gateway4));
}

TEST(TooBig, CarriesTheMtu) {
  const Bytes four = packet("10.100.0.2", "10.100.0.9", kProtocolUdp, Bytes(1400, 'x'));
  const auto error4 = too_big(*parse_ip(four), four, gateway4, 1280);
  ASSERT_TRUE(error4);
  checked(*error4);
  EXPECT_EQ(error4->bytes()[20], 3);
  EXPECT_EQ(error4->bytes()[21], 4);
  EXPECT_EQ(load_be32(&error4->bytes()[24]), 1280U);

  const Bytes six = packet("fd00::2", "ff02::9", kProtocolUdp, Bytes(1400, 'x'));
  const auto error6 = too_big(*parse_ip(six), six, gateway6, 1280);
  ASSERT_TRUE(error6) << "about a packet to a group too";
  checked(*error6);
  EXPECT_EQ(error6->bytes()[40], 2);
  EXPECT_EQ(load_be32(&error6->bytes()[44]), 1280U);

  const Bytes group = packet("10.100.0.2", "239.1.2.3", kProtocolUdp, Bytes(20));
  EXPECT_FALSE(too_big(*parse_ip(group), group, gateway4, 1280));
}

}  // namespace
}  // namespace penstock
