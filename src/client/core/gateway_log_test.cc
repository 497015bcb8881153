#include "client/core/gateway_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/support/manual_loop.h"

namespace penstock::client {
namespace {

using testing::HasSubstr;

constexpr std::size_t kBound = GatewayLog::kLongestText;

class GatewayLogTest : public testing::Test {
 protected:
  std::size_t lines(std::string_view message) const {
    const std::string text = logs.text();
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(message, at)) != std::string::npos; ++at) ++count;
    return count;
  }

  test::ManualLoop loop;
  log::Capture logs;
  GatewayLog gateway_log{loop};
};

TEST_F(GatewayLogTest, OneKindDoesNotUseUpTheLinesOfAnother) {
  for (int i = 0; i < 100; ++i)
    gateway_log.write(GatewayLog::Kind::notice, log::Level::info, "a notice", {"text", "x"});
  gateway_log.write(GatewayLog::Kind::error, log::Level::warn, "an error", {"error", std::string(kBound + 1, 'y')});
  EXPECT_EQ(lines("a notice"), LogGate::kLines);
  EXPECT_EQ(lines("an error"), 1U);
  EXPECT_THAT(logs.text(), HasSubstr(" error=" + std::string(kBound, 'y') + "...\n"));
  loop.advance(LogGate::kWindow);
  EXPECT_THAT(logs.text(), HasSubstr("msg=\"more notices from the gateway\" count=80"));
}

TEST_F(GatewayLogTest, WhatTheLevelKeepsOutIsNotSaidToBeMore) {
  for (int i = 0; i < 100; ++i)
    gateway_log.write(GatewayLog::Kind::notice, log::Level::debug, "a notice", {"text", "x"});
  loop.advance(LogGate::kWindow);
  EXPECT_EQ(logs.text(), "");
}

TEST(ShortenedText, EndsAtACharactersBorderWithinTheBound) {
  const auto shortened = GatewayLog::shortened;
  EXPECT_EQ(shortened(""), "");
  EXPECT_EQ(shortened(std::string(kBound, 'x')), std::string(kBound, 'x'));
  EXPECT_EQ(shortened(std::string(kBound + 1, 'x')), std::string(kBound, 'x') + "...");
  for (const std::string character : {"\u00e9", "\u20ac", "\U0001f600"}) {
    for (std::size_t before = 1; before <= character.size(); ++before) {
      const std::string start(kBound - before, 'x');
      const std::string kept = before == character.size() ? start + character : start;
      EXPECT_EQ(shortened(std::string(start).append(character).append(character)), kept + "...");
    }
  }
}

}  // namespace
}  // namespace penstock::client
