#include "base/in_quotes.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(InQuotes, PlainTextStandsAsItIs) {
  EXPECT_EQ(in_quotes("10.0.0.1/33"), "\"10.0.0.1/33\"");
  EXPECT_EQ(in_quotes(""), "\"\"");
  EXPECT_EQ(in_quotes("Gr\xC3\xBC\xC3\x9F"
                      "e"),
            "\"Gr\xC3\xBC\xC3\x9F"
            "e\"");
}

TEST(InQuotes, ControlCharactersForgeNoLine) {
  EXPECT_EQ(in_quotes("a\r\nlevel=info msg=x\x1B[2J\x7F"), "\"a??level=info msg=x?[2J?\"");
  EXPECT_EQ(in_quotes(std::string_view("\0", 1)), "\"?\"");
}

TEST(InQuotes, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(in_quotes(std::string(200, 'x')), "\"" + std::string(200, 'x') + "\"");
  EXPECT_EQ(in_quotes(std::string(201, 'x')), "\"" + std::string(200, 'x') + "...\"");
  EXPECT_EQ(in_quotes(std::string(199, 'x') + "\xC3\xBC"), "\"" + std::string(199, 'x') + "...\"");
}

}  // namespace
}  // namespace penstock
