// One deadline for each of many, in a wheel of slots: to move one is a few instructions, whatever their number.
//
//   now
//    | . . [a,c] . . [b] . . . . . .   kSlots of kTick; a deadline beyond waits in the last slot and goes on
//
// A deadline that moves to a later time stays in its slot until that comes, and goes on then: who restarts a timer with
// every packet pays nothing for it. None fires early; a late one is late by kTick at most, and by what the loop is.
//
// Always true   each member is in at most one slot.
// Memory        16 KiB, and 16 bytes in each member.
// Threads       one.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace penstock::egress {

class TimerWheel {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(8);
  static constexpr std::size_t kSlots = 2048;  // 16 s

  // Who has a deadline.
  struct Member {
    static constexpr std::uint16_t kNowhere = 0xFFFF;
    Member() = default;
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

    Member* next_in_slot = nullptr;
    Member* previous_in_slot = nullptr;  // null: the first of its slot
    std::uint16_t slot = kNowhere;
  };

  explicit TimerWheel(TimePoint now) : start_(now) {}

  bool contains(const Member& member) const { return member.slot != Member::kNowhere; }

  // Has take_due() give `member` out at the first tick that is not before `at`; where it was due earlier, then.
  void set(Member& member, TimePoint at) {
    const std::int64_t due = std::max(ticks_until(at), done_ + 1);
    const std::int64_t tick = std::min(due, done_ + static_cast<std::int64_t>(kSlots) - 1);
    if (contains(member)) {
      if (tick_of(member.slot) <= tick) return;
      remove(member);
    }
    insert(member, static_cast<std::uint16_t>(tick % static_cast<std::int64_t>(kSlots)));
  }

  void remove(Member& member) {
    if (!contains(member)) return;
    if (member.next_in_slot != nullptr) member.next_in_slot->previous_in_slot = member.previous_in_slot;
    (member.previous_in_slot == nullptr ? slots_[member.slot] : member.previous_in_slot->next_in_slot) =
        member.next_in_slot;
    if (slots_[member.slot] == nullptr) occupied_[member.slot / 64] &= ~(std::uint64_t{1} << member.slot % 64);
    member.next_in_slot = member.previous_in_slot = nullptr;
    member.slot = Member::kNowhere;
    --count_;
  }

  // Takes out one whose slot has come; null: none is left until next(). Whether its deadline has, it must look itself,
  // and set() it again if not.
  Member* take_due(TimePoint now) {
    const std::int64_t current = (now - start_) / kTick;
    while (done_ < current) {
      const auto tick = next_tick();
      if (!tick || *tick > current) {
        done_ = current;
        return nullptr;
      }
      done_ = *tick - 1;
      Member* member = slots_[static_cast<std::size_t>(*tick) % kSlots];
      remove(*member);
      // Others of this slot are found again; this one goes to a later slot.
      return member;
    }
    return nullptr;
  }

  // When take_due() has something to give out.
  std::optional<TimePoint> next() const {
    const auto tick = next_tick();
    return tick ? std::optional(start_ + kTick * *tick) : std::nullopt;
  }

  std::size_t size() const { return count_; }

 private:
  std::int64_t ticks_until(TimePoint at) const {
    if (at <= start_) return 0;
    return (at - start_ + kTick - Duration(1)) / kTick;
  }
  std::int64_t tick_of(std::uint16_t slot) const {
    const auto slots = static_cast<std::int64_t>(kSlots);
    const std::int64_t first = done_ + 1;
    const std::int64_t offset = (static_cast<std::int64_t>(slot) - first % slots + slots) % slots;
    return first + offset;
  }

  std::optional<std::int64_t> next_tick() const {
    if (count_ == 0) return std::nullopt;
    const auto first = static_cast<std::size_t>((done_ + 1) % static_cast<std::int64_t>(kSlots));
    for (std::size_t step = 0; step <= kSlots / 64; ++step) {
      const std::size_t word = (first / 64 + step) % (kSlots / 64);
      std::uint64_t bits = occupied_[word];
      if (step == 0) bits &= ~std::uint64_t{0} << first % 64;
      if (step == kSlots / 64) bits &= ~(~std::uint64_t{0} << first % 64);
      if (bits != 0)
        return tick_of(static_cast<std::uint16_t>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
    }
    return std::nullopt;
  }

  void insert(Member& member, std::uint16_t slot) {
    member.slot = slot;
    member.previous_in_slot = nullptr;
    member.next_in_slot = slots_[slot];
    if (member.next_in_slot != nullptr) member.next_in_slot->previous_in_slot = &member;
    slots_[slot] = &member;
    occupied_[slot / 64] |= std::uint64_t{1} << slot % 64;
    ++count_;
  }

  TimePoint start_;
  std::int64_t done_ = 0;  // all ticks up to here have been given out
  std::size_t count_ = 0;
  std::array<Member*, kSlots> slots_{};
  std::array<std::uint64_t, kSlots / 64> occupied_{};
};

}  // namespace penstock::egress
