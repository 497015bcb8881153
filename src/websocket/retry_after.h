// Retry-After (RFC 9110 section 10.2.3): how long a server that refuses for now asks to be left alone.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "websocket/upgrade.h"

namespace penstock::websocket {

// What a 429 or 503 asks for, in seconds or as a date after `now`; nothing where it is another status, the field is not
// there or cannot be read. Never negative; large numbers are kept within kLongestRetryAfter.
inline constexpr std::chrono::seconds kLongestRetryAfter = std::chrono::days(365);
std::optional<std::chrono::seconds> retry_after(const UpgradeResponse& response, WallTime now);

// The three forms of RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
// "Sun Nov  6 08:49:37 1994". A year of two digits is taken as the one that is at most 50 years after `now`.
std::optional<WallTime> parse_http_date(std::string_view text, WallTime now);

}  // namespace penstock::websocket
