#include "egress/tun/tun_exit.h"

#include <utility>

namespace penstock::egress {

TunExit::TunExit(router::Shard& shard, tun::Device& device, std::move_only_function<void(Error)> lost)
    : shard_(&shard), device_(&device), lost_(std::move(lost)), id_(shard.router().add_port(*this)) {}

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
  coalescer_.set_kinds(device_->takes());
  coalescer_.coalesce(batch);
  for (Packet& packet : batch) write(packet);
  batch.clear();
}

void TunExit::flood(std::span<const Packet> packets) {
  for (const Packet& packet : packets) {
    if (!packet.source) continue;
    Packet copy = packet.clone();
    write(copy);
  }
}

void TunExit::write(Packet& packet) {
  if (!device_->write(packet)) shard_->router().drops().count(router::Drop::interface_refused);
}

}  // namespace penstock::egress
