// For tests with real sockets: name servers and clients in a network namespace of the test's own.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dns/dns_testing.h"
#include "dns/lan_names.h"
#include "dns/stream_framing.h"
#include "net/datagram_testing.h"
#include "net/own_namespace_testing.h"
#include "net/tcp.h"

namespace penstock::dns::testing {

using net::endpoint;

// A LAN with one member.
class OnlyAlice final : public LanNames {
 public:
  std::vector<IpAddress> find(std::string_view name) const override {
    return name == "alice" ? std::vector{address_} : std::vector<IpAddress>();
  }
  std::optional<std::string> find(const IpAddress& address) const override {
    return address == address_ ? std::optional<std::string>("Alice") : std::nullopt;
  }

 private:
  IpAddress address_ = IpAddress::parse("10.100.0.2").value();
};

// Runs `body(LoopRunner&)` where ports below 1024 and all of 127/8 are nobody else's.
template <typename Body>
void in_own_namespace(Body body) {
  std::string why;
  const bool ran = net::OwnNamespace::run(why, [&] {
    net::LoopRunner runner;
    body(runner);
  });
  if (!ran) GTEST_SKIP() << why;
}

template <typename Condition>
void run_until(net::LoopRunner& runner, Condition done) {
  Timer look(runner.loop());
  std::function<void()> again = [&] {
    if (done()) return runner.enough();
    look.start(std::chrono::milliseconds(1), [&] { again(); });
  };
  runner.loop().post([&] { again(); });
  runner.run();
}

inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

// One connection, either end: whole messages in, any bytes out.
class MessageStream {
 public:
  explicit MessageStream(std::unique_ptr<net::StreamSocket> socket) : socket_(std::move(socket)) { arm(); }

  void write(ByteView bytes) { static_cast<void>(socket_->write(bytes)); }
  void send(ByteView message) {
    Bytes framed;
    StreamFraming::frame(message, framed);
    write(framed);
  }
  Endpoint peer() const { return socket_->peer(); }

  std::vector<Bytes> messages;
  std::function<void(const Bytes&)> on_message;
  bool closed = false;

 private:
  void arm() {
    socket_->when_readable([this] { read(); });
  }
  void read() {
    std::array<std::uint8_t, 65536> block;
    const auto size = socket_->read(block);
    closed = !size || (*size && **size == 0);
    if (closed) return;
    if (*size) framing_.append(ByteView(block).first(**size));
    while (const auto message = framing_.next()) {
      messages.emplace_back(message->begin(), message->end());
      if (on_message) on_message(messages.back());
    }
    arm();
  }

  std::unique_ptr<net::StreamSocket> socket_;
  StreamFraming framing_;
};

inline std::unique_ptr<MessageStream> dial(net::LoopRunner& runner, const Endpoint& to) {
  net::TcpSocketFactory factory;
  std::unique_ptr<MessageStream> stream;
  const auto attempt = factory.connect(runner.loop(), to, [&](auto socket) {
    EXPECT_TRUE(socket) << socket.error().message;
    if (socket) stream = std::make_unique<MessageStream>(std::move(*socket));
    runner.enough();
  });
  runner.run();
  return stream;
}

// A socket that keeps what it hears.
class DatagramEnd {
 public:
  DatagramEnd(net::LoopRunner& runner, const Endpoint& at)
      : socket_(net::UdpSocket::create(runner.loop(), at, {.gro = false, .gso = false}).value()) {
    arm();
  }
  void send(const Endpoint& to, ByteView bytes) {
    net::Outgoing outgoing{.to = to, .bytes = bytes};
    socket_.send({&outgoing, 1});
  }
  const Endpoint& local() const { return socket_.local(); }

  struct Heard {
    Endpoint from;
    Bytes bytes;
    Message message() const { return Message::parse(bytes).value(); }
  };
  std::vector<Heard> heard;
  std::function<void(const Heard&)> on_datagram;

 private:
  void arm() {
    socket_.when_readable([this] {
      for (const net::Received& received : socket_.receive(arena_)) {
        heard.push_back({received.from, Bytes(received.bytes.begin(), received.bytes.end())});
        if (on_datagram) on_datagram(heard.back());
      }
      if (socket_.errors_waiting()) socket_.take_errors(arena_);
      arm();
    });
  }

  net::DatagramArena arena_;
  net::UdpSocket socket_;
};

// A name server. What it says to a query is `say`'s affair; nothing, where that is empty.
class StubServer {
 public:
  struct Asked {
    Endpoint from;
    bool stream;
    Bytes bytes;
  };
  using Say = std::function<Bytes(const Asked&)>;

  StubServer(net::LoopRunner& runner, const Endpoint& at, Say what)
      : say(std::move(what)), udp(runner, at), tcp_(net::TcpListener::create(runner.loop(), at).value()) {
    udp.on_datagram = [this](const DatagramEnd::Heard& heard) {
      asked.push_back({heard.from, false, heard.bytes});
      const Bytes bytes = say(asked.back());
      if (!bytes.empty()) udp.send(heard.from, bytes);
    };
    tcp_->on_accept([this](std::unique_ptr<net::StreamSocket> socket) {
      streams.push_back(std::make_unique<MessageStream>(std::move(socket)));
      MessageStream& stream = *streams.back();
      stream.on_message = [this, &stream](const Bytes& message) {
        asked.push_back({stream.peer(), true, message});
        const Bytes bytes = say(asked.back());
        if (!bytes.empty()) stream.send(bytes);
      };
    });
  }

  std::vector<Asked> asked;
  Say say;
  DatagramEnd udp;
  std::vector<std::unique_ptr<MessageStream>> streams;

 private:
  std::unique_ptr<net::TcpListener> tcp_;
};

// Every name has this address.
inline StubServer::Say all_are(std::string_view address) {
  return [address = std::string(address)](const StubServer::Asked& asked) {
    const Message query = Message::parse(asked.bytes).value();
    Records records;
    records.add_address(Section::answer, query.question.name, 300, ip(address));
    return reply(asked.bytes, records);
  };
}

}  // namespace penstock::dns::testing
