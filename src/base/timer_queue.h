// The timers of one event loop, in the order in which they are due.
//
// A binary heap of slot numbers ordered by (time, order of starting), so that timers for the same instant run in the
// order they were started. Every slot knows its place in the heap: cancelling costs O(log n) and leaves nothing behind,
// which matters to code that restarts an idle timer for every packet.
//
// Always true  an id is never given twice (its upper half counts the slot's uses) and is never 0.
// Ownership    the queue owns the tasks. Destroying a task may re-enter the queue (a task that owns a Timer):
//              every method puts the queue in order before it lets go of one.
// Threads      one.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"

namespace penstock {

class TimerQueue {
 public:
  using Id = EventLoop::TimerId;

  TimerQueue() = default;
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  ~TimerQueue() { clear(); }

  bool empty() const { return heap_.empty(); }
  std::size_t size() const { return heap_.size(); }
  // When the first timer is due.
  std::optional<TimePoint> next() const {
    if (heap_.empty()) return std::nullopt;
    return slots_[heap_.front()].at;
  }

  Id start(TimePoint at, Task task) {
    const std::uint32_t index = take_slot();
    Slot& slot = slots_[index];
    slot.at = at;
    slot.order = ++started_;
    slot.task = std::move(task);
    slot.place = heap_.size();
    heap_.push_back(index);
    rise(slot.place);
    return static_cast<Id>(slot.uses) << 32 | index;
  }

  // An id that has fired or was cancelled is ignored.
  void cancel(Id id) {
    const auto index = static_cast<std::uint32_t>(id);
    if (index >= slots_.size() || slots_[index].uses != id >> 32 || slots_[index].place == kNowhere) return;
    const Task dropped = remove(index);
  }

  // The task of the first timer if it is due at `now`, else an empty one. The timer is gone when this returns.
  Task pop_due(TimePoint now) {
    if (heap_.empty() || slots_[heap_.front()].at > now) return {};
    return remove(heap_.front());
  }

  // Drops every timer, also those that the dropped tasks start while they are destroyed.
  void clear() {
    while (!heap_.empty()) const Task dropped = remove(heap_.back());
  }

 private:
  static constexpr std::size_t kNowhere = SIZE_MAX;

  struct Slot {
    TimePoint at;
    std::uint64_t order = 0;
    Task task;
    std::size_t place = kNowhere;  // index into heap_
    std::uint32_t uses = 0;        // upper half of the id; skips 0
  };

  std::uint32_t take_slot() {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(slots_.size()));
      slots_.emplace_back();
      free_.reserve(slots_.capacity());  // so that remove() never allocates
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    if (++slots_[index].uses == 0) slots_[index].uses = 1;
    return index;
  }

  Task remove(std::uint32_t index) {
    Slot& slot = slots_[index];
    const std::size_t place = std::exchange(slot.place, kNowhere);
    Task task = std::exchange(slot.task, Task{});
    free_.push_back(index);
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    if (last != index) {
      put(place, last);
      rise(place);
      sink(slots_[last].place);
    }
    return task;
  }

  bool before(std::uint32_t a, std::uint32_t b) const {
    return std::pair(slots_[a].at, slots_[a].order) < std::pair(slots_[b].at, slots_[b].order);
  }
  void put(std::size_t place, std::uint32_t index) {
    heap_[place] = index;
    slots_[index].place = place;
  }
  void rise(std::size_t place) {
    const std::uint32_t index = heap_[place];
    while (place > 0 && before(index, heap_[(place - 1) / 2])) {
      put(place, heap_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    put(place, index);
  }
  void sink(std::size_t place) {
    const std::uint32_t index = heap_[place];
    for (std::size_t child = 2 * place + 1; child < heap_.size(); child = 2 * place + 1) {
      if (child + 1 < heap_.size() && before(heap_[child + 1], heap_[child])) ++child;
      if (!before(heap_[child], index)) break;
      put(place, heap_[child]);
      place = child;
    }
    put(place, index);
  }

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> heap_;
  std::uint64_t started_ = 0;
};

}  // namespace penstock
