#include "egress/local/local_host.h"

#include "packet/icmp.h"
#include "packet/ip_view.h"

namespace penstock::egress {

LocalHost::LocalHost(router::Shard& shard)
    : shard_(&shard), id_(shard.router().add_port(*this)), window_(shard.loop().now()) {}

LocalHost::~LocalHost() { shard_->router().remove_port(id_); }

void LocalHost::send(PacketBatch& batch) {
  PacketBatch answers;
  for (const Packet& packet : batch) {
    const auto view = parse_ip(packet.bytes());
    if (!view) continue;  // the router let nothing else through
    auto answer = echo_reply(packet, *view);
    if (!answer && may_send_error()) {
      const bool has_ports = view->protocol == kProtocolTcp || view->protocol == kProtocolUdp;
      if (has_ports) answer = unreachable(*view, packet.bytes(), view->destination, Unreachable::port);
    }
    if (answer) {
      answers.push_back(std::move(*answer));
    } else {
      shard_->router().drops().count(router::Drop::not_answered);
    }
  }
  batch.clear();
  shard_->router().from_exit(id_, answers);
}

bool LocalHost::may_send_error() {
  const TimePoint now = shard_->loop().now();
  if (now - window_ >= std::chrono::seconds(1)) {
    window_ = now;
    errors_ = 0;
  }
  return errors_++ < kErrorsPerSecond;
}

}  // namespace penstock::egress
