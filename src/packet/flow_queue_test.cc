#include "packet/flow_queue.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>

#include "base/random.h"
#include "packet/ecn.h"
#include "packet/packet_samples.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr FlowHashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};
constexpr std::size_t kEverything = std::size_t{1} << 30;
constexpr std::uint8_t kEct0 = 2;
constexpr std::uint8_t kCe = 3;

// A TCP packet of `size` bytes in all, at least 40, that knows its flow and its number in it.
Packet packet_of(std::uint16_t flow, std::uint32_t number, std::size_t size = 1000, std::uint8_t traffic_class = 0,
                 Family family = Family::ipv4) {
  return samples::make({.family = family,
                        .source_port = flow,
                        .traffic_class = traffic_class,
                        .acknowledgement = number,
                        .payload = samples::Bytes(size - (family == Family::ipv4 ? 40 : 60))});
}

// A super-packet of that many segments of 1000 bytes of payload each.
Packet super_of(std::uint16_t flow, std::uint32_t number, std::size_t segments) {
  return samples::make({.source_port = flow,
                        .acknowledgement = number,
                        .payload = samples::Bytes(segments * 1000),
                        .offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 1000}});
}

std::size_t transport_offset(const Packet& packet) { return packet.bytes()[0] >> 4 == 4 ? 20 : 40; }
std::uint16_t flow_of(const Packet& packet) { return load_be16(&packet.bytes()[transport_offset(packet)]); }
std::uint32_t number_of(const Packet& packet) { return load_be32(&packet.bytes()[transport_offset(packet) + 8]); }

class FlowQueueTest : public testing::Test {
 protected:
  TimePoint now() const { return clock_.now(); }
  // The next packet; empty where there is none.
  Packet next(FlowQueue& queue, std::size_t chunk_bytes = 0) {
    PacketBatch batch;
    queue.take(batch, 1, chunk_bytes, now());
    EXPECT_LE(batch.size(), 1U);
    return batch.empty() ? Packet() : std::move(batch[0]);
  }
  ManualClock clock_;
};

TEST_F(FlowQueueTest, PacketsOfAFlowLeaveInTheOrderInWhichTheyCame) {
  FlowQueue queue(kKey, kEverything);
  SeededRandom random(1);
  std::map<std::uint16_t, std::uint32_t> pushed, taken;
  for (int i = 0; i < 5000; ++i) {
    const auto flow = static_cast<std::uint16_t>(random.next32() % 50);
    queue.push(packet_of(flow, pushed[flow]++, 40 + random.next32() % 3000), now());
  }
  EXPECT_EQ(queue.packets(), 5000U);
  while (!queue.empty()) {
    PacketBatch batch;
    queue.take(batch, 20000, 0, now());
    for (const Packet& packet : batch) ASSERT_EQ(number_of(packet), taken[flow_of(packet)]++);
  }
  EXPECT_EQ(taken, pushed);
  EXPECT_EQ(queue.size_bytes(), 0U);
  EXPECT_EQ(queue.losses(), FlowQueue::Losses());
}

TEST_F(FlowQueueTest, ABatchHoldsAtMostWhatWasAskedForButAlwaysOnePacket) {
  FlowQueue queue(kKey, kEverything);
  PacketBatch batch;
  EXPECT_EQ(queue.take(batch, 100, 0, now()), 0U);
  for (std::uint32_t i = 0; i < 6; ++i) queue.push(packet_of(1, i), now());
  EXPECT_EQ(queue.take(batch, 2500, 0, now()), 2000U);
  EXPECT_EQ(queue.take(batch, 1, 0, now()), 1000U) << "the first goes whatever its size";
  EXPECT_EQ(queue.take(batch, 3000, 0, now()), 3000U) << "appended behind what is there";
  ASSERT_EQ(batch.size(), 6U);
  for (std::uint32_t i = 0; i < 6; ++i) EXPECT_EQ(number_of(batch[i]), i);
}

// ---- turns ----

TEST_F(FlowQueueTest, ASparseFlowPassesWhateverBulkIsQueued) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    queue.push(packet_of(1, i, 1500), now());
    queue.push(packet_of(2, i, 60000), now());
  }
  for (int i = 0; i < 100; ++i) next(queue);
  for (std::uint32_t ping = 0; ping < 20; ++ping) {
    queue.push(packet_of(3, ping, 84), now());
    EXPECT_EQ(flow_of(next(queue)), 3);
    // Every so often, as a ping is: there was a round in between.
    for (int i = 0; i < 40; ++i) EXPECT_NE(flow_of(next(queue)), 3);
  }
}

