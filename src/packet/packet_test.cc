#include "packet/packet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>

namespace penstock {
namespace {

// The spare buffers of a thread end with it, and a packet that outlives its thread is freed by another's hands.
TEST(Packet, ThreadsComeAndGoAndTheirPacketsStayWhole) {
  constexpr std::array<std::size_t, 4> kSizes{40, 1400, 9000, 60000};
  for (int round = 0; round < 50; ++round) {
    std::array<std::thread, 4> threads;
    std::array<PacketBatch, 4> made;
    for (std::size_t t = 0; t < threads.size(); ++t) {
      threads[t] = std::thread([&, t] {
        for (int i = 0; i < 20; ++i) {
          PacketBatch dropped;
          for (const std::size_t size : kSizes) {
            dropped.push_back(Packet::with_size(size));
            made[t].push_back(Packet::with_size(size));
            std::ranges::fill(made[t].back().mutable_bytes(), static_cast<std::uint8_t>(t));
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t t = 0; t < threads.size(); ++t) {
      for (const Packet& packet : made[t])
        ASSERT_TRUE(std::ranges::all_of(packet.bytes(), [&](std::uint8_t byte) { return byte == t; }));
    }
  }
}

}  // namespace
}  // namespace penstock
