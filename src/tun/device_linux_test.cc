#include "tun/device_linux.h"

#include <gmock/gmock.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <vector>

#include "packet/checksum.h"
#include "tun/device_holder.h"
#include "tun/netlink.h"
#include "tun/private_namespace.h"

namespace penstock::tun {
namespace {

using testing::HasSubstr;

constexpr std::size_t kPlenty = 1024 * 1024;  // bytes in one read()

// An ICMP echo request (RFC 792) of `size` bytes in all.
Packet echo_request(const IpAddress& from, const IpAddress& to, std::size_t size) {
  Packet packet = Packet::with_size(size);
  const MutableByteView bytes = packet.mutable_bytes();
  std::ranges::fill(bytes, std::uint8_t{0});
  bytes[0] = 0x45;
  store_be16(&bytes[2], static_cast<std::uint16_t>(size));
  bytes[8] = 64;  // time to live
  bytes[9] = 1;   // ICMP
  std::ranges::copy(from.bytes(), &bytes[12]);
  std::ranges::copy(to.bytes(), &bytes[16]);
  store_be16(&bytes[10], internet_checksum(bytes.first(20)));
  bytes[20] = 8;  // echo request
  store_be16(&bytes[24], 0x1234);
  for (std::size_t i = 28; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 7);
  store_be16(&bytes[22], internet_checksum(bytes.subspan(20)));
  return packet;
}

class DeviceLinuxTest : public PrivateNamespace {
 protected:
  static std::string refusal_of(const std::string& name, ErrorCode code) {
    const auto opened = open_device({.name = name});
    if (opened) return "it was opened";
    EXPECT_EQ(to_string(opened.error().code), to_string(code));
    return opened.error().message;
  }

  // Up, with 10.100.0.1/24.
  static std::unique_ptr<Device> open_with_address(const std::string& name, int mtu,
                                                   OffloadMode offload = OffloadMode::automatic) {
    auto device = open_device({.name = name, .offload = offload}).value();
    const auto netlink = Netlink::create().value();
    EXPECT_TRUE(netlink->set_mtu(device->index(), mtu));
    EXPECT_TRUE(netlink->set_tunnel_defaults(device->index()));
    EXPECT_TRUE(netlink->set_up(device->index()));
    EXPECT_TRUE(netlink->add_address(device->index(), address("10.100.0.1"), 24));
    return device;
  }

  static bool write(Device& device, Packet packet) { return device.write(packet); }

