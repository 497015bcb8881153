#include "egress/nat/tcp_gateway.h"

#include <algorithm>
#include <utility>

#include "base/result.h"
#include "egress/nat/mapping_table.h"
#include "net/file_descriptor.h"
#include "packet/ip_view.h"
#include "router/flow_key.h"

namespace penstock::egress {
namespace {

constexpr std::size_t kIcmpHeader = 8;
constexpr std::size_t kSequenceEnd = 8;  // of a quoted TCP header: all that RFC 792 promises

Endpoint endpoint_of(const router::AddressBits& bits, std::uint16_t port, Family family) {
  return MappingTable::End{.address = bits, .port = port, .transport = Transport::tcp, .family = family}.endpoint();
}

// An ICMP error about a segment: whose it was, and what became of it.
struct TcpError {
  TcpEnds ends;
  std::uint32_t sequence = 0;
  std::uint32_t mtu = 0;  // 0: it is not reachable
};

std::optional<TcpError> error_of(ByteView packet, const IpView& view) {
  const auto flow = router::read_flow(packet, view);
  if (!flow || flow->role != router::FlowRole::error || flow->quoted.protocol != kProtocolTcp) return std::nullopt;
  const auto upper = upper_layer(packet, view);
  if (!upper || packet.size() < upper->offset + kIcmpHeader) return std::nullopt;
  const ByteView icmp = packet.subspan(upper->offset);
  const ByteView quoted = icmp.subspan(kIcmpHeader);
  const bool v4 = view.family == Family::ipv4;
  const std::size_t headers = v4 ? (quoted[0] & 0x0FU) * 4U : 40U;
  if ((!v4 && quoted[6] != kProtocolTcp) || quoted.size() < headers + kSequenceEnd) return std::nullopt;

  const router::FlowKey& key = flow->quoted;
  TcpError error{.ends = {.client = endpoint_of(key.to, key.to_port, key.family),
                          .server = endpoint_of(key.from, key.from_port, key.family)},
                 .sequence = load_be32(&quoted[headers + 4])};
  // RFC 1191 section 4, RFC 4443 sections 3.1 and 3.2. Others (time exceeded, parameter problem) say nothing that
  // a connection should act on.
  if (v4 && icmp[0] == 3 && icmp[1] == 4) {
    error.mtu = load_be16(&icmp[6]);
    if (error.mtu == 0) return std::nullopt;
  } else if (!v4 && icmp[0] == 2) {
    error.mtu = load_be32(&icmp[4]);
    if (error.mtu == 0) return std::nullopt;
  } else if (icmp[0] != (v4 ? 3 : 1)) {
    return std::nullopt;
  }
  return error;
}

}  // namespace

TcpGateway::TcpGateway(EventLoop& loop, Random& random, const Settings& settings)
    : loop_(&loop), random_(&random), settings_(settings) {}

TcpGateway::~TcpGateway() = default;

Result<void> TcpGateway::start(ExternalGateway::Inside& inside) {
  inside_ = &inside;
  if (streams_) return {};
  PENSTOCK_TRY(streams_, SocketStreams::create(*loop_, settings_.streams));
  TcpTerminator::Clients& clients = *this;
  terminator_ = std::make_unique<TcpTerminator>(*loop_, *random_, settings_.terminator, *streams_, clients);
  streams_->set_events(terminator_->events());
  return {};
}

void TcpGateway::stop() {
  terminator_.reset();
  streams_.reset();
  inside_ = nullptr;
}

// ---- outer ends ----

TcpGateway::Numbers& TcpGateway::numbers_of(const IpAddress& address) {
  const auto known = std::ranges::find(numbers_, address, &Numbers::address);
  if (known != numbers_.end()) return *known;
  const NumberedPorts::Settings settings{.addresses = {address}, .udp = {}, .tcp = {}};
  numbers_.push_back({address, std::make_unique<NumberedPorts>(settings, *random_)});
  return numbers_.back();
}

std::expected<Endpoint, NoPort> TcpGateway::acquire(Family family, Binding binding) {
  const auto& address = family == Family::ipv4 ? settings_.streams.external4 : settings_.streams.external6;
  if (!address) return std::unexpected(NoPort::none);
  if (streams() >= settings_.streams.most_streams) return std::unexpected(NoPort::all_taken);
  Numbers& numbers = numbers_of(*address);
  for (;;) {
    auto end = numbers.ports->acquire(Transport::tcp, family, binding);
    if (!end) return end;
    // A forward's number that comes up is never given back, and so comes up once.
    if (std::ranges::find(settings_.forwarded, end->port) != settings_.forwarded.end()) continue;
    ++numbers.given;
    return end;
  }
}

void TcpGateway::release(const Endpoint& external, Binding binding) {
  Numbers& numbers = numbers_of(external.address);
  numbers.ports->release(Transport::tcp, external, binding);
  --numbers.given;
  const auto& current = external.address.is_v4() ? settings_.streams.external4 : settings_.streams.external6;
  if (numbers.given == 0 && current != external.address)
    std::erase_if(numbers_, [&](const Numbers& one) { return one.address == external.address; });
}

void TcpGateway::ended(const Endpoint& external, const Endpoint& remote) {
  if (terminator_) terminator_->abort({.client = external, .server = remote});
}

void TcpGateway::reached(std::span<const std::pair<Endpoint, Endpoint>> conversations) {
  if (!terminator_) return;
  for (const auto& [external, remote] : conversations) terminator_->reached({.client = external, .server = remote});
  terminator_->flush();
}

void TcpGateway::set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6) {
  settings_.streams.external4 = v4;
  settings_.streams.external6 = v6;
  if (streams_) streams_->set_external(v4, v6);
}

