#include "tun/interface.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>

#include "base/log.h"
#include "tun/fake_device.h"
#include "tun/private_namespace.h"

namespace penstock::tun {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::UnorderedElementsAre;
using testing::UnorderedElementsAreArray;

class InterfaceTest : public PrivateNamespace {
 protected:
  void SetUp() override {
    PrivateNamespace::SetUp();
    if (!IsSkipped()) netlink = Netlink::create().value();
  }

  // "10.100.0.2/24": address and prefix length.
  static std::pair<IpAddress, int> at(std::string_view text) {
    const std::size_t slash = text.find('/');
    return {address(text.substr(0, slash)), std::stoi(std::string(text.substr(slash + 1)))};
  }
  static InterfaceSettings settings(std::initializer_list<std::string_view> addresses,
                                    std::initializer_list<std::string_view> routes = {}) {
    InterfaceSettings made;
    for (const auto text : addresses) made.addresses.push_back(at(text));
    for (const auto text : routes) made.routes.push_back(prefix(text));
    return made;
  }

  LinkInfo link(const std::string& name = "pen0") { return netlink->find_link(name).value().value(); }
  std::vector<std::string> addresses() {
    std::vector<std::string> texts;
    const auto all = netlink->addresses(link().index).value();
    for (const auto& found : all) texts.push_back(found.to_string());
    return texts;
  }
  std::vector<std::string> routes() {
    std::vector<std::string> texts;
    const auto all = netlink->routes(link().index).value();
    for (const auto& found : all) texts.push_back(found.destination.to_string());
    return texts;
  }

  // A route that was taken away and put back has lost its mark.
  static bool mark_route(const std::string& destination) {
    return ip("route change " + destination + " dev pen0 mtu 999");
  }
  static bool is_marked(const std::string& destination) {
    return ip("route show " + destination + " | grep -q 'mtu 999'");
  }

  std::unique_ptr<Netlink> netlink;
};

testing::AssertionResult done(const Result<void>& result) {
  return result ? testing::AssertionSuccess() : testing::AssertionFailure() << result.error().message;
}

TEST_F(InterfaceTest, IsConfiguredFromNothingAndVanishesWithAllOfIt) {
  auto interface = Interface::create({.name = "pen0", .mtu = 1400}).value();
  EXPECT_EQ(link().mtu, 1400);
  EXPECT_FALSE(link().up);

  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd00::1/64"}, {"10.5.0.0/16", "fd05::/48"}))));
  EXPECT_TRUE(link().up);
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24", "fd00::1/64"));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "10.5.0.0/16", "fd00::/64", "fd05::/48"));

  interface.reset();
  EXPECT_FALSE(exists("pen0"));
}

TEST_F(InterfaceTest, AnIpv6AddressIsUsableAtOnce) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  EXPECT_TRUE(done(interface->configure(settings({"fd00::1/64"}))));
  sockaddr_in6 own{};
  own.sin6_family = AF_INET6;
  std::ranges::copy(address("fd00::1").bytes(), own.sin6_addr.s6_addr);
  const int socket = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(socket, 0);
  EXPECT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&own), sizeof own), 0)
      << "a tentative address cannot be bound: " << std::strerror(errno);
  ::close(socket);
}

TEST_F(InterfaceTest, ConfiguringTheSameAgainChangesNothing) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  const auto wanted = settings({"10.100.0.1/24", "fd00::1/64"}, {"10.5.0.0/16", "10.100.0.0/24"});
  EXPECT_TRUE(done(interface->configure(wanted)));
  if (!mark_route("10.5.0.0/16")) GTEST_SKIP() << "ip(8) is missing";
  EXPECT_TRUE(done(interface->configure(wanted)));
  EXPECT_TRUE(is_marked("10.5.0.0/16"));
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24", "fd00::1/64"));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "10.5.0.0/16", "fd00::/64"));
}

TEST_F(InterfaceTest, ANewAddressReplacesTheOldWithoutDisturbingTheRoutes) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.2/24", "fd00::2/64"}, {"10.5.0.0/16"}))));
  if (!mark_route("10.5.0.0/16")) GTEST_SKIP() << "ip(8) is missing";
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.3/24", "fd00::3/64"}, {"10.5.0.0/16"}))));
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.3/24", "fd00::3/64"));
  EXPECT_TRUE(is_marked("10.5.0.0/16")) << "in the same subnet";
  EXPECT_TRUE(done(interface->configure(settings({"10.200.0.3/24"}, {"10.5.0.0/16"}))));
  EXPECT_THAT(addresses(), ElementsAre("10.200.0.3/24"));
  EXPECT_TRUE(is_marked("10.5.0.0/16")) << "in another subnet";
  EXPECT_THAT(routes(), UnorderedElementsAre("10.200.0.0/24", "10.5.0.0/16"));
}

