#include "packet/packet_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <utility>

#include "base/random.h"

namespace penstock {
namespace {

Packet numbered(std::uint32_t number, std::size_t size = 100) {
  Packet packet = Packet::with_size(size);
  store_be32(packet.mutable_bytes().data(), number);
  return packet;
}

std::uint32_t number_of(const Packet& packet) { return load_be32(packet.bytes().data()); }

TEST(PacketQueue, PacketsLeaveInTheOrderInWhichTheyCame) {
  PacketQueue queue(1 << 20);
  EXPECT_FALSE(queue.pop());
  EXPECT_EQ(queue.front(), nullptr);
  for (std::uint32_t i = 0; i < 100; ++i) ASSERT_TRUE(queue.push(numbered(i)));
  for (std::uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(number_of(*queue.front()), i);
    ASSERT_EQ(number_of(*queue.pop()), i);
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.size_bytes(), 0U);
}

TEST(PacketQueue, ItIsFullOfPacketsBeforeItIsFullOfBytesWhereTheyAreSmall) {
  PacketQueue queue(1 << 20, 3);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(queue.push(numbered(i)));
  Packet fourth = numbered(3);
  EXPECT_FALSE(queue.push(std::move(fourth)));
  EXPECT_EQ(number_of(fourth), 3U);  // NOLINT(bugprone-use-after-move): what is refused stays its owner's
  EXPECT_EQ(queue.room(), 0U);
  EXPECT_EQ(number_of(*queue.pop()), 0U);
  EXPECT_TRUE(queue.push(std::move(fourth)));
  EXPECT_EQ(queue.packets(), queue.max_packets());
}

TEST(PacketQueue, WhatCostsNoMoreThanItsRoomFitsWhateverTheSizes) {
  for (const std::size_t size : {4U, 100U, 1000U}) {
    for (const std::size_t packets : {10U, 1000U}) {
      PacketQueue queue(50'000, packets);
      ASSERT_TRUE(queue.push(numbered(0, 20)));
      for (std::size_t room = queue.room(); room >= Packet::footprint_of(size); room -= Packet::footprint_of(size))
        ASSERT_TRUE(queue.push(numbered(1, size)));
    }
  }
}

TEST(PacketQueue, AFullQueueLeavesThePacketWithTheCaller) {
  PacketQueue queue(2 * Packet::footprint_of(100));
  EXPECT_TRUE(queue.push(numbered(0)));
  EXPECT_TRUE(queue.push(numbered(1)));
  EXPECT_EQ(queue.size_bytes(), queue.max_bytes());
  Packet third = numbered(2);
  EXPECT_FALSE(queue.push(std::move(third)));
  // NOLINTNEXTLINE(bugprone-use-after-move): that it was not moved from is the point
  EXPECT_EQ(number_of(third), 2U);
  queue.pop();
  EXPECT_TRUE(queue.push(std::move(third)));
  EXPECT_EQ(queue.packets(), 2U);
}

TEST(PacketQueue, TinyPacketsCountTheirOverhead) {
  PacketQueue queue(10000);
  std::size_t taken = 0;
  while (queue.push(numbered(0, 4))) ++taken;
  EXPECT_EQ(taken, 10000 / Packet::footprint_of(4));
}

TEST(PacketQueue, ABatchHoldsAtMostWhatWasAskedForButAlwaysOnePacket) {
  PacketQueue queue(1 << 20);
  for (std::uint32_t i = 0; i < 6; ++i) queue.push(numbered(i, 1000));
  PacketBatch batch;
  EXPECT_EQ(queue.pop_into(batch, 2500), 2000U);
  EXPECT_EQ(batch.size(), 2U);
  EXPECT_EQ(queue.pop_into(batch, 1), 1000U) << "the first goes whatever its size";
  EXPECT_EQ(queue.pop_into(batch, 3000), 3000U) << "appended behind what is there";
  ASSERT_EQ(batch.size(), 6U);
  for (std::uint32_t i = 0; i < 6; ++i) EXPECT_EQ(number_of(batch[i]), i);
  EXPECT_EQ(queue.pop_into(batch, 3000), 0U);
}

TEST(PacketQueue, ALoweredBoundKeepsWhatIsThere) {
  PacketQueue queue(1 << 20);
  for (std::uint32_t i = 0; i < 4; ++i) queue.push(numbered(i));
  queue.set_max_bytes(500);
  EXPECT_EQ(queue.packets(), 4U);
  EXPECT_FALSE(queue.push(numbered(9)));
  for (int i = 0; i < 3; ++i) queue.pop();
  EXPECT_FALSE(queue.push(numbered(9))) << "356 of 500 are taken";
  queue.pop();
  EXPECT_TRUE(queue.push(numbered(9)));
}

TEST(PacketQueue, AnIdleOneGivesItsRingBackUnlessThatIsSmall) {
  PacketQueue queue(1 << 20);
  for (std::uint32_t i = 0; i < 100; ++i) queue.push(numbered(i));
  queue.release_idle_memory();
  EXPECT_EQ(queue.packets(), 100U) << "not while there is something in it";
  while (queue.pop()) continue;
  queue.release_idle_memory();
  EXPECT_EQ(queue.slots(), 0U);
  queue.push(numbered(1));
  const std::size_t small = queue.slots();
  queue.pop();
  queue.release_idle_memory();
  EXPECT_EQ(queue.slots(), small);
}

TEST(PacketQueue, TheRingGrowsAndGivesMemoryBackWhileItDrains) {
  PacketQueue queue(std::size_t{1} << 30);
  EXPECT_EQ(queue.slots(), 0U) << "an unused queue holds nothing";
  for (std::uint32_t i = 0; i < 5000; ++i) queue.push(numbered(i, 4));
  EXPECT_EQ(queue.slots(), 8192U);
  for (std::uint32_t i = 0; i < 5000; ++i) ASSERT_EQ(number_of(*queue.pop()), i);
  EXPECT_LE(queue.slots(), 256U);
  queue.push(numbered(1));
  queue.clear();
  EXPECT_EQ(queue.slots(), 0U);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.size_bytes(), 0U);
  EXPECT_TRUE(queue.push(numbered(2)));
  EXPECT_EQ(number_of(*queue.pop()), 2U);
}

TEST(PacketQueue, ABusyQueueKeepsItsRing) {
  PacketQueue queue(1 << 20);
  for (std::uint32_t i = 0; i < 200; ++i) queue.push(numbered(i));
  const std::size_t slots = queue.slots();
  for (std::uint32_t i = 200; i < 20000; ++i) {
    ASSERT_EQ(number_of(*queue.pop()), i - 200);
    ASSERT_TRUE(queue.push(numbered(i)));
    ASSERT_EQ(queue.slots(), slots);
  }
  while (queue.pop()) {
  }
  EXPECT_EQ(queue.slots(), slots) << "of this size it is kept";
}

TEST(PacketQueue, ARandomLifeAgreesWithADeque) {
  SeededRandom random(5);
  PacketQueue queue(200000);
  std::deque<std::pair<std::uint32_t, std::size_t>> model;
  std::size_t cost = 0;
  for (std::uint32_t i = 0; i < 50000; ++i) {
    const bool filling = (i / 2000) % 2 == 0;
    if (random.next32() % 100 < (filling ? 80U : 20U)) {
      const std::size_t size = 4 + random.next32() % 300;
      const bool fits = cost + Packet::footprint_of(size) <= 200000;
      ASSERT_EQ(queue.push(numbered(i, size)), fits);
      if (fits) {
        model.emplace_back(i, size);
        cost += Packet::footprint_of(size);
      }
    } else {
      const auto packet = queue.pop();
      ASSERT_EQ(packet.has_value(), !model.empty());
      if (packet) {
        ASSERT_EQ(number_of(*packet), model.front().first);
        ASSERT_EQ(packet->size(), model.front().second);
        cost -= Packet::footprint_of(model.front().second);
        model.pop_front();
      }
    }
    ASSERT_EQ(queue.size_bytes(), cost);
    ASSERT_EQ(queue.packets(), model.size());
  }
}

}  // namespace
}  // namespace penstock
