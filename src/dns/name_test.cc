#include "dns/name.h"

#include <gmock/gmock.h>

#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::name;

TEST(NameTest, TextBecomesLabelsInLowerCase) {
  EXPECT_EQ(as_text(name("WWW.Example.com").wire()), std::string_view("\3www\7example\3com\0", 17));
  EXPECT_EQ(name("www.example.com."), name("www.example.com"));
  EXPECT_EQ(as_text(name(".").wire()), std::string_view("\0", 1));
  EXPECT_THAT(name("a.b.c").labels(), ElementsAre("a", "b", "c"));
}

TEST(NameTest, WhatIsNoNameIsRefusedWithTheReason) {
  const std::string long_label(64, 'a');
  std::string long_name;
  for (int i = 0; i < 127; ++i) long_name += "a.";
  EXPECT_TRUE(Name::parse(long_name)) << "127 labels of one letter are 255 bytes";
  EXPECT_THAT(Name::parse(long_name + "a").error().message, HasSubstr("longer than 253"));
  EXPECT_THAT(Name::parse(long_label).error().message, HasSubstr("longer than 63"));
  for (const char* text : {"", "..", ".a", "a..b", "a.."}) EXPECT_FALSE(Name::parse(text)) << text;
}

TEST(NameTest, ANameIsWithinItsZonesAndNoOthers) {
  EXPECT_TRUE(name("a.b.example").is_within(name("b.example")));
  EXPECT_TRUE(name("b.example").is_within(name("b.example")));
  EXPECT_TRUE(name("b.example").is_within(Name()));
  EXPECT_FALSE(name("ab.example").is_within(name("b.example"))) << "a label is not cut";
  EXPECT_FALSE(name("example").is_within(name("b.example")));
  // The end of the first is the second's wire form, but not at the border of a label.
  EXPECT_FALSE(Name::from_wire(as_bytes(std::string_view("\3x\1b\0", 5))).is_within(name("b")));
}

TEST(NameTest, BytesThatDisturbALogAreWrittenAsNumbers) {
  EXPECT_EQ(Name::from_wire(as_bytes(std::string_view("\4a.\n\xff\3com\0", 10))).to_string(), "a\\046\\010\\255.com");
  EXPECT_EQ(Name().to_string(), ".");
}

TEST(NameTest, TheSizeOfANameInBytesIsFoundOnlyWhereItIsWhole) {
  const auto size = [](std::string_view bytes, std::size_t at = 0) { return wire_name_size(as_bytes(bytes), at); };
  EXPECT_EQ(size(std::string_view("\1a\0xyz", 6)), 3U);
  EXPECT_EQ(size(std::string_view("xyz\1a\0", 6), 3), 3U);
  EXPECT_EQ(size("\1a"), 0U);
  EXPECT_EQ(size("\3a"), 0U);
  EXPECT_EQ(size(""), 0U);
  EXPECT_EQ(size("\xC0\x0C"), 0U);
}

}  // namespace
}  // namespace penstock::dns
