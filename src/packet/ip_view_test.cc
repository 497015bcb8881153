#include "packet/ip_view.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

#include "base/random.h"

namespace penstock {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes packet4(std::uint8_t protocol, std::initializer_list<int> payload, std::uint16_t fragment_field = 0,
              std::size_t options = 0) {
  Bytes bytes(20 + options);
  bytes[0] = static_cast<std::uint8_t>(0x45 + options / 4);
  for (const int byte : payload) bytes.push_back(static_cast<std::uint8_t>(byte));
  store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
  store_be16(&bytes[6], fragment_field);
  bytes[8] = 63;
  bytes[9] = protocol;
  store_be32(&bytes[12], 0x0A640002);
  store_be32(&bytes[16], 0x0A640003);
  return bytes;
}

Bytes packet6(std::uint8_t next_header, std::initializer_list<int> payload) {
  Bytes bytes(40);
  bytes[0] = 0x60;
  for (const int byte : payload) bytes.push_back(static_cast<std::uint8_t>(byte));
  store_be16(&bytes[4], static_cast<std::uint16_t>(bytes.size() - 40));
  bytes[6] = next_header;
  bytes[7] = 62;
  bytes[8] = 0xFD;
  bytes[23] = 2;
  bytes[24] = 0xFD;
  bytes[39] = 3;
  return bytes;
}

TEST(ParseIp, ReadsAnIpv4Header) {
  const auto view = parse_ip(packet4(kProtocolUdp, {0, 1, 0, 2}, 0x4000, 8));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->family, Family::ipv4);
  EXPECT_EQ(view->source.to_string(), "10.100.0.2");
  EXPECT_EQ(view->destination.to_string(), "10.100.0.3");
  EXPECT_EQ(view->protocol, kProtocolUdp);
  EXPECT_EQ(view->header_size, 28U);
  EXPECT_EQ(view->total_size, 32U);
  EXPECT_EQ(view->ttl, 63);
  EXPECT_FALSE(view->fragment) << "don't-fragment is no fragment";
}

TEST(ParseIp, ReadsAnIpv6Header) {
  const auto view = parse_ip(packet6(kProtocolTcp, {0, 1, 0, 2}));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->family, Family::ipv6);
  EXPECT_EQ(view->source.to_string(), "fd00::2");
  EXPECT_EQ(view->destination.to_string(), "fd00::3");
  EXPECT_EQ(view->protocol, kProtocolTcp);
  EXPECT_EQ(view->header_size, 40U);
  EXPECT_EQ(view->total_size, 44U);
  EXPECT_EQ(view->ttl, 62);
  EXPECT_FALSE(view->fragment);
}

TEST(ParseIp, KnowsFragmentsOfBothFamilies) {
  EXPECT_TRUE(parse_ip(packet4(kProtocolUdp, {}, 0x2000))->fragment) << "the first: more to come";
  EXPECT_TRUE(parse_ip(packet4(kProtocolUdp, {}, 0x0001))->fragment) << "the last: an offset";
  EXPECT_TRUE(parse_ip(packet6(44, {17, 0, 0, 1, 0, 0, 0, 1}))->fragment);
}

TEST(ParseIp, RefusesWhatDoesNotAddUp) {
  const auto with = [](Bytes bytes, std::size_t at, int value) {
    bytes[at] = static_cast<std::uint8_t>(value);
    return bytes;
  };
  const auto cut = [](Bytes bytes, std::size_t size) {
    bytes.resize(size);
    return bytes;
  };
  const Bytes four = packet4(kProtocolUdp, {1, 2, 3, 4});
  const Bytes six = packet6(kProtocolUdp, {1, 2, 3, 4});
  const struct {
    const char* name;
    Bytes packet;
    ParseFailure failure;
  } cases[] = {
      {"nothing", {}, ParseFailure::too_short},
      {"one byte", {0x45}, ParseFailure::too_short},
      {"19 bytes of IPv4", cut(four, 19), ParseFailure::too_short},
      {"39 bytes of IPv6", cut(six, 39), ParseFailure::too_short},
      {"version 0", with(four, 0, 0x05), ParseFailure::bad_version},
      {"version 5", with(four, 0, 0x55), ParseFailure::bad_version},
      {"version 15", with(six, 0, 0xF0), ParseFailure::bad_version},
      {"IHL 4", with(four, 0, 0x44), ParseFailure::bad_length},
      {"IHL behind the end", with(four, 0, 0x47), ParseFailure::bad_length},
      {"IPv4 length too small", with(four, 3, 23), ParseFailure::bad_length},
      {"IPv4 length too large", with(four, 3, 25), ParseFailure::bad_length},
      {"IPv4 length smaller than the header", with(cut(four, 20), 3, 19), ParseFailure::bad_length},
      {"IPv6 length too small", with(six, 5, 3), ParseFailure::bad_length},
      {"IPv6 length too large", with(six, 5, 5), ParseFailure::bad_length},
      {"IPv6 jumbogram", with(with(six, 5, 0), 6, 0), ParseFailure::bad_length},
  };
  for (const auto& [name, packet, failure] : cases) {
    const auto view = parse_ip(packet);
    ASSERT_FALSE(view) << name;
    EXPECT_EQ(view.error(), failure) << name;
    EXPECT_FALSE(to_string(view.error()).empty());
  }
}

