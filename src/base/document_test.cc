#include "base/document.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string position_of(const Document& document, std::initializer_list<const char*> path) {
  const Node* node = &document.root;
  for (const char* key : path) {
    if (node != nullptr) node = node->find(key);
  }
  return node == nullptr ? "absent" : document.describe(node->position);
}

std::string refusal(const Result<Document>& document) { return document ? "accepted" : document.error().message; }

TEST(JsonDocument, ValuesKnowWhereTheyBegin) {
  const auto document =
      parse_json("{\n  \"a\": 12,\n  \"ä\": { \"b\" :\"x\\\"y\", \"c\": [1, {\"d\": true}] }, \"e\":null\n}", "x.json");
  ASSERT_TRUE(document) << document.error().message;
  EXPECT_EQ(position_of(*document, {"a"}), "x.json:2:8");
  EXPECT_EQ(position_of(*document, {"ä"}), "x.json:3:8") << "columns count characters, not bytes";
  EXPECT_EQ(position_of(*document, {"ä", "b"}), "x.json:3:15");
  EXPECT_EQ(position_of(*document, {"ä", "c"}), "x.json:3:28");
  EXPECT_EQ(document->describe(document->root.find("ä")->find("c")->children[1].find("d")->position), "x.json:3:38");
  EXPECT_EQ(document->describe(document->root.find("a")->key_position), "x.json:2:3");
  EXPECT_EQ(document->root.find("ä")->find("b")->text, "x\"y");
  EXPECT_TRUE(document->root.find("ä")->find("b")->quoted);
  EXPECT_FALSE(document->root.find("a")->quoted);
  EXPECT_TRUE(document->root.find("e")->is_null());
}

TEST(JsonDocument, MistakesAreNamedWithoutTheTextAroundThem) {
  EXPECT_EQ(
      refusal(parse_json("{\"token\": \"hunter2\n\"}", "x.json")),
      "x.json:2:1: not valid JSON: invalid string: control character U+000A (LF) must be escaped to \\u000A or \\n");
  EXPECT_EQ(refusal(parse_json("{\"token\": hunter2}", "x.json")), "x.json:1:11: not valid JSON: invalid literal");
  EXPECT_EQ(refusal(parse_json("{\"a\": 1 \"hunter2\": 2}", "x.json")),
            "x.json:1:17: not valid JSON: unexpected string literal; expected '}'");
  EXPECT_EQ(refusal(parse_json("", "x.json")),
            "x.json:1:1: not valid JSON: unexpected end of input; expected '[', '{', or a literal");
  EXPECT_EQ(refusal(parse_json("{\"a\": 1, \"a\": 2}", "x.json")), "x.json:1:10: the key \"a\" is here twice");
  EXPECT_EQ(refusal(parse_json("{\"a\": 1} 2", "x.json")),
            "x.json:1:10: not valid JSON: unexpected number literal; expected end of input");
}

