#include "egress/tun/tun_exit.h"

#include <utility>

#include "packet/super_packet.h"

namespace penstock::egress {

TunExit::TunExit(router::Shard& shard, tun::Device& device, std::move_only_function<void(Error)> lost,
                 const FlowHashKey& key)
    : shard_(&shard),
      device_(&device),
      lost_(std::move(lost)),
      id_(shard.router().add_port(*this)),
      writes_(shard.loop(), key, *this) {}

TunExit::~TunExit() { shard_->router().remove_port(id_); }

void TunExit::start() {
  watch_ = shard_->loop().watch(device_->handle());
  watch_->when_readable([this] { read_turn(); });
}

void TunExit::read_turn() {
  auto read = device_->read(read_, kBatch, kBatchBytes);
  if (!read) {
    watch_.reset();
    if (lost_) lost_(std::move(read).error());
    return;
  }
  shard_->router().from_exit(id_, read_);
  watch_->when_readable([this] { read_turn(); });
}

void TunExit::send(PacketBatch& batch) {
  const GsoKinds takes = device_->takes();
  coalescer_.set_kinds(takes);
  coalescer_.coalesce(batch);
  writes_.set_kinds(takes);
  for (Packet& packet : batch) writes_.write(std::move(packet));
  batch.clear();
}

void TunExit::flood(std::span<const Packet> packets) {
  for (const Packet& packet : packets) {
    if (packet.source) writes_.write(packet.clone());
  }
}

void TunExit::write_now(Packet& packet) {
  const std::size_t segments = segments_of(packet);
  if (!device_->write(packet)) shard_->router().drops().count(router::Drop::interface_refused, segments);
}

void TunExit::lost_waiting(const FlowQueue::Losses& losses) {
  shard_->router().drops().count(router::Drop::queue_full, losses.dropped_full);
  shard_->router().drops().count(router::Drop::queue_delay, losses.dropped_aqm);
}

}  // namespace penstock::egress
