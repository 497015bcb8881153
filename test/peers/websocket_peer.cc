// Penstock's end of a WebSocket in tests against other implementations: an echo over loopback TCP, without TLS.
//
//   websocket_peer listen         prints "listening PORT" and takes one connection
//   websocket_peer connect PORT
//
// Each message goes back as one frame of its kind, each ping is answered with its pong. A text that begins with "!" is
// an order instead:
//
//   !ping PAYLOAD        pings with PAYLOAD; "!pong PAYLOAD" is sent when the pong has come
//   !close CODE REASON   closes with them
//
// It ends with the connection, and its last line says how that was: "closed CODE REASON" where the peer closed,
// "closing CODE REASON" after the order, "refused: ..." where the peer broke the protocol, "lost" where it just went.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "net/file_descriptor.h"
#include "transport/channel.h"

namespace {

using namespace penstock;
using net::FileDescriptor;
using transport::Channel;
using websocket::Opcode;

constexpr std::size_t kMaxMessage = std::size_t{2} << 20;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(2);
}

FileDescriptor accept_one() {
  const FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof address;
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.get(), at, size) != 0 || ::listen(listener.get(), 1) != 0) give_up("listen");
  if (::getsockname(listener.get(), at, &size) != 0) give_up("getsockname");
  std::printf("listening %d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  FileDescriptor connection(::accept(listener.get(), nullptr, nullptr));
  if (!connection) give_up("accept");
  return connection;
}

FileDescriptor connect_to(std::uint16_t port) {
  FileDescriptor connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  if (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) give_up("connect");
  return connection;
}

class Conversation {
 public:
  Conversation(FileDescriptor socket, websocket::Role role)
      : socket_(std::move(socket)),
        role_(role),
        channel_(role == websocket::Role::server ? Channel::server(nullptr, "/", kMaxMessage, random_)
                                                 : Channel::client(nullptr, "localhost", "/", kMaxMessage, random_)) {}

  // Until the connection ends; how it did.
  std::string run() {
    std::string ending = "lost";
    if (!channel_.start()) return ending;
    std::vector<std::uint8_t> buffer(65536);
    while (true) {
      flush();
      if (channel_.state() == Channel::State::closed) break;
      const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0) return ending;
      if (const auto received = channel_.receive(ByteView(buffer).first(static_cast<std::size_t>(size))); !received) {
        ending = "refused: " + received.error().message;
      }
      auto message = channel_.next();
      for (; message && *message; message = channel_.next()) answer(**message, ending);
      if (!message) ending = "refused: " + message.error().message;
    }
    // The peer has its own close frame to send, and perhaps data that was on its way.
    ::shutdown(socket_.get(), SHUT_WR);
    while (::recv(socket_.get(), buffer.data(), buffer.size(), 0) > 0) {
    }
    return ending;
  }

 private:
  void answer(websocket::Message& message, std::string& ending) {
    const std::string payload(as_text(message.unmask()));
    switch (message.kind) {
      case Opcode::close: ending = "closed " + std::to_string(message.close_code) + " " + payload; break;
      case Opcode::ping:
        if (!channel_.send_pong(message.payload)) ending = "refused: a pong";
        break;
      case Opcode::pong: send(Opcode::text, "!pong " + payload); break;
      case Opcode::text:
        if (payload.starts_with("!")) {
          obey(payload, ending);
          break;
        }
        [[fallthrough]];
      default: send(message.kind, payload);
    }
  }

  void obey(const std::string& order, std::string& ending) {
    const std::string_view rest = std::string_view(order).substr(order.find(' ') + 1);
    if (order.starts_with("!ping ")) return send(Opcode::ping, rest);
    const std::size_t space = rest.find(' ');
    std::uint16_t code = 0;
    std::from_chars(rest.data(), rest.data() + rest.size(), code);
    channel_.close(code, rest.substr(space + 1));
    ending = "closing " + std::string(rest);
  }

  // Around the channel's own senders, which know only what Penstock itself has to say.
  void send(Opcode opcode, std::string_view payload) {
    websocket::append_frame(channel_.output(), role_, opcode, as_bytes(payload), random_);
  }

  void flush() {
    ByteQueue& output = channel_.output();
    while (!output.empty()) {
      const ssize_t size = ::send(socket_.get(), output.view().data(), output.size(), MSG_NOSIGNAL);
      if (size <= 0) return output.clear();  // the peer went; reading will say so
      output.consume(static_cast<std::size_t>(size));
    }
  }

  FileDescriptor socket_;
  websocket::Role role_;
  SystemRandom random_;
  Channel channel_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  std::string ending;
  if (arguments.size() == 1 && arguments[0] == "listen") {
    ending = Conversation(accept_one(), websocket::Role::server).run();
  } else if (arguments.size() == 2 && arguments[0] == "connect") {
    const auto port = static_cast<std::uint16_t>(std::atoi(argv[2]));
    ending = Conversation(connect_to(port), websocket::Role::client).run();
  } else {
    std::fputs("usage: websocket_peer listen | connect PORT\n", stderr);
    return 2;
  }
  std::puts(ending.c_str());
  return 0;
}
