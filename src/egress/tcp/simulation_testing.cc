#include "egress/tcp/simulation_testing.h"

#include <algorithm>

#include "packet/super_packet.h"

namespace penstock::egress::testing {

Road::Road(EventLoop& loop, Dice dice, const Weather& weather, Arrived arrived, TooLarge too_large)
    : loop_(&loop), dice_(dice), weather_(weather), arrived_(std::move(arrived)), too_large_(std::move(too_large)) {}

void Road::send(PacketBatch& batch) {
  const bool put_together = dice_.per_mille(weather_.put_together);
  for (Packet& packet : batch) {
    counters_.sent += segments_of(packet);
    if (packet.offload.gso == Offload::Gso::none || largest_segment_of(packet) > weather_.mtu ||
        dice_.per_mille(weather_.cut_apart)) {
      segment(std::move(packet), apart_);
    } else {
      apart_.push_back(std::move(packet));
    }
  }
  batch.clear();
  for (Packet& packet : apart_) {
    if (pass(packet)) together_.push_back(std::move(packet));
  }
  apart_.clear();
  if (put_together) coalescer_.coalesce(together_);
  for (Packet& packet : together_) travel(std::move(packet));
  together_.clear();
}

// Whether it comes through, and in its place.
bool Road::pass(Packet& packet) {
  const TimePoint now = loop_->now();
  if (largest_segment_of(packet) > weather_.mtu) {
    ++counters_.lost;
    if (too_large_) too_large_(packet);
    return false;
  }
  const bool cut = now >= weather_.cut_from && now < weather_.cut_until;
  const bool stormy = now < weather_.clears;
  if (cut || (stormy && dice_.per_mille(weather_.loss))) {
    ++counters_.lost;
    return false;
  }
  if (dice_.per_mille(weather_.duplication)) {
    ++counters_.doubled;
    arrive_at(now + weather_.delay + dice_.up_to(weather_.late), packet.clone());
  }
  if (stormy && dice_.per_mille(weather_.corruption)) damage(packet);
  if (dice_.per_mille(weather_.overtaking)) {
    ++counters_.overtaken;
    arrive_at(now + weather_.delay + dice_.up_to(weather_.late), std::move(packet));
    return false;
  }
  return true;
}

// Within what checksums cover, and such that they tell: one byte.
void Road::damage(Packet& packet) {
  if (packet.offload.needs_checksum) return;
  ++counters_.broken;
  const MutableByteView bytes = packet.mutable_bytes();
  const std::size_t header = bytes[0] >> 4 == 4 ? 20 : 40;
  bytes[dice_.between(header, bytes.size() - 1)] ^= static_cast<std::uint8_t>(dice_.between(1, 255));
}

void Road::travel(Packet&& packet) {
  const TimePoint now = loop_->now();
  TimePoint through = now;
  if (weather_.rate != 0) {
    free_from_ = std::max(free_from_, now);
    const auto waiting = static_cast<std::size_t>((free_from_ - now).count() / 1000 *
                                                  static_cast<std::int64_t>(weather_.rate) / 1'000'000);
    if (waiting > weather_.queue) {
      ++counters_.lost;
      return;
    }
    free_from_ += Duration(packet.size() * 1'000'000'000 / weather_.rate);
    through = free_from_;
  }
  last_arrival_ = std::max(last_arrival_, through + weather_.delay + dice_.up_to(weather_.jitter));
  arrive_at(last_arrival_, std::move(packet));
}

void Road::arrive_at(TimePoint when, Packet&& packet) {
  ++under_way_;
  loop_->start_timer(when, [this, arriving = std::move(packet)]() mutable {
    --under_way_;
    arrived_(std::move(arriving));
  });
}

}  // namespace penstock::egress::testing
