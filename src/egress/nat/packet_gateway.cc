#include "egress/nat/packet_gateway.h"

#include <utility>

#include "packet/fragment.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"

namespace penstock::egress {
namespace {

// What passes everywhere (RFC 8200 section 5).
constexpr std::size_t kMinimumMtu6 = 1280;

bool is_v6(const Packet& packet) { return packet.bytes()[0] >> 4 == 6; }

}  // namespace

PacketGateway::PacketGateway(EventLoop& loop, tun::Device& device, Random& random, const FlowHashKey& fragments,
                             std::move_only_function<void(Error)> lost)
    : loop_(&loop),
      device_(&device),
      random_(&random),
      lost_(std::move(lost)),
      fragments_(kFragments, fragments),
      expiry_(loop) {}

PacketGateway::~PacketGateway() = default;

Result<void> PacketGateway::start(Inside& inside) {
  inside_ = &inside;
  watch_ = loop_->watch(device_->handle());
  watch_->when_readable([this] { read_turn(); });
  return {};
}

void PacketGateway::stop() {
  inside_ = nullptr;
  watch_.reset();
}

// ---- out ----

void PacketGateway::send_outbound(std::vector<OutboundPacket>& batch) {
  for (OutboundPacket& one : batch) {
    if (inside_ == nullptr) {
      counters_.stopped += segments_of(one.packet);
    } else if (is_v6(one.packet) && one.packet.may_fragment && one.packet.offload.gso == Offload::Gso::none) {
      write_in_fragments(one.packet);
    } else {
      write(one.packet);
    }
  }
  batch.clear();
}

void PacketGateway::write(Packet& packet) {
  const std::size_t segments = segments_of(packet);
  if (!device_->write(packet)) counters_.refused += segments;
}

void PacketGateway::write_in_fragments(Packet& packet) {
  PacketBatch pieces;
  if (!fragment(std::move(packet), kMinimumMtu6, random_->next32(), pieces)) {
    ++counters_.refused;
    return;
  }
  for (Packet& piece : pieces) {
    if (device_->write(piece)) continue;
    // Without one of them the others are of no use.
    ++counters_.refused;
    return;
  }
}

// ---- in ----

void PacketGateway::read_turn() {
  auto read = device_->read(read_, kBatch, kBatchBytes);
  if (!read) {
    watch_.reset();
    if (auto lost = std::exchange(lost_, nullptr)) lost(std::move(read).error());
    return;
  }
  for (Packet& packet : read_) come_in(std::move(packet));
  read_.clear();
  if (!whole_.empty()) inside_->from_outside(whole_);
  if (!expiry_.running()) expire_fragments();
  // It may have been stopped meanwhile.
  if (watch_) watch_->when_readable([this] { read_turn(); });
}

void PacketGateway::come_in(Packet&& packet) {
  const auto view = parse_ip(std::as_const(packet).bytes());
  if (!view) {
    ++counters_.malformed;
    return;
  }
  if (auto whole = fragments_.add(std::move(packet), *view, loop_->now())) whole_.push_back(std::move(*whole));
}

void PacketGateway::expire_fragments() {
  fragments_.expire(loop_->now());
  if (const auto next = fragments_.next_expiry()) expiry_.start_at(*next, [this] { expire_fragments(); });
}

}  // namespace penstock::egress