  // Reads until there is an IPv4 packet (the kernel sends IPv6 multicast of its own), for at most two seconds.
  static Packet read_v4(Device& device) {
    for (pollfd ready{.fd = device.handle(), .events = POLLIN, .revents = 0}; ::poll(&ready, 1, 2000) == 1;) {
      PacketBatch batch;
      const auto count = device.read(batch, 1, kPlenty);
      if (!count) return {};
      for (Packet& packet : batch)
        if (packet.bytes()[0] >> 4 == 4) return std::move(packet);
    }
    return {};
  }
};

TEST_F(DeviceLinuxTest, ADeviceIsCreatedUnderItsNameAndVanishesWithItsOwner) {
  auto device = open_device({.name = "pen0"}).value();
  EXPECT_EQ(device->name(), "pen0");
  EXPECT_EQ(device->index(), static_cast<int>(::if_nametoindex("pen0")));
  device.reset();
  EXPECT_FALSE(exists("pen0"));
}

TEST_F(DeviceLinuxTest, TheKernelAnswersAPingThatIsWrittenIntoTheDevice) {
  const auto device = open_with_address("pen0", 1420);
  ASSERT_TRUE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
  const Packet reply = read_v4(*device);
  ASSERT_EQ(reply.size(), 84U);
  EXPECT_EQ(reply.bytes()[20], 0) << "an echo reply";
  EXPECT_EQ(IpAddress::from_bytes(reply.bytes().subspan(12, 4)), address("10.100.0.1"));
  EXPECT_EQ(IpAddress::from_bytes(reply.bytes().subspan(16, 4)), address("10.100.0.9"));
  EXPECT_FALSE(reply.source) << "packets of the kernel are nobody's session";
}

// Around the size from which a packet keeps the buffer that it was read into, and the largest there is.
TEST_F(DeviceLinuxTest, PacketsOfEverySizeComeWhole) {
  for (const OffloadMode mode : {OffloadMode::off, OffloadMode::automatic}) {
    const auto device = open_with_address("pen0", 65535, mode);
    for (const std::size_t size : {28U, 1420U, 9000U, 16318U, 16320U, 16322U, 65534U}) {
      const Packet request = echo_request(address("10.100.0.9"), address("10.100.0.1"), size);
      ASSERT_TRUE(write(*device, request.clone()));
      const Packet reply = read_v4(*device);
      ASSERT_EQ(reply.size(), size);
      EXPECT_TRUE(std::ranges::equal(reply.bytes().subspan(28), request.bytes().subspan(28))) << size;
      EXPECT_EQ(internet_checksum(reply.bytes().subspan(20)), 0) << size;
      EXPECT_EQ(reply.footprint(), Packet::footprint_of(size)) << "no more memory than it needs";
    }
  }
}

TEST_F(DeviceLinuxTest, ReadingTakesAtMostWhatWasAskedForAndNeverWaits) {
  const auto device = open_with_address("pen0", 1420);
  PacketBatch batch;
  while (device->read(batch, 64, kPlenty).value() > 0) continue;
  batch.clear();
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
  ASSERT_EQ(read_v4(*device).size(), 84U);
  EXPECT_EQ(device->read(batch, 3, kPlenty).value(), 3U);
  EXPECT_EQ(device->read(batch, 3, kPlenty).value(), 1U);
  EXPECT_EQ(device->read(batch, 3, kPlenty).value(), 0U);
  EXPECT_EQ(batch.size(), 4U);
}

TEST_F(DeviceLinuxTest, ReadingStopsOnceItHasTheBytesThatWereAskedFor) {
  const auto device = open_with_address("pen0", 1420);
  PacketBatch batch;
  while (device->read(batch, 64, kPlenty).value() > 0) continue;
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
  EXPECT_EQ(device->read(batch, 64, 84).value(), 1U);
  EXPECT_EQ(device->read(batch, 64, 85).value(), 2U);
  EXPECT_EQ(device->read(batch, 64, kPlenty).value(), 2U);
}

TEST_F(DeviceLinuxTest, WritingToADeviceThatIsDownIsRefused) {
  const auto device = open_device({.name = "pen0"}).value();
  EXPECT_FALSE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
}

TEST_F(DeviceLinuxTest, WritingWhatIsNoIpPacketIsRefused) {
  const auto device = open_with_address("pen0", 1420);
  EXPECT_FALSE(write(*device, Packet::copy_of(as_bytes("1 is no IP version"))));
  EXPECT_FALSE(write(*device, Packet::with_size(0)));
}

TEST_F(DeviceLinuxTest, ADeletedDeviceWakesItsReaderAndSaysSo) {
  const auto device = open_with_address("pen0", 1420);
  ASSERT_TRUE(Netlink::create().value()->delete_link(device->index()));
  pollfd ready{.fd = device->handle(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 1);
  PacketBatch batch;
  const auto read = device->read(batch, 8, kPlenty);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::closed);
  EXPECT_THAT(read.error().message, HasSubstr("interface pen0 has been deleted"));
  EXPECT_FALSE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
}

TEST_F(DeviceLinuxTest, FiftyLivesLeaveNothingBehind) {
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(open_device({.name = "pen0"}));
    ASSERT_FALSE(exists("pen0"));
  }
  struct if_nameindex* names = ::if_nameindex();
  EXPECT_STREQ(names[0].if_name, "lo");
  EXPECT_EQ(names[1].if_index, 0U);
  ::if_freenameindex(names);
}

TEST_F(DeviceLinuxTest, APersistentTunThatNobodyHoldsIsUsedAndLeft) {
  make_persistent_tun("pen0");
  const auto index = static_cast<int>(::if_nametoindex("pen0"));
  auto device = open_with_address("pen0", 1420);
  EXPECT_EQ(device->index(), index);
  ASSERT_TRUE(write(*device, echo_request(address("10.100.0.9"), address("10.100.0.1"), 84)));
  EXPECT_EQ(read_v4(*device).size(), 84U);
  device.reset();
  EXPECT_TRUE(exists("pen0"));
}

TEST_F(DeviceLinuxTest, ATunThatIsHeldIsRefusedNamingItsHolder) {
  const auto holder = open_device({.name = "pen0"}).value();
  const std::string message = refusal_of("pen0", ErrorCode::address_in_use);
  EXPECT_THAT(message, HasSubstr("vpn.interface_name: the TUN device pen0 is held by tun_test (pid " +
                                 std::to_string(::getpid()) + ")"));
  EXPECT_THAT(message, HasSubstr("choose another vpn.interface_name"));
}

TEST_F(DeviceLinuxTest, AHolderOfTheSameNameInAnotherNamespaceIsNotBlamed) {
  const auto holder = open_device({.name = "pen0"}).value();
  EXPECT_TRUE(find_device_holder("pen0"));
  EXPECT_FALSE(find_device_holder("pen"));
  in_child([&] {
    ::close(holder->handle());  // inherited, and not what is looked for
    return ::unshare(CLONE_NEWNET) == 0 && !find_device_holder("pen0");
  });
}

TEST_F(DeviceLinuxTest, ATapIsRefusedAsWhatItIs) {
  ::close(open_tun("pen0", IFF_TAP | IFF_NO_PI, true));
  EXPECT_EQ(refusal_of("pen0", ErrorCode::address_in_use),
            "vpn.interface_name: pen0 exists and is a TAP device (Ethernet frames, not IP packets), not a TUN device "
            "that can be used: choose another vpn.interface_name");
  EXPECT_TRUE(exists("pen0"));
}

TEST_F(DeviceLinuxTest, AMultiQueueTunIsRefusedAsWhatItIs) {
  ::close(open_tun("pen0", IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE, true));
  EXPECT_THAT(refusal_of("pen0", ErrorCode::address_in_use), HasSubstr("pen0 exists and is a multi-queue TUN device"));
}

TEST_F(DeviceLinuxTest, OtherInterfacesAreRefusedAsWhatTheyAre) {
  EXPECT_THAT(refusal_of("lo", ErrorCode::address_in_use),
              HasSubstr("lo exists and is a network interface of this machine"));
  if (!ip("link add veth0 type veth peer name veth1")) GTEST_SKIP() << "ip(8) cannot make veth interfaces here";
  EXPECT_THAT(refusal_of("veth0", ErrorCode::address_in_use), HasSubstr("an interface of kind veth"));
}

TEST_F(DeviceLinuxTest, WithoutCapNetAdminTheMessageSaysWhatIsNeeded) {
  in_child([] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) return false;
    const std::string message = refusal_of("pen0", ErrorCode::permission_denied);
    return message ==
           "not allowed to make the TUN device pen0: this needs CAP_NET_ADMIN; run as root, or let a gateway do "
           "without it (vpn.tun: off)";
  });
}

