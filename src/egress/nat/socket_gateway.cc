#include "egress/nat/socket_gateway.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <variant>

#include "egress/nat/outer_packets.h"
#include "packet/checksum.h"
#include "packet/icmp.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kUdpHeader = 8;
// Datagrams that one socket may bring in before others have their turn.
constexpr int kReadsPerTurn = 4;

Unreachable why(int error) {
  switch (error) {
    case EPERM:
    case EACCES: return Unreachable::prohibited;
    case EHOSTUNREACH: return Unreachable::host;
    default: return Unreachable::network;
  }
}

// What a socket is to send of a packet. It makes the headers anew, and good checksums with them: so nothing may come
// this far that whoever receives it would have thrown away (RFC 1812 section 5.2.2, RFC 1122 section 4.1.3.4, RFC 8200
// section 8.1).
std::optional<ByteView> sendable(const Packet& packet, const IpView& view, const TranslationView& at) {
  const ByteView bytes = packet.bytes();
  if (view.family == Family::ipv4 && internet_checksum(bytes.first(view.header_size)) != 0) return std::nullopt;
  const bool udp = at.ends.transport == Transport::udp;
  ByteView rest = bytes.subspan(at.offset);
  // What a kernel or a peer left undone was looked at when it came (check_offload()).
  if (packet.offload.needs_checksum) return rest.subspan(kUdpHeader);
  std::uint8_t protocol = view.family == Family::ipv4 ? kProtocolIcmp : kProtocolIcmp6;
  if (udp) {
    // The datagram may be shorter than what the packet carries (RFC 768), never longer.
    const std::size_t length = load_be16(&rest[4]);
    if (length < kUdpHeader || length > rest.size()) return std::nullopt;
    rest = rest.first(length);
    protocol = kProtocolUdp;
    if (load_be16(&rest[6]) == 0)
      return view.family == Family::ipv4 ? std::optional(rest.subspan(kUdpHeader)) : std::nullopt;
  }
  const std::uint32_t pseudo =
      protocol == kProtocolIcmp ? 0 : pseudo_header_sum(view.source, view.destination, protocol, rest.size());
  if (checksum_finish(checksum_add(rest, pseudo)) != 0) return std::nullopt;
  return udp ? rest.subspan(kUdpHeader) : rest;
}

}  // namespace

struct SocketGateway::End {
  Transport transport;
  Binding binding;
  std::variant<net::UdpSocket, net::PingSocket> socket;

  net::DatagramSocket& datagrams() {
    return std::visit([](auto& one) -> net::DatagramSocket& { return one; }, socket);
  }
};

SocketGateway::SocketGateway(EventLoop& loop, Random& random, const Settings& settings)
    : loop_(&loop), settings_(settings), tcp_(loop, random, tcp_settings(settings)) {}

SocketGateway::~SocketGateway() { *alive_ = false; }

TcpGateway::Settings SocketGateway::tcp_settings(const Settings& settings) {
  TcpGateway::Settings tcp{.streams = {.external4 = settings.external4,
                                       .external6 = settings.external6,
                                       .most_streams = settings.most_sockets,
                                       .peek_offset = settings.peek_offset},
                           .terminator = settings.tcp,
                           .forwarded = settings.forwarded_tcp};
  tcp.terminator.most_from_outside = settings.most_sockets / 4;
  if (settings.may_send)
    tcp.streams.may_connect = [may_send = settings.may_send](const Endpoint& to) {
      return may_send(kProtocolTcp, to.address, to.port);
    };
  return tcp;
}

Result<void> SocketGateway::start(Inside& inside) {
  PENSTOCK_TRY_VOID(tcp_.start(inside));
  inside_ = &inside;
  return {};
}

void SocketGateway::set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6) {
  settings_.external4 = v4;
  settings_.external6 = v6;
  tcp_.set_external(v4, v6);
}

std::expected<Endpoint, NoPort> SocketGateway::acquire(Transport transport, Family family, Binding binding) {
  if (transport == Transport::tcp) return tcp_.acquire(family, binding);
  const auto& address = family == Family::ipv4 ? settings_.external4 : settings_.external6;
  if (!address) return std::unexpected(NoPort::none);
  if (sockets() >= settings_.most_sockets) return std::unexpected(NoPort::all_taken);
  const Endpoint any_port{*address, 0};
  ErrorCode refusal{};
  const auto made_of = [&](auto socket) -> std::unique_ptr<End> {
    if (socket) return std::unique_ptr<End>(new End{transport, binding, std::move(*socket)});
    refusal = socket.error().code;
    return nullptr;
  };
  std::unique_ptr<End> end = transport == Transport::udp
                                 ? made_of(net::UdpSocket::create(*loop_, any_port, settings_.udp))
                                 : made_of(net::PingSocket::create(*loop_, any_port));
  if (!end) {
    ++counters_.no_socket;
    const bool taken = refusal == ErrorCode::exhausted || refusal == ErrorCode::address_in_use;
    return std::unexpected(taken ? NoPort::all_taken : NoPort::none);
  }
  const Endpoint local = end->datagrams().local();
  put(binding, std::move(end));
  return local;
}

