// For tests of SocketStreams: a loop in a network of its own, what was told, and far ends that are plain sockets.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "egress/tcp/socket_streams.h"
#include "net/datagram_testing.h"
#include "net/own_namespace_testing.h"
#include "net/socket_address.h"

namespace penstock::egress {

enum class Way : std::uint8_t { tcp4, tcp6, local };

// A socket of the test's, which blocks unless it is said otherwise.
class FarEnd {
 public:
  FarEnd() = default;
  explicit FarEnd(int fd) : fd_(fd) {}

  int fd() const { return fd_.get(); }
  void say(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd(), text.data(), text.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0) << std::strerror(errno);
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // What there is now, at most `most` bytes.
  std::string hear(std::size_t most = 1 << 20) const {
    std::string text(most, '\0');
    const ssize_t got = ::recv(fd(), text.data(), text.size(), MSG_DONTWAIT);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }
  // As recv() has it, waiting for it: bytes, 0 at the end, or -errno.
  int wait_for_more() const {
    char byte = 0;
    const ssize_t got = ::recv(fd(), &byte, 1, 0);
    return got < 0 ? -errno : static_cast<int>(got);
  }
  void end() const { EXPECT_EQ(::shutdown(fd(), SHUT_WR), 0); }
  void close() { fd_.reset(); }
  void reset() {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    EXPECT_EQ(::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    fd_.reset();
  }

 private:
  net::FileDescriptor fd_;
};

inline int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0) << std::strerror(errno);
  return value;
}

struct StreamsWorld final : HostStreams::Events {
  using Stream = HostStreams::Stream;
  struct Told {
    std::uint64_t cookie = 0;
    HostStreams::Events::Ready what{};
  };

  explicit StreamsWorld(SocketStreams::Settings settings = {}) {
    if (!settings.external4) settings.external4 = net::address("127.0.0.1");
    if (!settings.external6) settings.external6 = net::address("::1");
    streams = SocketStreams::create(runner.loop(), settings).value();
    streams->set_events(*this);
  }

  void ready(std::uint64_t cookie, Ready what) override {
    told.push_back({cookie, what});
    if (on_ready) on_ready(cookie, what);
  }
  void turn_ends() override {
    ++turns;
    if (awaited_ && awaited_()) runner.enough();
  }

  // Turns the loop until it is so, which is asked at the end of each turn.
  void until(std::function<bool()> done) {
    if (done()) return;
    awaited_ = std::move(done);
    runner.run();
    awaited_ = {};
  }
  // Many turns of the loop, without waiting for anything.
  void turn_round() {
    int left = 64;
    std::function<void()> next = [&] {
      if (--left == 0) return runner.enough();
      runner.loop().post([&] { next(); });
    };
    next();
    runner.run();
  }
  // What has been told of `cookie`, all together.
  Ready told_of(std::uint64_t cookie) const {
    Ready all;
    for (const Told& one : told) {
      if (one.cookie != cookie) continue;
      all.readable |= one.what.readable;
      all.writable |= one.what.writable;
      all.failed |= one.what.failed;
      all.ended |= one.what.ended;
    }
    return all;
  }
  std::size_t times_told(std::uint64_t cookie) const {
    return static_cast<std::size_t>(
        std::count_if(told.begin(), told.end(), [&](const Told& one) { return one.cookie == cookie; }));
  }

  // Listens on loopback.
  static FarEnd listener(Way way, int backlog = 512) {
    FarEnd made(::socket(way == Way::tcp6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const net::SocketAddress at(net::endpoint(way == Way::tcp6 ? "[::1]:0" : "127.0.0.1:0"));
    EXPECT_EQ(::bind(made.fd(), at.get(), at.size), 0);
    EXPECT_EQ(::listen(made.fd(), backlog), 0);
    return made;
  }
  // A connection that is there, and told of.
  std::pair<Stream, FarEnd> connected(Way way, std::uint64_t cookie) {
    if (way == Way::local) {
      int ends[2] = {-1, -1};
      EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
      streams->adopt(ends[0], cookie);
      until([&] { return told_of(cookie).writable; });
      return {ends[0], FarEnd(ends[1])};
    }
    const FarEnd door = listener(way);
    const Stream stream = streams->connect({}, net::local_endpoint(door.fd()), cookie).value();
    until([&] { return told_of(cookie).writable; });
    EXPECT_FALSE(told_of(cookie).failed);
    return {stream, FarEnd(::accept4(door.fd(), nullptr, nullptr, SOCK_CLOEXEC))};
  }

  // What peek() gives, as text.
  std::string peeked(Stream stream, std::size_t offset, std::size_t most = 1 << 16) {
    std::string text(most, '\0');
    const MutableByteView into(reinterpret_cast<std::uint8_t*>(text.data()), most);
    last = streams->peek(stream, offset, {&into, 1});
    text.resize(last.bytes);
    return text;
  }
  // Turns the loop until so many bytes lie behind `offset`.
  std::string await_bytes(Stream stream, std::size_t offset, std::size_t bytes) {
    std::string seen;
    until([&] {
      seen = peeked(stream, offset, bytes);
      return seen.size() == bytes;
    });
    return seen;
  }
  // Turns the loop until the end shows, and gives what lies before it.
  std::string await_end(Stream stream, std::size_t offset) {
    std::string seen;
    until([&] {
      seen = peeked(stream, offset);
      return last.ended || last.error != StreamError::none;
    });
    return seen;
  }

  net::LoopRunner runner;
  std::unique_ptr<SocketStreams> streams;
  std::vector<Told> told;
  std::size_t turns = 0;
  std::function<void(std::uint64_t, Ready)> on_ready;
  HostStreams::Peeked last;

 private:
  std::function<bool()> awaited_;
};

// Runs `body` in a network of its own, or skips the test.
template <typename Body>
void in_a_network_of_its_own(Body body) {
  std::string why;
  if (!net::OwnNamespace::run(why, body)) GTEST_SKIP() << why;
}

// Each way, with the kernel's help in peeking and without.
class SocketStreamsTest : public testing::TestWithParam<std::tuple<Way, SocketStreams::PeekOffset>> {
 protected:
  Way way() const { return std::get<0>(GetParam()); }
  bool is_tcp() const { return way() != Way::local; }
  bool by_kernel(const StreamsWorld& world) const {
    return std::get<1>(GetParam()) == SocketStreams::PeekOffset::automatic &&
           (!is_tcp() || world.streams->peeks_at_offsets(way() == Way::tcp6 ? Family::ipv6 : Family::ipv4));
  }

  template <typename Body>
  void in_a_world(Body body) {
    in_a_network_of_its_own([&] {
      StreamsWorld world({.peek_offset = std::get<1>(GetParam())});
      body(world);
    });
  }
};

inline auto every_way() {
  return testing::Combine(testing::Values(Way::tcp4, Way::tcp6, Way::local),
                          testing::Values(SocketStreams::PeekOffset::automatic, SocketStreams::PeekOffset::off));
}
inline std::string name_of_way(const testing::TestParamInfo<std::tuple<Way, SocketStreams::PeekOffset>>& each) {
  const Way way = std::get<0>(each.param);
  return std::string(way == Way::tcp4   ? "Tcp4"
                     : way == Way::tcp6 ? "Tcp6"
                                        : "Local") +
         (std::get<1>(each.param) == SocketStreams::PeekOffset::off ? "PassingOver" : "ByTheKernel");
}

}  // namespace penstock::egress