TEST_F(FlowQueueTest, OfABulkFlowThatIsNewTooAtMostOneFullPacketAndOneMoreGoBefore) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 100; ++i) queue.push(packet_of(1, i, 1500), now());
  queue.push(packet_of(2, 0, 84), now());
  EXPECT_EQ(flow_of(next(queue)), 1);
  EXPECT_EQ(flow_of(next(queue)), 1);
  EXPECT_EQ(flow_of(next(queue)), 2);
}

TEST_F(FlowQueueTest, AFlowThatSendsAsSoonAsItIsEmptyIsNotSparse) {
  FlowQueue queue(kKey, kEverything);
  std::map<std::uint16_t, std::size_t> bytes;
  for (std::uint32_t i = 0; i < 2000; ++i) queue.push(packet_of(1, i, 1500), now());
  queue.push(packet_of(2, 0, 1500), now());
  for (std::uint32_t i = 1; i < 2000; ++i) {
    const Packet packet = next(queue);
    bytes[flow_of(packet)] += packet.size();
    if (flow_of(packet) == 2) queue.push(packet_of(2, i, 1500), now());
  }
  EXPECT_LE(bytes[2], bytes[1] + 2 * FlowQueue::kQuantum);
}

TEST_F(FlowQueueTest, BulkFlowsShareTheBytesEquallyWhateverTheirPacketsAre) {
  for (const std::size_t chunk : {0U, 1500U, 20000U}) {
    FlowQueue queue(kKey, kEverything);
    for (std::uint32_t i = 0; i < 300; ++i) queue.push(packet_of(1, i, 65000), now());
    for (std::uint32_t i = 0; i < 14000; ++i) queue.push(packet_of(2, i, 1500), now());
    for (std::uint32_t i = 0; i < 300; ++i) queue.push(super_of(3, i, 60), now());
    std::map<std::uint16_t, std::size_t> bytes;
    PacketBatch batch;
    for (int i = 0; i < 100; ++i) queue.take(batch, 128 * 1024, chunk, now());
    std::size_t all = 0;
    for (const Packet& packet : batch) {
      bytes[flow_of(packet)] += packet.size();
      all += packet.size();
    }
    for (const auto& [flow, share] : bytes) {
      EXPECT_NEAR(static_cast<double>(share), static_cast<double>(all) / 3, static_cast<double>(all) / 3 * 0.05)
          << "flow " << flow << " in chunks of " << chunk;
    }
  }
}

TEST_F(FlowQueueTest, AFloodOfNewFlowsDoesNotStarveAnOldOne) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 100; ++i) queue.push(packet_of(1, i, 1500), now());
  int waited = 0;
  for (std::uint16_t flow = 2; flow < 20000; ++flow) {
    queue.push(packet_of(flow, 0, 100), now());
    const bool old = flow_of(next(queue)) == 1;
    if (old) queue.push(packet_of(1, flow, 1500), now());
    waited = old ? 0 : waited + 1;
    ASSERT_LE(waited, 5000);
  }
}

// ---- chunks ----

TEST_F(FlowQueueTest, ASuperPacketLeavesInPiecesNoLargerThanAChunkButOfASegmentAtLeast) {
  for (const std::size_t chunk : {100U, 1040U, 2500U, 10040U, 39000U}) {
    FlowQueue queue(kKey, kEverything);
    queue.push(super_of(1, 7, 40), now());
    std::size_t segments = 0;
    while (!queue.empty()) {
      const Packet piece = next(queue, chunk);
      ASSERT_EQ(number_of(piece), 7U);
      EXPECT_LE(piece.size(), std::max<std::size_t>(chunk, 1040));
      EXPECT_TRUE(queue.empty() || piece.size() + 1000 > chunk) << "as large as may be";
      EXPECT_EQ(load_be32(&piece.bytes()[24]), static_cast<std::uint32_t>(0xFFFFF000 + segments * 1000));
      segments += segments_of(piece);
    }
    EXPECT_EQ(segments, 40U);
    EXPECT_EQ(queue.size_bytes(), 0U);
  }
}

