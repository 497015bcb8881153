#include "websocket/retry_after.h"

#include <gtest/gtest.h>

#include <string>

namespace penstock::websocket {
namespace {

using std::chrono::seconds;

// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7.
constexpr WallTime kThen{seconds(784111777)};

std::optional<seconds> asked(const std::string& value, int status = 429, WallTime now = kThen) {
  UpgradeResponse response;
  response.status = status;
  response.headers = {{"retry-after", value}};
  return retry_after(response, now);
}

TEST(RetryAfter, ReadsSecondsAndDates) {
  EXPECT_EQ(asked("0"), seconds(0));
  EXPECT_EQ(asked("120"), seconds(120));
  EXPECT_EQ(asked("99999999999999999999999999"), kLongestRetryAfter);
  EXPECT_EQ(asked("Sun, 06 Nov 1994 08:51:37 GMT"), seconds(120));
  EXPECT_EQ(asked("Sun, 06 Nov 1994 08:51:37 GMT", 429, kThen + std::chrono::milliseconds(1)), seconds(120))
      << "rounded up";
  EXPECT_EQ(asked("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0)) << "is over";
  EXPECT_EQ(asked("Fri, 31 Dec 9999 23:59:59 GMT"), kLongestRetryAfter);
}

TEST(RetryAfter, CountsOnlyWhereTheServerRefusesForNow) {
  EXPECT_EQ(asked("5", 503), seconds(5));
  for (const int status : {101, 200, 301, 403, 404, 500, 502}) EXPECT_EQ(asked("5", status), std::nullopt) << status;
  EXPECT_EQ(retry_after(UpgradeResponse{.status = 429, .phrase = {}, .headers = {}}, kThen), std::nullopt);
}

TEST(RetryAfter, WhatCannotBeReadIsNotThere) {
  for (const char* text : {"", "-1", "1.5", "+1", "soon", "5s", "1 2"}) EXPECT_EQ(asked(text), std::nullopt) << text;
}

TEST(HttpDate, AllThreeFormsAreTheSameTime) {
  for (const char* text :
       {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"}) {
    EXPECT_EQ(parse_http_date(text, kThen), kThen) << text;
  }
  EXPECT_EQ(parse_http_date("Wed Nov 16 08:49:37 1994", kThen), kThen + std::chrono::days(10));
  // Two digits: not more than 50 years ahead.
  EXPECT_EQ(parse_http_date("Sunday, 01-Jan-44 00:00:00 GMT", kThen),
            parse_http_date("Fri, 01 Jan 2044 00:00:00 GMT", kThen));
  EXPECT_EQ(parse_http_date("Sunday, 01-Jan-45 00:00:00 GMT", kThen),
            parse_http_date("Mon, 01 Jan 1945 00:00:00 GMT", kThen));
}

TEST(HttpDate, IsReadStrictly) {
  for (const char* text :
       {"", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ", "sun, 06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT", "Sun Nov 6 08:49:37 1994", "Sunday, 06-Nov-1994 08:49:37 GMT"}) {
    EXPECT_EQ(parse_http_date(text, kThen), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace penstock::websocket
