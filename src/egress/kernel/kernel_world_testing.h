// For tests: a gateway's machine in a network namespace, with both sides of it in the test's hand.
//
//   clients --> pen0 (TUN, 10.100.0.1/24, fd00:100::1/64) --> the kernel --> out0 (TUN, 93.184.216.2/24,
//                                                                            2606:2800::2/64, both default routes)
//
// A packet that is written into one device has been judged when the write returns: what the kernel does with it waits
// to be read from one of the two, or it is gone. So nothing here waits.
#pragma once

#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "egress/kernel/kernel_nat.h"
#include "egress/nat/nat_packets_testing.h"
#include "tun/private_namespace.h"

namespace penstock::egress {

class KernelWorld : public tun::PrivateNamespace {
 protected:
  void SetUp() override {
    PrivateNamespace::SetUp();
    if (IsSkipped()) return;
    clients = open_tun("pen0", IFF_TUN | IFF_NO_PI);
    outside = open_tun("out0", IFF_TUN | IFF_NO_PI);
    ASSERT_TRUE(ip("link set lo up"));
    for (const char* device : {"pen0", "out0"}) {
      write_setting(std::string("net/ipv6/conf/") + device + "/accept_dad", "0");
      write_setting(std::string("net/ipv6/conf/") + device + "/addr_gen_mode", "1");
      ASSERT_TRUE(ip(std::string("link set ") + device + " up"));
    }
    ASSERT_TRUE(ip("addr add 10.100.0.1/24 dev pen0") && ip("addr add fd00:100::1/64 dev pen0"));
    ASSERT_TRUE(ip("addr add 93.184.216.2/24 dev out0") && ip("addr add 2606:2800::2/64 dev out0"));
    ASSERT_TRUE(ip("route add default dev out0") && ip("-6 route add default dev out0"));
    // Every refusal is told, however many there are.
    write_setting("net/ipv4/icmp_ratelimit", "0");
    write_setting("net/ipv6/icmp/ratelimit", "0");
    directory = ::testing::TempDir() + "penstock-kernel-" + std::to_string(::getpid());
    std::filesystem::create_directory(directory);
    settings = {.interface = "pen0",
                .subnet = prefix("10.100.0.0/24"),
                .subnet6 = prefix("fd00:100::/64"),
                .server_ip = address("10.100.0.1"),
                .server_ip6 = address("fd00:100::1"),
                .outer_ipv6 = true,
                .journal = directory + "/forwarding.json"};
  }
  void TearDown() override {
    for (const int fd : {clients, outside})
      if (fd >= 0) ::close(fd);
    if (!directory.empty()) std::filesystem::remove_all(directory);
  }

  static std::string setting(const std::string& name) {
    auto text = read_whole_file("/proc/sys/" + name, 64).value_or("?\n");
    if (!text.empty()) text.pop_back();
    return text;
  }
  static bool write_setting(const std::string& name, const std::string& value) {
    std::ofstream file("/proc/sys/" + name);
    file << value << std::flush;
    return file.good();
  }
  static std::string output_of(const std::string& command) {
    std::string text;
    std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return text;
    std::array<char, 4096> buffer;
    while (const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe)) text.append(buffer.data(), size);
    ::pclose(pipe);
    return text;
  }
  static bool nft(const std::string& arguments) {
    return std::system(("nft '" + arguments + "' >/dev/null 2>&1").c_str()) == 0;
  }

  static void send(int device, const Packet& packet) {
    ASSERT_EQ(::write(device, packet.bytes().data(), packet.size()), static_cast<ssize_t>(packet.size()));
  }
  // Nothing: none waits. What the kernel says on its own account (to multicast groups) is passed over.
  static std::optional<Packet> receive(int device) {
    std::array<std::uint8_t, 4096> buffer;
    for (;;) {
      const ssize_t size = ::read(device, buffer.data(), buffer.size());
      if (size <= 0) return std::nullopt;
      Packet packet = Packet::copy_of(ByteView(buffer).first(static_cast<std::size_t>(size)));
      const auto view = parse_ip(packet.bytes());
      if (view && !view->destination.is_multicast()) return packet;
    }
  }
  // "93.184.216.2:40000 > 1.1.1.1:443", "icmp 3/13 10.100.0.1 > 10.100.0.2", or "nothing".
  static std::string read(int device) {
    const auto packet = receive(device);
    if (!packet) return "nothing";
    const IpView view = parse_ip(packet->bytes()).value();
    const ByteView rest = packet->bytes().subspan(view.header_size);
    if (view.protocol == kProtocolIcmp || view.protocol == kProtocolIcmp6)
      return "icmp " + std::to_string(rest[0]) + "/" + std::to_string(rest[1]) + " " + view.source.to_string() + " > " +
             view.destination.to_string();
    return Endpoint{view.source, load_be16(&rest[0])}.to_string() + " > " +
           Endpoint{view.destination, load_be16(&rest[2])}.to_string();
  }

  static Packet syn(const Endpoint& from, const Endpoint& to) {
    Packet packet = tcp_packet(from, to, "");
    packet.mutable_bytes()[parse_ip(packet.bytes()).value().header_size + 13] = 0x02;
    return with_checksum(std::move(packet), kProtocolTcp, 16);
  }

  std::unique_ptr<KernelNat> start() {
    auto made = KernelNat::create(settings);
    if (made) return *std::move(made);
    ADD_FAILURE() << made.error().message;
    return nullptr;
  }

  int clients = -1;
  int outside = -1;
  std::string directory;
  KernelNatSettings settings;
};

inline testing::AssertionResult done(const Result<void>& result) {
  return result ? testing::AssertionSuccess() : testing::AssertionFailure() << result.error().message;
}

}  // namespace penstock::egress
