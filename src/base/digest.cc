// The texts of digests and keys. The digests themselves are in digest_openssl.cc and digest_windows.cc.
#include "base/digest.h"

#include <algorithm>

namespace penstock {

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kStandardAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// The value of each character, -1 for those outside of the alphabet.
constexpr std::array<std::int8_t, 256> inverse(std::string_view alphabet) {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < alphabet.size(); ++i)
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::int8_t>(i);
  return values;
}
constexpr auto kStandardValues = inverse(kStandardAlphabet);
constexpr auto kUrlValues = inverse(kUrlAlphabet);

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

// Three bytes become four characters; a rest of one or two bytes becomes two or three.
std::string encode(ByteView data, std::string_view alphabet) {
  std::string text;
  text.reserve((data.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < data.size(); at += 3) {
    const std::size_t taken = std::min<std::size_t>(3, data.size() - at);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) group = group << 8 | (i < taken ? data[at + i] : 0U);
    for (std::size_t i = 0; i <= taken; ++i) text += alphabet[group >> (18 - 6 * i) & 0x3F];
  }
  return text;
}

// `text` without its padding.
Result<std::vector<std::uint8_t>> decode(std::string_view text, const std::array<std::int8_t, 256>& values) {
  if (text.size() % 4 == 1) return fail(ErrorCode::invalid_argument, "base64: the text is cut short");
  std::vector<std::uint8_t> data;
  data.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  int held = 0;
  for (const char character : text) {
    const std::int8_t value = values[static_cast<unsigned char>(character)];
    if (value < 0) return fail(ErrorCode::invalid_argument, "base64: a character that does not belong there");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      data.push_back(static_cast<std::uint8_t>(bits >> held));
    }
  }
  if ((bits & ((1U << held) - 1U)) != 0)
    return fail(ErrorCode::invalid_argument, "base64: the last character has stray bits");
  return data;
}

}  // namespace

std::string to_hex(ByteView data) {
  std::string text;
  text.reserve(data.size() * 2);
  for (const std::uint8_t byte : data) {
    text += kHexDigits[byte >> 4];
    text += kHexDigits[byte & 0x0F];
  }
  return text;
}

Result<std::vector<std::uint8_t>> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return fail(ErrorCode::invalid_argument, "hex: an odd number of digits");
  std::vector<std::uint8_t> data;
  data.reserve(text.size() / 2);
  for (std::size_t at = 0; at < text.size(); at += 2) {
    const int high = hex_value(text[at]);
    const int low = hex_value(text[at + 1]);
    if (high < 0 || low < 0) return fail(ErrorCode::invalid_argument, "hex: a character that is no hexadecimal digit");
    data.push_back(static_cast<std::uint8_t>(high << 4 | low));
  }
  return data;
}

std::string base64_encode(ByteView data) {
  std::string text = encode(data, kStandardAlphabet);
  text.append((4 - text.size() % 4) % 4, '=');
  return text;
}

Result<std::vector<std::uint8_t>> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return fail(ErrorCode::invalid_argument, "base64: the text is cut short or not padded");
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  return decode(text, kStandardValues);
}

std::string base64url_encode(ByteView data) { return encode(data, kUrlAlphabet); }

Result<std::vector<std::uint8_t>> base64url_decode(std::string_view text) { return decode(text, kUrlValues); }

}  // namespace penstock
