// For the differential test: the networks, the servers in them, and a translator with its clients.
//
//   A  sockets of the gateway ----.
//      203.0.113.2                 +-- R  router, 203.0.113.1 --(MTU 1400)-- C  the internet, 198.51.100.2 .3 .4
//   B  TUN, kernel masquerades ---'
//      203.0.113.3
//
// Each is a network namespace without a name, kept by a descriptor: all vanish with the test's thread. The same in
// IPv6, with 2001:db8:1:: for 203.0.113. and 2001:db8:2:: for 198.51.100. One thread and one loop do it all; a socket
// belongs to the namespace in which it was made, whichever the thread is in later.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "egress/nat/nat_exit.h"
#include "egress/nat/nat_packets_testing.h"
#include "egress/nat/numbered_ports.h"
#include "egress/nat/packet_gateway.h"
#include "egress/nat/socket_gateway.h"
#include "net/datagram_testing.h"
#include "net/file_descriptor.h"
#include "net/own_namespace_testing.h"
#include "tun/device_linux.h"

namespace penstock::egress {

class Networks {
 public:
  enum Name : std::size_t { a, b, r, c };

  // False, and a test failure that says at what, where it cannot be made.
  bool make() {
    for (net::FileDescriptor& one : namespaces_) {
      if (::unshare(CLONE_NEWNET) != 0) return failed("unshare");
      one = net::FileDescriptor(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
      if (!one) return failed("/proc/thread-self/ns/net");
      // No waiting for duplicate addresses, and as many ICMP errors as are asked for: of IPv4 by the mask, for a rate
      // of 0 would also take what errors of routes are allowed.
      if (!run("ip link set lo up && cd /proc/sys/net && for i in all default; do "
               "echo 0 > ipv6/conf/$i/accept_dad; echo 0 > ipv4/conf/$i/rp_filter; done; "
               "echo 0 > ipv4/icmp_ratemask; echo 0 > ipv6/icmp/ratelimit; "
               "echo 0 2147483647 > ipv4/ping_group_range; "
               "test ! -w ipv4/icmp_msgs_per_sec || echo 100000 > ipv4/icmp_msgs_per_sec; "
               "test ! -w ipv4/icmp_msgs_burst || echo 10000 > ipv4/icmp_msgs_burst"))
        return false;
    }
    enter(r);
    return run("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; "
               "ip link add hub type bridge && ip link set hub up && "
               "ip link add ra type veth peer name wan netns " +
               path(a) + " && ip link add rb type veth peer name wan netns " + path(b) +
               " && ip link add rc type veth peer name wan netns " + path(c) +
               " && ip link set ra master hub up && ip link set rb master hub up && ip link set rc mtu 1400 up && "
               "ip address add 203.0.113.1/24 dev hub && ip address add 2001:db8:1::1/64 dev hub nodad && "
               "ip address add 198.51.100.1/24 dev rc && ip address add 2001:db8:2::1/64 dev rc nodad && "
               "ip route add unreachable 198.51.100.66 && ip route add prohibit 198.51.100.67 && "
               "ip route add unreachable 2001:db8:2::66 && ip route add prohibit 2001:db8:2::67") &&
           in(a, stub("2")) && in(b, stub("3")) &&
           in(c,
              "ip link set wan mtu 1400 up && for i in 2 3 4; do ip address add 198.51.100.$i/24 dev wan; "
              "ip address add 2001:db8:2::$i/64 dev wan nodad; done; "
              "ip route add default via 198.51.100.1 && ip route add default via 2001:db8:2::1") &&
           in(b,
              "cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; "
              "echo 'table inet t { chain c { type nat hook postrouting priority 100; oifname wan masquerade; }; }' | "
              "nft -f - && "
              // Its idea of a checksum counts what lies behind a datagram in its packet (RFC 768 does not).
              "echo 0 > netfilter/nf_conntrack_checksum");
  }
  void enter(Name name) { EXPECT_EQ(::setns(namespaces_[name].get(), CLONE_NEWNET), 0); }

  // The TUN in B that the outer addresses lie behind, with an MTU that nothing has to be cut for.
  std::unique_ptr<tun::Device> open_tun() {
    enter(b);
    auto device = tun::open_device({.name = "t0"});
    EXPECT_TRUE(device) << device.error().message;
    if (!device || !run("ip link set t0 mtu 65535 up && ip address add 192.0.2.1/24 dev t0 && "
                        "ip address add 2001:db8:77::1/64 dev t0 nodad"))
      return nullptr;
    return *std::move(device);
  }

 private:
  static std::string stub(const std::string& host) {
    return "ip link set wan up && ip address add 203.0.113." + host +
           "/24 dev wan && ip address add 2001:db8:1::" + host +
           "/64 dev wan nodad && ip route add default via 203.0.113.1 && ip route add default via 2001:db8:1::1";
  }
  std::string path(Name name) const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(namespaces_[name].get());
  }
  bool in(Name name, const std::string& command) {
    enter(name);
    return run(command);
  }
  static bool run(const std::string& command) {
    return net::OwnNamespace::shell("set -e; " + command) || failed(command);
  }
  static bool failed(const std::string& what) {
    ADD_FAILURE() << "cannot do: " << what;
    return false;
  }