void SocketGateway::open_forward(net::UdpSocket socket, Binding binding) {
  put(binding, std::unique_ptr<End>(new End{Transport::udp, binding, std::move(socket)}));
}

void SocketGateway::put(Binding binding, std::unique_ptr<End> end) {
  if (ends_.size() <= binding.index) ends_.resize(binding.index + std::size_t{1});
  PENSTOCK_ASSERT(!ends_[binding.index]);
  ends_[binding.index] = std::move(end);
  ++count_;
  share_sockets();
  arm(binding.index);
}

void SocketGateway::share_sockets() {
  tcp_.set_most_streams(settings_.most_sockets - std::min(count_, settings_.most_sockets));
}

void SocketGateway::release(Transport transport, const Endpoint& external, Binding binding) {
  transport == Transport::tcp ? tcp_.release(external, binding) : close(binding);
}

void SocketGateway::ended(Transport transport, const Endpoint& external, const Endpoint& remote) {
  if (transport == Transport::tcp) tcp_.ended(external, remote);
}

void SocketGateway::close_forward(Transport transport, Binding binding) {
  transport == Transport::tcp ? tcp_.close_forward(binding) : close(binding);
}

void SocketGateway::close(Binding binding) {
  PENSTOCK_ASSERT(end_of(binding) != nullptr);
  ends_[binding.index].reset();
  --count_;
  share_sockets();
  while (!ends_.empty() && !ends_.back()) ends_.pop_back();
}

SocketGateway::End* SocketGateway::end_of(Binding binding) {
  if (binding.index >= ends_.size() || !ends_[binding.index]) return nullptr;
  End& end = *ends_[binding.index];
  return end.binding == binding ? &end : nullptr;
}

// ---- out ----

void SocketGateway::send_outbound(std::vector<OutboundPacket>& batch) {
  const std::span<OutboundPacket> packets(batch);
  for (std::size_t first = 0; first < packets.size();) {
    std::size_t last = first + 1;
    while (last < packets.size() && packets[last].binding == packets[first].binding) ++last;
    const auto run = packets.subspan(first, last - first);
    if (send_tcp(run)) {
      // They are on their way.
    } else if (End* end = end_of(packets[first].binding); end != nullptr && inside_ != nullptr) {
      send_run(*end, run);
    } else {
      counters_.closed += run.size();
    }
    first = last;
  }
  batch.clear();
  tcp_.flush();
  deliver();
}

// False: they are no connection's. What is of one binding is of one transport, but for errors about it.
bool SocketGateway::send_tcp(std::span<OutboundPacket> run) {
  if (inside_ == nullptr || end_of(run.front().binding) != nullptr) return false;
  for (OutboundPacket& one : run) {
    const IpView view = parse_ip(std::as_const(one.packet).bytes()).value();
    if (!tcp_.send(std::move(one.packet), view)) ++counters_.closed;
  }
  return true;
}

void SocketGateway::send_run(End& end, std::span<OutboundPacket> run) {
  outgoing_.clear();
  for (OutboundPacket& one : run) {
    const ByteView bytes = std::as_const(one.packet).bytes();
    const IpView view = parse_ip(bytes).value();
    const auto at = translation_of(bytes, view);
    if (!at || at->ends.transport != end.transport) {
      ++counters_.refused;
      one.packet = {};
      continue;
    }
    if (!may_send(view, *at)) {
      ++counters_.forbidden;
      one.packet = {};
      continue;
    }
    const auto payload = sendable(one.packet, view, *at);
    if (!payload) {
      ++counters_.malformed;
      one.packet = {};
      continue;
    }
    const bool v4 = view.family == Family::ipv4;
    outgoing_.push_back({.to = {view.destination, at->ends.destination},
                         .from = {},
                         .bytes = *payload,
                         .segment_size = one.packet.offload.gso == Offload::Gso::none ? std::uint16_t{0}
                                                                                      : one.packet.offload.segment_size,
                         .ttl = view.ttl,
                         .tos = v4 ? bytes[1] : static_cast<std::uint8_t>(bytes[0] << 4 | bytes[1] >> 4),
                         .dont_fragment = v4 ? (bytes[6] & 0x40) != 0 : !one.packet.may_fragment,
                         .refusal = {}});
  }
  const net::SendResult sent = end.datagrams().send(outgoing_);
  counters_.full += outgoing_.size() - sent.taken;
  if (sent.refused != 0) {
    std::size_t next = 0;
    for (const OutboundPacket& one : run) {
      if (one.packet.size() == 0) continue;
      if (next < sent.taken && outgoing_[next].refusal) tell(one, outgoing_[next].refusal);
      ++next;
    }
  }
  if (end.datagrams().errors_waiting()) read_errors(end);
}