TEST_F(FlowQueueTest, OneOfTinySegmentsIsTakenAsWhatItGrowsToWhenItIsSegmented) {
  FlowQueue queue(kKey, kEverything);
  Packet tiny = super_of(1, 7, 40);
  tiny.offload.segment_size = 1;
  queue.push(std::move(tiny), now());
  PacketBatch out;
  std::size_t segments = 0;
  while (!queue.empty()) {
    EXPECT_LE(queue.take(out, 65536, 65536, now()), 65536U);
    for (const Packet& piece : out) {
      EXPECT_LE(segmented_size_of(piece), 65536U);
      segments += segments_of(piece);
    }
    out.clear();
  }
  EXPECT_EQ(segments, 40000U);
}

TEST_F(FlowQueueTest, OneThatFitsIsLeftWhole) {
  FlowQueue queue(kKey, kEverything);
  for (const std::size_t chunk : {0U, 40040U, 65535U}) {
    queue.push(super_of(1, 7, 40), now());
    EXPECT_EQ(next(queue, chunk).size(), 40040U);
  }
  queue.push(packet_of(1, 7, 9000), now());
  EXPECT_EQ(next(queue, 1500).size(), 9000U) << "no super-packet";
}

TEST_F(FlowQueueTest, ASparseFlowComesBetweenThePiecesOfASuperPacket) {
  FlowQueue queue(kKey, kEverything);
  queue.push(super_of(1, 0, 40), now());
  for (int i = 0; i < 10; ++i) next(queue, 1500);
  queue.push(packet_of(2, 0, 84), now());
  EXPECT_EQ(flow_of(next(queue, 1500)), 2);
  EXPECT_EQ(flow_of(next(queue, 1500)), 1);
}

// ---- delay ----

// RFC 8289 section 5, as it stands there.
class NaiveCodel {
 public:
  struct Queued {
    std::uint32_t number = 0;
    TimePoint time;
  };
  static constexpr std::size_t kMaxPacket = 1000;  // all packets are of that size

  std::deque<Queued> queue;
  std::vector<std::uint32_t> dropped;

  std::optional<std::uint32_t> deque(TimePoint now) {
    Result result = dodequeue(now);
    if (dropping_) {
      if (!result.ok_to_drop) dropping_ = false;
      while (now >= drop_next_ && dropping_) {
        dropped.push_back(result.packet->number);
        ++count_;
        result = dodequeue(now);
        if (!result.ok_to_drop) {
          dropping_ = false;
        } else {
          drop_next_ = control_law(drop_next_, count_);
        }
      }
    } else if (result.ok_to_drop) {
      dropped.push_back(result.packet->number);
      result = dodequeue(now);
      dropping_ = true;
      const std::uint32_t delta = count_ - lastcount_;
      count_ = 1;
      if (delta > 1 && now - drop_next_ < 16 * kInterval) count_ = delta;
      drop_next_ = control_law(now, count_);
      lastcount_ = count_;
    }
    if (!result.packet) return std::nullopt;
    return result.packet->number;
  }

 private:
  static constexpr Duration kTarget = milliseconds(5);
  static constexpr Duration kInterval = milliseconds(100);
  struct Result {
    std::optional<Queued> packet;
    bool ok_to_drop = false;
  };

  Result dodequeue(TimePoint now) {
    Result result;
    if (queue.empty()) {
      first_above_time_ = {};
      return result;
    }
    result.packet = queue.front();
    queue.pop_front();
    if (now - result.packet->time < kTarget || queue.size() * kMaxPacket <= kMaxPacket) {
      first_above_time_ = {};
    } else if (first_above_time_ == TimePoint()) {
      first_above_time_ = now + kInterval;
    } else if (now >= first_above_time_) {
      result.ok_to_drop = true;
    }
    return result;
  }
  static TimePoint control_law(TimePoint time, std::uint32_t count) {
    return time + Duration(static_cast<std::int64_t>(1e8 / std::sqrt(count)));
  }

  TimePoint first_above_time_;
  TimePoint drop_next_;
  std::uint32_t count_ = 0;
  std::uint32_t lastcount_ = 0;
  bool dropping_ = false;
};

