// IP addresses and prefixes, both families in one type each.
//
// An IpAddress is a value of 20 bytes: the family and the address in network order (IPv4 in the first four bytes, the
// rest zero, so that comparison and hashing need not ask for the family first). Parsing is strict: no leading zeros,
// no shorthand "10.1", no zone index, no surrounding space.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace penstock {

enum class Family : std::uint8_t { ipv4 = 4, ipv6 = 6 };

class IpAddress {
 public:
  // The unspecified IPv4 address, 0.0.0.0.
  constexpr IpAddress() = default;

  static constexpr IpAddress v4(std::uint32_t host_order) {
    IpAddress address;
    for (int i = 0; i < 4; ++i)
      address.bytes_[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
    return address;
  }
  // `network_order` has 4 or 16 bytes: four make an IPv4 address.
  static IpAddress from_bytes(std::span<const std::uint8_t> network_order);
  // "10.100.0.1" or "fd00::1". Refusal: invalid_argument.
  static Result<IpAddress> parse(std::string_view text);

  constexpr Family family() const { return family_; }
  constexpr bool is_v4() const { return family_ == Family::ipv4; }
  constexpr bool is_v6() const { return family_ == Family::ipv6; }
  // Width in bits: 32 or 128.
  constexpr int width() const { return is_v4() ? 32 : 128; }

  // 4 or 16 bytes in network order; lives as long as this address.
  std::span<const std::uint8_t> bytes() const { return {bytes_.data(), is_v4() ? 4U : 16U}; }
  // The IPv4 address as a number in host order. Only for IPv4.
  std::uint32_t to_v4() const;
  // Big-endian halves of the 16 bytes; for IPv4 the address stands in the upper 32 bits of `upper`.
  std::uint64_t upper() const;
  std::uint64_t lower() const;

  // This address with `offset` added to it as a number (wrapping within the family).
  IpAddress plus(std::uint64_t offset) const;
  // this - base, both of one family; saturates at the largest uint64 and is 0 where base is greater.
  std::uint64_t distance_from(const IpAddress& base) const;

  // The IPv4 address that an IPv4-mapped IPv6 one carries (::ffff:192.0.2.1, RFC 4291 section 2.5.5.2), else itself.
  IpAddress unmapped() const;

  bool is_unspecified() const;
  bool is_loopback() const;
  bool is_multicast() const;
  bool is_link_local() const;

  // RFC 5952 form for IPv6.
  std::string to_string() const;

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  friend class Prefix;
  Family family_ = Family::ipv4;
  std::array<std::uint8_t, 16> bytes_{};
};

// An address block: every address whose first `length()` bits equal those of `address()`. Host bits are always zero.
class Prefix {
 public:
  // 0.0.0.0/0.
  constexpr Prefix() = default;
  // Host bits of `address` are cleared. `length` is 0..address.width().
  Prefix(IpAddress address, int length);
  // The block of one address: /32 or /128.
  static Prefix host(IpAddress address) { return {address, address.width()}; }
  // "10.100.0.0/24", "fd00::/64"; a bare address is its /32 or /128. Refusals: invalid_argument, also where host
  // bits are set (the message names the prefix that was probably meant).
  static Result<Prefix> parse(std::string_view text);

  const IpAddress& address() const { return address_; }
  Family family() const { return address_.family(); }
  bool is_v4() const { return address_.is_v4(); }
  int length() const { return length_; }
  bool contains(const IpAddress& address) const;
  bool contains(const Prefix& other) const { return other.length_ >= length_ && contains(other.address_); }
  bool overlaps(const Prefix& other) const { return contains(other) || other.contains(*this); }
  // The last address of the block: the broadcast address of an IPv4 subnet.
  IpAddress last() const;
  // 255.255.255.0 for a /24.
  IpAddress mask() const;
  std::string to_string() const;

  friend constexpr auto operator<=>(const Prefix&, const Prefix&) = default;

 private:
  IpAddress address_;
  int length_ = 0;
};

// An address and a TCP or UDP port in host order: "192.0.2.1:443", "[2001:db8::1]:443".
struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;

  // Refusal: invalid_argument. The port is required; ":443" is the unspecified IPv6 address, for listening on both.
  static Result<Endpoint> parse(std::string_view text);
  std::string to_string() const;
  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

}  // namespace penstock

template <>
struct std::hash<penstock::IpAddress> {
  std::size_t operator()(const penstock::IpAddress& address) const noexcept;
};
