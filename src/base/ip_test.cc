#include "base/ip.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(IpAddress, WhatItPrintsIsWhatItParses) {
  for (const char* text : {"0.0.0.0", "10.100.0.1", "255.255.255.255", "::", "::1", "fd00::", "fd00::1:0:0:2",
                           "2001:db8:1:2:3:4:5:6", "1:0:0:2::3", "ff02::fb"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
  EXPECT_EQ(IpAddress::parse("::ffff:10.0.0.1")->to_string(), "::ffff:a00:1");
  EXPECT_EQ(IpAddress::parse("2001:DB8:0:0:0:0:0:1")->to_string(), "2001:db8::1");
}

TEST(IpAddress, AMappedAddressIsTheIpv4OneThatItCarries) {
  EXPECT_EQ(IpAddress::parse("::ffff:192.0.2.1")->unmapped(), IpAddress::v4(0xC0000201));
  for (const char* other : {"192.0.2.1", "::192.0.2.1", "::fffe:192.0.2.1", "::1:ffff:192.0.2.1", "2001:db8::1"}) {
    EXPECT_EQ(IpAddress::parse(other)->unmapped(), *IpAddress::parse(other)) << other;
  }
}

TEST(IpAddress, ParsingIsStrict) {
  for (const char* text : {"",
                           "1",
                           "1.2.3",
                           "1.2.3.4.5",
                           "1.2.3.256",
                           "01.2.3.4",
                           "1.2.3.4 ",
                           " 1.2.3.4",
                           "1..2.3",
                           "a.b.c.d",
                           ":",
                           ":::",
                           "1::2::3",
                           "12345::",
                           "1:2:3:4:5:6:7",
                           "1:2:3:4:5:6:7:8:9",
                           "1:2:3:4:5:6:7::8",
                           "1:",
                           "fe80::1%eth0",
                           "::1.2.3",
                           "1.2.3.4::"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(IpAddress, CountsUpwardsAcrossByteAndWordBorders) {
  EXPECT_EQ(IpAddress::parse("10.0.0.255")->plus(1).to_string(), "10.0.1.0");
  EXPECT_EQ(IpAddress::parse("fd00::ffff:ffff:ffff:ffff")->plus(1).to_string(), "fd00:0:0:1::");
  EXPECT_EQ(IpAddress::parse("10.0.1.0")->distance_from(*IpAddress::parse("10.0.0.254")), 2U);
  EXPECT_EQ(IpAddress::parse("fd00:0:0:1::")->distance_from(*IpAddress::parse("fd00::ffff:ffff:ffff:ffff")), 1U);
  EXPECT_EQ(IpAddress::parse("fd01::")->distance_from(*IpAddress::parse("fd00::")), UINT64_MAX);
}

TEST(Prefix, KnowsItsBordersAndItsMask) {
  const auto prefix = Prefix::parse("10.100.0.0/22");
  ASSERT_TRUE(prefix);
  EXPECT_TRUE(prefix->contains(*IpAddress::parse("10.100.3.255")));
  EXPECT_FALSE(prefix->contains(*IpAddress::parse("10.100.4.0")));
  EXPECT_FALSE(prefix->contains(*IpAddress::parse("::")));
  EXPECT_EQ(prefix->last().to_string(), "10.100.3.255");
  EXPECT_EQ(prefix->mask().to_string(), "255.255.252.0");
  EXPECT_TRUE(Prefix::parse("::/0")->contains(*IpAddress::parse("fd00::1")));
  EXPECT_EQ(Prefix::parse("10.1.2.3")->to_string(), "10.1.2.3/32");
}

TEST(Prefix, WithHostBitsSetIsRefusedAndTheRightOneIsNamed) {
  const auto wrong = Prefix::parse("10.100.0.1/24");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("did you mean 10.100.0.0/24?"), std::string::npos) << wrong.error().message;
  for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8x", "fd00::/129", "/8"})
    EXPECT_FALSE(Prefix::parse(text)) << text;
}

TEST(Endpoint, TakesBothFamiliesAndNeedsAPort) {
  EXPECT_EQ(Endpoint::parse("192.0.2.1:443")->to_string(), "192.0.2.1:443");
  EXPECT_EQ(Endpoint::parse("[2001:db8::1]:443")->to_string(), "[2001:db8::1]:443");
  EXPECT_EQ(Endpoint::parse(":443")->to_string(), "[::]:443");
  EXPECT_EQ(Endpoint::parse("127.0.0.1:0")->port, 0);
  for (const char* text : {"", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "2001:db8::1:443", "[192.0.2.1]:443",
                           "host:443", "192.0.2.1:0443", ":00", "192.0.2.1:+443", "192.0.2.1: 443"})
    EXPECT_FALSE(Endpoint::parse(text)) << text;
}

}  // namespace
}  // namespace penstock
