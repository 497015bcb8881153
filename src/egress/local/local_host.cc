#include "egress/local/local_host.h"

#include "packet/icmp.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

// Says that nobody listens, if whoever asked may be told.
std::optional<Packet> port_unreachable(const Packet& packet, const IpView& view) {
  if (packet.offload == Offload{}) return unreachable(view, packet.bytes(), view.destination, Unreachable::port);
  const Packet first = first_packet_of(packet);
  const auto its_view = parse_ip(first.bytes());
  return its_view ? unreachable(*its_view, first.bytes(), view.destination, Unreachable::port) : std::nullopt;
}

}  // namespace

LocalHost::LocalHost(router::Shard& shard)
    : shard_(&shard), id_(shard.router().add_port(*this)), window_(shard.loop().now()) {}

LocalHost::~LocalHost() { shard_->router().remove_port(id_); }

Result<void> LocalHost::serve_streams(Random& random, LocalStreams::Serve serve) {
  PENSTOCK_TRY(streams_, LocalStreams::create(shard_->loop(), kMostStreams, std::move(serve)));
  TcpTerminator::Clients& clients = *this;
  terminator_ = std::make_unique<TcpTerminator>(shard_->loop(), random, TcpTerminator::Settings(), *streams_, clients);
  streams_->set_events(terminator_->events());
  return {};
}

void LocalHost::send(PacketBatch& batch) {
  PacketBatch answers;
  for (Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    if (!view) continue;  // the router let nothing else through
    if (service_ && service_(packet)) continue;
    if (terminator_ && view->protocol == kProtocolTcp) {
      terminator_->from_client(std::move(packet), *view);
      continue;
    }
    auto answer = echo_reply(packet, *view);
    const bool has_ports = view->protocol == kProtocolTcp || view->protocol == kProtocolUdp;
    if (!answer && has_ports && may_send_error()) {
      answer = port_unreachable(packet, *view);
      if (answer) ++errors_;
    }
    if (answer) {
      answers.push_back(std::move(*answer));
    } else {
      shard_->router().drops().count(router::Drop::not_answered, segments_of(packet));
    }
  }
  batch.clear();
  shard_->router().from_exit(id_, answers);
  if (terminator_) terminator_->flush();
}

bool LocalHost::may_send_error() {
  const TimePoint now = shard_->loop().now();
  if (now - window_ >= std::chrono::seconds(1)) {
    window_ = now;
    errors_ = 0;
  }
  return errors_ < kErrorsPerSecond;
}

}  // namespace penstock::egress
