#include "packet/hop_limit.h"

#include <gtest/gtest.h>

#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

using test::ip_packet;

TEST(HopLimit, IsOneLessBehindARouterAndAtOneOrZeroThePacketStays) {
  for (const char* to : {"10.0.0.3", "fd00::3"}) {
    for (int hops = 0; hops < 256; ++hops) {
      const bool v4 = IpAddress::parse(to)->is_v4();
      Packet packet = ip_packet(v4 ? "10.0.0.2" : "fd00::2", to);
      packet.mutable_bytes()[v4 ? 8 : 7] = static_cast<std::uint8_t>(hops);
      EXPECT_EQ(decrement_hop_limit(packet.mutable_bytes()), hops > 1) << to << ' ' << hops;
      EXPECT_EQ(parse_ip(packet.bytes())->ttl, hops > 1 ? hops - 1 : hops) << to;
    }
  }
}

TEST(HopLimit, KeepsEveryHeaderChecksumWhatItWasGoodOrBad) {
  Packet packet = ip_packet("10.0.0.2", "10.0.0.3");
  const auto bytes = packet.mutable_bytes();
  for (std::uint32_t identification = 0; identification < 0x10000; ++identification) {
    bytes[8] = static_cast<std::uint8_t>(2 + identification % 254);
    store_be16(&bytes[4], static_cast<std::uint16_t>(identification));
    store_be16(&bytes[10], 0);
    store_be16(&bytes[10], internet_checksum(bytes.first(20)));
    ASSERT_TRUE(decrement_hop_limit(bytes));
    ASSERT_EQ(checksum_add(bytes.first(20)), 0xFFFFU) << identification;
    const std::uint16_t updated = load_be16(&bytes[10]);
    store_be16(&bytes[10], 0);
    ASSERT_EQ(updated, internet_checksum(bytes.first(20))) << identification;
  }
  store_be16(&bytes[10], 0x1234);
  const std::uint32_t wrong = checksum_add(bytes.first(20));
  bytes[8] = 64;
  const std::uint32_t wrong64 = checksum_add(bytes.first(20));
  ASSERT_NE(wrong, 0xFFFFU);
  ASSERT_TRUE(decrement_hop_limit(bytes));
  EXPECT_EQ(checksum_add(bytes.first(20)), wrong64) << "a broken one is left for the receiver to notice";
}

}  // namespace
}  // namespace penstock