TEST_F(FlowQueueTest, AFlowLosesWhatRfc8289SaysWhenItSaysSo) {
  SeededRandom random(3);
  FlowQueue queue(kKey, kEverything);
  NaiveCodel naive;
  std::uint32_t number = 0;
  std::size_t delivered = 0;
  // Loads around what the link takes, a packet a millisecond, and at times far above or nothing.
  for (int episode = 0; episode < 200; ++episode) {
    const std::uint32_t load = std::array{0U, 50U, 90U, 105U, 130U, 300U}[random.next32() % 6];
    const int turns = static_cast<int>(random.next32() % 1000);
    for (int i = 0; i < turns; ++i) {
      for (std::uint32_t chance = load; chance > 0; chance -= std::min(chance, 100U)) {
        if (random.next32() % 100 >= chance) continue;
        naive.queue.push_back({number, now()});
        queue.push(packet_of(1, number++), now());
      }
      clock_.advance(microseconds(500 + random.next32() % 1000));
      const auto expected = naive.deque(now());
      const Packet packet = next(queue);
      ASSERT_EQ(!packet.empty(), expected.has_value());
      if (expected) {
        ASSERT_EQ(number_of(packet), *expected);
        ++delivered;
      }
      ASSERT_EQ(queue.losses().dropped_aqm, naive.dropped.size());
      ASSERT_EQ(queue.packets(), naive.queue.size());
    }
  }
  EXPECT_GT(naive.dropped.size(), 500U);
  EXPECT_GT(delivered, 20000U);
  EXPECT_EQ(queue.losses().dropped_full, 0U);
}

TEST_F(FlowQueueTest, FlowsAreJudgedEachForItself) {
  FlowQueue queue(kKey, kEverything);
  std::uint32_t bulk = 0, ping = 0;
  std::map<std::uint16_t, std::uint32_t> taken;
  for (int i = 0; i < 5000; ++i) {
    queue.push(packet_of(1, bulk++), now());
    queue.push(packet_of(1, bulk++), now());
    if (i % 20 == 0) queue.push(packet_of(2, ping++, 84), now());
    clock_.advance(milliseconds(1));
    for (int j = 0; j < 2; ++j) ++taken[flow_of(next(queue))];
    if (i % 3 == 0) queue.push(packet_of(1, bulk++), now());
  }
  EXPECT_GT(queue.losses().dropped_aqm, 100U);
  EXPECT_EQ(taken[2], ping);
}

TEST_F(FlowQueueTest, ALargestPacketIsAlwaysLeft) {
  for (const std::size_t size : {100U, 1500U, 60000U}) {
    FlowQueue queue(kKey, kEverything);
    for (std::uint32_t i = 0; i < 1000; ++i) {
      while (queue.packets() < 2) queue.push(packet_of(1, i, size), now());
      clock_.advance(milliseconds(50));
      EXPECT_FALSE(next(queue).empty());
    }
    EXPECT_EQ(queue.losses().dropped_aqm, 0U);
  }
}

TEST_F(FlowQueueTest, TargetAndIntervalCanBeSet) {
  FlowQueue queue(kKey, kEverything);
  queue.set_codel({.target = seconds(10), .interval = seconds(100)});
  for (std::uint32_t i = 0; i < 5000; ++i) {
    for (int j = 0; j < 2; ++j) queue.push(packet_of(1, i), now());
    clock_.advance(milliseconds(1));
    next(queue);
  }
  EXPECT_EQ(queue.losses().dropped_aqm, 0U);
  queue.set_codel({});
  for (int i = 0; i < 300; ++i) {
    clock_.advance(milliseconds(1));
    next(queue);
  }
  EXPECT_GT(queue.losses().dropped_aqm, 0U);
}

