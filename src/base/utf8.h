// UTF-8 (RFC 3629), checked as a whole or while it arrives in pieces of any size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace penstock {

class Utf8Validator {
 public:
  // False as soon as no continuation could make the text valid; then only reset() helps.
  bool feed(ByteView bytes);
  // Whether the text may end here: no character is left half.
  bool complete() const { return missing_ == 0; }
  void reset() { *this = Utf8Validator(); }

 private:
  std::uint8_t missing_ = 0;  // continuation bytes that the character still needs
  // The range of the next of them: narrower than 80..BF after E0, ED, F0 and F4 (no overlong forms, no surrogates,
  // nothing above U+10FFFF).
  std::uint8_t low_ = 0x80;
  std::uint8_t high_ = 0xBF;
};

bool is_utf8(ByteView bytes);

// How many of the first bytes are whole and valid characters: all of them, or the offset of the first that is not.
std::size_t utf8_prefix(ByteView bytes);

}  // namespace penstock
