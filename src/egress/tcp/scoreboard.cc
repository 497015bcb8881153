#include "egress/tcp/scoreboard.h"

namespace penstock::egress {

void Scoreboard::start(Sequence una) {
  ranges_ = std::vector<SackBlock>();
  sacked_bytes_ = 0;
  lost_end_ = again_ = una;
}

void Scoreboard::acknowledged(Sequence una) {
  std::size_t gone = 0;
  while (gone < ranges_.size() && !is_after(ranges_[gone].end, una)) {
    sacked_bytes_ -= ranges_[gone].end - ranges_[gone].first;
    ++gone;
  }
  if (gone < ranges_.size() && is_before(ranges_[gone].first, una)) {
    sacked_bytes_ -= una - ranges_[gone].first;
    ranges_[gone].first = una;
  }
  if (gone == ranges_.size()) {
    if (gone != 0) ranges_ = std::vector<SackBlock>();
  } else {
    ranges_.erase(ranges_.begin(), ranges_.begin() + static_cast<std::ptrdiff_t>(gone));
  }
  lost_end_ = later_of(lost_end_, una);
  again_ = later_of(again_, una);
}

bool Scoreboard::sacked(std::span<const SackBlock> blocks, Sequence una, Sequence nxt) {
  const std::uint32_t before = sacked_bytes_;
  for (const SackBlock& block : blocks) {
    if (is_before(block.first, una) || !is_before(block.first, block.end) || is_after(block.end, nxt)) continue;
    SackBlock whole = block;
    // The ranges that it touches become one with it.
    std::size_t first = 0;
    while (first < ranges_.size() && is_before(ranges_[first].end, whole.first)) ++first;
    std::size_t last = first;
    for (; last < ranges_.size() && !is_after(ranges_[last].first, whole.end); ++last) {
      whole.first = earlier_of(whole.first, ranges_[last].first);
      whole.end = later_of(whole.end, ranges_[last].end);
      sacked_bytes_ -= ranges_[last].end - ranges_[last].first;
    }
    if (first == last) {
      if (ranges_.size() == kMostRanges) continue;
      ranges_.insert(ranges_.begin() + static_cast<std::ptrdiff_t>(first), whole);
    } else {
      ranges_[first] = whole;
      ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                    ranges_.begin() + static_cast<std::ptrdiff_t>(last));
    }
    sacked_bytes_ += whole.end - whole.first;
  }
  return sacked_bytes_ > before;
}

bool Scoreboard::find_lost(std::uint32_t segment) {
  std::uint32_t above = 0;
  for (std::size_t i = ranges_.size(); i-- > 0;) {
    above += ranges_[i].end - ranges_[i].first;
    if (above <= (kDuplicates - 1) * segment && ranges_.size() - i < kDuplicates) continue;
    if (!is_after(ranges_[i].first, lost_end_)) return false;
    lost_end_ = ranges_[i].first;
    return true;
  }
  return false;
}

void Scoreboard::lose_first(Sequence una, std::uint32_t segment, Sequence nxt) {
  lost_end_ = later_of(lost_end_, una + std::min(segment, distance(una, nxt)));
}

void Scoreboard::lose_all(Sequence una, Sequence nxt, bool forget) {
  if (forget) {
    ranges_ = std::vector<SackBlock>();
    sacked_bytes_ = 0;
  }
  lost_end_ = nxt;
  again_ = una;
}

void Scoreboard::lose_nothing(Sequence una) { lost_end_ = again_ = una; }

std::optional<SackBlock> Scoreboard::next_hole() const {
  Sequence first = again_;
  for (const SackBlock& range : ranges_) {
    if (!is_before(first, lost_end_)) return std::nullopt;
    if (is_before(first, range.first)) return SackBlock{first, earlier_of(range.first, lost_end_)};
    first = later_of(first, range.end);
  }
  if (!is_before(first, lost_end_)) return std::nullopt;
  return SackBlock{first, lost_end_};
}

std::uint32_t Scoreboard::unsacked(Sequence from, Sequence to) const {
  std::uint32_t bytes = distance(from, to);
  for (const SackBlock& range : ranges_) bytes -= distance(later_of(range.first, from), earlier_of(range.end, to));
  return bytes;
}

std::uint32_t Scoreboard::in_flight(Sequence una, Sequence nxt) const {
  return distance(una, nxt) - sacked_bytes_ - unsacked(again_, lost_end_);
}

}  // namespace penstock::egress
