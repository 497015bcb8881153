#include "net/outer_address.h"

#include <gtest/gtest.h>

#include "net/asio_loop.h"
#include "net/own_namespace_testing.h"

namespace penstock::net {
namespace {

// A device that stands for the way to the internet.
constexpr const char* kDevice =
    "ip link add outer0 type veth peer name outer1 && ip link set outer0 up && ip link set outer1 up";

TEST(OuterAddress, IsTheOneThatTheDefaultRouteGivesAndThereIsNoneWithoutARoute) {
  std::string why;
  const bool entered = OwnNamespace::run(why, [] {
    EXPECT_FALSE(outer_address(Family::ipv4));
    EXPECT_FALSE(outer_address(Family::ipv6));
    ASSERT_TRUE(OwnNamespace::shell(kDevice));
    ASSERT_TRUE(OwnNamespace::shell("ip address add 5.5.5.1/24 dev outer0"));
    EXPECT_FALSE(outer_address(Family::ipv4)) << "a neighbour is not the internet";
    ASSERT_TRUE(OwnNamespace::shell("ip route add default via 5.5.5.254"));
    EXPECT_EQ(outer_address(Family::ipv4), IpAddress::parse("5.5.5.1").value());
    EXPECT_FALSE(outer_address(Family::ipv6));
    ASSERT_TRUE(
        OwnNamespace::shell("ip address add 2a00:55::1/64 dev outer0 nodad && ip route add default via 2a00:55::ff"));
    EXPECT_EQ(outer_address(Family::ipv6), IpAddress::parse("2a00:55::1").value());
  });
  if (!entered) GTEST_SKIP() << why;
}

TEST(OuterAddress, AWatchTellsOfAddressesAndRoutesThatComeAndGo) {
  std::string why;
  const bool entered = OwnNamespace::run(why, [] {
    AsioLoop loop;
    int changes = 0;
    const auto watch = AddressWatch::create(loop, [&] {
      ++changes;
      loop.stop();
    });
    ASSERT_TRUE(watch) << watch.error().message;
    const auto told_of = [&](const char* change) {
      const int before = changes;
      EXPECT_TRUE(OwnNamespace::shell(change));
      Timer patience(loop);
      patience.start(std::chrono::seconds(5), [&] { loop.stop(); });
      loop.run();
      return changes == before + 1;
    };
    ASSERT_TRUE(OwnNamespace::shell(kDevice));
    EXPECT_TRUE(told_of("ip address add 5.5.5.1/24 dev outer0 && ip address add 5.5.5.2/24 dev outer0")) << "once";
    EXPECT_TRUE(told_of("ip route add default via 5.5.5.254"));
    EXPECT_TRUE(told_of("ip address add 2a00:55::1/64 dev outer0 nodad"));
    EXPECT_TRUE(told_of("ip address flush dev outer0"));
  });
  if (!entered) GTEST_SKIP() << why;
}

}  // namespace
}  // namespace penstock::net
