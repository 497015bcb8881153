// A queue that stays as busy as it is asks the allocator for nothing.
#include <gtest/gtest.h>

#include "packet/flow_queue.h"
#include "packet/packet_samples.h"
#include "test/support/allocations.h"

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
  return test::allocations_in([&] {
    for (int i = 0; i < 3000; ++i) turn();
  });
}

TEST(FlowQueueAllocation, ABusyQueueAllocatesNothing) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
  EXPECT_EQ(allocations_of(1, 1, 0), 0U);
  EXPECT_EQ(allocations_of(300, 1, 0), 0U) << "nor where it is emptied in every turn";
  EXPECT_EQ(allocations_of(300, 200, 0), 0U) << "nor where there are many flows";
  EXPECT_EQ(allocations_of(10, 5, 300), 0U) << "nor where it never is empty";
}

}  // namespace
}  // namespace penstock
