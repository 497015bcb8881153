#include "tun/netlink.h"

#include <gmock/gmock.h>

#include "tun/private_namespace.h"

namespace penstock::tun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class NetlinkTest : public PrivateNamespace {
 protected:
  void SetUp() override {
    PrivateNamespace::SetUp();
    if (IsSkipped()) return;
    make_persistent_tun("pen0");
    netlink = Netlink::create().value();
    index = netlink->find_link("pen0").value().value().index;
  }

  std::vector<std::string> route_texts() {
    std::vector<std::string> texts;
    const auto routes = netlink->routes(index).value();
    for (const Route& route : routes) texts.push_back(route.to_string());
    return texts;
  }

  std::unique_ptr<Netlink> netlink;
  int index = 0;
};

TEST_F(NetlinkTest, ALinkIsDescribedWithKindStateAndMtu) {
  const auto link = netlink->find_link("pen0").value().value();
  EXPECT_EQ(link.kind, "tun");
  EXPECT_TRUE(link.persistent);
  EXPECT_FALSE(link.is_tap);
  EXPECT_FALSE(link.up);
  EXPECT_EQ(link.mtu, 1500);

  ASSERT_TRUE(netlink->set_mtu(index, 1420));
  ASSERT_TRUE(netlink->set_up(index));
  EXPECT_EQ(netlink->find_link("pen0").value()->mtu, 1420);
  EXPECT_TRUE(netlink->find_link("pen0").value()->up);
  ASSERT_TRUE(netlink->set_down(index));
  EXPECT_FALSE(netlink->find_link("pen0").value()->up);
}

TEST_F(NetlinkTest, ANameThatNobodyHasIsNoLink) {
  EXPECT_EQ(netlink->find_link("pen1").value(), std::nullopt);
  EXPECT_EQ(netlink->find_link("").value(), std::nullopt);
  EXPECT_EQ(netlink->find_link("a-name-of-more-than-15-characters").value(), std::nullopt);
}

TEST_F(NetlinkTest, TheLoopbackHasNoKind) {
  EXPECT_EQ(netlink->find_link("lo").value()->describe(), "a network interface of this machine");
}

TEST_F(NetlinkTest, ADeletedLinkIsGone) {
  ASSERT_TRUE(netlink->delete_link(index));
  EXPECT_FALSE(exists("pen0"));
  const auto again = netlink->delete_link(index);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::not_found);
}

TEST_F(NetlinkTest, AnMtuThatTheKernelRefusesIsRefusedWithItsWords) {
  const auto set = netlink->set_mtu(index, 20);
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().message, HasSubstr("interface pen0: cannot set the MTU to 20"));
  EXPECT_THAT(set.error().message, HasSubstr("mtu less than device minimum")) << "the extended acknowledgement";
}

TEST_F(NetlinkTest, AddressesOfBothFamiliesAreAddedListedAndRemoved) {
  ASSERT_TRUE(netlink->set_tunnel_defaults(index));
  ASSERT_TRUE(netlink->set_up(index));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.1"), 24));
  ASSERT_TRUE(netlink->add_address(index, address("fd00::1"), 64));
  EXPECT_THAT(netlink->addresses(index).value(),
              ElementsAre(InterfaceAddress{address("10.100.0.1"), 24}, InterfaceAddress{address("fd00::1"), 64}));
  EXPECT_THAT(netlink->addresses(1).value(), IsEmpty()) << "the loopback's";

  ASSERT_TRUE(netlink->remove_address(index, address("10.100.0.1"), 24));
  ASSERT_TRUE(netlink->remove_address(index, address("fd00::1"), 64));
  EXPECT_THAT(netlink->addresses(index).value(), IsEmpty());
}

TEST_F(NetlinkTest, AnIpv4AddressHasTheBroadcastAddressOfItsSubnet) {
  const auto shows = [](const std::string& words) {
    return std::system(("ip -4 -o address show dev pen0 | grep -q '" + words + "'").c_str()) == 0;
  };
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.2"), 24));
  EXPECT_TRUE(shows("10.100.0.2/24 brd 10.100.0.255 "));
  ASSERT_TRUE(netlink->add_address(index, address("10.200.0.2"), 31));
  EXPECT_TRUE(shows("10.200.0.2/31 scope")) << "two hosts and no address for both";
  ASSERT_TRUE(netlink->remove_address(index, address("10.100.0.2"), 24));
  EXPECT_FALSE(shows("10.100.0.2"));
}

TEST_F(NetlinkTest, AnAddressThatIsThereAlreadyIsInUse) {
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.1"), 24));
  const auto again = netlink->add_address(index, address("10.100.0.1"), 24);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::address_in_use);
  EXPECT_EQ(again.error().message, "interface pen0 already has the address 10.100.0.1");
}

TEST_F(NetlinkTest, RemovingWhatIsNotThereIsNotFound) {
  EXPECT_EQ(netlink->remove_address(index, address("10.100.0.1"), 24).error().code, ErrorCode::not_found);
  EXPECT_EQ(netlink->remove_address(index, address("fd00::1"), 64).error().code, ErrorCode::not_found);
  EXPECT_EQ(netlink->remove_route({.destination = prefix("10.5.0.0/16"), .index = index}).error().code,
            ErrorCode::not_found);
}

