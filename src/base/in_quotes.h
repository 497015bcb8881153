// Foreign text in our own words: what a message, a log line or an answer may repeat of what somebody else wrote.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

// `text` in quotes, without control characters (which become "?"), cut to whole characters of UTF-8 and marked with
// "..." where it is longer than 200 bytes.
std::string in_quotes(std::string_view text);

}  // namespace penstock
