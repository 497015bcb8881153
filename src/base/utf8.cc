#include "base/utf8.h"

namespace penstock {
namespace {

// Skips what is plain ASCII, eight bytes at a time.
std::size_t skip_ascii(ByteView bytes, std::size_t at) {
  while (bytes.size() - at >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, &bytes[at], sizeof word);
    if ((word & 0x8080808080808080U) != 0) break;
    at += 8;
  }
  return at;
}

}  // namespace

// RFC 3629 section 4, as the table of its grammar.
bool Utf8Validator::feed(ByteView bytes) {
  std::size_t at = 0;
  while (true) {
    if (missing_ == 0) at = skip_ascii(bytes, at);
    if (at == bytes.size()) return true;
    const std::uint8_t byte = bytes[at++];
    if (missing_ != 0) {
      if (byte < low_ || byte > high_) return false;
      --missing_;
      low_ = 0x80;
      high_ = 0xBF;
    } else if (byte >= 0xC2 && byte <= 0xDF) {
      missing_ = 1;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
      missing_ = 2;
      if (byte == 0xE0) low_ = 0xA0;
      if (byte == 0xED) high_ = 0x9F;
    } else if (byte >= 0xF0 && byte <= 0xF4) {
      missing_ = 3;
      if (byte == 0xF0) low_ = 0x90;
      if (byte == 0xF4) high_ = 0x8F;
    } else if (byte >= 0x80) {
      return false;
    }
  }
}

bool is_utf8(ByteView bytes) {
  Utf8Validator validator;
  return validator.feed(bytes) && validator.complete();
}

std::size_t utf8_prefix(ByteView bytes) {
  if (is_utf8(bytes)) return bytes.size();
  Utf8Validator validator;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size() && validator.feed(bytes.subspan(at, 1)); ++at) {
    if (validator.complete()) begin = at + 1;
  }
  return begin;
}

}  // namespace penstock
