// Names one port of the router: the place a packet goes to, whichever event loop owns it.
#pragma once

#include <compare>
#include <cstdint>

namespace penstock::router {

// A slot that is used again gets another generation, so a stale name finds nothing instead of a stranger.
struct PortId {
  std::uint16_t shard = 0;       // the event loop that owns the port
  std::uint32_t slot = 0;        // its place in that loop's table
  std::uint32_t generation = 0;  // 0: no port

  explicit constexpr operator bool() const { return generation != 0; }
  friend constexpr auto operator<=>(const PortId&, const PortId&) = default;
};

}  // namespace penstock::router
