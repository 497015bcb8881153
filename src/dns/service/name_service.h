// The gateway's DNS service, whole: the forwarder, its sockets to servers, and two ways in for clients.
//
//   TUN device:  NameListeners --UDP, TCP--+
//                                          +--> Forwarder --> UpstreamSockets --> servers
//   no TUN:      on_packet() --------------+
//                deliver <-- UDP packets --'
//
// The answer to a datagram goes the way that its query came, from the address that was asked.
//
// Packets       on_packet() takes what is for port 53 of `packet_addresses`: whole UDP packets, super-packets with
//               several queries in them too. What it leaves is for others to answer: TCP, fragments, other ports. Its
//               answers are packets from nobody (no source) with finished checksums; `deliver` is called with each,
//               also inside on_packet().
// Who a client is   a number that limits count by and forget() is called with: of a packet its session's, client_of().
//               A socket knows an address alone, and Settings::client_of knows whose that is, or that it is nobody's:
//               then nothing is answered, for an inner address can be reached by the gateway's neighbours too, who
//               only need a route. Without that function the address itself stands for the client, by a number that
//               is no session's, and everybody is answered.
// Servers       none at first: then whatever is not answered here is refused (Count::no_upstream).
// Always true   nothing of a client that was forgotten is answered; a closed connection leaves nothing that waits.
// Bounds        those of Forwarder, UpstreamSockets, StreamClients. An answer that a socket does not take is dropped,
//               and counted: UDP.
// Ownership     loop, random and names outlive it; it owns its sockets.
// Threads       the loop's. Counts of the forwarder may be read by any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/random.h"
#include "dns/forwarder.h"
#include "dns/service/name_listeners.h"
#include "dns/service/stream_clients.h"
#include "dns/service/upstream_sockets.h"
#include "packet/packet.h"
#include "packet/udp_packet.h"

namespace penstock::dns {

class NameService {
 public:
  static constexpr std::uint16_t kPort = 53;

  struct Settings {
    Forwarder::Settings forwarder;
    LocalZones::Settings zones;
    StreamClients::Limits streams;
    std::vector<IpAddress> packet_addresses;  // inner addresses that on_packet() answers for
    std::function<void(Packet)> deliver;      // its answers, to be routed to clients; needed where there are any
    UpstreamSockets::MaySend may_send;        // the exit's policy; none: everything may be asked
    std::function<std::optional<std::uint64_t>(const IpAddress&)> client_of;
  };
  struct Counters {
    std::uint64_t datagrams = 0;      // queries that came to UDP sockets
    std::uint64_t packets = 0;        // and in packets, each of a super-packet
    std::uint64_t bad_packets = 0;    // to the service, but with bad checksums or lengths, or from where nobody is
    std::uint64_t unsent = 0;         // answers that a socket did not take
    std::uint64_t strangers = 0;      // datagrams, packets and connections of nobody (Settings::client_of)
    StreamClients::Counters streams;  // TCP of clients
    UpstreamSockets::Counters servers;
    std::size_t open_streams = 0;
    std::size_t open_exchanges = 0;
  };

  // The number of a session, and of an address of which no session is known.
  static std::uint64_t client_of(const SessionId& session);
  static std::uint64_t client_of(const IpAddress& address);

  NameService(EventLoop& loop, Random& random, const LanNames& names, Settings settings);
  ~NameService();
  NameService(const NameService&) = delete;
  NameService& operator=(const NameService&) = delete;

  // Serves these besides those that it has.
  void listen(NameListeners listeners);
  // Whether the packet was one for the service: then nobody else answers it.
  bool on_packet(const Packet& packet);
  // A connection to `to` that came without a listener; false: it is not of the service, or of nobody.
  bool on_stream(net::FileDescriptor stream, const Endpoint& from, const Endpoint& to);

  // As Forwarder::set_servers.
  void set_servers(std::span<const Endpoint> servers) { forwarder_.set_servers(servers); }
  // The client is gone: nothing of it waits any more, its connections are closed.
  void forget(std::uint64_t client);

  const dns::Counters& queries() const { return forwarder_.counters(); }
  Counters counters() const;
  const Forwarder& forwarder() const { return forwarder_; }

 private:
  void read_datagrams(net::UdpSocket& socket);
  void answer(const ClientKey& client, ByteView bytes);
  net::UdpSocket* socket_at(const Endpoint& at);
  bool is_packet_address(const IpAddress& address) const;
  // Whose the address is; nothing, and it is counted, where it is nobody's.
  std::optional<std::uint64_t> number_of(const IpAddress& address);

  EventLoop* loop_;
  Random* random_;
  Settings settings_;
  Counters counters_;
  LocalZones zones_;
  UpstreamSockets upstream_;
  StreamClients streams_;
  Forwarder forwarder_;  // before what it uses is gone
  net::DatagramArena arena_;
  std::vector<NameListeners::Sockets> listeners_;
};

}  // namespace penstock::dns