TEST_F(InterfaceTest, ConfiguringAddsWhatIsNewAndRemovesWhatIsNoLongerWanted) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  const struct {
    InterfaceSettings wanted;
    std::vector<std::string> addresses;
    std::vector<std::string> routes;
  } steps[] = {
      {settings({}), {}, {}},
      {settings({"10.100.0.2/24"}), {"10.100.0.2/24"}, {"10.100.0.0/24"}},
      {settings({"10.100.0.2/16"}), {"10.100.0.2/16"}, {"10.100.0.0/16"}},
      {settings({"10.100.0.2/16", "fd00::2/64"}, {"fd05::/48"}),
       {"10.100.0.2/16", "fd00::2/64"},
       {"10.100.0.0/16", "fd00::/64", "fd05::/48"}},
      {settings({"10.100.0.2/16", "fd00::2/48"}, {"fd06::/48", "0.0.0.0/1", "128.0.0.0/1"}),
       {"10.100.0.2/16", "fd00::2/48"},
       {"10.100.0.0/16", "fd00::/48", "fd06::/48", "0.0.0.0/1", "128.0.0.0/1"}},
      {settings({"10.200.0.2/32"}, {"10.100.0.0/16", "0.0.0.0/0"}), {"10.200.0.2/32"}, {"10.100.0.0/16", "0.0.0.0/0"}},
      {settings({"10.100.0.2/16"}, {"10.100.0.0/16"}), {"10.100.0.2/16"}, {"10.100.0.0/16"}},
      {settings({"10.100.0.2/16", "10.100.0.3/16", "10.100.0.4/24"}),
       {"10.100.0.2/16", "10.100.0.3/16", "10.100.0.4/24"},
       {"10.100.0.0/16", "10.100.0.0/24"}},
      {settings({"10.100.0.3/16"}), {"10.100.0.3/16"}, {"10.100.0.0/16"}},
      {settings({}), {}, {}},
  };
  for (std::size_t i = 0; i < std::size(steps); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    EXPECT_TRUE(done(interface->configure(steps[i].wanted)));
    EXPECT_THAT(addresses(), UnorderedElementsAreArray(steps[i].addresses));
    EXPECT_THAT(routes(), UnorderedElementsAreArray(steps[i].routes));
  }
}

TEST_F(InterfaceTest, ConfiguringBringsBackWhatSomebodyRemoved) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  const auto wanted = settings({"10.100.0.1/24"}, {"10.5.0.0/16"});
  EXPECT_TRUE(done(interface->configure(wanted)));
  const int index = link().index;
  ASSERT_TRUE(netlink->remove_route({.destination = prefix("10.5.0.0/16"), .index = index}));
  ASSERT_TRUE(netlink->remove_address(index, address("10.100.0.1"), 24));
  ASSERT_TRUE(netlink->set_down(index));
  EXPECT_TRUE(done(interface->configure(wanted)));
  EXPECT_TRUE(link().up);
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24"));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "10.5.0.0/16"));

  ASSERT_TRUE(netlink->remove_route({.destination = prefix("10.5.0.0/16"), .index = index}));
  ASSERT_TRUE(netlink->remove_address(index, address("10.100.0.1"), 24));
  EXPECT_TRUE(done(interface->configure({}))) << "what is unwanted and gone is no failure";
}

TEST_F(InterfaceTest, TheMtuChangesWithTheSettings) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  EXPECT_EQ(link().mtu, 1420);
  EXPECT_TRUE(done(interface->configure({.mtu = 1300})));
  EXPECT_EQ(link().mtu, 1300);
  EXPECT_TRUE(done(interface->configure({})));
  EXPECT_EQ(link().mtu, 1300) << "without one it stays";
}

TEST_F(InterfaceTest, AnMtuThatCannotBeIsRefusedUnderItsKey) {
  for (const int mtu : {-1, 0, 67, 65536}) {
    const auto made = Interface::create({.name = "pen0", .mtu = mtu});
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().message,
                HasSubstr("vpn.mtu: interface pen0 cannot have an MTU of " + std::to_string(mtu)));
  }
  const auto interface = Interface::create({.name = "pen0", .mtu = 1279}).value();
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24"}))));
  const auto refused = interface->configure(settings({"fd00::1/64"}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("vpn.mtu: interface pen0"));
  EXPECT_THAT(refused.error().message, HasSubstr("1280"));
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24")) << "refused before anything was touched";

  auto wanted = settings({"fd00::1/64"});
  wanted.mtu = 1280;
  EXPECT_TRUE(done(interface->configure(wanted)));
  EXPECT_THAT(addresses(), ElementsAre("fd00::1/64")) << "and no link-local one either";
}

