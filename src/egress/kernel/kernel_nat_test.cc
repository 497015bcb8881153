#include "egress/kernel/kernel_nat.h"

#include <gmock/gmock.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>

#include "egress/kernel/kernel_world_testing.h"

namespace penstock::egress {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string ip_forward = "net/ipv4/ip_forward";

class KernelNatTest : public KernelWorld {
 protected:
  static std::string tables() { return output_of("nft list tables"); }

  void client_sends(std::string_view from, std::string_view to) { send(clients, udp_packet(end(from), end(to))); }
  void outside_sends(std::string_view from, std::string_view to) { send(outside, udp_packet(end(from), end(to))); }
  std::string left() { return read(outside); }
  std::string came() { return read(clients); }

  // Another user with CAP_NET_ADMIN alone, as a gateway runs.
  static bool drop_privileges() {
    ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (::syscall(SYS_setresgid, 65534, 65534, 65534) != 0 || ::syscall(SYS_setresuid, 65534, 65534, 65534) != 0)
      return false;
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> data{};
    data[0].effective = data[0].permitted = 1U << CAP_NET_ADMIN;
    return ::syscall(SYS_capset, &header, data.data()) == 0;
  }
};

TEST_F(KernelNatTest, ClientsReachTheInternetUnderTheMachinesAddressAndAreAnswered) {
  const auto nat = start();
  client_sends("10.100.0.2:4000", "1.1.1.1:53");
  EXPECT_EQ(left(), "93.184.216.2:4000 > 1.1.1.1:53");
  outside_sends("1.1.1.1:53", "93.184.216.2:4000");
  EXPECT_EQ(came(), "1.1.1.1:53 > 10.100.0.2:4000");
  client_sends("[fd00:100::2]:4000", "[2606:4700::1]:53");
  EXPECT_EQ(left(), "[2606:2800::2]:4000 > [2606:4700::1]:53");
  outside_sends("[2606:4700::1]:53", "[2606:2800::2]:4000");
  EXPECT_EQ(came(), "[2606:4700::1]:53 > [fd00:100::2]:4000");
}

TEST_F(KernelNatTest, WhatIsRefusedIsToldAndCounted) {
  const auto nat = start();
  client_sends("10.100.0.2:4000", "192.168.1.1:80");
  EXPECT_EQ(came(), "icmp 3/13 10.100.0.1 > 10.100.0.2");
  client_sends("[fd00:100::2]:4000", "[fd12::1]:80");
  EXPECT_EQ(came(), "icmp 1/1 fd00:100::1 > fd00:100::2");
  EXPECT_EQ(left(), "nothing");
  const KernelDrops drops = nat->drops().value();
  EXPECT_EQ(drops.denied[static_cast<std::size_t>(Denied::private_network)], 2U);
  ASSERT_TRUE(done(nat->update(settings)));
  EXPECT_EQ(nat->drops().value().denied, drops.denied) << "an update forgets nothing";
}

TEST_F(KernelNatTest, WithoutAnIpv6InternetClientsAreToldAtOnce) {
  settings.outer_ipv6 = false;
  const auto nat = start();
  EXPECT_EQ(setting("net/ipv6/conf/all/forwarding"), "0");
  client_sends("[fd00:100::2]:4000", "[2606:4700::1]:53");
  EXPECT_EQ(came(), "icmp 1/0 fd00:100::1 > fd00:100::2");
  send(clients, echo_packet(address("fd00:100::2"), address("fd00:100::1"), 7));
  EXPECT_EQ(came(), "icmp 129/0 fd00:100::1 > fd00:100::2");
  ASSERT_TRUE(write_setting("net/ipv6/conf/all/forwarding", "1"));
  client_sends("[fd00:100::2]:4000", "[2606:4700::1]:53");
  EXPECT_EQ(came(), "icmp 1/0 fd00:100::1 > fd00:100::2") << "the same where the machine forwards for others";
  EXPECT_EQ(left(), "nothing");
  EXPECT_EQ(nat->drops().value().no_ipv6, 2U);
}

TEST_F(KernelNatTest, APublicAddressIsTheOneThatItComesFrom) {
  ASSERT_TRUE(ip("addr add 93.184.216.7/24 dev out0"));
  settings.public_ip = address("93.184.216.7");
  const auto nat = start();
  client_sends("10.100.0.2:4000", "1.1.1.1:53");
  EXPECT_EQ(left(), "93.184.216.7:4000 > 1.1.1.1:53");
}

TEST_F(KernelNatTest, SitesOfClientsAreMasqueradedToo) {
  ASSERT_TRUE(ip("route add 10.7.0.0/16 dev pen0"));
  const auto nat = start();
  client_sends("10.7.0.9:4000", "1.1.1.1:53");
  EXPECT_EQ(left(), "93.184.216.2:4000 > 1.1.1.1:53");
}

TEST_F(KernelNatTest, WhatGoesBackIntoTheTunIsNeitherJudgedNorMasqueraded) {
  ASSERT_TRUE(ip("route add 10.7.0.0/16 dev pen0"));
  const auto nat = start();
  client_sends("10.100.0.2:4000", "10.7.0.9:53");
  EXPECT_EQ(came(), "10.100.0.2:4000 > 10.7.0.9:53");
}

TEST_F(KernelNatTest, NobodyOutsideBeginsAnythingWithAClient) {
  const auto nat = start();
  outside_sends("93.184.216.9:4000", "10.100.0.2:53");
  EXPECT_EQ(came(), "nothing");
  EXPECT_EQ(nat->drops().value().uninvited, 1U);
}

TEST_F(KernelNatTest, TheMachineItselfReachesItsClients) {
  const auto nat = start();
  ASSERT_EQ(std::system("bash -c 'echo hello >/dev/udp/10.100.0.2/99'"), 0);
  EXPECT_THAT(came(), AllOf(StartsWith("10.100.0.1:"), HasSubstr("> 10.100.0.2:99")));
}

// With the machine's other address as the source; the answer comes in by the TUN to an address that is closed to
// clients.
TEST_F(KernelNatTest, AnswersReachTheMachineAtAddressesThatAreClosed) {
  const auto nat = start();
  ASSERT_TRUE(ip("route change 10.100.0.0/24 dev pen0 src 93.184.216.2"));
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(99);
  to.sin_addr.s_addr = htonl(address("10.100.0.2").to_v4());
  ASSERT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  ASSERT_EQ(::send(socket, "x", 1, 0), 1);
  const auto sent = receive(clients);
  ASSERT_TRUE(sent);
  const std::uint16_t port = load_be16(sent->bytes().data() + 20);
  send(clients, udp_packet(end("10.100.0.2:99"), {address("93.184.216.2"), port}, "hi"));
  std::array<char, 8> buffer;
  EXPECT_EQ(::recv(socket, buffer.data(), buffer.size(), 0), 2);
  send(clients, udp_packet(end("10.100.0.2:98"), {address("93.184.216.2"), port}));
  EXPECT_EQ(came(), "icmp 3/13 93.184.216.2 > 10.100.0.2");
  ::close(socket);
}

TEST_F(KernelNatTest, TheInnerAddressStaysOpen) {
  const auto nat = start();
  send(clients, echo_packet(address("10.100.0.2"), address("10.100.0.1"), 7));
  EXPECT_EQ(came(), "icmp 0/0 10.100.0.1 > 10.100.0.2");
  send(clients, echo_packet(address("10.100.0.2"), address("93.184.216.2"), 7));
  EXPECT_EQ(came(), "icmp 3/13 93.184.216.2 > 10.100.0.2");
}

TEST_F(KernelNatTest, ForwardsLeadFromOutsideToAClientAndBack) {
  settings.forwards = {{kProtocolUdp, 5000, end("10.100.0.5:50")}, {kProtocolUdp, 5000, end("[fd00:100::5]:50")}};
  const auto nat = start();
  outside_sends("9.9.9.9:4000", "93.184.216.2:5000");
  EXPECT_EQ(came(), "9.9.9.9:4000 > 10.100.0.5:50");
  client_sends("10.100.0.5:50", "9.9.9.9:4000");
  EXPECT_EQ(left(), "93.184.216.2:5000 > 9.9.9.9:4000");
  outside_sends("[2606:4700::1]:4000", "[2606:2800::2]:5000");
  EXPECT_EQ(came(), "[2606:4700::1]:4000 > [fd00:100::5]:50");
  client_sends("[fd00:100::5]:50", "[2606:4700::1]:4000");
  EXPECT_EQ(left(), "[2606:2800::2]:5000 > [2606:4700::1]:4000");
  outside_sends("9.9.9.9:4000", "93.184.216.2:5001");
  EXPECT_EQ(came(), "nothing");
}

// Who began it outside is answered, wherever that is; to begin something there the client may not.
TEST_F(KernelNatTest, AnAnswerToAForwardIsNoMatterForThePolicy) {
  ASSERT_TRUE(ip("addr add 192.168.1.1/24 dev out0"));
  settings.forwards = {{kProtocolUdp, 5000, end("10.100.0.5:50")}};
  const auto nat = start();
  outside_sends("192.168.1.9:4000", "192.168.1.1:5000");
  EXPECT_EQ(came(), "192.168.1.9:4000 > 10.100.0.5:50");
  client_sends("10.100.0.5:50", "192.168.1.9:4000");
  EXPECT_EQ(left(), "192.168.1.1:5000 > 192.168.1.9:4000");
  client_sends("10.100.0.5:51", "192.168.1.9:4000");
  EXPECT_EQ(left(), "nothing");
}

TEST_F(KernelNatTest, AClientReachesAnotherByThePublicAddress) {
  settings.forwards = {{kProtocolUdp, 5000, end("10.100.0.5:50")}};
  const auto nat = start();
  client_sends("10.100.0.2:4000", "93.184.216.2:5000");
  EXPECT_EQ(came(), "10.100.0.1:4000 > 10.100.0.5:50");
  client_sends("10.100.0.5:50", "10.100.0.1:4000");
  EXPECT_EQ(came(), "93.184.216.2:5000 > 10.100.0.2:4000");
  client_sends("10.100.0.2:4001", "10.100.0.1:5000");
  EXPECT_EQ(came(), "icmp 3/3 10.100.0.1 > 10.100.0.2") << "the inner address has the gateway's own services";
}

TEST_F(KernelNatTest, WithAPublicAddressForwardsAreOnThatOneAlone) {
  ASSERT_TRUE(ip("addr add 93.184.216.7/24 dev out0"));
  settings.public_ip = address("93.184.216.7");
  settings.forwards = {{kProtocolUdp, 5000, end("10.100.0.5:50")}};
  const auto nat = start();
  outside_sends("9.9.9.9:4000", "93.184.216.7:5000");
  EXPECT_EQ(came(), "9.9.9.9:4000 > 10.100.0.5:50");
  outside_sends("9.9.9.9:4000", "93.184.216.2:5000");
  EXPECT_EQ(came(), "nothing");
}

TEST_F(KernelNatTest, AnErrorAboutAConversationPassesBothWays) {
  const auto nat = start();
  client_sends("10.100.0.2:4000", "1.1.1.1:53");
  const auto sent = receive(outside);
  ASSERT_TRUE(sent);
  send(outside, error_packet(address("9.9.9.9"), address("93.184.216.2"), *sent));
  EXPECT_EQ(came(), "icmp 3/3 9.9.9.9 > 10.100.0.2");
}

// An answer to nothing: conntrack calls it invalid, and nobody would translate it.
TEST_F(KernelNatTest, NothingLeavesWithAnInnerAddress) {
  const auto nat = start();
  send(clients, echo_packet(address("10.100.0.2"), address("1.1.1.1"), 7, true));
  EXPECT_EQ(left(), "nothing");
  ASSERT_TRUE(nft("table ip raw { chain pre { type filter hook prerouting priority -300; notrack; }; }"));
  client_sends("10.100.0.2:4000", "1.1.1.1:53");
  EXPECT_EQ(left(), "nothing");
  EXPECT_EQ(nat->drops().value().untracked, 2U);
}

TEST_F(KernelNatTest, AnUpdateHoldsForConversationsThatThereAreAndKeepsTheOthers) {
  const auto nat = start();
  for (const char* to : {"1.1.1.1:53", "8.8.8.8:53"}) {
    client_sends("10.100.0.2:4000", to);
    EXPECT_THAT(left(), StartsWith("93.184.216.2:4000"));
  }
  settings.deny = {{prefix("1.1.1.1/32"), {}}};
  ASSERT_TRUE(done(nat->update(settings)));
  client_sends("10.100.0.2:4000", "1.1.1.1:53");
  EXPECT_EQ(left(), "nothing");
  client_sends("10.100.0.2:4000", "8.8.8.8:53");
  EXPECT_EQ(left(), "93.184.216.2:4000 > 8.8.8.8:53");
}

TEST_F(KernelNatTest, AFailedUpdateLeavesTheFormerRules) {
  const auto nat = start();
  const std::string before = output_of("nft -s list table inet penstock_pen0");
  auto other = settings;
  other.forwards = {{kProtocolUdp, 0, end("10.100.0.5:50")}};
  EXPECT_FALSE(nat->update(other));
  other = settings;
  other.interface = "pen1";
  EXPECT_FALSE(nat->update(other));
  EXPECT_EQ(output_of("nft -s list table inet penstock_pen0"), before);
}

TEST_F(KernelNatTest, OthersTablesAreUntouched) {
  ASSERT_TRUE(nft("table inet filter { chain forward { type filter hook forward priority 0; counter; }; }"));
  ASSERT_TRUE(nft("table ip nat { chain post { type nat hook postrouting priority 100; counter; }; }"));
  const std::string before = output_of("nft -s list ruleset");
  auto nat = start();
  ASSERT_TRUE(done(nat->update(settings)));
  EXPECT_THAT(output_of("nft -s list ruleset"), StartsWith(before.substr(0, before.size() - 1)));
  nat.reset();
  EXPECT_EQ(output_of("nft -s list ruleset"), before);
}

TEST_F(KernelNatTest, OthersTrafficIsUntouched) {
  ASSERT_TRUE(write_setting(ip_forward, "1"));
  const int third = open_tun("lan0", IFF_TUN | IFF_NO_PI);
  ASSERT_TRUE(ip("link set lan0 up") && ip("addr add 192.168.5.1/24 dev lan0"));
  settings.forwards = {{kProtocolUdp, 5000, end("10.100.0.5:50")}};
  const auto nat = start();
  send(third, udp_packet(end("192.168.5.2:4000"), end("192.168.9.9:25")));
  EXPECT_EQ(left(), "192.168.5.2:4000 > 192.168.9.9:25");
  send(third, udp_packet(end("192.168.5.2:4000"), end("93.184.216.2:25")));
  EXPECT_EQ(read(third), "icmp 3/3 93.184.216.2 > 192.168.5.2") << "delivered, and nobody listens";
  ::close(third);
}

TEST_F(KernelNatTest, NobodyElseChangesOrFlushesTheTable) {
  const auto nat = start();
  EXPECT_FALSE(nft("delete table inet penstock_pen0"));
  EXPECT_TRUE(nft("flush ruleset"));
  EXPECT_THAT(tables(), HasSubstr("penstock_pen0"));
}

TEST_F(KernelNatTest, ItIsGoneWithItsTableAndForwardingAsBefore) {
  auto nat = start();
  EXPECT_EQ(setting(ip_forward), "1");
  nat.reset();
  EXPECT_EQ(tables(), "");
  EXPECT_EQ(setting(ip_forward), "0");
  EXPECT_FALSE(std::filesystem::exists(settings.journal));
}

TEST_F(KernelNatTest, TheTableVanishesWithAKilledProcess) {
  in_child([&] {
    auto nat = KernelNat::create(settings);
    const bool there = tables().find("penstock_pen0") != std::string::npos;
    if (nat) nat->release();  // NOLINT(bugprone-unused-return-value): as if killed
    return there;
  });
  EXPECT_EQ(tables(), "");
  EXPECT_EQ(setting(ip_forward), "1");
  EXPECT_TRUE(done(KernelNat::restore_leftovers(settings.journal)));
  EXPECT_EQ(setting(ip_forward), "0");
}

TEST_F(KernelNatTest, ATableThatWasLeftBehindIsReplaced) {
  ASSERT_TRUE(nft("table inet penstock_pen0 { chain old { type filter hook forward priority 0; drop; }; }"));
  const auto nat = start();
  EXPECT_THAT(output_of("nft list table inet penstock_pen0"),
              AllOf(HasSubstr("flags owner"), Not(HasSubstr("chain old"))));
}

TEST_F(KernelNatTest, TwoGatewaysOnOneMachineShareForwarding) {
  const int other_tun = open_tun("pen1", IFF_TUN | IFF_NO_PI);
  auto first = start();
  settings.interface = "pen1";
  settings.journal = directory + "/other.json";
  auto second = start();
  first.reset();
  EXPECT_EQ(setting(ip_forward), "1") << "the other needs it";
  EXPECT_THAT(tables(), AllOf(HasSubstr("penstock_pen1"), Not(HasSubstr("penstock_pen0"))));
  second.reset();
  EXPECT_TRUE(done(KernelNat::restore_leftovers(directory + "/forwarding.json")));
  EXPECT_EQ(setting(ip_forward), "0");
  ::close(other_tun);
}

TEST_F(KernelNatTest, ATableOfAnotherProcessIsRefused) {
  const auto nat = start();
  const auto second = KernelNat::create(settings);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, AllOf(StartsWith("internet.mode: kernel: "), HasSubstr("CAP_NET_ADMIN")));
  EXPECT_EQ(setting(ip_forward), "1") << "the first is not disturbed";
}

