#include "dns/service/upstream_sockets.h"

#include <array>
#include <utility>
#include <vector>

#include "dns/stream_framing.h"
#include "net/udp_socket.h"
#include "packet/ip_view.h"

namespace penstock::dns {
namespace {

constexpr std::size_t kBlock = 16384;

IpAddress any_address(Family family) {
  static constexpr std::array<std::uint8_t, 16> kAny6{};
  return family == Family::ipv4 ? IpAddress() : IpAddress::from_bytes(kAny6);
}

// The query is lost, and the system knows the size of the path from now on: the next try passes.
bool is_too_big(const net::SocketError& error) {
  return error.origin == net::SocketError::Origin::icmp ? error.type == 3 && error.code == 4 : error.type == 2;
}

}  // namespace

struct UpstreamSockets::Datagrams {
  net::UdpSocket socket;
  Endpoint server;
};

struct UpstreamSockets::Stream {
  Endpoint server;
  std::unique_ptr<net::SocketFactory::Attempt> attempt;
  std::unique_ptr<net::StreamSocket> socket;
  std::vector<std::uint8_t> query;  // framed
  std::size_t written = 0;
  StreamFraming framing;
};

UpstreamSockets::UpstreamSockets(EventLoop& loop, Events events, MaySend may_send)
    : loop_(&loop), events_(std::move(events)), may_send_(std::move(may_send)) {}

UpstreamSockets::~UpstreamSockets() = default;

bool UpstreamSockets::admit(std::uint8_t protocol, const Endpoint& server) {
  if (may_send_ && !may_send_(protocol, server)) {
    ++counters_.forbidden;
    return false;
  }
  if (open() >= kMaxSockets || (protocol == kProtocolTcp && streams_.size() >= kMaxStreams)) {
    ++counters_.no_socket;
    return false;
  }
  return true;
}

bool UpstreamSockets::send(const Endpoint& server, ByteView query, Exchange exchange) {
  if (!admit(kProtocolUdp, server)) return false;
  auto made = net::UdpSocket::create(*loop_, {any_address(server.address.family()), 0}, {.gro = false, .gso = false});
  if (!made) {
    ++counters_.no_socket;
    return false;
  }
  auto datagrams = std::make_unique<Datagrams>(Datagrams{*std::move(made), server});
  net::Outgoing outgoing{.to = server, .bytes = query};
  const net::SendResult sent = datagrams->socket.send({&outgoing, 1});
  if (sent.taken == 0 || sent.refused != 0) {
    ++counters_.refused;
    return false;
  }
  datagrams->socket.when_readable([this, exchange] { read_datagrams(exchange); });
  datagrams_.emplace(exchange, std::move(datagrams));
  return true;
}

void UpstreamSockets::read_datagrams(Exchange exchange) {
  const auto find = [this, exchange] {
    const auto found = datagrams_.find(exchange);
    return found == datagrams_.end() ? nullptr : found->second.get();
  };
  Datagrams* open = find();
  for (const net::Received& received : open->socket.receive(arena_)) {
    // What is told may close this exchange, and opens others; it receives nothing, so the arena stays as it is.
    events_.on_reply(exchange, received.from, received.bytes);
    open = find();
    if (open == nullptr) return;
  }
  if (open->socket.errors_waiting()) {
    for (const net::SocketError& error : open->socket.take_errors(arena_))
      if (error.to == open->server && !is_too_big(error)) {
        ++counters_.refused;
        return fail(exchange);
      }
  }
  open->socket.when_readable([this, exchange] { read_datagrams(exchange); });
}

bool UpstreamSockets::send_stream(const Endpoint& server, ByteView query, Exchange exchange) {
  if (query.size() > kMaxMessage || !admit(kProtocolTcp, server)) return false;
  auto stream = std::make_unique<Stream>();
  stream->server = server;
  StreamFraming::frame(query, stream->query);
  stream->attempt = dialler_.connect(*loop_, server, [this, exchange](Result<std::unique_ptr<net::StreamSocket>> made) {
    connected(exchange, std::move(made));
  });
  streams_.emplace(exchange, std::move(stream));
  return true;
}

void UpstreamSockets::connected(Exchange exchange, Result<std::unique_ptr<net::StreamSocket>> socket) {
  const auto found = streams_.find(exchange);
  PENSTOCK_ASSERT(found != streams_.end());
  Stream& stream = *found->second;
  stream.attempt.reset();
  if (!socket) {
    ++counters_.refused;
    return fail(exchange);
  }
  stream.socket = *std::move(socket);
  write(exchange);
}

void UpstreamSockets::write(Exchange exchange) {
  Stream& stream = *streams_.at(exchange);
  while (stream.written < stream.query.size()) {
    const auto size = stream.socket->write(ByteView(stream.query).subspan(stream.written));
    if (!size) return fail(exchange);
    if (!*size) return stream.socket->when_writable([this, exchange] { write(exchange); });
    stream.written += **size;
  }
  stream.socket->when_readable([this, exchange] { read(exchange); });
}

// One block a turn, so that a server that says much does not keep the others waiting.
void UpstreamSockets::read(Exchange exchange) {
  Stream& stream = *streams_.at(exchange);
  std::array<std::uint8_t, kBlock> block;
  const auto size = stream.socket->read(block);
  if (!size || (*size && **size == 0)) return fail(exchange);
  if (*size) {
    stream.framing.append(ByteView(block).first(**size));
    const Endpoint server = stream.server;
    while (const auto message = stream.framing.next()) {
      // A copy: the message lies in a buffer that closing the exchange frees.
      const std::vector<std::uint8_t> reply(message->begin(), message->end());
      events_.on_reply(exchange, server, reply);
      if (!streams_.contains(exchange)) return;
    }
    if (stream.framing.broken()) return fail(exchange);
  }
  stream.socket->when_readable([this, exchange] { read(exchange); });
}

void UpstreamSockets::close(Exchange exchange) {
  if (datagrams_.erase(exchange) == 0) streams_.erase(exchange);
}

void UpstreamSockets::fail(Exchange exchange) {
  close(exchange);
  events_.on_failed(exchange);
}

}  // namespace penstock::dns
