// For tests of datagram sockets: a loop that runs until something is so, and words for what comes and goes.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "net/asio_loop.h"
#include "net/datagram_socket.h"
#include "net/udp_socket.h"

namespace penstock::net {

// Runs a real loop until it is told that it is enough, or far too long.
class LoopRunner {
 public:
  AsioLoop& loop() { return loop_; }

  void run() {
    enough_ = false;
    Timer deadline(loop_);
    deadline.start(std::chrono::seconds(20), [this] { loop_.stop(); });
    loop_.run();
    EXPECT_TRUE(enough_) << "nothing came for 20 s";
  }
  void enough() {
    enough_ = true;
    loop_.stop();
  }
  // Lets the loop turn until nothing has happened for `quiet`.
  void settle(Duration quiet) {
    Timer timer(loop_);
    timer.start(quiet, [this] { loop_.stop(); });
    loop_.run();
  }
  // Until the socket has something to say.
  void await(DatagramSocket& socket) {
    socket.when_readable([this] { enough(); });
    run();
  }

 private:
  AsioLoop loop_;
  bool enough_ = false;
};

// A datagram as a test keeps it.
struct Kept {
  Endpoint from;
  IpAddress to;
  std::string text;
  std::uint16_t segment_size = 0;
  std::uint8_t ttl = 0;
  std::uint8_t tos = 0;
};

inline Kept keep(const Received& received) {
  return {received.from,         received.to,  std::string(as_text(received.bytes)),
          received.segment_size, received.ttl, received.tos};
}

// Receives until `bytes` have come, or for too long.
inline std::vector<Kept> receive_bytes(LoopRunner& runner, DatagramSocket& socket, DatagramArena& arena,
                                       std::size_t bytes) {
  std::vector<Kept> all;
  std::size_t got = 0;
  std::function<void()> read = [&] {
    for (auto some = socket.receive(arena); !some.empty(); some = socket.receive(arena)) {
      for (const Received& received : some) {
        got += received.bytes.size();
        all.push_back(keep(received));
      }
    }
    if (got >= bytes) return runner.enough();
    socket.when_readable(read);
  };
  socket.when_readable(read);
  runner.run();
  return all;
}

inline std::vector<Kept> receive_count(LoopRunner& runner, DatagramSocket& socket, DatagramArena& arena,
                                       std::size_t count) {
  std::vector<Kept> all;
  std::function<void()> read = [&] {
    for (const Received& received : socket.receive(arena)) all.push_back(keep(received));
    if (all.size() >= count) return runner.enough();
    socket.when_readable(read);
  };
  socket.when_readable(read);
  runner.run();
  return all;
}

inline Outgoing outgoing(const Endpoint& to, std::string_view text) {
  Outgoing datagram;
  datagram.to = to;
  datagram.bytes = as_bytes(text);
  return datagram;
}

inline SendResult send_one(DatagramSocket& socket, Outgoing& datagram) { return socket.send({&datagram, 1}); }

inline Endpoint endpoint(std::string_view text) { return Endpoint::parse(text).value(); }
inline IpAddress address(std::string_view text) { return IpAddress::parse(text).value(); }

inline std::string random_text(Random& random, std::size_t size) {
  std::string text(size, ' ');
  random.fill({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
  return text;
}

inline bool has_ipv6() {
  AsioLoop loop;
  return UdpSocket::create(loop, endpoint("[::1]:0")).has_value();
}

}  // namespace penstock::net
