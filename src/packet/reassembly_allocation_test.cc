// Fragments that come as they came before ask the allocator for nothing.
#include <gtest/gtest.h>

#include "packet/fragment.h"
#include "packet/reassembly.h"
#include "test/support/allocations.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

TEST(ReassemblyAllocation, ASteadyStreamOfDatagramsAllocatesNothing) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
  ManualClock clock;
  Reassembler reassembler({}, {.first = 1, .second = 2});
  const Packet original = test::ip_packet("10.0.0.2", "10.0.0.3", std::string(4000, 'x'));
  PacketBatch parts;
  std::size_t wholes = 0;
  std::uint16_t number = 0;
  const auto turn = [&] {
    for (std::uint32_t owner = 1; owner <= 20; ++owner) {
      Packet packet = original.clone();
      store_be16(&packet.mutable_bytes()[4], ++number);
      packet.source = {.slot = owner, .generation = 1};
      ASSERT_TRUE(fragment(std::move(packet), 1420, 0, parts));
    }
    // Backwards, so that all of them wait at once.
    for (; !parts.empty(); parts.pop_back()) {
      const auto view = parse_ip(parts.back().bytes());
      if (reassembler.add(std::move(parts.back()), *view, clock.now())) ++wholes;
    }
    clock.advance(std::chrono::milliseconds(1));
  };
  for (int i = 0; i < 10; ++i) turn();
  EXPECT_EQ(test::allocations_in([&] {
              for (int i = 0; i < 100; ++i) turn();
            }),
            0U);
  EXPECT_EQ(wholes, 110U * 20U);
}

}  // namespace
}  // namespace penstock
