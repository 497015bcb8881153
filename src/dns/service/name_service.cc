#include "dns/service/name_service.h"

#include <algorithm>
#include <utility>

#include "net/system_socket.h"
#include "packet/ip_view.h"

namespace penstock::dns {
namespace {

// An address of one host, which an answer may go to.
bool is_host(const IpAddress& address) {
  const bool reserved = address.is_v4() && (address.to_v4() >> 24 == 0 || address.to_v4() >> 28 == 0xF);
  return !reserved && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
}

// Of the UDP header, whose lengths and checksum nobody has looked at.
bool is_for_port(const Packet& packet, const IpView& view, std::uint16_t port) {
  const auto upper = upper_layer(packet.bytes(), view);
  if (!upper || upper->fragment || upper->protocol != kProtocolUdp) return false;
  const auto ports = ports_of(packet.bytes(), view);
  return ports && ports->destination == port;
}

}  // namespace

std::uint64_t NameService::client_of(const SessionId& session) {
  return std::uint64_t{session.generation} << 32 | session.slot;
}

std::uint64_t NameService::client_of(const IpAddress& address) {
  // Below a generation of 1, and above those that there will be.
  if (address.is_v4()) return address.to_v4();
  return std::uint64_t{1} << 63 | (address.upper() * 0x9E3779B97F4A7C15 ^ address.lower());
}

NameService::NameService(EventLoop& loop, Random& random, const LanNames& names, Settings settings)
    : loop_(&loop),
      random_(&random),
      settings_(std::move(settings)),
      zones_(settings_.zones, names),
      upstream_(loop,
                {.on_reply = [this](Exchange exchange, const Endpoint& from,
                                    ByteView reply) { forwarder_.on_reply(exchange, from, reply); },
                 .on_failed = [this](Exchange exchange) { forwarder_.on_failed(exchange); }},
                settings_.may_send),
      streams_(
          loop, settings_.streams,
          {.on_query = [this](const ClientKey& client, ByteView query) { return forwarder_.on_query(client, query); },
           .on_closed = [this](std::uint64_t stream) { forwarder_.forget_stream(stream); }}),
      forwarder_(loop, random, upstream_, zones_, settings_.forwarder,
                 [this](const ClientKey& client, ByteView bytes) { answer(client, bytes); }) {
  PENSTOCK_ASSERT(settings_.packet_addresses.empty() || settings_.deliver);
}

NameService::~NameService() = default;

std::optional<std::uint64_t> NameService::number_of(const IpAddress& address) {
  if (!settings_.client_of) return client_of(address);
  const auto number = settings_.client_of(address);
  if (!number) ++counters_.strangers;
  return number;
}

bool NameService::is_packet_address(const IpAddress& address) const {
  return std::ranges::find(settings_.packet_addresses, address) != settings_.packet_addresses.end();
}

// --- sockets

void NameService::listen(NameListeners listeners) {
  for (NameListeners::Sockets& sockets : listeners.sockets_) {
    // The sockets stay where they are while the vector grows.
    net::UdpSocket& udp = *sockets.udp;
    udp.when_readable([this, &udp] { read_datagrams(udp); });
    sockets.tcp->on_accept([this](std::unique_ptr<net::StreamSocket> socket) {
      if (const auto client = number_of(socket->peer().address)) streams_.add(std::move(socket), *client);
    });
    listeners_.push_back(std::move(sockets));
  }
}

// One batch a turn: whoever asks most keeps nobody else from being heard.
void NameService::read_datagrams(net::UdpSocket& socket) {
  for (const net::Received& received : socket.receive(arena_)) {
    ++counters_.datagrams;
    const auto client = number_of(received.from.address);
    if (!client || received.from.port == 0) continue;
    forwarder_.on_query({.client = *client, .from = received.from, .stream = 0, .to = socket.local()}, received.bytes);
  }
  // A client that has gone away meanwhile is no news.
  if (socket.errors_waiting()) socket.take_errors(arena_);
  socket.when_readable([this, &socket] { read_datagrams(socket); });
}

net::UdpSocket* NameService::socket_at(const Endpoint& at) {
  const auto found = std::ranges::find(listeners_, at, [](const auto& sockets) { return sockets.udp->local(); });
  return found == listeners_.end() ? nullptr : found->udp.get();
}

// --- packets

bool NameService::on_packet(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view || !is_packet_address(view->destination) || !is_for_port(packet, *view, kPort)) return false;
  const auto udp = read_udp(packet);
  // Its own addresses too: two services could answer each other's errors for ever.
  if (!udp || udp->from.port == 0 || !is_host(udp->from.address) || is_packet_address(udp->from.address)) {
    ++counters_.bad_packets;
    return true;
  }
  const auto number = packet.source ? client_of(packet.source) : number_of(udp->from.address);
  if (!number) return true;
  const ClientKey client{.client = *number, .from = udp->from, .stream = 0, .to = udp->to};
  udp->for_each_datagram([&](ByteView query) {
    ++counters_.packets;
    forwarder_.on_query(client, query);
  });
  return true;
}

bool NameService::on_stream(net::FileDescriptor stream, const Endpoint& from, const Endpoint& to) {
  if (!is_packet_address(to.address) || to.port != kPort) return false;
  const auto number = number_of(from.address);
  if (!number) return false;
  streams_.add(std::make_unique<net::SystemSocket>(*loop_, std::move(stream)), *number);
  return true;
}

void NameService::answer(const ClientKey& client, ByteView bytes) {
  if (client.stream != 0) return streams_.answer(client.stream, bytes);
  if (net::UdpSocket* socket = socket_at(client.to)) {
    net::Outgoing outgoing{.to = client.from, .bytes = bytes};
    const net::SendResult sent = socket->send({&outgoing, 1});
    if (sent.taken == 0 || sent.refused != 0) ++counters_.unsent;
    return;
  }
  const auto identification = static_cast<std::uint16_t>(random_->next32());
  settings_.deliver(make_udp(client.to, client.from, bytes, {.identification = identification}));
}

void NameService::forget(std::uint64_t client) {
  forwarder_.forget(client);
  streams_.forget(client);
}

NameService::Counters NameService::counters() const {
  Counters all = counters_;
  all.streams = streams_.counters();
  all.servers = upstream_.counters();
  all.open_streams = streams_.open();
  all.open_exchanges = upstream_.open();
  return all;
}

}  // namespace penstock::dns