TEST_F(FlowQueueTest, WhoUnderstandsEcnIsMarkedAndLosesNothing) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (std::uint8_t ecn = 1; ecn <= kCe; ++ecn) {
      FlowQueue queue(kKey, kEverything);
      const auto traffic_class = static_cast<std::uint8_t>(0xB8 | ecn);
      std::uint32_t pushed = 0, taken = 0;
      std::size_t marked = 0;
      for (int i = 0; i < 3000; ++i) {
        if (i < 1000) queue.push(packet_of(1, pushed++, 1000, traffic_class, family), now());
        if (i < 1000) queue.push(packet_of(1, pushed++, 1000, traffic_class, family), now());
        clock_.advance(milliseconds(1));
        const Packet packet = next(queue);
        if (packet.empty()) break;
        const ByteView bytes = packet.bytes();
        const bool v4 = family == Family::ipv4;
        const unsigned found = v4 ? bytes[1] : (bytes[0] & 0x0FU) << 4 | bytes[1] >> 4;
        EXPECT_EQ(found & 0xFCU, 0xB8U);
        ASSERT_TRUE((found & 3) == ecn || (found & 3) == kCe);
        if (v4) {
          ASSERT_EQ(samples::naive_sum(bytes.first(20)), 0xFFFFU);
        } else {
          ASSERT_EQ(load_be32(bytes.data()) & 0xFFFFF, 0x12345U) << "the flow label";
        }
        marked += (found & 3) == kCe;
        ASSERT_EQ(number_of(packet), taken++);
      }
      EXPECT_EQ(taken, pushed);
      EXPECT_EQ(queue.losses().dropped_aqm, 0U);
      EXPECT_GT(queue.losses().marked, 10U);
      if (ecn != kCe) {
        EXPECT_EQ(queue.losses().marked, marked);
      }
    }
  }
}

TEST_F(FlowQueueTest, CodelDropsASegmentAndNotTheSuperPacket) {
  FlowQueue queue(kKey, kEverything);
  std::uint32_t pushed = 0;
  std::size_t segments = 0;
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 2; ++j) queue.push(super_of(1, pushed++, 40), now());
    clock_.advance(milliseconds(10));
    segments += segments_of(next(queue));
  }
  const std::uint64_t dropped = queue.losses().dropped_aqm;
  EXPECT_GT(dropped, 5U);
  EXPECT_LT(dropped, 60U);
  segments += queue.clear();
  EXPECT_EQ(segments + dropped, pushed * 40U);
}

// Two super-packets, of which the second is what is always left; each waits for 12 ms.
TEST_F(FlowQueueTest, SegmentsThatGrowWhenTheyAreSentAreNoMoreBehindTheHeadThanTheyAre) {
  for (const std::uint16_t segment_size : std::array<std::uint16_t, 5>{1, 24, 63, 64, 100}) {
    for (const std::size_t chunk : {0U, 128U * 1024}) {
      FlowQueue queue(kKey, kEverything);
      std::size_t taken = 0, pushed = 0;
      const auto push = [&] {
        Packet super = super_of(1, 0, 1);
        super = Packet::copy_of(super.bytes());
        super.offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = segment_size};
        pushed += segments_of(super);
        queue.push(std::move(super), now());
      };
      push();
      for (int i = 0; i < 400; ++i) {
        if (queue.packets() < 2) push();
        clock_.advance(milliseconds(6));
        PacketBatch out;
        queue.take(out, 1, chunk, now());
        taken += segments_of(out);
      }
      EXPECT_EQ(queue.losses().dropped_aqm, 0U) << segment_size << " in chunks of " << chunk;
      EXPECT_EQ(taken + queue.clear(), pushed);
    }
  }
}

// The drops that RFC 8289 wants are the same however the segments are wrapped, so they are if they are cut off at once.
TEST_F(FlowQueueTest, AfterAStallSuperPacketsLoseWhatTheirSegmentsWouldHaveLost) {
  const auto lost = [this](std::size_t segments) {
    FlowQueue queue(kKey, kEverything);
    const auto fill = [&] {
      for (std::size_t i = 0; i < 600; i += segments) {
        queue.push(segments == 1 ? packet_of(1, 0, 1040) : super_of(1, 0, segments), now());
      }
    };
    for (int i = 0; i < 60; ++i) {
      fill();
      clock_.advance(milliseconds(10));
      EXPECT_EQ(segments_of(next(queue, 1040)), 1U);
    }
    clock_.advance(seconds(20));
    EXPECT_EQ(segments_of(next(queue, 1040)), 1U);
    const std::size_t dropped = queue.losses().dropped_aqm;
    EXPECT_EQ(queue.clear() + dropped + 61, 60 * 600U) << segments;
    return dropped;
  };
  const std::size_t expected = lost(1);
  EXPECT_GT(expected, 5000U);
  for (const std::size_t segments : {2U, 40U, 60U}) EXPECT_EQ(lost(segments), expected) << segments;
}

