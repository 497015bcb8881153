// udp_load: datagrams from one program to another as fast as they go, or at a pace, and what of them arrived.
//
//   client                                        server
//   a hello from each of its ports, again until all are answered --> remembers whence, as a translator shows it
//   up:    datagrams for some seconds -----------------------------> counts
//   down:  counts <------------------------------------------------- datagrams, by turns to all who said hello
//   ports: a hello from each of many ports, once ------------------> counts different ends that it comes from
//
// Whoever receives stops when nothing has come for a while, and counts only datagrams of the size agreed. Rates are
// from its first datagram to its last. Each end prints its own account as JSON; what was lost is the difference.
//
// Super-datagrams     are sent by UDP_SEGMENT and received by UDP_GRO; counted are the datagrams that they stand for.
// Always true         it ends: no phase is without a bound (kPatience, --seconds).
// One thread.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace penstock::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Json = nlohmann::ordered_json;
using namespace std::chrono_literals;

constexpr std::size_t kSlots = 32;  // messages a system call
constexpr std::size_t kSlotSize = 65536;
constexpr std::size_t kHello = 16;  // bytes; no datagram that counts is so small
constexpr int kReceiveBuffer = 8 << 20;
constexpr auto kPatience = 5s;    // for the other end to say something
constexpr auto kSilence = 400ms;  // after which nothing more is expected
constexpr auto kHelloAgain = 100ms;
constexpr auto kTick = 1ms;  // of a pace

struct Plan {
  std::string address;
  std::uint16_t port = 9000;
  std::string direction = "up";
  std::size_t size = 64;
  std::size_t segments = 1;  // of a super-datagram
  std::size_t flows = 1;
  double seconds = 1;
  double rate = 0;  // datagrams a second; 0: as fast as they go
  std::uint16_t first_port = 2000;
};

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

sockaddr_in address_of(const std::string& text, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1) throw std::runtime_error(text + " is no address");
  return address;
}

class Socket {
 public:
  Socket() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) fail("socket");
    const int on = 1;
    if (::setsockopt(fd_, IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0) fail("UDP_GRO");
    // So that what is lost is lost on the way. Without the privilege it is smaller.
    static_cast<void>(::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer));
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

  void bind(const sockaddr_in& at) {
    if (::bind(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) fail("bind");
  }
  void say(std::size_t size, const sockaddr_in& to) {
    static constexpr std::array<char, kHello> kText{};
    static_cast<void>(::sendto(fd_, kText.data(), size, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to));
  }
  bool wait(short events, Clock::duration longest) {
    pollfd wanted{.fd = fd_, .events = events, .revents = 0};
    return ::poll(&wanted, 1, static_cast<int>(longest / 1ms)) > 0;
  }

 private:
  int fd_;
};

// What came in by one call.
class Receiver {
 public:
  Receiver() {
    for (std::size_t i = 0; i < kSlots; ++i) {
      vectors_[i] = {.iov_base = &buffers_[i * kSlotSize], .iov_len = kSlotSize};
      messages_[i].msg_hdr.msg_name = &names_[i];
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
      messages_[i].msg_hdr.msg_control = controls_[i].data();
    }
  }
  std::size_t read(const Socket& socket) {
    for (auto& message : messages_) {
      message.msg_hdr.msg_namelen = sizeof(sockaddr_in);
      message.msg_hdr.msg_controllen = sizeof controls_[0];
    }
    const int got = ::recvmmsg(socket.fd(), messages_.data(), kSlots, 0, nullptr);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  std::size_t size(std::size_t i) const { return messages_[i].msg_len; }
  const sockaddr_in& from(std::size_t i) const { return names_[i]; }
  // Of each datagram of a super-datagram but perhaps the last.
  std::size_t segment(std::size_t i) {
    msghdr& header = messages_[i].msg_hdr;
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      int value = 0;
      if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) continue;
      std::memcpy(&value, CMSG_DATA(c), sizeof value);
      return static_cast<std::size_t>(value);
    }
    return size(i);
  }

 private:
  std::vector<std::uint8_t> buffers_ = std::vector<std::uint8_t>(kSlots * kSlotSize);
  std::array<iovec, kSlots> vectors_{};
  std::array<sockaddr_in, kSlots> names_{};
  alignas(cmsghdr) std::array<std::array<std::uint8_t, 64>, kSlots> controls_{};
  std::array<mmsghdr, kSlots> messages_{};
};

