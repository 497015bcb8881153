#include "config/token_record.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace penstock {
namespace {

TokenRecord record(std::string name, std::string_view token) {
  TokenRecord record;
  record.name = std::move(name);
  record.sha256 = sha256(as_bytes(token));
  return record;
}

std::string refusal(const std::string& text) {
  const auto tokens = token_file_from_text(text, "tokens.json");
  return tokens ? "accepted" : tokens.error().message;
}

TEST(TokenFile, WhatItWritesItReadsBack) {
  TokenRecord alice = record("alice", "secret of alice");
  alice.address = IpAddress::parse("10.100.0.5").value();
  alice.address6 = IpAddress::parse("fd00::5").value();
  alice.single = true;
  alice.groups = {"staff", "admins"};
  alice.sites = {Prefix::parse("192.168.1.0/24").value()};
  const std::vector<TokenRecord> tokens = {alice, record("bob", "secret of bob")};
  const std::string text = token_file_text(tokens);
  EXPECT_EQ(text.find("secret of"), std::string::npos);
  const auto read = token_file_from_text(text, "tokens.json");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, tokens);
  EXPECT_EQ(token_file_text({}), "{\n  \"tokens\": []\n}\n");
  EXPECT_EQ(token_file_from_text(token_file_text({}), "tokens.json")->size(), 0U);
}

TEST(TokenFile, AMissingFileIsNotFound) {
  EXPECT_EQ(load_token_file("/nonexistent/tokens.json").error().code, ErrorCode::not_found);
}

TEST(Tokens, ThoseInPlainTextAreHashedAndNamedByTheirPlace) {
  const std::string digest = to_hex(sha256(as_bytes("c")));
  const auto tokens = token_file_from_text(
      R"({"tokens": ["a", {"name": "alice", "sha256": ")" + digest + R"("}, "b"]})", "tokens.json");
  ASSERT_TRUE(tokens) << tokens.error().message;
  ASSERT_EQ(tokens->size(), 3U);
  EXPECT_EQ((*tokens)[0], record("token-1", "a"));
  EXPECT_EQ((*tokens)[1], record("alice", "c"));
  EXPECT_EQ((*tokens)[2], record("token-3", "b"));
}

TEST(Tokens, NamesAndTokensAreUnique) {
  const std::string digest = to_hex(sha256(as_bytes("hunter2")));
  EXPECT_EQ(refusal(R"({"tokens": ["hunter2", "hunter2"]})"),
            "tokens.json:1:24: tokens[1]: the same token as \"token-1\"");
  EXPECT_EQ(refusal(R"({"tokens": ["x", {"name": "token-1", "sha256": ")" + digest + R"("}]})"),
            "tokens.json:1:27: tokens[1].name: \"token-1\" is the name of another token too");
}

TEST(Tokens, NoRefusalRepeatsASecret) {
  const std::string half(63, 'a');
  for (const auto& text :
       {R"({"tokens": "hunter2"})", R"({"tokens": {"hunter2": 1}})", R"({"tokens": [["hunter2"]]})",
        R"({"tokens": [{"hunter2": "x"}]})", R"({"tokens": [{"name": "a", "sha256": "hunter2"}]})",
        R"({"tokens": [{"name": "a", "sha256": ["hunter2"]}]})", R"({"tokens": [{"hunter2": {"hunter2": 1}}]})",
        R"({"tokens": ["hunter2", hunter2]})", R"({"tokens": ["hunter2)", R"({"tokens": ["hunter2", ""]})"}) {
    const std::string message = refusal(text);
    EXPECT_NE(message, "accepted") << text;
    EXPECT_EQ(message.find("hunter2"), std::string::npos) << message;
  }
  EXPECT_EQ(refusal(R"({"tokens": [{"name": "a", "sha256": ")" + half + R"("}]})"),
            "tokens.json:1:37: tokens[0].sha256: expected the 64 hex digits of a token's SHA-256");
}

TEST(Tokens, ABrokenFileOfIssuedTokensIsRefusedWithWhatToDo) {
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) /
                                     ("penstock-tokens-" + std::to_string(std::random_device()()) + ".json");
  std::ofstream(file) << "{\"tokens\": [";
  const auto loaded = load_token_file(file);
  std::filesystem::remove(file);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().message.find(file.string() + ":1:"), 0U) << loaded.error().message;
  EXPECT_NE(loaded.error().message.find("; mend " + file.string()), std::string::npos) << loaded.error().message;
  EXPECT_EQ(load_token_file(file).error().code, ErrorCode::not_found);
}

TEST(Tokens, AFixedAddressMeansOneSession) {
  const std::string start = R"({"tokens": [{"name": "a", "sha256": ")" + std::string(64, 'a') + R"(", )";
  EXPECT_TRUE(token_file_from_text(start + R"("address": "10.0.0.5"}]})", "tokens.json")->front().single);
  EXPECT_TRUE(token_file_from_text(start + R"("address6": "fd00::5"}]})", "tokens.json")->front().single);
  EXPECT_FALSE(token_file_from_text(start + R"("single": false}]})", "tokens.json")->front().single);
  EXPECT_NE(refusal(start + R"("address": "10.0.0.5", "single": false}]})").find("leave this out"), std::string::npos);
}

}  // namespace
}  // namespace penstock