TEST_F(FlowQueueTest, AMarkedSuperPacketCountsAsWhatItStandsFor) {
  FlowQueue queue(kKey, kEverything);
  for (int i = 0; i < 30; ++i) {
    for (int j = 0; j < 2; ++j) {
      Packet super = super_of(1, 0, 40);
      ASSERT_FALSE(mark_congestion(super.mutable_bytes()));
      super.mutable_bytes()[1] = kEct0;
      queue.push(std::move(super), now());
    }
    clock_.advance(milliseconds(10));
    next(queue);
  }
  EXPECT_GT(queue.losses().marked, 0U);
  EXPECT_EQ(queue.losses().marked % 40, 0U);
  EXPECT_EQ(queue.losses().dropped_aqm, 0U);
}

// ---- bounds ----

TEST_F(FlowQueueTest, WhoHasMostLosesItsOldestAndASparseFlowNothing) {
  const std::size_t cost = Packet::footprint_of(1000);
  FlowQueue queue(kKey, 100 * cost);
  queue.push(packet_of(2, 0, 84), now());
  for (std::uint32_t i = 0; i < 1000; ++i) {
    queue.push(packet_of(1, i), now());
    ASSERT_LE(queue.size_bytes(), queue.max_bytes());
    if (i % 100 == 0) queue.push(packet_of(3, i / 100), now());
  }
  std::map<std::uint16_t, std::vector<std::uint32_t>> taken;
  while (!queue.empty()) {
    const Packet packet = next(queue);
    taken[flow_of(packet)].push_back(number_of(packet));
  }
  EXPECT_EQ(taken[2].size(), 1U);
  EXPECT_EQ(taken[3].size(), 10U);
  EXPECT_EQ(taken[1].back(), 999U);
  EXPECT_EQ(taken[1].front() + taken[1].size(), 1000U) << "lost from the head only";
  EXPECT_GE(taken[1].size(), 88U) << "no more than was necessary";
  EXPECT_EQ(queue.losses().dropped_full, 1000 - taken[1].size());
}

TEST_F(FlowQueueTest, ManyFlowsLoseInBatchesButNeverMoreThanHalf) {
  FlowQueue queue(kKey, kEverything, 5000);
  for (std::uint16_t flow = 2; flow < 4000; ++flow) queue.push(packet_of(flow, 0, 40), now());
  std::uint32_t number = 0;
  while (queue.packets() < 5000) queue.push(packet_of(1, number++), now());
  queue.push(packet_of(1, number++), now());
  const std::size_t dropped = queue.take_losses().dropped_full;
  EXPECT_GT(dropped, 30U);
  EXPECT_LE(dropped, 64U);
  EXPECT_EQ(queue.losses().dropped_full, 0U);
  while (flow_of(next(queue)) != 1) continue;
}

// Records of flows that were there once are many, and yet nobody loses half of a queue for a packet more.
TEST_F(FlowQueueTest, OverABoundABatchOfSuperPacketsIsNoLargerThanOneOfPackets) {
  FlowQueue queue(kKey, kEverything, 5000);
  for (std::uint16_t flow = 2; flow < 4000; ++flow) queue.push(packet_of(flow, 0, 40), now());
  while (next(queue).size() != 0) continue;
  queue.set_max_bytes(8 << 20);
  std::size_t lost = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    queue.push(super_of(1, i, 45), now());
    lost = queue.take_losses().dropped_full;
    ASSERT_LE(lost, 64U + 44);
  }
  EXPECT_GT(lost, 0U);
  EXPECT_GT(queue.size_bytes(), std::size_t{7} << 20);
}

TEST_F(FlowQueueTest, ItIsFullOfPacketsBeforeItIsFullOfBytesWhereTheyAreSmall) {
  FlowQueue queue(kKey, kEverything, 3);
  for (std::uint32_t i = 0; i < 4; ++i) queue.push(packet_of(1, i, 40), now());
  EXPECT_EQ(queue.packets(), 3U);
  EXPECT_EQ(queue.room(), 0U);
  EXPECT_EQ(number_of(next(queue)), 1U);
  FlowQueue none(kKey, 100);
  none.push(packet_of(1, 0), now());
  EXPECT_TRUE(none.empty()) << "there is no room at all";
  EXPECT_EQ(none.losses().dropped_full, 1U);
}