TEST_F(DeviceLinuxTest, WithoutAccessToTheDeviceNodeTheMessageSaysSo) {
  in_child([] {
    if (::setuid(65534) != 0) return false;
    // Where everybody may open the node, it is the next step that is refused.
    return refusal_of("pen0", ErrorCode::permission_denied).find("CAP_NET_ADMIN; run as root") != std::string::npos;
  });
}

TEST_F(DeviceLinuxTest, WithoutTheDeviceNodeTheMessageNamesTheWaysOut) {
  in_child([] {
    // Hides it from this process only.
    if (::unshare(CLONE_NEWNS) != 0 || std::system("mount --make-rprivate / && mount -t tmpfs none /dev/net") != 0)
      return true;
    const std::string message = refusal_of("pen0", ErrorCode::not_found);
    return message.find("/dev/net/tun is missing: load the module (modprobe tun)") != std::string::npos &&
           message.find("vpn.tun: off") != std::string::npos;
  });
}

TEST(InterfaceName, IsOneThatLinuxAndItsToolsTake) {
  for (const auto* name : {"VPN", "tun0", "penstock-office", "a", "wg.5@x"}) EXPECT_TRUE(check_interface_name(name));
  for (const auto* name : {"", "penstock-office1", ".", "..", "all", "default", "a/b", "a:1", "tun%d", "my vpn", "a\tb",
                           "a\n", "b\xC3\xBCro"}) {
    const auto checked = check_interface_name(name);
    ASSERT_FALSE(checked) << name;
    EXPECT_EQ(checked.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(checked.error().message, HasSubstr("vpn.interface_name: \"" + std::string(name) + "\""));
  }
}

}  // namespace
}  // namespace penstock::tun
