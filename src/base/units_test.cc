#include "base/units.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

using namespace std::chrono_literals;

TEST(Units, DurationsAreWhatPeopleWrite) {
  struct Case {
    const char* text;
    std::chrono::milliseconds value;
  };
  for (const auto& [text, value] :
       {Case{"1s", 1s}, Case{"500ms", 500ms}, Case{"5m", 5min}, Case{"2h", 2h}, Case{"1d", 24h}, Case{"1m30s", 90s},
        Case{"1d2h3m4s5ms", 26h + 3min + 4s + 5ms}, Case{"90s", 90s}, Case{"0s", 0s}, Case{"10000d", 240000h}}) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message;
    EXPECT_EQ(*parsed, value) << text;
    EXPECT_EQ(parse_duration(duration_to_string(value)), value) << text;
  }
  EXPECT_EQ(duration_to_string(90s), "1m30s");
  EXPECT_EQ(duration_to_string(0s), "0s");
  EXPECT_EQ(duration_to_string(-1500ms), "-1s500ms");
}

TEST(Units, EverythingElseIsNoDuration) {
  for (const char* text : {"", "s", "1", "1.5s", "-1s", "+1s", " 1s", "1s ", "1 s", "30s1m", "1s1s", "1S", "1us", "m1",
                           "99999999999999999999s"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
  EXPECT_EQ(parse_duration("5x").error().message, "expected a duration such as 30s or 1m30s, got \"5x\"");
  EXPECT_EQ(parse_duration("20").error().message,
            "expected a duration such as 30s or 1m30s, got \"20\"; a number needs a unit, for example 20s");
  EXPECT_EQ(parse_duration("10001d").error().message, "\"10001d\" is longer than 10000 days");
  EXPECT_EQ(parse_duration("9223372036854775807d").error().message,
            "\"9223372036854775807d\" is longer than 10000 days");
}

TEST(Units, SizesKnowBothKindsOfKilo) {
  struct Case {
    const char* text;
    std::uint64_t value;
  };
  for (const auto& [text, value] :
       {Case{"1MiB", 1048576}, Case{"64KiB", 65536}, Case{"512KB", 512000}, Case{"100B", 100}, Case{"3GB", 3000000000},
        Case{"2GiB", 2147483648}, Case{"1TB", 1000000000000}, Case{"1TiB", 1099511627776}, Case{"0B", 0}}) {
    const auto parsed = parse_size(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message;
    EXPECT_EQ(*parsed, value) << text;
    EXPECT_EQ(parse_size(size_to_string(value)), value) << text;
  }
  EXPECT_EQ(size_to_string(1 << 20), "1MiB");
  EXPECT_EQ(size_to_string(500'000'000), "500MB");
  EXPECT_EQ(size_to_string(0), "0B");
  for (const char* text : {"", "B", "1", "1.5MiB", "-1B", "1 MiB", "1mib", "1M", "1MiB2KiB", "99999999999999999999B"}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
  EXPECT_EQ(parse_size("100").error().message,
            "expected a size such as 64KiB or 1MiB, got \"100\"; a number needs a unit, for example 100B");
  EXPECT_EQ(parse_size("9999999999TiB").error().message, "\"9999999999TiB\" is more than any machine holds");
}

}  // namespace
}  // namespace penstock