TEST_F(FlowQueueTest, WhatHoldsNoMoreThanTheRoomFitsWhateverTheSizes) {
  for (const std::size_t size : {40U, 100U, 1000U}) {
    for (const std::size_t packets : {10U, 1000U}) {
      FlowQueue queue(kKey, 50'000, packets);
      queue.push(packet_of(1, 0, 40), now());
      for (std::size_t room = queue.room(); room >= Packet::footprint_of(size); room -= Packet::footprint_of(size)) {
        queue.push(packet_of(1, 1, size), now());
      }
      EXPECT_EQ(queue.losses().dropped_full, 0U);
    }
  }
}

TEST_F(FlowQueueTest, ALoweredBoundHoldsFromTheNextPacketOn) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 10; ++i) queue.push(packet_of(1, i), now());
  queue.set_max_bytes(5 * Packet::footprint_of(1000));
  EXPECT_EQ(queue.packets(), 10U);
  EXPECT_EQ(queue.room(), 0U);
  queue.push(packet_of(1, 10), now());
  EXPECT_EQ(queue.packets(), 5U);
  EXPECT_EQ(number_of(next(queue)), 6U);
}

TEST_F(FlowQueueTest, ARandomLifeKeepsBoundsAndOrderAndLosesNothingUncounted) {
  SeededRandom random(5);
  constexpr std::size_t kBytes = 500'000;
  constexpr std::size_t kPackets = 300;
  FlowQueue queue(kKey, kBytes, kPackets);
  std::map<std::uint16_t, std::uint32_t> pushed, taken;
  std::uint64_t in = 0, out = 0;
  for (int i = 0; i < 60000; ++i) {
    const bool filling = (i / 3000) % 2 == 0;
    if (random.next32() % 100 < (filling ? 70U : 30U)) {
      const auto flow = static_cast<std::uint16_t>(random.next32() % (random.next32() % 10 == 0 ? 3000 : 3));
      const std::uint32_t kind = random.next32() % 10;
      if (kind == 0) {
        const std::size_t segments = 1 + random.next32() % 60;
        queue.push(super_of(flow, pushed[flow]++, segments), now());
        in += segments;
      } else if (kind == 1) {
        Packet noise = Packet::with_size(1 + random.next32() % 20);
        for (std::uint8_t& byte : noise.mutable_bytes()) byte = 0;
        queue.push(std::move(noise), now());
        ++in;
      } else {
        queue.push(
            packet_of(flow, pushed[flow]++, 60 + random.next32() % 1400, static_cast<std::uint8_t>(random.next32() % 4),
                      random.next32() % 2 == 0 ? Family::ipv4 : Family::ipv6),
            now());
        ++in;
      }
    } else {
      const std::array<std::size_t, 4> chunks{0, 0, 1500, 10000};
      const std::size_t bytes = random.next32() % 1500;
      PacketBatch batch;
      const std::size_t sum = queue.take(batch, bytes, chunks[random.next32() % 4], now());
      std::size_t found = 0;
      for (const Packet& packet : batch) {
        out += segments_of(packet);
        found += packet.size();
        if (packet.size() < 30) continue;
        // The pieces of a super-packet have one number; of both families together the order is that of each.
        auto& last = taken[static_cast<std::uint16_t>(flow_of(packet) + (packet.bytes()[0] >> 4 == 4 ? 0 : 5000))];
        ASSERT_GE(number_of(packet), last);
        last = number_of(packet);
      }
      ASSERT_EQ(found, sum);
      ASSERT_TRUE(sum <= bytes || batch.size() == 1);
    }
    clock_.advance(microseconds(random.next32() % 1000));
    ASSERT_LE(queue.size_bytes(), kBytes);
    ASSERT_LE(queue.packets(), kPackets);
    ASSERT_EQ(queue.packets() == 0, queue.empty());
  }
  EXPECT_GT(queue.losses().dropped_full, 100U);
  EXPECT_GT(queue.losses().dropped_aqm, 100U);
  EXPECT_GT(queue.losses().marked, 100U);
  const auto losses = queue.losses();
  EXPECT_EQ(out + losses.dropped_full + losses.dropped_aqm + queue.clear(), in);
  EXPECT_EQ(queue.size_bytes(), 0U);
  EXPECT_EQ(queue.packets(), 0U);
}

// ---- what it holds ----

