#include "packet/packet.h"

#include <array>

#include "base/result.h"

namespace penstock {
namespace {

// Two classes of buffers: an ordinary packet with its headroom, and anything up to the largest.
constexpr std::array<std::size_t, 2> kClassSizes{2048, Packet::kHeadroom + Packet::kMaxSize + 1};
// How many spare buffers a thread keeps of each class: 4 MiB of small ones, 2 MiB of large ones.
constexpr std::array<std::size_t, 2> kSpares{2048, 32};

struct FreeLists {
  std::array<std::vector<std::uint8_t*>, 2> spare;
  ~FreeLists() {
    for (auto& list : spare) {
      for (auto* buffer : list) delete[] buffer;
      list.clear();
    }
    gone = true;
  }
  // Packets may outlive the thread's free lists (static destruction): then they are simply deleted.
  static thread_local bool gone;
};
thread_local bool FreeLists::gone = false;

FreeLists& free_lists() {
  static thread_local FreeLists lists;
  return lists;
}

std::size_t class_of(std::size_t capacity) { return capacity <= kClassSizes[0] ? 0 : 1; }

}  // namespace

std::uint8_t* Packet::allocate_buffer(std::size_t& capacity) {
  const std::size_t size_class = class_of(capacity);
  capacity = kClassSizes[size_class];
  if (!FreeLists::gone) {
    auto& spare = free_lists().spare[size_class];
    if (!spare.empty()) {
      auto* buffer = spare.back();
      spare.pop_back();
      return buffer;
    }
  }
  return new std::uint8_t[capacity];
}

void Packet::free_buffer(std::uint8_t* buffer, std::size_t capacity) {
  const std::size_t size_class = class_of(capacity);
  if (!FreeLists::gone) {
    auto& spare = free_lists().spare[size_class];
    if (spare.size() < kSpares[size_class]) {
      spare.push_back(buffer);
      return;
    }
  }
  delete[] buffer;
}

Packet Packet::with_size(std::size_t size) {
  PENSTOCK_ASSERT(size <= kMaxSize);
  Packet packet;
  std::size_t capacity = size + kHeadroom;
  packet.buffer_ = allocate_buffer(capacity);
  packet.capacity_ = static_cast<std::uint32_t>(capacity);
  packet.size_ = static_cast<std::uint32_t>(size);
  return packet;
}

Packet Packet::copy_of(ByteView bytes) {
  Packet packet = with_size(bytes.size());
  std::memcpy(packet.mutable_bytes().data(), bytes.data(), bytes.size());
  return packet;
}

}  // namespace penstock