bool SocketGateway::may_send(const IpView& view, const TranslationView& at) const {
  if (!settings_.may_send) return true;
  const bool udp = at.ends.transport == Transport::udp;
  const std::uint8_t echo = view.family == Family::ipv4 ? kProtocolIcmp : kProtocolIcmp6;
  return settings_.may_send(udp ? kProtocolUdp : echo, view.destination, udp ? at.ends.destination : std::uint16_t{0});
}

// As the first router on the way would.
void SocketGateway::tell(const OutboundPacket& refused, const net::Refusal& refusal) {
  ++counters_.refused;
  const Packet first = first_packet_of(refused.packet);
  const IpView view = parse_ip(first.bytes()).value();
  std::optional<Packet> error;
  if (refusal.error == EMSGSIZE) {
    if (refusal.path_mtu != 0) error = too_big(view, first.bytes(), view.source, refusal.path_mtu);
  } else if (refusal.error != ENOBUFS) {
    error = unreachable(view, first.bytes(), view.source, why(refusal.error));
  }
  if (error) arrived_.push_back(std::move(*error));
}

// ---- in ----

void SocketGateway::arm(std::uint32_t index) {
  ends_[index]->datagrams().when_readable([this, index] { read_turn(index); });
}

void SocketGateway::read_turn(std::uint32_t index) {
  End* end = ends_[index].get();
  const Binding binding = end->binding;
  if (!may_read()) return waiting_.push_back(binding);
  for (int reads = 0; reads < kReadsPerTurn && may_read(); ++reads) {
    const std::size_t slots = slots_for_what_is_left();
    const auto received = end->datagrams().receive(arena_, slots);
    const Endpoint& local = end->datagrams().local();
    std::size_t segments = 0;
    std::size_t bytes = 0;
    for (const net::Received& one : received) {
      const std::size_t stands_for =
          one.segment_size == 0 ? 1 : (one.bytes.size() + one.segment_size - 1) / one.segment_size;
      segments += stands_for;
      bytes += one.bytes.size();
      Packet packet = end->transport == Transport::udp ? udp_packet_of(one, local, identification_)
                                                       : echo_packet_of(one, local, identification_);
      identification_ = static_cast<std::uint16_t>(identification_ + stands_for);
      if (packet.size() != 0) arrived_.push_back(std::move(packet));
    }
    if (!received.empty()) {
      usual_segments_ = std::max<std::size_t>(segments / received.size(), 1);
      usual_bytes_ = std::max<std::size_t>(bytes / received.size(), 1);
    }
    spend(segments, bytes);
    if (received.size() < slots) break;
  }
  if (end->datagrams().errors_waiting()) read_errors(*end);
  deliver();
  if (end_of(binding) != nullptr) arm(index);
}

// If they are as those of the last read were.
std::size_t SocketGateway::slots_for_what_is_left() const {
  const std::size_t fit = std::min(segments_left_ / usual_segments_, bytes_left_ / usual_bytes_);
  return std::clamp<std::size_t>(fit, 1, net::DatagramArena::kSlots);
}

void SocketGateway::spend(std::size_t segments, std::size_t bytes) {
  segments_left_ -= std::min(segments, segments_left_);
  bytes_left_ -= std::min(bytes, bytes_left_);
  if (std::exchange(turn_posted_, true)) return;
  loop_->post([this, alive = alive_] {
    if (*alive) next_turn();
  });
}

void SocketGateway::next_turn() {
  turn_posted_ = false;
  segments_left_ = kSegmentsPerTurn;
  bytes_left_ = kBytesPerTurn;
  resumed_.swap(waiting_);
  for (const Binding binding : resumed_)
    if (end_of(binding) != nullptr) read_turn(binding.index);
  resumed_.clear();
}

// Whoever gets it may send at once, and by that more may arrive.
void SocketGateway::deliver() {
  if (arrived_.empty()) return;
  PacketBatch batch = std::move(spare_);
  batch.swap(arrived_);
  if (inside_ != nullptr) inside_->from_outside(batch);
  batch.clear();
  spare_ = std::move(batch);
}

void SocketGateway::read_errors(End& end) {
  for (const net::SocketError& error : end.datagrams().take_errors(arena_)) {
    Packet packet = error_packet_of(error, end.transport, end.datagrams().local());
    if (packet.size() != 0) arrived_.push_back(std::move(packet));
  }
}

}  // namespace penstock::egress
