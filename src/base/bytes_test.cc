#include "base/bytes.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "base/random.h"

namespace penstock {
namespace {

TEST(Bytes, BigEndianLoadsUndoStores) {
  std::uint8_t bytes[8];
  store_be16(bytes, 0x0102);
  EXPECT_EQ(bytes[0], 1);
  EXPECT_EQ(load_be16(bytes), 0x0102);
  store_be32(bytes, 0x01020304);
  EXPECT_EQ(bytes[3], 4);
  EXPECT_EQ(load_be32(bytes), 0x01020304U);
  store_be64(bytes, 0x0102030405060708);
  EXPECT_EQ(bytes[7], 8);
  EXPECT_EQ(load_be64(bytes), 0x0102030405060708U);
}

TEST(ByteQueue, GivesBackWhatWasAppendedInOrderHoweverItIsCut) {
  SeededRandom random(7);
  ByteQueue queue;
  std::deque<std::uint8_t> oracle;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::uint8_t> chunk(random.next32() % 3000);
    random.fill(chunk);
    queue.append(chunk);
    oracle.insert(oracle.end(), chunk.begin(), chunk.end());
    const std::size_t take = std::min<std::size_t>(random.next32() % 4000, queue.size());
    ASSERT_TRUE(std::equal(oracle.begin(), oracle.begin() + static_cast<std::ptrdiff_t>(take), queue.view().begin()));
    oracle.erase(oracle.begin(), oracle.begin() + static_cast<std::ptrdiff_t>(take));
    queue.consume(take);
    ASSERT_EQ(queue.size(), oracle.size());
  }
  queue.clear();
  queue.release();
  EXPECT_EQ(queue.capacity(), 0U);
}

}  // namespace
}  // namespace penstock
