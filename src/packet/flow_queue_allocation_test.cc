// A queue that stays as busy as it is asks the allocator for nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "packet/flow_queue.h"
#include "packet/packet_samples.h"

// The sanitizers have an operator new of their own, which must not be replaced.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PENSTOCK_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PENSTOCK_SANITIZED 1
#endif
#endif

namespace {
std::atomic<std::size_t> allocations{0};
}  // namespace

#ifndef PENSTOCK_SANITIZED
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
// The analyzer takes the allocator itself for one of its users.
// NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete)
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace penstock {
namespace {

// How many allocations it costs to push and take `packets` packets of `flows` flows in each of 3000 turns, a
// millisecond each, when all is warm; `left` of them always stay behind.
std::size_t allocations_of(std::size_t packets, std::uint16_t flows, std::size_t left) {
  ManualClock clock;
  FlowQueue queue({1, 2}, std::size_t{1} << 30);
  PacketBatch batch;
  for (std::size_t i = 0; i < packets + left; ++i) {
    batch.push_back(
        samples::make({.source_port = static_cast<std::uint16_t>(i % flows), .payload = samples::Bytes(500)}));
  }
  PacketBatch out;
  const auto turn = [&] {
    for (Packet& packet : batch) queue.push(std::move(packet), clock.now());
    batch.clear();
    clock.advance(std::chrono::milliseconds(1));
    while (queue.packets() > left) queue.take(out, 1, 0, clock.now());
    batch.swap(out);
  };
  for (int i = 0; i < 1500; ++i) turn();
  const std::size_t before = allocations;
  EXPECT_GT(before, 0U) << "nothing was counted at all";
  for (int i = 0; i < 3000; ++i) turn();
  return allocations - before;
}

TEST(FlowQueueAllocation, ABusyQueueAllocatesNothing) {
#ifdef PENSTOCK_SANITIZED
  GTEST_SKIP() << "a sanitizer has the allocator: allocations cannot be counted";
#endif
  EXPECT_EQ(allocations_of(1, 1, 0), 0U);
  EXPECT_EQ(allocations_of(300, 1, 0), 0U) << "nor where it is emptied in every turn";
  EXPECT_EQ(allocations_of(300, 200, 0), 0U) << "nor where there are many flows";
  EXPECT_EQ(allocations_of(10, 5, 300), 0U) << "nor where it never is empty";
}

}  // namespace
}  // namespace penstock
