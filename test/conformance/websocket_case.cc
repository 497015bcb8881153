#include "test/conformance/websocket_case.h"

namespace penstock::conformance {

// RFC 6455 section 5.2, as naively as it can be written.
Bytes Frame::encoded(Role sender) const {
  const bool masked = mask == Mask::always || (mask == Mask::as_demanded && sender == Role::client);
  const std::uint64_t size = announced == kHonest ? payload.size() : announced;
  int width = 0;
  if (length == Length::in_64_bits || size > 0xFFFF) {
    width = 8;
  } else if (length == Length::in_16_bits || size > 125) {
    width = 2;
  }
  const std::uint64_t short_length = width == 8 ? 127 : width == 2 ? 126 : size;

  Bytes bytes{first_byte, static_cast<std::uint8_t>((masked ? 0x80U : 0U) | short_length)};
  for (int i = width - 1; i >= 0; --i) bytes.push_back(static_cast<std::uint8_t>(size >> (8 * i)));
  const std::uint8_t key[] = {static_cast<std::uint8_t>(mask_key >> 24), static_cast<std::uint8_t>(mask_key >> 16),
                              static_cast<std::uint8_t>(mask_key >> 8), static_cast<std::uint8_t>(mask_key)};
  if (masked) bytes.insert(bytes.end(), std::begin(key), std::end(key));
  for (std::size_t i = 0; i < payload.size() && i < arriving; ++i) {
    const auto byte = static_cast<std::uint8_t>(payload[i]);
    bytes.push_back(masked ? byte ^ key[i % 4] : byte);
  }
  return bytes;
}

std::string noise(std::size_t count) {
  std::string bytes(count, '\0');
  std::uint32_t state = 12345;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

std::string prose(std::size_t count) {
  // a, e with acute, the euro sign, a smiling face: 1, 2, 3 and 4 bytes.
  const std::string characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
  std::string text;
  for (std::size_t i = 0; text.size() + 4 <= count; ++i) text += characters[i % 4];
  text.append(count - text.size(), '.');
  return text;
}

}  // namespace penstock::conformance