void TcpGateway::set_most_streams(std::size_t most) {
  settings_.streams.most_streams = most;
  if (streams_) streams_->set_most_streams(most);
}

// ---- forwards ----

void TcpGateway::open_forward(ForwardListener listener, Binding binding) {
  auto [place, is_new] = forwards_.try_emplace(binding.index, binding, std::move(listener));
  PENSTOCK_ASSERT(is_new);
  place->second.second.start([this](HostStreams::Stream stream, const Endpoint& from, const Endpoint& local) {
    if (inside_ == nullptr || terminator_ == nullptr) {
      const net::FileDescriptor unserved(stream);
      return;
    }
    terminator_->open({.client = local, .server = from}, stream);
  });
}

void TcpGateway::close_forward(Binding binding) {
  const auto found = forwards_.find(binding.index);
  PENSTOCK_ASSERT(found != forwards_.end() && found->second.first == binding);
  forwards_.erase(found);
}

// ---- packets ----

bool TcpGateway::send(Packet&& packet, const IpView& view) {
  if (!terminator_) return false;
  if (view.protocol != kProtocolTcp) return take_error(packet, view);
  terminator_->from_client(std::move(packet), view);
  return true;
}

void TcpGateway::flush() {
  if (terminator_) terminator_->flush();
}

void TcpGateway::end_connections() {
  if (terminator_) terminator_->end_all();
}

bool TcpGateway::take_error(const Packet& packet, const IpView& view) {
  const auto error = error_of(packet.bytes(), view);
  if (!error) return false;
  terminator_->undeliverable(error->ends, error->sequence, error->mtu);
  return true;
}

// ---- towards clients ----

void TcpGateway::to_clients(PacketBatch& batch) {
  if (inside_ != nullptr) inside_->from_outside(batch);
  batch.clear();
}

std::size_t TcpGateway::credit(const Endpoint& client) {
  return inside_ == nullptr ? SIZE_MAX : inside_->credit(client, Transport::tcp);
}

router::PortId TcpGateway::wait_for_credit(const Endpoint& client, router::CreditWaiter& waiter) {
  return inside_ == nullptr ? router::PortId() : inside_->wait_for_credit(client, Transport::tcp, waiter);
}

void TcpGateway::cancel_wait(router::PortId port, router::CreditWaiter& waiter) {
  if (inside_ != nullptr) inside_->cancel_wait(port, waiter);
}

void TcpGateway::closed(const TcpEnds& ends) {
  if (inside_ != nullptr) inside_->closed(ends.client, ends.server);
}

}  // namespace penstock::egress
