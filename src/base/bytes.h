// Big-endian loads and stores, and the byte queue that the sans-I/O engines hand their bytes through.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace penstock {

using ByteView = std::span<const std::uint8_t>;
using MutableByteView = std::span<std::uint8_t>;

inline std::uint16_t load_be16(const std::uint8_t* at) {
  return static_cast<std::uint16_t>(static_cast<unsigned>(at[0]) << 8 | at[1]);
}
inline std::uint32_t load_be32(const std::uint8_t* at) {
  std::uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return std::endian::native == std::endian::little ? __builtin_bswap32(value) : value;
}
inline std::uint64_t load_be64(const std::uint8_t* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return std::endian::native == std::endian::little ? __builtin_bswap64(value) : value;
}
inline void store_be16(std::uint8_t* at, std::uint16_t value) {
  at[0] = static_cast<std::uint8_t>(value >> 8);
  at[1] = static_cast<std::uint8_t>(value);
}
inline void store_be32(std::uint8_t* at, std::uint32_t value) {
  if constexpr (std::endian::native == std::endian::little) value = __builtin_bswap32(value);
  std::memcpy(at, &value, sizeof value);
}
inline void store_be64(std::uint8_t* at, std::uint64_t value) {
  if constexpr (std::endian::native == std::endian::little) value = __builtin_bswap64(value);
  std::memcpy(at, &value, sizeof value);
}

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A first-in first-out run of bytes in one contiguous block: append at the back, consume at the front.
//
// Empty, it holds no memory until the first append; `release()` gives the block back (for idle connections). Views are
// valid until the next append, prepare, consume, release or shrink. One thread.
class ByteQueue {
 public:
  ByteQueue() = default;
  ByteQueue(ByteQueue&& other) noexcept { swap(other); }
  ByteQueue& operator=(ByteQueue&& other) noexcept {
    swap(other);
    return *this;
  }

  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  std::size_t capacity() const { return capacity_; }
  ByteView view() const { return {block_.get() + begin_, size()}; }
  MutableByteView mutable_view() { return {block_.get() + begin_, size()}; }

  void append(ByteView bytes) {
    if (bytes.empty()) return;
    std::memcpy(prepare(bytes.size()).data(), bytes.data(), bytes.size());
    commit(bytes.size());
  }
  // At least `size` writable bytes at the back; commit() says how many were written.
  MutableByteView prepare(std::size_t size) {
    if (capacity_ - end_ < size) make_room(size);
    return {block_.get() + end_, capacity_ - end_};
  }
  void commit(std::size_t size) { end_ += size; }
  void consume(std::size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  void clear() { begin_ = end_ = 0; }
  void release() {
    block_.reset();
    begin_ = end_ = capacity_ = 0;
  }
  // Gives back what is far more than the bytes need.
  void shrink() {
    constexpr std::size_t kWorthIt = 4096;
    if (empty()) return release();
    if (capacity_ <= 2 * size() + kWorthIt) return;
    ByteQueue fitting;
    fitting.append(view());
    swap(fitting);
  }

 private:
  void swap(ByteQueue& other) noexcept {
    block_.swap(other.block_);
    std::swap(capacity_, other.capacity_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
  }
  void make_room(std::size_t size) {
    const std::size_t used = this->size();
    if (capacity_ - used >= size && begin_ >= used) {
      std::memcpy(block_.get(), block_.get() + begin_, used);
    } else {
      std::size_t capacity = capacity_ == 0 ? 1024 : capacity_;
      while (capacity - used < size) capacity *= 2;
      // Not make_unique: the block need not be zeroed before it is written.
      std::unique_ptr<std::uint8_t[]> block(new std::uint8_t[capacity]);
      if (used != 0) std::memcpy(block.get(), block_.get() + begin_, used);
      block_ = std::move(block);
      capacity_ = capacity;
    }
    begin_ = 0;
    end_ = used;
  }

  std::unique_ptr<std::uint8_t[]> block_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace penstock
