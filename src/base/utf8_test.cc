#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace penstock {
namespace {

TEST(Utf8, KnowsValidFromInvalid) {
  const struct {
    std::string_view text;
    bool valid;
  } cases[] = {
      {"", true},
      {"plain ASCII, longer than one word of eight", true},
      {std::string_view("\0", 1), true},
      {"\x7F", true},
      {"\xC2\x80", true},
      {"\xDF\xBF", true},
      {"\xE0\xA0\x80", true},
      {"\xED\x9F\xBF", true},
      {"\xEE\x80\x80", true},
      {"\xEF\xBF\xBF", true},
      {"\xF0\x90\x80\x80", true},
      {"\xF4\x8F\xBF\xBF", true},
      {"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5", true},
      {"\x80", false},
      {"\xBF", false},
      {"\xC0\x80", false},          // overlong
      {"\xC1\xBF", false},          // overlong
      {"\xE0\x9F\xBF", false},      // overlong
      {"\xF0\x8F\xBF\xBF", false},  // overlong
      {"\xED\xA0\x80", false},      // a surrogate
      {"\xED\xBF\xBF", false},      // a surrogate
      {"\xF4\x90\x80\x80", false},  // above U+10FFFF
      {"\xF5\x80\x80\x80", false},
      {"\xFE", false},
      {"\xFF", false},
      {"\xC2", false},  // cut
      {"\xE1\xBD", false},
      {"\xF0\x90\x80", false},
      {"\xC2x", false},
      {"\xE1\xBDx", false},
      {"\xC2\xC2\x80", false},
      {"12345678\x80", false},
  };
  for (const auto& [text, valid] : cases) EXPECT_EQ(is_utf8(as_bytes(text)), valid) << testing::PrintToString(text);
}

// Every code point, encoded by hand, is valid exactly where it is no surrogate.
TEST(Utf8, EveryCodePoint) {
  for (std::uint32_t point = 0x80; point < 0x120000; ++point) {
    std::vector<std::uint8_t> bytes;
    const auto tail = [&](int shift) { bytes.push_back(static_cast<std::uint8_t>(0x80 | (point >> shift & 0x3F))); };
    if (point < 0x800) {
      bytes.push_back(static_cast<std::uint8_t>(0xC0 | point >> 6));
    } else if (point < 0x10000) {
      bytes.push_back(static_cast<std::uint8_t>(0xE0 | point >> 12));
      tail(6);
    } else {
      bytes.push_back(static_cast<std::uint8_t>(0xF0 | point >> 18));
      tail(12);
      tail(6);
    }
    tail(0);
    const bool valid = (point < 0xD800 || point > 0xDFFF) && point <= 0x10FFFF;
    ASSERT_EQ(is_utf8(bytes), valid) << std::hex << point;
  }
}

TEST(Utf8, PiecesGiveTheSameAnswerAndFailWithTheFirstBadByte) {
  const std::string text = "abcdefgh\xE1\xBD\xB9 \xF0\x9F\x98\x80 12345678";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Utf8Validator validator;
    EXPECT_TRUE(validator.feed(as_bytes(std::string_view(text).substr(0, cut))));
    EXPECT_TRUE(validator.feed(as_bytes(std::string_view(text).substr(cut))));
    EXPECT_TRUE(validator.complete());
  }
  Utf8Validator validator;
  EXPECT_TRUE(validator.feed(as_bytes("\xED")));
  EXPECT_FALSE(validator.complete());
  EXPECT_FALSE(validator.feed(as_bytes("\xA0"))) << "no surrogate can become valid";
}

TEST(Utf8, TheValidBeginningEndsBeforeTheFirstCharacterThatIsNone) {
  EXPECT_EQ(utf8_prefix(as_bytes("")), 0U);
  EXPECT_EQ(utf8_prefix(as_bytes("abc\xC3\xA4")), 5U);
  EXPECT_EQ(utf8_prefix(as_bytes("abc\xE4 d")), 3U) << "the first byte of it, not the one that shows it";
  EXPECT_EQ(utf8_prefix(as_bytes("\xC3\xA4 12345678 \xF0\x9F\x98 x")), 12U);
  EXPECT_EQ(utf8_prefix(as_bytes("abc\xE1\xBD")), 3U);
  EXPECT_EQ(utf8_prefix(as_bytes("\xFF")), 0U);
}

}  // namespace
}  // namespace penstock