struct Account {
  std::uint64_t packets = 0;
  std::uint64_t odd = 0;  // of another size
  double seconds = 0;

  Json json(const std::string& role, const Plan& plan) const {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds_of = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return {{"role", role},       {"packets", packets},
            {"odd", odd},         {"bytes", packets * plan.size},
            {"seconds", seconds}, {"cpu_seconds", seconds_of(used.ru_utime) + seconds_of(used.ru_stime)}};
  }
};

// Until nothing has come for a while.
Account count(std::vector<Socket>& sockets, const Plan& plan) {
  Receiver receiver;
  Account account;
  std::vector<pollfd> wanted;
  for (const Socket& socket : sockets) wanted.push_back({.fd = socket.fd(), .events = POLLIN, .revents = 0});
  const Clock::time_point began = Clock::now();
  const Clock::time_point latest =
      began + 2 * kPatience + std::chrono::duration_cast<Clock::duration>(Seconds(plan.seconds));
  Clock::time_point first{};
  Clock::time_point last = began;
  while (last < latest) {
    const auto patience = account.packets == 0 ? Clock::duration(kPatience) : Clock::duration(kSilence);
    if (::poll(wanted.data(), wanted.size(), static_cast<int>(patience / 1ms)) <= 0) break;
    for (std::size_t s = 0; s < sockets.size(); ++s) {
      if (wanted[s].revents == 0) continue;
      const std::size_t got = receiver.read(sockets[s]);
      if (got == 0) continue;
      last = Clock::now();
      for (std::size_t i = 0; i < got; ++i) {
        const std::size_t size = receiver.size(i);
        if (size == kHello) continue;  // one that was said again
        if (receiver.segment(i) != plan.size || size % plan.size != 0) {
          ++account.odd;
          continue;
        }
        if (account.packets == 0) first = last;
        account.packets += size / plan.size;
      }
    }
  }
  account.seconds = account.packets == 0 ? 0 : Seconds(last - first).count();
  return account;
}

