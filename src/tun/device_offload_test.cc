// Super-packets through real kernels: two hosts, each a network namespace with a TUN device and sockets, and the test
// between them, reading from one device and writing to the other.
//
//   socket -- kernel of a -- TUN  --read()--> test --write()-->  TUN -- kernel of b -- socket
//
// What arrives must be what was sent, whichever of the two does without offloads.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "packet/super_packet.h"
#include "tun/device_linux.h"
#include "tun/netlink.h"
#include "tun/private_namespace.h"
#include "tun/transport_packets_testing.h"

namespace penstock::tun {
namespace {

using Gso = Offload::Gso;
using testing::AllOf;
using testing::Ge;
using testing::Le;

constexpr std::size_t kPlenty = 1024 * 1024;  // bytes in one read()
constexpr std::uint16_t kPort = 5000;
constexpr int kMtu = 1420;

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) { EXPECT_GE(fd, 0) << std::strerror(errno); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  void set(int level, int name, int value) const {
    EXPECT_EQ(::setsockopt(fd_, level, name, &value, sizeof value), 0) << std::strerror(errno);
  }
  Socket accept() const { return Socket(::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)); }

 private:
  int fd_ = -1;
};

struct Name {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Name name_of(const IpAddress& address) {
  Name name;
  if (address.is_v4()) {
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&name.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(kPort);
    std::ranges::copy(address.bytes(), reinterpret_cast<std::uint8_t*>(&v4->sin_addr));
    name.size = sizeof *v4;
  } else {
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&name.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(kPort);
    std::ranges::copy(address.bytes(), reinterpret_cast<std::uint8_t*>(&v6->sin6_addr));
    name.size = sizeof *v6;
  }
  return name;
}

struct Host {
  std::unique_ptr<Device> device;
  IpAddress address;
  Socket socket;
};

// What went from one host to the other.
struct Traffic {
  std::size_t packets = 0;
  std::size_t partial_checksums = 0;
  std::size_t super_packets = 0;
  std::size_t most_segments = 0;
  GsoKinds kinds;
};

class DeviceOffloadTest : public PrivateNamespace {
 protected:
  // In a namespace of its own; `socket_type` is that of its one socket, which stands on a host's address and port 5000.
  static Host make_host(std::string_view own, OffloadMode mode, int socket_type) {
    EXPECT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
    Host host{.device = open_device({.name = "pen0", .offload = mode}).value(), .address = address(own), .socket = {}};
    const auto netlink = Netlink::create().value();
    EXPECT_TRUE(netlink->set_mtu(host.device->index(), kMtu));
    EXPECT_TRUE(netlink->set_tunnel_defaults(host.device->index()));
    EXPECT_TRUE(netlink->set_up(host.device->index()));
    EXPECT_TRUE(netlink->add_address(host.device->index(), host.address, host.address.is_v4() ? 24 : 64));
    if (host.address.is_v6()) await_local_route(host.address);
    host.socket =
        Socket(::socket(host.address.is_v4() ? AF_INET : AF_INET6, socket_type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    host.socket.set(SOL_SOCKET, SO_RCVBUF, 4 * 1024 * 1024);
    const Name name = name_of(host.address);
    EXPECT_EQ(::bind(host.socket.fd(), name.get(), name.size), 0) << std::strerror(errno);
    return host;
  }
  // The kernel takes packets to a new IPv6 address only when a worker of its own has made the route: within 2 seconds.
  static void await_local_route(const IpAddress& address) {
    std::string wanted;
    for (const std::uint8_t byte : address.bytes()) {
      for (const int digit : {byte >> 4, byte & 15}) wanted.push_back("0123456789abcdef"[digit]);
    }
    wanted += " 80 ";  // of 128 bits
    for (int tries = 0; tries < 2000; ++tries) {
      std::ifstream file("/proc/thread-self/net/ipv6_route");
      for (std::string line; std::getline(file, line);)
        if (line.starts_with(wanted)) return;
      ::poll(nullptr, 0, 1);
    }
    ADD_FAILURE() << "no route to " << address.to_string();
  }
  static void connect(const Host& from, const Host& to) {
    const Name name = name_of(to.address);
    const int connected = ::connect(from.socket.fd(), name.get(), name.size);
    EXPECT_TRUE(connected == 0 || errno == EINPROGRESS) << std::strerror(errno);
  }

  // Carries over all that waits. False: nothing did.
  static bool relay(Host& from, Host& to, Traffic& traffic) {
    PacketBatch batch;
    const auto count = from.device->read(batch, 64, kPlenty);
    EXPECT_TRUE(count);
    for (Packet& packet : batch) {
      ++traffic.packets;
      if (packet.offload.needs_checksum) ++traffic.partial_checksums;
      if (packet.offload.gso != Gso::none) {
        ++traffic.super_packets;
        traffic.kinds.add(packet.offload.gso);
        traffic.most_segments = std::max(traffic.most_segments, segments_of(packet));
      }
      EXPECT_LE(largest_segment_of(packet), static_cast<std::size_t>(kMtu));
      EXPECT_TRUE(to.device->write(packet));
    }
    return count.value_or(0) != 0;
  }

  // The payload of every datagram that waits.
  static std::vector<std::string> datagrams(const Host& host) {
    std::vector<std::string> all;
    std::string block(65536, '\0');
    for (ssize_t size = 0; (size = ::recv(host.socket.fd(), block.data(), block.size(), 0)) >= 0;)
      all.push_back(block.substr(0, static_cast<std::size_t>(size)));
    return all;
  }

  static std::string text_of(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(payload_byte(i));
    return text;
  }
};

bool has_gso(OffloadMode mode) { return mode != OffloadMode::off; }

// ---- TCP ----

struct Ends {
  const char* name;
  OffloadMode sender;
  OffloadMode receiver;
  bool ipv6;
};
// GoogleTest looks for this name.
// NOLINTNEXTLINE(readability-identifier-naming)
void PrintTo(const Ends& ends, std::ostream* out) { *out << ends.name; }

class TcpTest : public DeviceOffloadTest, public testing::WithParamInterface<Ends> {
 protected:
  static constexpr std::size_t kTotal = 8 * 1024 * 1024;

  // Sends from a to b until `kTotal` bytes have come, for at most 20 seconds.
  std::string transfer(Host& a, Host& b) {
    ::listen(b.socket.fd(), 1);
    // Less than a TUN device queues in packets, so that none is lost.
    a.socket.set(SOL_SOCKET, SO_SNDBUF, 128 * 1024);
    connect(a, b);
    const std::string sent = text_of(kTotal);
    std::string heard;
    heard.reserve(kTotal);
    std::size_t at = 0;
    Socket accepted;
    std::string block(1024 * 1024, '\0');
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (heard.size() < kTotal && std::chrono::steady_clock::now() < end && !HasFailure()) {
      const ssize_t wrote = ::send(a.socket.fd(), sent.data() + at, sent.size() - at, MSG_NOSIGNAL);
      if (wrote > 0) at += static_cast<std::size_t>(wrote);
      const bool forth = relay(a, b, forth_);
      const bool back = relay(b, a, back_);
      if (accepted.fd() < 0 && (forth || back)) {
        if (const int fd = ::accept4(b.socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); fd >= 0)
          accepted = Socket(fd);
      }
      const ssize_t got = accepted.fd() < 0 ? -1 : ::recv(accepted.fd(), block.data(), block.size(), 0);
      if (got > 0) heard.append(block, 0, static_cast<std::size_t>(got));
      if (forth || back || got > 0 || wrote > 0) continue;
      std::array<pollfd, 2> waits{pollfd{a.device->handle(), POLLIN, 0}, pollfd{b.device->handle(), POLLIN, 0}};
      ::poll(waits.data(), waits.size(), 100);
    }
    return heard;
  }
  // Segments that the kernel of the namespace of this thread dropped for their checksum: the last word of the last line
  // of TCP.
  static std::string bad_checksums() {
    std::ifstream file("/proc/thread-self/net/snmp");
    std::string line;
    std::string last;
    while (std::getline(file, line))
      if (line.starts_with("Tcp:")) last = line;
    return last.substr(last.rfind(' ') + 1);
  }

  Traffic forth_;
  Traffic back_;
};

TEST_P(TcpTest, EveryByteArrives) {
  const Ends& ends = GetParam();
  Host a = make_host(ends.ipv6 ? "fd00::1" : "10.100.0.1", ends.sender, SOCK_STREAM);
  Host b = make_host(ends.ipv6 ? "fd00::2" : "10.100.0.2", ends.receiver, SOCK_STREAM);
  EXPECT_EQ(a.device->takes().has(Gso::tcp4), has_gso(ends.sender));
  EXPECT_EQ(b.device->takes().has(Gso::tcp6), has_gso(ends.receiver));

  const std::string heard = transfer(a, b);
  EXPECT_EQ(heard.size(), kTotal);
  EXPECT_TRUE(heard == text_of(kTotal));
  EXPECT_EQ(bad_checksums(), "0") << "at b";
  if (has_gso(ends.sender)) {
    EXPECT_EQ(forth_.kinds, GsoKinds{ends.ipv6 ? Gso::tcp6 : Gso::tcp4});
    EXPECT_GE(forth_.most_segments, 16U);
    EXPECT_LT(forth_.packets, kTotal / kMtu / 4) << "a packet a segment it is not";
    EXPECT_EQ(forth_.partial_checksums, forth_.packets);
  } else {
    EXPECT_EQ(forth_.super_packets, 0U);
    EXPECT_EQ(forth_.partial_checksums, 0U);
  }
  EXPECT_EQ(has_gso(ends.receiver), back_.partial_checksums != 0) << "of acknowledgements";
  for (const Host* host : {&a, &b}) {
    EXPECT_EQ(host->device->counters().disbelieved, 0U);
    EXPECT_EQ(host->device->counters().refused_whole, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(BetweenModes, TcpTest,
                         testing::Values(Ends{"OffToOff", OffloadMode::off, OffloadMode::off, false},
                                         Ends{"OffToOn", OffloadMode::off, OffloadMode::automatic, false},
                                         Ends{"OnToOff", OffloadMode::automatic, OffloadMode::off, false},
                                         Ends{"OnToOn", OffloadMode::automatic, OffloadMode::automatic, false},
                                         Ends{"TcpOnlyToOn", OffloadMode::gso, OffloadMode::automatic, false},
                                         Ends{"Ipv6OffToOn", OffloadMode::off, OffloadMode::automatic, true},
                                         Ends{"Ipv6OnToOff", OffloadMode::automatic, OffloadMode::off, true},
                                         Ends{"Ipv6OnToOn", OffloadMode::automatic, OffloadMode::automatic, true}),
                         [](const auto& each) { return each.param.name; });

// ---- UDP ----

class UdpTest : public DeviceOffloadTest {
 protected:
  // `count` datagrams of `size` bytes in one send() of a; what comes out of b's socket.
  void send_segments(OffloadMode sender, OffloadMode receiver, bool ipv6, std::size_t size, std::size_t count) {
    Host a = make_host(ipv6 ? "fd00::1" : "10.100.0.1", sender, SOCK_DGRAM);
    Host b = make_host(ipv6 ? "fd00::2" : "10.100.0.2", receiver, SOCK_DGRAM);
    const bool whole = a.device->takes().has(Gso::udp4);
    if (sender != OffloadMode::gso && !whole) GTEST_SKIP() << "this kernel's TUN has no UDP super-packets (6.2 has)";
    connect(a, b);
    a.socket.set(SOL_UDP, UDP_SEGMENT, static_cast<int>(size));
    const std::string text = text_of(size * count);
    if (::send(a.socket.fd(), text.data(), text.size(), 0) < 0 && errno == EINVAL)
      GTEST_SKIP() << "this kernel's UDP sends no " << count << " segments at once";
    Traffic forth;
    while (relay(a, b, forth)) continue;
    EXPECT_EQ(forth.packets, whole ? 1U : count);
    EXPECT_EQ(forth.most_segments, whole ? count : 0U);
    EXPECT_EQ(b.device->counters().refused_whole, 0U);
    const auto got = datagrams(b);
    ASSERT_EQ(got.size(), count);
    for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(got[i] == text.substr(i * size, size)) << i;
  }
};

TEST_F(UdpTest, DatagramsOfOneSendArriveOneByOne) {
  send_segments(OffloadMode::uso, OffloadMode::uso, false, 1200, 30);
  if (!IsSkipped()) send_segments(OffloadMode::automatic, OffloadMode::automatic, true, 1200, 30);
}

TEST_F(UdpTest, ADeviceWithoutUdpSuperPacketsGetsThemInSegments) {
  send_segments(OffloadMode::uso, OffloadMode::gso, false, 1200, 30);
  if (!IsSkipped()) send_segments(OffloadMode::uso, OffloadMode::off, true, 1200, 30);
}

TEST_F(UdpTest, ADeviceWithoutUdpSuperPacketsGivesThemInSegments) {
  send_segments(OffloadMode::gso, OffloadMode::uso, false, 1200, 30);
}

// Linux sends up to 128 segments since 6.9; a receiving kernel may still take 64.
TEST_F(UdpTest, MoreSegmentsThanEveryKernelTakesComeThrough) {
  send_segments(OffloadMode::uso, OffloadMode::uso, false, 500, 100);
}

// ---- single packets ----

TEST_F(DeviceOffloadTest, APartialChecksumIsFinishedWithAndWithoutOffloads) {
  for (const OffloadMode mode : {OffloadMode::off, OffloadMode::gso, OffloadMode::automatic}) {
    for (const bool ipv6 : {false, true}) {
      const Host host = make_host(ipv6 ? "fd00::1" : "10.100.0.1", mode, SOCK_DGRAM);
      Packet packet = ipv6 ? udp_packet("fd00::2", "fd00::1", 700) : udp_packet("10.100.0.2", "10.100.0.1", 700);
      ASSERT_TRUE(host.device->write(packet));
      const auto got = datagrams(host);
      ASSERT_EQ(got.size(), 1U) << "a kernel hands on no UDP with a bad checksum";
      EXPECT_TRUE(got[0] == text_of(700));
    }
  }
}

TEST_F(DeviceOffloadTest, ATcpSuperPacketOfOneByteSegmentsIsTaken) {
  const Host host = make_host("10.100.0.1", OffloadMode::automatic, SOCK_STREAM);
  Packet packet = super_packet(tcp_packet("10.100.0.2", "10.100.0.1", 2000), Gso::tcp4, 1);
  EXPECT_TRUE(host.device->write(packet));
  EXPECT_EQ(host.device->counters().refused_whole, 0U);
}

// ---- a device that somebody else used before ----

class UsedDeviceTest : public DeviceOffloadTest {
 protected:
  // A persistent TUN with a header of another size and, where the kernel has that, the other byte order.
  static void leave_used_device() {
    const int fd = open_tun("pen0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true);
    int size = 12;
    EXPECT_EQ(::ioctl(fd, TUNSETVNETHDRSZ, &size), 0);
    int big_endian = 1;
    static_cast<void>(::ioctl(fd, TUNSETVNETBE, &big_endian));
    EXPECT_EQ(::ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), 0);
    ::close(fd);
  }
  // Whether the kernel may hand TCP super-packets to pen0.
  static bool has_tso() {
    ethtool_value value{.cmd = ETHTOOL_GTSO, .data = 0};
    ifreq request{};
    std::ranges::copy(std::string_view("pen0"), request.ifr_name);
    request.ifr_data = reinterpret_cast<char*>(&value);
    const Socket socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::ioctl(socket.fd(), SIOCETHTOOL, &request), 0) << std::strerror(errno);
    return value.data != 0;
  }
};

TEST_F(UsedDeviceTest, AllThatItsLastHolderSetIsSetAnew) {
  for (const OffloadMode mode : {OffloadMode::off, OffloadMode::gso, OffloadMode::automatic}) {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    leave_used_device();
    ASSERT_TRUE(has_tso());
    auto device = open_device({.name = "pen0", .offload = mode}).value();
    EXPECT_EQ(has_tso(), has_gso(mode));
    const auto netlink = Netlink::create().value();
    ASSERT_TRUE(netlink->set_tunnel_defaults(device->index()));
    ASSERT_TRUE(netlink->set_up(device->index()));
    ASSERT_TRUE(netlink->add_address(device->index(), address("10.100.0.1"), 24));
    // No port listens: the kernel answers each segment with a reset.
    Packet packet = super_packet(tcp_packet("10.100.0.2", "10.100.0.1", 3000), Gso::tcp4, 1360);
    ASSERT_TRUE(device->write(packet));
    EXPECT_EQ(device->counters().refused_whole, 0U) << "the header was understood";
    PacketBatch batch;
    ASSERT_THAT(device->read(batch, 64, kPlenty).value(), AllOf(Ge(1U), Le(3U)));
    EXPECT_EQ(parse_ip(batch[0].bytes())->destination, address("10.100.0.2")) << "and so was ours";
    device.reset();
    EXPECT_FALSE(has_tso()) << "whoever comes next may not know of super-packets";
  }
}

}  // namespace
}  // namespace penstock::tun
