#include "net/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "net/asio_loop.h"

namespace penstock::net {
namespace {

// Numbers resolve without a name server, which a test machine need not have.
TEST(SystemResolver, AnswersOnTheLoopOneFamilyALookup) {
  AsioLoop loop;
  SystemResolver resolver(loop);
  std::optional<Result<std::vector<IpAddress>>> v4;
  std::optional<Result<std::vector<IpAddress>>> v6;
  const auto stop_when_both = [&] {
    if (v4 && v6) loop.stop();
  };
  const auto first = resolver.resolve("127.0.0.1", Family::ipv4, [&](auto result) {
    v4 = std::move(result);
    stop_when_both();
  });
  const auto second = resolver.resolve("127.0.0.1", Family::ipv6, [&](auto result) {
    v6 = std::move(result);
    stop_when_both();
  });
  EXPECT_FALSE(v4 || v6) << "never inside resolve()";
  loop.run();
  EXPECT_EQ(v4->value(), std::vector{IpAddress::parse("127.0.0.1").value()});
  ASSERT_FALSE(*v6);
  EXPECT_EQ(v6->error().code, ErrorCode::not_found);
  EXPECT_THAT(v6->error().message, testing::HasSubstr("cannot resolve 127.0.0.1"));
}

TEST(SystemResolver, ADroppedLookupIsSilent) {
  AsioLoop loop;
  SystemResolver resolver(loop);
  bool called = false;
  resolver.resolve("127.0.0.1", Family::ipv4, [&](auto) { called = true; }).reset();
  const auto later = resolver.resolve("127.0.0.1", Family::ipv4, [&](auto) { loop.stop(); });
  loop.run();
  EXPECT_FALSE(called);
}

TEST(SystemResolver, MayGoBeforeItsThreadsHaveReturned) {
  AsioLoop loop;
  std::unique_ptr<Resolver::Lookup> outlives;
  {
    SystemResolver resolver(loop);
    outlives = resolver.resolve("127.0.0.1", Family::ipv4, [](auto) { FAIL(); });
  }
  loop.post([&] { loop.stop(); });
  loop.run();
}

TEST(SystemResolver, RefusesMoreThanItsThreads) {
  AsioLoop loop;
  SystemResolver resolver(loop);
  std::vector<std::unique_ptr<Resolver::Lookup>> lookups;
  const int all = 4 * SystemResolver::kMostThreads;
  lookups.reserve(all);
  int answered = 0;
  for (int i = 0; i < all; ++i) {
    lookups.push_back(resolver.resolve("127.0.0.1", Family::ipv4, [&](auto result) {
      if (!result) {
        EXPECT_EQ(result.error().code, ErrorCode::exhausted);
      }
      if (++answered == all) loop.stop();
    }));
  }
  loop.run();
  EXPECT_EQ(answered, all);
}

}  // namespace
}  // namespace penstock::net
