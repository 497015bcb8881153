// Durations and sizes as people write them: "30s", "1m30s", "500ms"; "64KiB", "512KB", "100B".
//
// A unit is always there: a bare number is refused, with the hint how to write it. Both directions agree: what
// to_string writes, parse reads as the same value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace penstock {

// Whole numbers with d, h, m, s, ms, the larger unit first, each at most once, up to 10,000 days.
// Refusal: invalid_argument, "expected a duration such as 30s or 1m30s, got ...".
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
// "1m30s", "0s".
std::string duration_to_string(std::chrono::milliseconds duration);

// One whole number and B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024). In bytes.
// Refusal: invalid_argument, "expected a size such as 64KiB or 1MiB, got ...".
Result<std::uint64_t> parse_size(std::string_view text);
// In the largest unit that leaves a whole number: "1MiB", "512KB", "100B".
std::string size_to_string(std::uint64_t bytes);

}  // namespace penstock