  std::array<net::FileDescriptor, 4> namespaces_;
};

// A kernel behind a TUN is a router more on the way than there is behind a socket: this takes it out again. It is
// where it can be done without the packets' bytes being otherwise touched.
class OneHopLess final : public tun::Device {
 public:
  explicit OneHopLess(tun::Device& device) : device_(&device) {}

  Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) override {
    const std::size_t before = into.size();
    auto count = device_->read(into, max_packets, max_bytes);
    for (std::size_t i = before; i < into.size(); ++i) add_hop(into[i]);
    return count;
  }
  bool write(Packet& packet) override {
    add_hop(packet);
    return device_->write(packet);
  }
  bool write_as_it_lies(ByteView, const Offload&) override { return false; }
  GsoKinds takes() const override { return device_->takes(); }
  tun::DeviceCounters counters() const override { return device_->counters(); }
  NativeHandle handle() const override { return device_->handle(); }
  const std::string& name() const override { return device_->name(); }
  int index() const override { return device_->index(); }

 private:
  static void add_hop(Packet& packet) {
    MutableByteView bytes = packet.mutable_bytes();
    const bool v4 = bytes[0] >> 4 == 4;
    const std::uint16_t before = load_be16(&bytes[8]);
    ++bytes[v4 ? 8 : 7];
    if (v4) store_be16(&bytes[10], checksum_update(load_be16(&bytes[10]), before, load_be16(&bytes[8])));
  }
  tun::Device* device_;
};

// What answers in C. Each answer begins with what its server saw of the question, so what clients get tells of both
// ways.
class Internet {
 public:
  static constexpr std::uint16_t kEcho = 7001;       // answers once, to any of its three addresses
  static constexpr std::uint16_t kElsewhere = 7002;  // answers from another port, and from another address
  static constexpr std::uint16_t kThrice = 7003;
  static constexpr std::uint16_t kLate = 7004;  // answers all that it was asked when it hears "now"
  static constexpr std::uint16_t kMany = 7005;  // answers with a super-datagram of seven
  static constexpr std::uint16_t kFar =
      7006;  // answers twice, from so far away that one gets no further than the gateway

  explicit Internet(net::LoopRunner& runner) : runner_(&runner) {
    for (const char* prefix : {"198.51.100.", "2001:db8:2::"}) {
      for (const char* host : {"2", "3", "4"}) {
        const IpAddress at = test::ip(std::string(prefix) + host);
        for (const std::uint16_t port : {kEcho, kElsewhere, kThrice, kLate, kMany, kFar}) open({at, port});
        open({at, kOther});
      }
    }
  }

 private:
  static constexpr std::uint16_t kOther = 7009;
  struct Server {
    net::UdpSocket socket;
    std::vector<std::pair<Endpoint, std::string>> kept;
  };

  void open(const Endpoint& at) {
    auto socket = net::UdpSocket::create(runner_->loop(), at, {.gro = false});
    ASSERT_TRUE(socket) << socket.error().message;
    auto server = std::make_unique<Server>(Server{*std::move(socket), {}});
    listen(*server);
    servers_[at] = std::move(server);
  }
  void listen(Server& server) {
    server.socket.when_readable([this, &server] {
      for (const net::Received& one : server.socket.receive(arena_)) {
        const std::string text = "hops " + std::to_string(one.ttl) + " class " + std::to_string(one.tos) + ": " +
                                 std::string(as_text(one.bytes));
        asked(server, one.from, text, one.tos);
      }
      if (server.socket.errors_waiting()) static_cast<void>(server.socket.take_errors(arena_));
      listen(server);
    });
  }
  void asked(Server& server, const Endpoint& from, const std::string& text, std::uint8_t tos) {
    const Endpoint own = server.socket.local();
    switch (own.port) {
      case kThrice:
        say(server, from, text + " 1", tos);
        say(server, from, text + " 2", tos);
        return say(server, from, text + " 3", tos);
      case kElsewhere: {
        say(*servers_.at({own.address, kOther}), from, text, tos);
        const Endpoint next{own.address.plus(1), kElsewhere};
        if (servers_.contains(next)) say(*servers_.at(next), from, text, tos);
        return;
      }
      case kLate:
        if (!text.ends_with(": now")) return server.kept.emplace_back(from, text), void();
        for (const auto& [asker, question] : std::exchange(server.kept, {})) say(server, asker, question, tos);
        return;
      case kMany: {
        net::Outgoing many = net::outgoing(from, many_);
        many.segment_size = 500;
        EXPECT_EQ(net::send_one(server.socket, many).taken, 1U);
        return;
      }
      case kFar: say(server, from, text, tos, 2); return say(server, from, text, tos, 3);
      default: return say(server, from, text, tos);
    }
  }
  static void say(Server& server, const Endpoint& to, const std::string& text, std::uint8_t tos,
                  std::uint8_t hops = 64) {
    net::Outgoing answer = net::outgoing(to, text);
    answer.ttl = hops;
    answer.tos = tos;
    EXPECT_EQ(net::send_one(server.socket, answer).refused, 0U);
  }

