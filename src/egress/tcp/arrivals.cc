#include "egress/tcp/arrivals.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"

namespace penstock::egress {
namespace {

// What is smaller is copied behind the piece before it, where that has room.
constexpr std::size_t kSmall = 2048;

}  // namespace

bool Arrivals::put(Sequence first, Packet&& packet, std::size_t at, std::size_t size) {
  Piece piece{std::move(packet), first, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(size)};
  if (is_before(first, next_)) {
    const std::uint32_t known = distance(first, next_);
    if (known >= piece.size) return true;
    piece.cut_front(known);
  }
  if (piece.first != next_) {
    if (behind_.size() >= kMostGaps) return false;
    put_behind(std::move(piece));
    return true;
  }
  append(std::move(piece));
  std::size_t filled = 0;
  for (; filled < behind_.size() && !is_after(behind_[filled].first, next_); ++filled) {
    Piece& held = behind_[filled];
    footprint_ -= held.packet.footprint();
    const std::uint32_t known = distance(held.first, next_);
    if (known >= held.size) continue;
    held.cut_front(known);
    append(std::move(held));
  }
  if (filled == behind_.size()) {
    if (filled != 0) behind_ = std::vector<Piece>();
  } else {
    behind_.erase(behind_.begin(), behind_.begin() + static_cast<std::ptrdiff_t>(filled));
  }
  return true;
}

void Arrivals::append(Piece&& piece) {
  next_ = piece.end();
  waiting_ += piece.size;
  if (piece.size < kSmall && row_.size() > head_) {
    Piece& last = row_.back();
    const std::size_t end = std::size_t{last.at} + last.size;
    if (last.packet.room() >= end + piece.size) {
      last.packet.resize(end + piece.size);
      std::memcpy(&last.packet.mutable_bytes()[end], piece.bytes().data(), piece.size);
      last.size += piece.size;
      return;
    }
  }
  // Little in a large buffer goes into one of its size.
  if (piece.packet.footprint() > 2 * Packet::footprint_of(piece.size)) {
    piece.packet = Packet::copy_of(piece.bytes());
    piece.at = 0;
  }
  footprint_ += piece.packet.footprint();
  row_.push_back(std::move(piece));
}

void Arrivals::put_behind(Piece&& piece) {
  latest_ = piece.first;
  auto place = std::ranges::find_if(behind_, [&](const Piece& held) { return is_after(held.end(), piece.first); });
  if (place != behind_.end() && !is_after(place->first, piece.first)) {
    // What is there already stays.
    const std::uint32_t known = distance(piece.first, place->end());
    if (known >= piece.size) return;
    piece.cut_front(known);
    ++place;
  }
  // Those that lie within it go, and the next one bounds it.
  while (place != behind_.end() && !is_after(place->end(), piece.end())) {
    footprint_ -= place->packet.footprint();
    place = behind_.erase(place);
  }
  if (place != behind_.end()) piece.size = std::min(piece.size, distance(piece.first, place->first));
  if (piece.size == 0) return;
  footprint_ += piece.packet.footprint();
  behind_.insert(place, std::move(piece));
}

std::size_t Arrivals::front(std::span<ByteView> into) const {
  const std::size_t count = std::min(into.size(), row_.size() - head_);
  for (std::size_t i = 0; i < count; ++i) into[i] = row_[head_ + i].bytes();
  return count;
}

void Arrivals::written(std::size_t bytes) {
  PENSTOCK_ASSERT(bytes <= waiting_);
  waiting_ -= bytes;
  while (bytes != 0) {
    Piece& first = row_[head_];
    const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, first.size));
    first.cut_front(part);
    bytes -= part;
    if (first.size != 0) break;
    footprint_ -= first.packet.footprint();
    first.packet = {};
    ++head_;
  }
  if (head_ == row_.size()) {
    row_.clear();
    head_ = 0;
  } else if (head_ >= 64 && head_ * 2 >= row_.size()) {
    row_.erase(row_.begin(), row_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
}

std::size_t Arrivals::sacks(std::span<SackBlock> into) const {
  std::size_t count = 0;
  const auto add = [&](const SackBlock& block) {
    if (count < into.size()) into[count++] = block;
  };
  // Pieces that touch are one block.
  SackBlock latest{};
  for (std::size_t i = 0; i < behind_.size();) {
    SackBlock block{behind_[i].first, behind_[i].end()};
    for (++i; i < behind_.size() && behind_[i].first == block.end; ++i) block.end = behind_[i].end();
    if (!is_before(latest_, block.first) && is_before(latest_, block.end)) latest = block;
  }
  if (latest.first != latest.end) add(latest);
  for (std::size_t i = 0; i < behind_.size();) {
    SackBlock block{behind_[i].first, behind_[i].end()};
    for (++i; i < behind_.size() && behind_[i].first == block.end; ++i) block.end = behind_[i].end();
    if (block != latest) add(block);
  }
  return count;
}

void Arrivals::clear() {
  row_ = std::vector<Piece>();
  behind_ = std::vector<Piece>();
  head_ = 0;
  waiting_ = 0;
  footprint_ = 0;
}

}  // namespace penstock::egress