// In turn by all `sockets` to all of `to`.
Account blast(std::vector<Socket>& sockets, const std::vector<sockaddr_in>& to, const Plan& plan) {
  std::vector<std::uint8_t> payload(plan.size * plan.segments, 'x');
  for (const Socket& socket : sockets) {
    const int segment = static_cast<int>(plan.segments > 1 ? plan.size : 0);
    if (::setsockopt(socket.fd(), IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0) fail("UDP_SEGMENT");
  }
  iovec vector{.iov_base = payload.data(), .iov_len = payload.size()};
  std::array<mmsghdr, kSlots> messages{};
  std::size_t next = 0;
  Account account;
  const Clock::time_point began = Clock::now();
  const Clock::time_point end = began + std::chrono::duration_cast<Clock::duration>(Seconds(plan.seconds));
  Clock::time_point now = began;
  for (; now < end; now = Clock::now()) {
    std::size_t most = sockets.size() == 1 ? kSlots : 1;  // a call is of one socket
    if (plan.rate != 0) {
      const double due = plan.rate * Seconds(now - began).count() - static_cast<double>(account.packets);
      if (due < static_cast<double>(plan.segments)) {
        std::this_thread::sleep_for(kTick);
        continue;
      }
      most = std::min(most, static_cast<std::size_t>(due) / plan.segments);
    }
    Socket& socket = sockets[next % sockets.size()];
    for (std::size_t i = 0; i < most; ++i) {
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_name = const_cast<sockaddr_in*>(&to[(next + i) % to.size()]);
      messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in);
      messages[i].msg_hdr.msg_iov = &vector;
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int sent = ::sendmmsg(socket.fd(), messages.data(), static_cast<unsigned>(most), 0);
    if (sent > 0) {
      account.packets += static_cast<std::size_t>(sent) * plan.segments;
      next += static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
      static_cast<void>(socket.wait(POLLOUT, 10ms));
    } else {
      fail("sendmmsg");
    }
  }
  account.seconds = Seconds(now - began).count();
  return account;
}

bool before(const sockaddr_in& a, const sockaddr_in& b) {
  return std::pair(a.sin_addr.s_addr, a.sin_port) < std::pair(b.sin_addr.s_addr, b.sin_port);
}

// Answers hellos until there are `ends` of them and then a while of silence; where they came from.
std::vector<sockaddr_in> hear(Socket& socket, std::size_t ends, bool answering) {
  Receiver receiver;
  std::set<sockaddr_in, decltype(&before)> heard(&before);
  const Clock::time_point latest = Clock::now() + 4 * kPatience;
  while (Clock::now() < latest) {
    const bool all = heard.size() >= ends;
    if (!socket.wait(POLLIN, all ? Clock::duration(2 * kHelloAgain) : Clock::duration(kPatience))) break;
    const std::size_t got = receiver.read(socket);
    for (std::size_t i = 0; i < got; ++i) {
      heard.insert(receiver.from(i));
      if (answering) socket.say(kHello, receiver.from(i));
    }
    // Who sends up does so at once.
    if (heard.size() >= ends && !answering) break;
  }
  return {heard.begin(), heard.end()};
}

// Until each has been answered.
void say_hello(std::vector<Socket>& sockets, const sockaddr_in& server) {
  Receiver receiver;
  for (Socket& socket : sockets) {
    const Clock::time_point latest = Clock::now() + kPatience;
    do {
      if (Clock::now() > latest) throw std::runtime_error("no answer to a hello");
      socket.say(kHello, server);
    } while (!socket.wait(POLLIN, kHelloAgain));
    static_cast<void>(receiver.read(socket));
  }
}

Json serve(const Plan& plan) {
  std::vector<Socket> sockets(1);
  sockets[0].bind(address_of(plan.address, plan.port));
  std::cout << "listening" << std::endl;
  if (plan.direction == "ports") {
    Json json{{"role", "server"}};
    json["ends"] = hear(sockets[0], plan.flows, false).size();
    return json;
  }
  if (plan.direction == "down") {
    const std::vector<sockaddr_in> callers = hear(sockets[0], plan.flows, true);
    if (callers.size() != plan.flows) throw std::runtime_error(std::to_string(callers.size()) + " ends said hello");
    return blast(sockets, callers, plan).json("sent", plan);
  }
  // Hellos are answered and data counted by turns of one loop: nobody knows here when the one ends.
  static_cast<void>(hear(sockets[0], plan.flows, true));
  return count(sockets, plan).json("received", plan);
}

// From so many ports, a thousand in 50 ms, each of which is closed at once.
Json open_ports(const Plan& plan, const sockaddr_in& server) {
  for (std::size_t i = 0; i < plan.flows; ++i) {
    Socket socket;
    socket.bind(address_of("0.0.0.0", static_cast<std::uint16_t>(plan.first_port + i)));
    socket.say(kHello, server);
    if (i % 50 == 49) std::this_thread::sleep_for(2ms + 500us);
  }
  return {{"role", "client"}, {"ports", plan.flows}};
}

Json call(const Plan& plan) {
  const sockaddr_in server = address_of(plan.address, plan.port);
  if (plan.direction == "ports") return open_ports(plan, server);
  std::vector<Socket> sockets(plan.flows);
  say_hello(sockets, server);
  if (plan.direction == "down") return count(sockets, plan).json("received", plan);
  std::this_thread::sleep_for(5 * kHelloAgain);  // until the server no longer waits for others
  return blast(sockets, {server}, plan).json("sent", plan);
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  using namespace penstock::bench;
  CLI::App app("Datagrams from one program to another, and what of them arrived.");
  Plan plan;
  bool server = false;
  bool client = false;
  app.add_flag("--server", server, "wait for a client, at --address");
  app.add_flag("--client", client, "begin with the server, at --address");
  app.add_option("--address", plan.address)->required();
  app.add_option("--port", plan.port)->capture_default_str();
  app.add_option("--direction", plan.direction)->check(CLI::IsMember({"up", "down", "ports"}))->capture_default_str();
  app.add_option("--size", plan.size, "bytes of a datagram")->check(CLI::Range(17, 9000))->capture_default_str();
  app.add_option("--segments", plan.segments, "of a super-datagram")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--flows", plan.flows, "ports of the client")->check(CLI::Range(1, 60000))->capture_default_str();
  app.add_option("--seconds", plan.seconds)->check(CLI::Range(0.1, 5.0))->capture_default_str();
  app.add_option("--rate", plan.rate, "datagrams a second; 0: as fast as they go")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    if (server == client) throw std::runtime_error("either --server or --client");
    std::cout << (server ? serve(plan) : call(plan)) << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "udp_load: " << error.what() << std::endl;
    return 1;
  }
}
