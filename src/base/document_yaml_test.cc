#include <gtest/gtest.h>

#include "base/document.h"

namespace penstock {
namespace {

std::string refusal(const Result<Document>& document) { return document ? "accepted" : document.error().message; }

TEST(YamlDocument, ValuesKnowWhereTheyBeginAndWhetherTheyWereQuoted) {
  const auto document =
      parse_yaml("vpn:\n  tun: off\n  name: \"off\"\n  list:\n    - 'x'\n    - y\n  none:\n", "x.yaml");
  ASSERT_TRUE(document) << document.error().message;
  const Node& vpn = *document->root.find("vpn");
  EXPECT_EQ(document->describe(vpn.key_position), "x.yaml:1:1");
  EXPECT_EQ(document->describe(vpn.find("tun")->position), "x.yaml:2:8");
  EXPECT_EQ(document->describe(vpn.find("tun")->key_position), "x.yaml:2:3");
  EXPECT_FALSE(vpn.find("tun")->quoted);
  EXPECT_TRUE(vpn.find("name")->quoted);
  EXPECT_EQ(document->describe(vpn.find("list")->children[1].position), "x.yaml:6:7");
  EXPECT_TRUE(vpn.find("list")->children[0].quoted);
  EXPECT_TRUE(vpn.find("none")->is_null());
}

TEST(YamlDocument, HoldsJsonToo) {
  const auto document = parse_document(R"({"a": {"b": ["c", 1, null, true]}})", "x.yaml");
  ASSERT_TRUE(document) << document.error().message;
  const Node& list = *document->root.find("a")->find("b");
  ASSERT_EQ(list.children.size(), 4U);
  EXPECT_TRUE(list.children[0].quoted);
  EXPECT_TRUE(list.children[2].is_null());
}

TEST(YamlDocument, AnEmptyFileIsEmpty) {
  for (const char* text : {"", "\n\n", "# nothing\n", "---\n"}) {
    const auto document = parse_document(text, "x.yaml");
    ASSERT_TRUE(document) << text;
    EXPECT_TRUE(document->root.is_null());
  }
}

TEST(YamlDocument, MistakesAreNamedWithTheirPlace) {
  EXPECT_EQ(refusal(parse_yaml("a: 1\nb: [1\nc: 2\n", "x.yaml")),
            "x.yaml:3:2: not valid YAML: end of sequence flow not found");
  EXPECT_EQ(refusal(parse_yaml("a: 1\na: 2\n", "x.yaml")), "x.yaml:2:1: the key \"a\" is here twice");
  EXPECT_EQ(refusal(parse_yaml("? [a]\n: 1\n", "x.yaml")), "x.yaml:1:3: a key must be plain text, not a list or a map");
  EXPECT_EQ(refusal(parse_yaml("a: !secret x\n", "x.yaml")), "x.yaml:1:4: tags such as !name have no meaning here");
  EXPECT_EQ(refusal(parse_yaml("a: 1\n---\nb: 2\n", "x.yaml")),
            "x.yaml: more than one document; \"---\" may only stand at the top");
  EXPECT_EQ(refusal(parse_yaml("a: &a [*a]\n", "x.yaml")),
            "x.yaml:1:8: an alias of something that is not complete here");
  EXPECT_EQ(refusal(parse_yaml("a: *hunter2\n", "x.yaml")).find("hunter2"), std::string::npos);
}

TEST(YamlDocument, WhatIsNotUtf8IsRefusedWithItsPlace) {
  EXPECT_EQ(refusal(parse_yaml("a: 1\nb: \xE4rger\n", "x.yaml")),
            "x.yaml:2:4: not valid UTF-8 from here on; save the file as UTF-8");
  EXPECT_EQ(refusal(parse_yaml("# \xC3\xA4\xC3\xA4\xFF", "x.yaml")),
            "x.yaml:1:5: not valid UTF-8 from here on; save the file as UTF-8")
      << "columns count characters, and comments are text too";
  EXPECT_EQ(refusal(parse_yaml("a: \xC3", "x.yaml")),
            "x.yaml:1:4: not valid UTF-8 from here on; save the file as UTF-8");
  EXPECT_EQ(parse_yaml("\xEF\xBB\xBF"
                       "a: \xC3\xA4\n",
                       "x.yaml")
                ->root.find("a")
                ->text,
            "\xC3\xA4")
      << "with its mark";
}

TEST(YamlDocument, EscapesAreReadAsUtf8) {
  EXPECT_EQ(parse_yaml(R"(a: "\xe4\u00e4\U0001F600\L\P")", "x.yaml")->root.find("a")->text,
            "\xC3\xA4\xC3\xA4\xF0\x9F\x98\x80\xE2\x80\xA8\xE2\x80\xA9");
  for (const char* text : {R"(a: "\N")", R"(a: "\_")"}) {
    EXPECT_EQ(refusal(parse_yaml(text, "x.yaml")),
              "x.yaml:1:4: the escapes \\N and \\_ are not read here; write \\u0085 and \\u00a0");
  }
  EXPECT_EQ(parse_yaml(R"(a: "\u0085\u00a0")", "x.yaml")->root.find("a")->text, "\xC2\x85\xC2\xA0");
  EXPECT_FALSE(parse_yaml(R"(a: "\ud800")", "x.yaml")) << "a surrogate";
}

TEST(YamlDocument, AliasesAreCopies) {
  const auto document = parse_yaml("a: &list [1, 2]\nb: *list\n", "x.yaml");
  ASSERT_TRUE(document) << document.error().message;
  ASSERT_EQ(document->root.find("b")->children.size(), 2U);
  EXPECT_EQ(document->root.find("b")->children[1].text, "2");
}

TEST(YamlDocument, AliasesCannotMultiplyWithoutBound) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int j = 0; j < 9; ++j) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_NE(refusal(parse_yaml(bomb, "x.yaml")).find("more than 100000 values"), std::string::npos);

  std::string chain = "a0: &a0 [x]\n";
  for (int i = 1; i < 40; ++i) {
    chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  EXPECT_NE(refusal(parse_yaml(chain, "x.yaml")).find("more than 32 levels"), std::string::npos);
  EXPECT_FALSE(parse_yaml(std::string(100'000, '['), "x.yaml"));
  EXPECT_FALSE(parse_yaml(std::string(100'000, '{'), "x.yaml"));
}

}  // namespace
}  // namespace penstock
