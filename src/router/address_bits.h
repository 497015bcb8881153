// An address as two numbers, for the packet path: masking and comparing without a loop over bytes.
#pragma once

#include <cstdint>

#include "base/ip.h"

namespace penstock::router {

// IPv4 stands in the upper 32 bits of `upper`, so a prefix length counts from the same end in both families. The family
// is not in here: whoever compares two of these knows that they are of one family.
struct AddressBits {
  std::uint64_t upper = 0;
  std::uint64_t lower = 0;

  static AddressBits of(const IpAddress& address) { return {address.upper(), address.lower()}; }
  // The first `length` bits set, 0 <= length <= 128.
  static constexpr AddressBits mask(int length) {
    const auto ones = [](int count) { return count <= 0 ? 0 : ~std::uint64_t{0} << (64 - (count < 64 ? count : 64)); };
    return {ones(length), ones(length - 64)};
  }
  constexpr AddressBits masked(const AddressBits& mask) const { return {upper & mask.upper, lower & mask.lower}; }
  friend constexpr bool operator==(const AddressBits&, const AddressBits&) = default;
};

}  // namespace penstock::router
