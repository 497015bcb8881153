#include "packet/packet.h"

#include <cxxabi.h>

#include <array>

#include "base/result.h"

namespace penstock {
namespace {

// Classes of buffers, headroom included: an acknowledgement, an ordinary packet, a jumbo one, the largest there is.
constexpr std::size_t kClasses = 4;
constexpr std::array<std::size_t, kClasses> kClassSizes{256, 2048, 16384, Packet::kHeadroom + Packet::kMaxSize + 1};
// How many spare buffers a thread keeps of each class: 14 MiB in all. A turn reads half a megabyte, a burst and what is
// queued behind it are a few more; the first use of a new large buffer costs ten times its second (page faults).
constexpr std::array<std::size_t, kClasses> kSpares{4096, 2048, 64, 128};

struct FreeLists {
  std::array<std::vector<std::uint8_t*>, kClasses> spare;
  FreeLists() = default;
  FreeLists(const FreeLists&) = delete;
  FreeLists& operator=(const FreeLists&) = delete;
  ~FreeLists() {
    for (auto& list : spare)
      for (auto* buffer : list) delete[] buffer;
  }
};

// Not thread_local themselves: MinGW takes a thread's variables away before it runs their destructors. So these two
// need none, and the lists are told of the thread's end by the call that destructors are registered with.
thread_local FreeLists* lists = nullptr;
thread_local bool thread_ends = false;

void end_lists(void* mine) {
  delete static_cast<FreeLists*>(mine);
  lists = nullptr;
  thread_ends = true;
}

// Null once they are gone: a packet that outlives them (static destruction) is simply deleted.
FreeLists* free_lists() {
  if (lists == nullptr && !thread_ends) {
    static char this_program;
    lists = new FreeLists;
    abi::__cxa_thread_atexit(end_lists, lists, &this_program);
  }
  return lists;
}

std::size_t class_of(std::size_t capacity) {
  std::size_t size_class = 0;
  while (kClassSizes[size_class] < capacity) ++size_class;
  return size_class;
}

}  // namespace

std::uint8_t* Packet::allocate_buffer(std::size_t& capacity) {
  const std::size_t size_class = class_of(capacity);
  capacity = kClassSizes[size_class];
  if (FreeLists* const mine = free_lists()) {
    auto& spare = mine->spare[size_class];
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
  if (FreeLists* const mine = free_lists()) {
    auto& spare = mine->spare[size_class];
    if (spare.size() < kSpares[size_class]) {
      spare.push_back(buffer);
      return;
    }
  }
  delete[] buffer;
}

std::size_t Packet::footprint_of(std::size_t size) { return kClassSizes[class_of(size + kHeadroom)]; }

Packet Packet::with_size(std::size_t size) {
  PENSTOCK_ASSERT(size <= kMaxSize);
  Packet packet;
  std::size_t capacity = size + kHeadroom;
  packet.buffer_ = allocate_buffer(capacity);
  packet.capacity_ = static_cast<std::uint32_t>(capacity);
  packet.size_ = static_cast<std::uint32_t>(size);
  return packet;
}

Packet Packet::copy_of(MaskedView bytes) {
  Packet packet = with_size(bytes.size());
  bytes.copy_to(packet.mutable_bytes().data());
  return packet;
}

Packet Packet::clone() const {
  Packet copy = copy_of(bytes());
  copy.source = source;
  copy.member = member;
  copy.answers = answers;
  copy.offload = offload;
  copy.may_fragment = may_fragment;
  return copy;
}

}  // namespace penstock
