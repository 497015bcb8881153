#include "router/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "packet/packet.h"

namespace penstock::router {
namespace {

// Counts wake-ups and sleeps until there is one. Not std::counting_semaphore, which hangs now and then under MinGW.
class WakeUps {
 public:
  void release() {
    {
      const std::lock_guard lock(mutex_);
      ++count_;
    }
    some_.notify_one();
  }
  void acquire() {
    std::unique_lock lock(mutex_);
    some_.wait(lock, [&] { return count_ > 0; });
    --count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable some_;
  std::size_t count_ = 0;
};

TEST(Ring, GivesBackInOrderWhatWasPushed) {
  Ring<int> ring(4);
  int out = 0;
  EXPECT_FALSE(ring.try_pop(out));
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(ring.try_push(round * 3 + i));
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(ring.try_pop(out));
      EXPECT_EQ(out, round * 3 + i);
    }
  }
}

TEST(Ring, AFullOneLeavesTheValueWithThePusher) {
  Ring<std::unique_ptr<int>> ring(2);
  EXPECT_TRUE(ring.try_push(std::make_unique<int>(1)));
  EXPECT_TRUE(ring.try_push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(ring.try_push(std::move(third)));
  ASSERT_NE(third, nullptr);  // NOLINT(bugprone-use-after-move): refused, so not moved

  std::unique_ptr<int> out;
  ASSERT_TRUE(ring.try_pop(out));
  EXPECT_EQ(*out, 1);
  EXPECT_TRUE(ring.try_push(std::make_unique<int>(4)));
}

TEST(Ring, WhatIsPoppedIsNoLongerKeptAlive) {
  Ring<std::shared_ptr<int>> ring(4);
  auto value = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = value;
  ring.try_push(std::move(value));
  std::shared_ptr<int> out;
  ring.try_pop(out);
  out.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(Ring, TheConsumerIsWokenOnceAfterItParked) {
  Ring<int> ring(4);
  int out = 0;
  ring.try_push(1);
  EXPECT_TRUE(ring.wake_needed()) << "a new ring is parked";
  ring.try_push(2);
  EXPECT_FALSE(ring.wake_needed()) << "it was woken and has not parked since";

  ring.try_pop(out);
  EXPECT_FALSE(ring.park()) << "something is left";
  ring.try_pop(out);
  EXPECT_TRUE(ring.park());
  ring.try_push(3);
  EXPECT_TRUE(ring.wake_needed());
  EXPECT_FALSE(ring.wake_needed());
}

// Two loops as the gateway has them: the consumer sleeps until it is posted to, in a tiny ring so that it sleeps often
// and is often full. Lost wake-ups end in the time limit, races in the thread sanitizer.
TEST(Ring, TwoThreadsLoseNoPacketAndNoWakeUp) {
  constexpr std::uint32_t kPackets = 50000;
  Ring<Packet> ring(8);
  WakeUps wake_ups;

  std::thread producer([&] {
    for (std::uint32_t sent = 0; sent < kPackets;) {
      const std::uint32_t burst = std::min(1 + sent % 3, kPackets - sent);
      for (std::uint32_t i = 0; i < burst; ++i) {
        Packet packet = Packet::with_size(20);
        store_be32(packet.mutable_bytes().data(), sent + i);
        while (!ring.try_push(std::move(packet))) {  // NOLINT(bugprone-use-after-move): refused, so not moved
          if (ring.wake_needed()) wake_ups.release();
          std::this_thread::yield();
        }
      }
      sent += burst;
      if (ring.wake_needed()) wake_ups.release();
    }
  });

  std::uint32_t received = 0;
  bool in_order = true;
  while (received < kPackets) {
    wake_ups.acquire();
    do {
      Packet packet;
      while (ring.try_pop(packet)) in_order &= load_be32(packet.bytes().data()) == received++;
    } while (!ring.park());
  }
  producer.join();
  EXPECT_TRUE(in_order);
  EXPECT_EQ(received, kPackets);
}

}  // namespace
}  // namespace penstock::router