TEST(JsonDocument, DepthAndNumberOfValuesAreBounded) {
  const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  EXPECT_TRUE(parse_json(nested(32), "x.json"));
  EXPECT_EQ(refusal(parse_json(nested(33), "x.json")), "x.json:1:33: more than 32 levels of lists and maps");
  EXPECT_FALSE(parse_json(std::string(1'000'000, '['), "x.json"));

  std::string wide = "[1";
  for (int i = 0; i < 100'000; ++i) wide += ",1";
  EXPECT_NE(refusal(parse_json(wide + "]", "x.json")).find("more than 100000 values"), std::string::npos);
}

TEST(Document, TheEndOfTheNameTellsTheKind) {
  EXPECT_TRUE(parse_document(R"({"vpn": {"mtu": 1}})", "x.json"));
  EXPECT_EQ(refusal(parse_document("[1]", "x.json")), "x.json:1:1: expected sections such as \"server:\" and \"vpn:\"");
  EXPECT_EQ(refusal(parse_document(std::string(5 << 20, ' '), "x.json")),
            "x.json: larger than 4 MiB, which no configuration is");
  EXPECT_EQ(refusal(parse_document(std::string("{}\0", 3), "x.json")),
            "x.json: holds a zero byte, so it is no text in UTF-8");
}

TEST(Document, WhatIsNotUtf8IsRefusedWithItsPlace) {
  EXPECT_EQ(refusal(parse_document("{\n\"a\": \"\xC3\xA4\", \"b\": \"\xE4\"}", "x.json")),
            "x.json:2:17: not valid UTF-8 from here on; save the file as UTF-8");
  EXPECT_EQ(refusal(parse_json("\"\xED\xA0\x80\"", "x.json")),
            "x.json:1:2: not valid UTF-8 from here on; save the file as UTF-8")
      << "a surrogate";
  EXPECT_TRUE(parse_document("{\"a\": \"\xF0\x9F\x98\x80\"}", "x.json"));
}

TEST(Document, AFileThatIsNotThereIsNotFound) {
  const auto document = read_document("/nonexistent/server.yaml");
  ASSERT_FALSE(document);
  EXPECT_EQ(document.error().code, ErrorCode::not_found);
  EXPECT_TRUE(document.error().message.starts_with("/nonexistent/server.yaml: "));
  EXPECT_EQ(read_document("/").error().code, ErrorCode::invalid_argument);
}

class Override : public ::testing::Test {
 protected:
  Document document_ = parse_json(R"({"vpn": {"mtu": 1420, "routes": ["10.0.0.0/8"]}, "off": 1})", "x.json").value();

  const Node& at(const char* section, const char* key) { return *document_.root.find(section)->find(key); }
};

TEST_F(Override, TakesThePlaceOfWhatTheFileHas) {
  ASSERT_TRUE(apply_override(document_, "vpn.mtu=1300"));
  EXPECT_EQ(at("vpn", "mtu").text, "1300");
  EXPECT_EQ(document_.describe(at("vpn", "mtu").position), "--set vpn.mtu");
  ASSERT_TRUE(apply_override(document_, "vpn.mtu="));
  EXPECT_TRUE(at("vpn", "mtu").is_null());
  EXPECT_EQ(document_.root.find("vpn")->children.size(), 2U);
}

TEST_F(Override, MakesTheSectionsOnTheWay) {
  ASSERT_TRUE(apply_override(document_, "push.dns.servers=[\"10.0.0.1\", 2]"));
  const Node& servers = *document_.root.find("push")->find("dns")->find("servers");
  ASSERT_EQ(servers.children.size(), 2U);
  EXPECT_EQ(servers.children[0].text, "10.0.0.1");
  EXPECT_EQ(document_.describe(servers.children[1].position), "--set push.dns.servers");

  Document empty{.root = {}, .sources = {"x.json"}};
  ASSERT_TRUE(apply_override(empty, "a=1"));
  EXPECT_EQ(empty.root.find("a")->text, "1");
}

TEST_F(Override, WhatIsNoListOrQuotedStringIsTakenAsItStands) {
  for (const char* text : {"[::]:443", "a: b", "x # y", "{", "[1", "wss://h/?a=b", "*x", "off"}) {
    ASSERT_TRUE(apply_override(document_, "vpn.value=" + std::string(text)));
    EXPECT_EQ(at("vpn", "value").text, text);
    EXPECT_TRUE(at("vpn", "value").is_scalar());
    EXPECT_FALSE(at("vpn", "value").quoted);
  }
  ASSERT_TRUE(apply_override(document_, "vpn.value=\"off\""));
  EXPECT_EQ(at("vpn", "value").text, "off");
  EXPECT_TRUE(at("vpn", "value").quoted);
}

TEST_F(Override, RefusalsDoNotRepeatTheValue) {
  for (const char* assignment : {"hunter2", "=hunter2", "a..b=hunter2", ".a=hunter2", "a b=hunter2", ""}) {
    const auto applied = apply_override(document_, assignment);
    ASSERT_FALSE(applied) << assignment;
    EXPECT_EQ(applied.error().message, "--set: expected section.key=value, for example vpn.mtu=1400");
  }
  EXPECT_EQ(apply_override(document_, "vpn.mtu.x=1").error().message, "--set vpn.mtu.x: vpn.mtu is not a section");
  EXPECT_EQ(apply_override(document_, "off.x=1").error().message, "--set off.x: off is not a section");
  EXPECT_EQ(apply_override(document_, "vpn.name=hunter2\xE4").error().message,
            "--set vpn.name: the value is not valid UTF-8");
}

}  // namespace
}  // namespace penstock
