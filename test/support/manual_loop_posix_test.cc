#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>

#include "test/support/manual_loop.h"

namespace penstock::test {
namespace {

TEST(ManualLoop, ReadyDescriptorsTakeTurns) {
  ManualLoop loop;
  const int first = ::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
  const int second = ::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
  std::string ran;
  {
    const auto a = loop.watch(first);
    const auto b = loop.watch(second);
    a->when_readable([&] {
      ran += 'a';
      a->when_readable([&] { ran += 'a'; });
    });
    b->when_readable([&] { ran += 'b'; });
    loop.run_until_idle();
    EXPECT_EQ(ran, "aba");
    b->when_readable([&] { ran += '!'; });
  }
  loop.run_until_idle();
  EXPECT_EQ(ran, "aba") << "a destroyed watch is silent";
  ::close(first);
  ::close(second);
}

}  // namespace
}  // namespace penstock::test
