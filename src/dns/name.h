// A domain name, as the DNS compares it: in wire form and in lower case.
//
//   3 w w w 7 e x a m p l e 3 c o m 0      labels with their lengths in front, ended by the empty label of the root
//
// Always true   1 to 255 bytes, each label 1 to 63, the root's at the end and nowhere else (RFC 1035 section 2.3.4); no
//               ASCII capitals, so that equal bytes are equal names (RFC 4343). Any other byte may stand in a label.
// Case          a length byte is below 64 and no letter is: wire forms change case byte by byte, lengths or not.
// Errors        parse() refuses with invalid_argument.
// Threads       a value.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace penstock::dns {

constexpr std::uint8_t to_lower(std::uint8_t byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<std::uint8_t>(byte | 0x20) : byte;
}
bool equal_in_any_case(ByteView a, ByteView b);

class Name {
 public:
  static constexpr std::size_t kMaxSize = 255;
  static constexpr std::size_t kMaxLabel = 63;

  // The root.
  Name() : wire_(1, '\0') {}
  // "www.example.com", with or without a dot at its end; "." is the root. There are no escapes: a label is what stands
  // between two dots.
  static Result<Name> parse(std::string_view text);
  // `wire` is one uncompressed name of any case, checked by whoever read it.
  static Name from_wire(ByteView wire);

  ByteView wire() const { return as_bytes(wire_); }
  // Without the root's; they live as long as this name.
  std::vector<std::string_view> labels() const;
  // Whether this is `zone` or stands below it.
  bool is_within(const Name& zone) const;
  // For logs: other bytes than letters, digits, '-', '_' and '@' are \ and three digits (RFC 1035 section 5.1).
  std::string to_string() const;

  friend auto operator<=>(const Name&, const Name&) = default;

 private:
  std::string wire_;
};

// How long the uncompressed name is that begins at `at`; 0 where there is none, or not all of it.
std::size_t wire_name_size(ByteView bytes, std::size_t at = 0);

}  // namespace penstock::dns
