#include "router/source_guard.h"

#include <gtest/gtest.h>

namespace penstock::router {
namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

TEST(SourceGuard, ANewOneAllowsNothing) {
  const SourceGuard guard;
  for (const char* address : {"0.0.0.0", "10.100.0.2", "::", "fd00::2"}) EXPECT_FALSE(guard.allows(ip(address)));
}

TEST(SourceGuard, ASessionSendsFromItsOwnAddressesOnly) {
  SourceGuard guard;
  guard.add(Prefix::host(ip("10.100.0.2")));
  guard.add(Prefix::host(ip("fd00::2")));
  EXPECT_TRUE(guard.allows(ip("10.100.0.2")));
  EXPECT_TRUE(guard.allows(ip("fd00::2")));
  for (const char* address : {"10.100.0.3", "10.100.0.1", "0.0.0.0", "127.0.0.1", "255.255.255.255", "fd00::3",
                              "::", "fe80::2", "a64:2::"})  // the last has the bits of 10.100.0.2
    EXPECT_FALSE(guard.allows(ip(address))) << address;
}

TEST(SourceGuard, ASubnetBehindTheClientIsItsOwnToo) {
  SourceGuard guard;
  for (const char* owned : {"192.168.7.0/24", "10.100.0.2/32", "10.100.0.9/32", "fd00:7::/48", "fd00::2/128"})
    guard.add(prefix(owned));
  for (const char* address : {"192.168.7.0", "192.168.7.255", "10.100.0.2", "10.100.0.9", "fd00:7::1",
                              "fd00:7:0:ffff:ffff:ffff:ffff:ffff", "fd00::2"})
    EXPECT_TRUE(guard.allows(ip(address))) << address;
  for (const char* address : {"192.168.6.255", "192.168.8.0", "10.100.0.3", "fd00:8::", "fd00:6:ffff::", "c0a8:700::"})
    EXPECT_FALSE(guard.allows(ip(address))) << address;
}

TEST(SourceGuard, ASiteOfOneAddressIsNotTheClientItself) {
  SourceGuard guard;
  guard.add(prefix("10.100.0.2/32"));
  guard.add_site(prefix("fd50::9/128"));
  EXPECT_TRUE(guard.allows(ip("fd50::9")));
  EXPECT_FALSE(guard.is_host(ip("fd50::9")));
  EXPECT_TRUE(guard.is_host(ip("10.100.0.2")));
}

TEST(SourceGuard, ADefaultPrefixAllowsItsWholeFamily) {
  SourceGuard guard;
  guard.add(prefix("0.0.0.0/0"));
  EXPECT_TRUE(guard.allows(ip("8.8.8.8")));
  EXPECT_FALSE(guard.allows(ip("2001:db8::1")));
}

}  // namespace
}  // namespace penstock::router