TEST_F(KernelNatTest, ItWorksOnWithCapNetAdminAlone) {
  in_child([&] {
    auto nat = KernelNat::create(settings);
    if (!nat || ::chown(directory.c_str(), 65534, 65534) != 0 || !drop_privileges()) return false;
    settings.deny = {{prefix("1.1.1.1/32"), {{kProtocolTcp, 1, 2}}}};
    EXPECT_TRUE(done((*nat)->update(settings)));
    EXPECT_TRUE((*nat)->drops());
    nat->reset();
    EXPECT_EQ(setting(ip_forward) + setting("net/ipv6/conf/all/forwarding"), "00");
    EXPECT_FALSE(std::filesystem::exists(settings.journal));
    return !HasFailure();
  });
  EXPECT_EQ(tables(), "");
}

TEST_F(KernelNatTest, WithoutCapNetAdminItIsRefusedAndNothingIsChanged) {
  in_child([&] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) return false;
    const auto nat = KernelNat::create(settings);
    EXPECT_FALSE(nat);
    if (!nat) {
      EXPECT_THAT(nat.error().message, AllOf(StartsWith("internet.mode: kernel: "), HasSubstr("CAP_NET_ADMIN")));
    }
    return !HasFailure();
  });
  EXPECT_EQ(setting(ip_forward), "0");
}

// As if the kernel had no nftables: there are no netfilter sockets.
TEST_F(KernelNatTest, AKernelWithoutNftablesIsRefusedWithWhatToDo) {
  in_child([&] {
    std::array filter{sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
                      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
                      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NETLINK_NETFILTER, 0, 1),
                      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPROTONOSUPPORT),
                      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{.len = filter.size(), .filter = filter.data()};
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return false;
    const auto nat = KernelNat::create(settings);
    EXPECT_FALSE(nat);
    if (!nat) {
      EXPECT_THAT(nat.error().message, AllOf(StartsWith("internet.mode: kernel: the kernel has no nftables"),
                                             HasSubstr("modprobe nf_tables"), HasSubstr("userspace")));
    }
    return !HasFailure();
  });
}

}  // namespace
}  // namespace penstock::egress
