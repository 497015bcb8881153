// tcp_load: streams from one program to another, and what of them arrived, how fast, how many.
//
//   client                                             server, at so many ports in a row
//   up:       writes for some seconds, then ends ----> reads to the end, counts
//   down:     reads to the end, counts <-------------- writes for some seconds, then ends
//   connect:  connects, asks, is answered, closes ---> answers           so many in all, so many at a time
//   flows:    the same, but keeps them; then it says "held" and waits; on SIGTERM it asks by each of them once more,
//   and
//             closes what was answered
//   latency:  asks at a pace over one connection, whether answers have come or not; the time from each to its answer
//
// To ask is to send --request bytes, to answer to send --answer bytes. Each end prints its account as JSON; a server
// that answers has none, and runs until it is ended.
//
// Calls         of up and down are of kBlock, as the TLS pipe's are (bench/compare), and copy: a receiver that skipped
//               its data would be cheaper than any real one.
// Buffers       are the system's, which grow by themselves; so are the ports that it connects from.
// Always true   it ends: each phase has a bound (kPatience, kLongest, kHold, --seconds), and all together kLifetime.
// One thread.

#include "bench/nat/tcp_load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <iostream>
#include <stdexcept>
#include <system_error>

namespace penstock::bench {

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

sockaddr_in address_of(const Plan& plan, std::size_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(plan.port + port % plan.ports));
  if (::inet_pton(AF_INET, plan.address.c_str(), &address.sin_addr) != 1)
    throw std::runtime_error(plan.address + " is no address");
  return address;
}

void set_patience(int fd) {
  const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// SO_SNDTIMEO bounds it.
Descriptor connected(const Plan& plan) {
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  set_patience(socket.get());
  const sockaddr_in to = address_of(plan, 0);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fail("connect");
  return socket;
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds_of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
}

namespace {

constexpr std::size_t kBlock = 128 * 1024;
constexpr unsigned kLifetime = 90;  // seconds
constexpr int kBacklog = 4096;

Descriptor listen_at(const Plan& plan, std::size_t port) {
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in at = address_of(plan, port);
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) fail("bind");
  if (::listen(socket.get(), kBacklog) != 0) fail("listen");
  return socket;
}

Json send_bulk(int fd, const Plan& plan) {
  const std::vector<char> block(kBlock, 'x');
  std::uint64_t bytes = 0;
  const Clock::time_point began = Clock::now();
  const Clock::time_point end = began + lasting(plan.seconds);
  while (Clock::now() < end) {
    const ssize_t sent = ::send(fd, block.data(), block.size(), MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    bytes += static_cast<std::uint64_t>(sent);
  }
  const double seconds = Seconds(Clock::now() - began).count();
  if (::shutdown(fd, SHUT_WR) != 0) fail("shutdown");
  // Until the other end has read it all, or it would be broken off by our going.
  char rest = 0;
  if (::recv(fd, &rest, 1, 0) != 0) throw std::runtime_error("the receiver did not end in time");
  tcp_info info{};
  socklen_t size = sizeof info;
  ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  return {{"role", "sent"},
          {"bytes", bytes},
          {"seconds", seconds},
          {"retransmitted", info.tcpi_total_retrans},
          {"cpu_seconds", cpu_seconds()}};
}

Json receive_bulk(int fd) {
  std::vector<char> room(kBlock);
  std::uint64_t bytes = 0;
  Clock::time_point first{};
  Clock::time_point last{};
  while (true) {
    const ssize_t got = ::recv(fd, room.data(), room.size(), 0);
    if (got < 0) fail("recv");
    if (got == 0) break;
    last = Clock::now();
    if (bytes == 0) first = last;
    bytes += static_cast<std::uint64_t>(got);
  }
  return {{"role", "received"},
          {"bytes", bytes},
          {"seconds", Seconds(last - first).count()},
          {"cpu_seconds", cpu_seconds()}};
}

Json serve(const Plan& plan) {
  std::vector<Descriptor> listeners;
  for (std::size_t i = 0; i < plan.ports; ++i) listeners.push_back(listen_at(plan, i));
  std::cout << "listening" << std::endl;
  if (plan.load != "up" && plan.load != "down") answer_all(listeners, plan);
  pollfd caller{.fd = listeners[0].get(), .events = POLLIN, .revents = 0};
  if (::poll(&caller, 1, static_cast<int>(2 * kPatience / std::chrono::milliseconds(1))) <= 0)
    throw std::runtime_error("nobody called");
  const Descriptor connection(::accept4(listeners[0].get(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
  set_patience(connection.get());
  return plan.load == "up" ? receive_bulk(connection.get()) : send_bulk(connection.get(), plan);
}

Json call(const Plan& plan) {
  if (plan.load == "latency") return ask_at_a_pace(plan);
  if (plan.load == "flows") return hold(plan);
  if (plan.load == "connect") return connect_all(plan);
  const Descriptor socket = connected(plan);
  return plan.load == "up" ? send_bulk(socket.get(), plan) : receive_bulk(socket.get());
}

// As many as this process may have.
void raise_open_files_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  using namespace penstock::bench;
  CLI::App app("Streams from one program to another, and what of them arrived.");
  Plan plan;
  bool server = false;
  bool client = false;
  app.add_flag("--server", server, "wait for clients, at --address");
  app.add_flag("--client", client, "connect to the server, at --address");
  app.add_option("--address", plan.address)->required();
  app.add_option("--port", plan.port)->capture_default_str();
  app.add_option("--ports", plan.ports, "of the server, from --port on")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--load", plan.load)
      ->check(CLI::IsMember({"up", "down", "connect", "flows", "latency"}))
      ->capture_default_str();
  app.add_option("--seconds", plan.seconds, "of up, down, latency")
      ->check(CLI::Range(0.1, 30.0))
      ->capture_default_str();
  app.add_option("--count", plan.count, "connections in all")->check(CLI::Range(1, 60000))->capture_default_str();
  app.add_option("--parallel", plan.parallel, "not yet answered")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--rate", plan.rate, "requests a second")->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_option("--request", plan.request, "bytes")->check(CLI::Range(1, 16384))->capture_default_str();
  app.add_option("--answer", plan.answer, "bytes")->check(CLI::Range(1, 65536))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  ::alarm(kLifetime);
  try {
    if (server == client) throw std::runtime_error("either --server or --client");
    raise_open_files_limit();
    std::cout << (server ? serve(plan) : call(plan)) << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "tcp_load: " << error.what() << std::endl;
    return 1;
  }
}
