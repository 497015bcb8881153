// First in, first out, in memory that is kept: fakes that stand in the way of packets ask the allocator for nothing
// once they are warm, so that what is counted there is the product's own (test/e2e/allocation_test.cc). A std::deque
// takes and gives back a block every few entries, for ever.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace penstock::test {

template <typename T>
class Fifo {
 public:
  bool empty() const { return first_ == items_.size(); }
  std::size_t size() const { return items_.size() - first_; }
  T& front() { return items_[first_]; }
  const T& front() const { return items_[first_]; }

  void push_back(T item) {
    // Rather move what there is than grow, where that makes room for as many again.
    if (items_.size() == items_.capacity() && first_ > size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
    items_.push_back(std::move(item));
  }
  T pop_front() {
    T item = std::move(front());
    ++first_;
    if (empty()) clear();
    return item;
  }
  void clear() {
    items_.clear();
    first_ = 0;
  }

 private:
  std::vector<T> items_;
  std::size_t first_ = 0;  // those before it were taken
};

}  // namespace penstock::test