TEST_F(InterfaceTest, AnMtuThatSomebodySetByHandIsLeftAlone) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  auto wanted = settings({"10.100.0.1/24", "fd00::1/64"});
  wanted.mtu = 1400;
  EXPECT_TRUE(done(interface->configure(wanted)));
  EXPECT_EQ(interface->mtu(), 1400);
  for (const int by_hand : {1300, 9000}) {
    ASSERT_TRUE(netlink->set_mtu(link().index, by_hand));
    EXPECT_EQ(interface->mtu(), by_hand);
    for (const int other : {1400, 1350, 1400}) {
      wanted.mtu = other;
      EXPECT_TRUE(done(interface->configure(wanted)));
      EXPECT_EQ(link().mtu, by_hand);
      EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24", "fd00::1/64"));
    }
  }
  ASSERT_TRUE(netlink->set_mtu(link().index, 1400));
  wanted.mtu = 1350;
  EXPECT_TRUE(done(interface->configure(wanted)));
  EXPECT_EQ(link().mtu, 1350) << "set back by hand, it is ours again";
}

TEST_F(InterfaceTest, AnMtuSetByHandThatIsTooLowForIpv6LeavesOutIpv6AndNothingElse) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd00::1/64"}, {"10.5.0.0/16", "fd05::/48"}))));
  const log::Capture logs;
  for (const int by_hand : {1000, 1279}) {
    ASSERT_TRUE(netlink->set_mtu(link().index, by_hand));
    EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd01::1/64"}, {"10.6.0.0/16", "fd06::/48"}))));
    EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24"));
    EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "10.6.0.0/16"));
    EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd01::1/64"}))));
    EXPECT_EQ(link().mtu, by_hand);
  }
  const std::string warning = "msg=\"no IPv6 inside: it needs an MTU of 1280 or more\" interface=pen0 mtu=1000";
  EXPECT_THAT(logs.text(), HasSubstr(warning));
  EXPECT_EQ(logs.text().find("no IPv6", logs.text().find(warning) + warning.size()), std::string::npos) << "once";

  ASSERT_TRUE(netlink->set_mtu(link().index, 1420));
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd01::1/64"}, {"fd06::/48"}))));
  EXPECT_THAT(addresses(), UnorderedElementsAre("10.100.0.1/24", "fd01::1/64", StartsWith("fe80:")));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "fd01::/64", "fd06::/48", "fe80::/64"));
  ASSERT_TRUE(netlink->set_mtu(link().index, 1000));
  EXPECT_TRUE(done(interface->configure(settings({"fd01::1/64"}))));
  EXPECT_THAT(logs.text().substr(logs.text().find(warning) + warning.size()), HasSubstr("no IPv6")) << "and once again";
}

TEST_F(InterfaceTest, AnotherNameGivenToItByHandIsNoFailure) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  if (!ip("link set pen0 name pen1")) GTEST_SKIP() << "ip(8) is missing";
  make_persistent_tun("pen0");
  ASSERT_TRUE(netlink->set_mtu(link("pen0").index, 1000));
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "fd00::1/64"}))));
  EXPECT_EQ(interface->mtu(), 1420);
}

TEST_F(InterfaceTest, ARouteThatSomebodyElseHasFailsUnderItsKeyAndTheNextTryHeals) {
  make_persistent_tun("other0");
  const int other = link("other0").index;
  ASSERT_TRUE(netlink->set_up(other));
  ASSERT_TRUE(netlink->add_route({.destination = prefix("10.6.0.0/16"), .index = other}));

  const auto interface = Interface::create({.name = "pen0"}).value();
  const auto refused = interface->configure(settings({"10.100.0.1/24"}, {"10.5.0.0/16", "10.6.0.0/16"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::address_in_use);
  EXPECT_EQ(refused.error().message,
            "vpn.routes: interface pen0: cannot add the route 10.6.0.0/16: it exists already on interface other0");
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24"}, {"10.7.0.0/16"}))));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.100.0.0/24", "10.7.0.0/16"));
}

TEST_F(InterfaceTest, APrefixLengthThatCannotBeIsRefused) {
  const auto interface = Interface::create({.name = "pen0"}).value();
  const auto refused = interface->configure({.addresses = {{address("10.100.0.1"), 33}}});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("vpn.subnet: interface pen0: 10.100.0.1/33"));
}