TEST_F(FlowQueueTest, ItKeepsNoMoreThanTwoSlotsForEachPacketAndFewWhenItsBoundIsLowered) {
  constexpr std::size_t kFixed = 2700 + 72 * 8;
  FlowQueue queue(kKey, 3'000'000);
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    queue.push(packet_of(1, i, 40), now());
    ASSERT_LE(queue.memory(), kFixed + 2 * 56 * (queue.packets() + 8));
  }
  queue.set_max_bytes(20'000);
  queue.push(packet_of(1, 20'000, 40), now());
  EXPECT_LE(queue.memory(), kFixed + 2 * 56 * 128) << "and nobody takes";
  for (std::size_t expected = 20'001 - queue.packets(); expected <= 20'000; ++expected) {
    ASSERT_EQ(number_of(next(queue)), expected);
  }
}

TEST_F(FlowQueueTest, AnIdleOneHoldsNextToNothing) {
  FlowQueue queue(kKey, kEverything);
  EXPECT_EQ(queue.memory(), sizeof(FlowQueue));
  queue.push(packet_of(1, 0), now());
  EXPECT_LT(queue.memory(), 4000U);
  queue.release_idle_memory();
  EXPECT_EQ(queue.packets(), 1U) << "not while there is something in it";
  EXPECT_EQ(number_of(next(queue)), 0U);
  queue.release_idle_memory();
  EXPECT_EQ(queue.memory(), sizeof(FlowQueue));
  EXPECT_EQ(queue.oldest_wait(now()), Duration::zero());
  queue.push(packet_of(1, 1), now());
  EXPECT_EQ(queue.clear(), 1U);
  EXPECT_EQ(queue.memory(), sizeof(FlowQueue));
  EXPECT_EQ(queue.clear(), 0U);
  queue.push(packet_of(1, 2), now());
  EXPECT_EQ(number_of(next(queue)), 2U);
}

TEST_F(FlowQueueTest, HoweverManyFlowsThereAreItsOwnMemoryIsBounded) {
  FlowQueue queue(kKey, kEverything, 2000);
  for (std::uint32_t i = 0; i < 100000; ++i) {
    queue.push(packet_of(static_cast<std::uint16_t>(i), 0, 40), now());
    if (i % 3 == 0) next(queue);
  }
  EXPECT_LE(queue.memory(), 2400 + 72 * FlowQueue::kMaxFlows + 56 * 2048);
}

TEST_F(FlowQueueTest, FlowsThatAreOverLeaveTheirRecordsToOthers) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 10000; ++i) {
    queue.push(packet_of(static_cast<std::uint16_t>(i), 0, 40), now());
    next(queue);
  }
  EXPECT_LT(queue.memory(), 4000U);
}

TEST_F(FlowQueueTest, SlotsThatWereNotNeededForASecondAreGivenBack) {
  FlowQueue queue(kKey, kEverything);
  for (std::uint32_t i = 0; i < 5000; ++i) queue.push(packet_of(1, i, 40), now());
  EXPECT_GT(queue.memory(), 5000U * 56);
  std::uint32_t expected = 0;
  for (; expected < 4900; ++expected) ASSERT_EQ(number_of(next(queue)), expected);
  clock_.advance(milliseconds(500));
  for (; expected < 4950; ++expected) ASSERT_EQ(number_of(next(queue)), expected);
  EXPECT_GT(queue.memory(), 5000U * 56) << "they were needed a moment ago";
  queue.set_codel({.target = seconds(100), .interval = seconds(100)});
  for (int i = 0; i < 2; ++i, ++expected) {
    clock_.advance(seconds(1));
    ASSERT_EQ(number_of(next(queue)), expected);
  }
  EXPECT_LT(queue.memory(), 20000U);
  for (; expected < 5000; ++expected) ASSERT_EQ(number_of(next(queue)), expected);
}

TEST_F(FlowQueueTest, TheOldestWaitIsThatOfWhoeverWaitsLongest) {
  FlowQueue queue(kKey, kEverything);
  queue.push(packet_of(1, 0), now());
  clock_.advance(milliseconds(3));
  queue.push(packet_of(2, 0), now());
  clock_.advance(milliseconds(1));
  EXPECT_EQ(queue.oldest_wait(now()), milliseconds(4));
  next(queue);
  EXPECT_EQ(queue.oldest_wait(now()), milliseconds(1));
}

}  // namespace
}  // namespace penstock