TEST(Ports, AreThoseOfTcpAndUdpOnly) {
  const Ports expected{.source = 0x1234, .destination = 0x0050};
  const auto ports = [](const Bytes& packet) { return ports_of(packet, *parse_ip(packet)); };
  EXPECT_EQ(ports(packet4(kProtocolTcp, {0x12, 0x34, 0, 0x50})), expected);
  EXPECT_EQ(ports(packet4(kProtocolUdp, {0x12, 0x34, 0, 0x50}, 0, 12)), expected) << "behind options";
  EXPECT_EQ(ports(packet4(kProtocolUdp, {0x12, 0x34, 0, 0x50}, 0x2000)), expected) << "first fragment";
  EXPECT_EQ(ports(packet6(kProtocolTcp, {0x12, 0x34, 0, 0x50})), expected);
  EXPECT_EQ(ports(packet6(0, {60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0x50})), expected)
      << "behind hop-by-hop and destination options";
  EXPECT_EQ(ports(packet6(44, {17, 0, 0, 1, 0, 0, 0, 9, 0x12, 0x34, 0, 0x50})), expected) << "first fragment";
  EXPECT_EQ(ports(packet6(51, {6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x12, 0x34, 0, 0x50})), expected)
      << "behind an authentication header";

  EXPECT_EQ(ports(packet4(kProtocolIcmp, {8, 0, 0, 0})), std::nullopt);
  EXPECT_EQ(ports(packet4(kProtocolUdp, {0x12, 0x34, 0, 0x50}, 0x0001)), std::nullopt) << "later fragment";
  EXPECT_EQ(ports(packet4(kProtocolUdp, {0x12, 0x34, 0})), std::nullopt);
  EXPECT_EQ(ports(packet6(44, {17, 0, 0, 8, 0, 0, 0, 9, 0x12, 0x34, 0, 0x50})), std::nullopt) << "later fragment";
  EXPECT_EQ(ports(packet6(0, {17, 1, 0, 0, 0, 0, 0, 0})), std::nullopt) << "extension behind the end";
  EXPECT_EQ(ports(packet6(0, {17})), std::nullopt) << "extension cut";
}

TEST(UpperLayer, AnEndlessChainOfExtensionHeadersIsNotFollowed) {
  Bytes packet = packet6(60, {});
  for (int i = 0; i < 100; ++i) packet.insert(packet.end(), {60, 0, 1, 4, 0, 0, 0, 0});
  store_be16(&packet[4], static_cast<std::uint16_t>(packet.size() - 40));
  EXPECT_FALSE(upper_layer(packet, *parse_ip(packet)));
}

TEST(UpperLayer, RandomBytesNeverLeadOutOfThePacket) {
  SeededRandom random(4);
  for (int round = 0; round < 20000; ++round) {
    Bytes packet(40 + random.next32() % 60);
    random.fill(packet);
    packet[0] = 0x60;
    store_be16(&packet[4], static_cast<std::uint16_t>(packet.size() - 40));
    constexpr std::uint8_t kHeaders[] = {0, 43, 44, 51, 60, 135};
    packet[6] = kHeaders[random.next32() % 6];
    if (packet.size() > 41) {
      packet[40] = kHeaders[random.next32() % 6];
      packet[41] &= 3;
    }
    const auto upper = upper_layer(packet, *parse_ip(packet));
    ASSERT_TRUE(!upper || upper->offset <= packet.size());
  }
}

}  // namespace
}  // namespace penstock
