// Arithmetic of sequence numbers, which wrap (RFC 9293 section 3.4). Numbers that are compared are less than 2^31
// apart.
//
// Threads   pure functions.
#pragma once

#include <algorithm>
#include <cstdint>

namespace penstock::egress {

using Sequence = std::uint32_t;

constexpr bool is_before(Sequence a, Sequence b) { return static_cast<std::int32_t>(a - b) < 0; }
constexpr bool is_after(Sequence a, Sequence b) { return is_before(b, a); }
constexpr Sequence later_of(Sequence a, Sequence b) { return is_before(a, b) ? b : a; }
constexpr Sequence earlier_of(Sequence a, Sequence b) { return is_before(a, b) ? a : b; }
// How far `b` lies behind `a`; 0 where it lies before it.
constexpr std::uint32_t distance(Sequence a, Sequence b) { return is_before(a, b) ? b - a : 0; }

}  // namespace penstock::egress