  net::LoopRunner* runner_;
  net::DatagramArena arena_;
  const std::string many_ = std::string(3210, 'm');
  std::map<Endpoint, std::unique_ptr<Server>> servers_;
};

// A translator and its clients, on whatever outside.
class Translator {
 public:
  static constexpr std::size_t kClients = 3;
  static IpAddress inner4(std::size_t client) { return test::ip("10.100.0.2").plus(client); }
  static IpAddress inner6(std::size_t client) { return test::ip("fd00:100::2").plus(client); }

  Translator(net::LoopRunner& runner, ExternalGateway& gateway, ExternalPorts& ports)
      : runner_(&runner),
        shard_(0, runner.loop()),
        exit_(shard_, {.nat = {}, .fragments = {}, .inner4 = test::ip("10.100.0.1"), .inner6 = test::ip("fd00:100::1")},
              {.table = {1, 2}, .fragments = {}}, ExitPolicy(policy()), gateway, ports) {
    router::RouteTable routes;
    for (std::size_t i = 0; i < kClients; ++i) {
      clients_[i].owner = this;
      const router::PortId id = shard_.router().add_port(clients_[i]);
      routes = routes.with(Prefix::host(inner4(i)), id).with(Prefix::host(inner6(i)), id);
    }
    shard_.router().set_routes(routes);
    EXPECT_TRUE(exit_.start());
  }

  void send(std::size_t client, Packet packet) {
    packet.source = {.slot = static_cast<std::uint32_t>(client), .generation = 1};
    PacketBatch batch;
    batch.push_back(std::move(packet));
    exit_.send(batch);
  }
  // Until the clients have got `packets` in all, or for too long.
  void await(std::size_t packets) {
    if (arrived_ >= packets) return;
    awaited_ = packets;
    runner_->run();
    awaited_ = 0;
  }
  std::size_t arrived() const { return arrived_; }
  const PacketBatch& got(std::size_t client) const { return clients_[client].packets; }
  const NatExit& exit() const { return exit_; }

  Endpoint outer_end_of(const Endpoint& inner) const {
    const auto* mapping = exit_.nat().table().find_inner(MappingTable::End::of(inner, Transport::udp));
    EXPECT_NE(mapping, nullptr) << inner.to_string() << " has none";
    return mapping == nullptr ? Endpoint{} : mapping->external_end().endpoint();
  }
  std::optional<Endpoint> inner_end_of(const Endpoint& outer) const {
    const auto* mapping = exit_.nat().table().find_external(MappingTable::End::of(outer, Transport::udp));
    return mapping == nullptr ? std::nullopt : std::optional(mapping->inner_end().endpoint());
  }

 private:
  struct Client final : router::Port {
    void send(PacketBatch& batch) override {
      for (Packet& packet : batch) segment(std::move(packet), packets);
      batch.clear();
      owner->count();
    }
    std::size_t credit() const override { return std::size_t{1} << 20; }
    PacketBatch packets;
    Translator* owner = nullptr;
  };
  // What stands for the internet here are addresses for documents, which are denied by default.
  static ExitPolicy::Settings policy() {
    ExitPolicy::Settings settings;
    for (const char* prefix : {"198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24", "198.18.0.0/15", "2001:db8::/32"})
      settings.allow.push_back({.to = Prefix::parse(prefix).value(), .ports = {}});
    return settings;
  }
  void count() {
    arrived_ = 0;
    for (const Client& client : clients_) arrived_ += client.packets.size();
    if (awaited_ != 0 && arrived_ >= awaited_) runner_->enough();
  }

  net::LoopRunner* runner_;
  router::Shard shard_;
  std::array<Client, kClients> clients_;
  NatExit exit_;
  std::size_t arrived_ = 0;
  std::size_t awaited_ = 0;
};

}  // namespace penstock::egress
