#include "dns/special_names.h"

#include <gtest/gtest.h>

#include <array>

#include "base/random.h"
#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using testing::name;

TEST(SpecialNamesTest, SpecialZonesAreThisTable) {
  struct {
    const char* name;
    const char* zone;  // null: none
    SpecialKind kind;
  } cases[] = {
      {"localhost", "localhost", SpecialKind::loopback},
      {"a.b.localhost", "localhost", SpecialKind::loopback},
      {"notlocalhost", nullptr, {}},
      {"localhost.example", nullptr, {}},
      {"x.invalid", "invalid", SpecialKind::empty},
      {"x.test", "test", SpecialKind::empty},
      {"x.onion", "onion", SpecialKind::empty},
      {"_dns.resolver.arpa", "resolver.arpa", SpecialKind::empty},
      {"x.home.arpa", "home.arpa", SpecialKind::empty},
      {"ipv4only.arpa", nullptr, {}},
      {"1.0.0.127.in-addr.arpa", "127.in-addr.arpa", SpecialKind::empty},
      {"1.1.254.169.in-addr.arpa", "254.169.in-addr.arpa", SpecialKind::empty},
      {"4.3.2.10.in-addr.arpa", "10.in-addr.arpa", SpecialKind::private_reverse},
      {"10.in-addr.arpa", "10.in-addr.arpa", SpecialKind::private_reverse},
      {"1.15.172.in-addr.arpa", nullptr, {}},
      {"1.16.172.in-addr.arpa", "16.172.in-addr.arpa", SpecialKind::private_reverse},
      {"4.3.31.172.in-addr.arpa", "31.172.in-addr.arpa", SpecialKind::private_reverse},
      {"32.172.in-addr.arpa", nullptr, {}},
      {"172.in-addr.arpa", nullptr, {}},
      {"63.100.in-addr.arpa", nullptr, {}},
      {"64.100.in-addr.arpa", "64.100.in-addr.arpa", SpecialKind::private_reverse},
      {"1.127.100.in-addr.arpa", "127.100.in-addr.arpa", SpecialKind::private_reverse},
      {"128.100.in-addr.arpa", nullptr, {}},
      {"1.168.192.in-addr.arpa", "168.192.in-addr.arpa", SpecialKind::private_reverse},
      {"8.8.8.8.in-addr.arpa", nullptr, {}},
      {"0.0.d.f.ip6.arpa", "d.f.ip6.arpa", SpecialKind::private_reverse},
      {"0.8.e.f.ip6.arpa", "8.e.f.ip6.arpa", SpecialKind::empty},
      {"0.2.ip6.arpa", nullptr, {}},
      {"in-addr.arpa", nullptr, {}},
      {"example.com", nullptr, {}},
      {".", nullptr, {}},
  };
  for (const auto& c : cases) {
    const auto zone = special_zone_of(name(c.name));
    ASSERT_EQ(zone.has_value(), c.zone != nullptr) << c.name;
    if (!zone) continue;
    EXPECT_EQ(zone->zone, name(c.zone)) << c.name;
    EXPECT_EQ(zone->kind, c.kind) << c.name;
  }
}

TEST(SpecialNamesTest, ReverseNamesAreReadAsFarAsTheyAreAnAddress) {
  struct {
    const char* name;
    const char* prefix;  // null: no reverse name
    bool whole;
  } cases[] = {
      {"2.0.100.10.in-addr.arpa", "10.100.0.2/32", true},
      {"100.10.in-addr.arpa", "10.100.0.0/16", true},
      {"in-addr.arpa", "0.0.0.0/0", true},
      {"x.100.10.in-addr.arpa", "10.100.0.0/16", false},
      {"256.10.in-addr.arpa", "10.0.0.0/8", false},
      {"01.10.in-addr.arpa", "10.0.0.0/8", false},
      {"5.2.0.100.10.in-addr.arpa", "10.100.0.2/32", false},
      {"0.0.d.f.ip6.arpa", "fd00::/16", true},
      {"f.d.f.ip6.arpa", "fdf0::/12", true},
      {"10.d.f.ip6.arpa", "fd00::/8", false},
      {"g.d.f.ip6.arpa", "fd00::/8", false},
      {"10.in-addr.example", nullptr, false},
      {"arpa", nullptr, false},
      {"10.arpa", nullptr, false},
  };
  for (const auto& c : cases) {
    const auto reverse = parse_reverse(name(c.name));
    ASSERT_EQ(reverse.has_value(), c.prefix != nullptr) << c.name;
    if (!reverse) continue;
    EXPECT_EQ(reverse->prefix.to_string(), c.prefix) << c.name;
    EXPECT_EQ(reverse->whole, c.whole) << c.name;
  }
}

TEST(SpecialNamesTest, AnAddressIsReadFromTheNameThatIsMadeOfIt) {
  SeededRandom random(7);
  for (int i = 0; i < 200; ++i) {
    std::array<std::uint8_t, 16> bytes;
    random.fill(bytes);
    const auto address = IpAddress::from_bytes({bytes.data(), i % 2 == 0 ? 4U : 16U});
    const auto reverse = parse_reverse(reverse_name(Prefix::host(address)));
    ASSERT_TRUE(reverse);
    EXPECT_EQ(reverse->prefix, Prefix::host(address));
    EXPECT_TRUE(reverse->whole);
  }
}

}  // namespace
}  // namespace penstock::dns
