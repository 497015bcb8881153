#include "test/support/memory_socket.h"

#include <gtest/gtest.h>

#include <string>

#include "test/support/manual_loop.h"

namespace penstock::test {
namespace {

std::string read_all(net::StreamSocket& socket) {
  std::string text;
  std::array<std::uint8_t, 64> block{};
  for (;;) {
    const auto size = socket.read(block);
    if (!size || !*size || **size == 0) return text;
    text += as_text(ByteView(block).first(**size));
  }
}

TEST(MemorySocket, CarriesBytesAndThenTheEnd) {
  ManualLoop loop;
  auto [a, b] = memory_socket_pair(loop, loop);
  EXPECT_EQ(a->peer(), b->local());
  int woken = 0;
  b->when_readable([&] { ++woken; });
  loop.run_until_idle();
  EXPECT_EQ(woken, 0);

  EXPECT_EQ(a->write(as_bytes("hello")).value(), 5U);
  EXPECT_EQ(woken, 0) << "never inside the call that made it ready";
  loop.run_until_idle();
  EXPECT_EQ(woken, 1);
  a.reset();
  EXPECT_EQ(read_all(*b), "hello");
  std::array<std::uint8_t, 1> block{};
  EXPECT_EQ(b->read(block).value(), 0U);
  EXPECT_FALSE(b->write(as_bytes("too late")));
}

TEST(MemorySocket, AFullBufferBlocksUntilThePeerReads) {
  ManualLoop loop;
  auto [a, b] = memory_socket_pair(loop, loop, {.capacity = 4, .max_read = 2, .max_write = 3});
  EXPECT_EQ(a->write(as_bytes("abcdef")).value(), 3U) << "max_write";
  EXPECT_EQ(a->write(as_bytes("def")).value(), 1U) << "capacity";
  EXPECT_EQ(a->write(as_bytes("ef")).value(), std::nullopt);
  bool writable = false;
  a->when_writable([&] { writable = true; });
  loop.run_until_idle();
  EXPECT_FALSE(writable);
  std::array<std::uint8_t, 8> block{};
  EXPECT_EQ(b->read(block).value(), 2U) << "max_read";
  loop.run_until_idle();
  EXPECT_TRUE(writable);
  EXPECT_EQ(a->io()->bytes_written, 4U);
  EXPECT_EQ(a->in_flight(), 2U);
}

TEST(MemorySocket, ArmingReplacesAndTheOneWhoArmsMayDestroyTheSocket) {
  ManualLoop loop;
  auto [a, b] = memory_socket_pair(loop, loop);
  std::string ran;
  b->when_readable([&] { ran += "old"; });
  b->when_readable([&] {
    ran += "new";
    b.reset();
  });
  b->when_writable([&] { ran += "!"; });
  a->shutdown_write();
  loop.run_until_idle();
  EXPECT_EQ(ran, "new") << "the writable callback died with the socket";
}

TEST(MemorySocket, CutIsSilence) {
  ManualLoop loop;
  auto [a, b] = memory_socket_pair(loop, loop);
  bool woken = false;
  b->when_readable([&] { woken = true; });
  a->write(as_bytes("on its way")).value();
  a->cut();
  EXPECT_EQ(a->write(as_bytes("lost")).value(), 4U);
  a.reset();
  loop.run_until_idle();
  EXPECT_FALSE(woken);
  std::array<std::uint8_t, 8> block{};
  EXPECT_EQ(b->read(block).value(), std::nullopt);
}

TEST(MemorySocket, FailAtCountsOverBothEndsAndBreaksBoth) {
  ManualLoop loop;
  auto [a, b] = memory_socket_pair(loop, loop);
  std::array<std::uint8_t, 8> block{};
  a->fail_at(3);
  EXPECT_TRUE(a->write(as_bytes("1")));
  EXPECT_TRUE(b->read(block));
  bool told = false;
  b->when_readable([&] { told = true; });
  EXPECT_FALSE(a->write(as_bytes("3")));
  loop.run_until_idle();
  EXPECT_TRUE(told);
  const auto broken = b->read(block);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::closed);
}

TEST(MemorySocket, MovesToAnotherLoopAndLeavesItsCallbacksBehind) {
  ManualLoop first;
  ManualLoop second;
  auto [a, b] = memory_socket_pair(first, first);
  std::string ran;
  b->when_readable([&] { ran += "first"; });
  a->write(as_bytes("x")).value();
  b->detach();
  b->adopt(second);
  b->when_readable([&] { ran += "second"; });
  first.run_until_idle();
  EXPECT_EQ(ran, "");
  second.run_until_idle();
  EXPECT_EQ(ran, "second");
}

}  // namespace
}  // namespace penstock::test