TEST_F(NetlinkTest, ADisabledIpv6IsNamedAsTheReason) {
  const int setting = ::open("/proc/sys/net/ipv6/conf/pen0/disable_ipv6", O_WRONLY | O_CLOEXEC);
  if (setting < 0 || ::write(setting, "1", 1) != 1) GTEST_SKIP() << "cannot disable IPv6: " << std::strerror(errno);
  ::close(setting);
  const auto added = netlink->add_address(index, address("fd00::1"), 64);
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().message, HasSubstr("interface pen0: cannot add the address fd00::1/64: IPv6 is disabled"));
}

TEST_F(NetlinkTest, RoutesAreAddedListedAndRemoved) {
  ASSERT_TRUE(netlink->set_tunnel_defaults(index));
  ASSERT_TRUE(netlink->set_up(index));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.1"), 24));
  ASSERT_TRUE(netlink->add_address(index, address("fd00::1"), 64));
  const std::vector<Route> added{
      {.destination = prefix("10.5.0.0/16"), .index = index},
      {.destination = prefix("10.6.0.0/16"), .index = index, .metric = 50, .via = address("10.100.0.2")},
      {.destination = prefix("0.0.0.0/0"), .index = index, .table = 1000},
      {.destination = prefix("fd01::/48"), .index = index},
      {.destination = prefix("::/0"), .index = index, .metric = 7},
  };
  for (const Route& route : added) {
    const auto done = netlink->add_route(route);
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_THAT(route_texts(),
              testing::UnorderedElementsAre("10.100.0.0/24", "10.5.0.0/16", "10.6.0.0/16 via 10.100.0.2 metric 50",
                                            "0.0.0.0/0 table 1000", "fd00::/64 metric 256", "fd01::/48 metric 1024",
                                            "::/0 metric 7"));
  for (const Route& route : added) {
    const auto done = netlink->remove_route(route);
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_THAT(route_texts(), testing::UnorderedElementsAre("10.100.0.0/24", "fd00::/64 metric 256"));
}

TEST_F(NetlinkTest, ARouteThatSomebodyHasIsRefusedNamingWho) {
  make_persistent_tun("other0");
  const int other = netlink->find_link("other0").value()->index;
  ASSERT_TRUE(netlink->set_up(index));
  ASSERT_TRUE(netlink->set_up(other));
  for (const auto* destination : {"10.5.0.0/16", "fd05::/48"}) {
    ASSERT_TRUE(netlink->add_route({.destination = prefix(destination), .index = other}));
    const auto refused = netlink->add_route({.destination = prefix(destination), .index = index});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::address_in_use);
    EXPECT_EQ(refused.error().message, std::string("interface pen0: cannot add the route ") + destination +
                                           ": it exists already on interface other0");
    EXPECT_TRUE(netlink->add_route({.destination = prefix(destination), .index = index, .metric = 5}))
        << "another metric is another route";
  }
}

TEST_F(NetlinkTest, ARouteByAnInterfaceThatIsDownIsRefusedWithTheKernelsWords) {
  const auto refused = netlink->add_route({.destination = prefix("10.5.0.0/16"), .index = index});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("interface pen0: cannot add the route 10.5.0.0/16: Network is down"));
}

TEST_F(NetlinkTest, ATunnelMakesUpNoLinkLocalAddress) {
  ASSERT_TRUE(netlink->set_tunnel_defaults(index));
  ASSERT_TRUE(netlink->set_up(index));
  EXPECT_THAT(netlink->addresses(index).value(), IsEmpty());
}

TEST_F(NetlinkTest, AYoungerAddressTakesThePlaceOfTheEldestInATunnel) {
  ASSERT_TRUE(netlink->set_tunnel_defaults(index));
  ASSERT_TRUE(netlink->set_up(index));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.2"), 24));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.3"), 24));
  ASSERT_TRUE(netlink->remove_address(index, address("10.100.0.2"), 24));
  EXPECT_THAT(netlink->addresses(index).value(), ElementsAre(InterfaceAddress{address("10.100.0.3"), 24}));
  EXPECT_THAT(route_texts(), ElementsAre("10.100.0.0/24"));
}

TEST_F(NetlinkTest, SpeaksForTheNamespaceItWasMadeIn) {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  EXPECT_FALSE(exists("pen0"));
  EXPECT_TRUE(netlink->find_link("pen0").value());
}

TEST_F(NetlinkTest, ManyRoutesComeInSeveralMessages) {
  ASSERT_TRUE(netlink->set_up(index));
  constexpr std::uint32_t kCount = 3000;
  for (std::uint32_t i = 0; i < kCount; ++i)
    ASSERT_TRUE(netlink->add_route({.destination = Prefix(IpAddress::v4(0x0a000000U + i * 256), 24), .index = index}));
  EXPECT_EQ(netlink->routes(index).value().size(), kCount);
}

TEST_F(NetlinkTest, WithoutThePrivilegeTheMessageSaysWhatIsNeeded) {
  in_child([&] {
    if (::setuid(65534) != 0) return false;
    const auto set = netlink->set_up(index);
    return !set && set.error().code == ErrorCode::permission_denied &&
           set.error().message.find("CAP_NET_ADMIN") != std::string::npos;
  });
}

}  // namespace
}  // namespace penstock::tun