TEST_F(InterfaceTest, APersistentDeviceIsLeftAsItWasFound) {
  make_persistent_tun("pen0");
  const int index = link().index;
  // What an administrator put there stays, also what is wanted by us too.
  ASSERT_TRUE(netlink->set_mtu(index, 1500));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.1"), 24));
  ASSERT_TRUE(netlink->add_address(index, address("192.168.77.1"), 24));

  auto interface = Interface::create({.name = "pen0", .mtu = 1400}).value();
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24", "10.100.1.1/24", "fd00::1/64"}, {"10.5.0.0/16"}))));
  EXPECT_THAT(addresses(), UnorderedElementsAre("10.100.0.1/24", "192.168.77.1/24", "10.100.1.1/24", "fd00::1/64"));
  interface.reset();

  EXPECT_EQ(link().mtu, 1500);
  EXPECT_FALSE(link().up);
  EXPECT_THAT(addresses(), UnorderedElementsAre("10.100.0.1/24", "192.168.77.1/24"));
}

TEST_F(InterfaceTest, APersistentDeviceThatIsUpKeepsItsRoutes) {
  make_persistent_tun("pen0");
  const int index = link().index;
  ASSERT_TRUE(netlink->set_tunnel_defaults(index));
  ASSERT_TRUE(netlink->set_up(index));
  ASSERT_TRUE(netlink->add_route({.destination = prefix("10.5.0.0/16"), .index = index}));
  ASSERT_TRUE(netlink->add_address(index, address("10.100.0.1"), 24));

  auto interface = Interface::create({.name = "pen0"}).value();
  EXPECT_TRUE(done(interface->configure(settings({"10.100.1.1/24"}, {"10.5.0.0/16", "10.6.0.0/16"}))));
  interface.reset();
  EXPECT_TRUE(link().up);
  EXPECT_THAT(addresses(), ElementsAre("10.100.0.1/24"));
  EXPECT_THAT(routes(), UnorderedElementsAre("10.5.0.0/16", "10.100.0.0/24"));
}

TEST_F(InterfaceTest, FiftyLivesLeaveNothingBehind) {
  for (int i = 0; i < 50; ++i) {
    const auto interface = Interface::create({.name = "pen0"});
    ASSERT_TRUE(interface) << interface.error().message;
    EXPECT_TRUE(done((*interface)->configure(settings({"10.100.0.1/24"}, {"10.5.0.0/16"}))));
  }
  EXPECT_FALSE(exists("pen0"));
}

TEST_F(InterfaceTest, WithoutIpv6OnTheSystemTheMessageSaysSo) {
  const int setting = ::open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
  if (setting < 0 || ::write(setting, "1", 1) != 1) GTEST_SKIP() << "cannot disable IPv6: " << std::strerror(errno);
  ::close(setting);
  const auto interface = Interface::create({.name = "pen0"}).value();
  const auto refused = interface->configure(settings({"10.100.0.1/24", "fd00::1/64"}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("vpn.subnet6: interface pen0: cannot add the address fd00::1/64: IPv6 "
                                                 "is disabled on this system"));
  EXPECT_TRUE(done(interface->configure(settings({"10.100.0.1/24"}))));
}

// The device in memory keeps the promises of device.h.
TEST(FakeDevice, HandsOutWhatWasInjectedAndKeepsWhatWasWritten) {
  FakeDevice device;
  int injected = 0;
  device.on_inject = [&] { ++injected; };
  const auto readable = [&] {
    pollfd ready{.fd = device.handle(), .events = POLLIN, .revents = 0};
    return ::poll(&ready, 1, 0) == 1;
  };
  EXPECT_FALSE(readable());
  for (const auto* text : {"one", "two", "three"}) device.inject(Packet::copy_of(as_bytes(text)));
  EXPECT_EQ(injected, 3);

  PacketBatch batch;
  EXPECT_EQ(device.read(batch, 2, 3).value(), 1U) << "three bytes are enough";
  EXPECT_EQ(device.read(batch, 1, 100).value(), 1U);
  EXPECT_TRUE(readable()) << "one is left";
  EXPECT_EQ(device.read(batch, 2, 100).value(), 1U);
  EXPECT_FALSE(readable());
  EXPECT_EQ(as_text(batch[2].bytes()), "three");

  EXPECT_TRUE(device.write(batch[0]));
  device.refuse_writes = true;
  EXPECT_FALSE(device.write(batch[1]));
  ASSERT_EQ(device.written.size(), 1U);
  EXPECT_EQ(as_text(device.written[0].bytes()), "one");

  device.remove();
  EXPECT_TRUE(readable());
  EXPECT_EQ(device.read(batch, 1, 100).error().code, ErrorCode::closed);
}

}  // namespace
}  // namespace penstock::tun
