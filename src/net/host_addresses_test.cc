#include "net/host_addresses.h"

#include <gtest/gtest.h>

namespace penstock::net {
namespace {

TEST(HostAddresses, AnOverlapIsFoundOnAnyInterfaceButTheExcepted) {
  const std::vector<HostAddress> addresses{
      {"eth0", IpAddress::parse("10.100.4.7").value(), Prefix::parse("10.100.0.0/16").value()},
      {"tun0", IpAddress::parse("192.168.1.1").value(), Prefix::parse("192.168.1.0/24").value()}};
  const HostAddress* found = overlapping(addresses, Prefix::parse("10.100.0.0/24").value(), "tun0");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->interface, "eth0");
  EXPECT_EQ(overlapping(addresses, Prefix::parse("192.168.1.0/24").value(), "tun0"), nullptr);
  EXPECT_EQ(overlapping(addresses, Prefix::parse("172.16.0.0/12").value(), ""), nullptr);
}

TEST(HostAddresses, LoopbackIsNotAmongThem) {
  const auto addresses = host_addresses();
  ASSERT_TRUE(addresses);
  for (const HostAddress& address : *addresses) EXPECT_FALSE(address.address.is_loopback());
}

}  // namespace
}  // namespace penstock::net
