#include "base/config_reader.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace penstock {
namespace {

using namespace std::chrono_literals;

enum class Mode : std::uint8_t { automatic, on, off };

struct Values {
  std::string name = "default";
  bool flag = false;
  int number = 7;
  std::chrono::milliseconds wait = 1s;
  std::uint64_t size = 1;
  Mode mode = Mode::automatic;
  std::vector<IpAddress> addresses;
  std::vector<Endpoint> listen;
  std::optional<Prefix> prefix;
  std::filesystem::path file;
  std::string secret;
};

// Reads {"section": {...}} with every kind of value; the refusals, or "" where there are none.
std::string read(std::string_view json, Values& values, const std::string& override_text = "") {
  auto document = parse_json(json, "conf/x.json");
  if (!document) return document.error().message;
  if (!override_text.empty()) {
    if (auto applied = apply_override(*document, override_text); !applied) return applied.error().message;
  }
  ConfigReader reader(*document);
  Section section = reader.root().section("section");
  section.value("name", values.name, form::text);
  section.value("flag", values.flag, form::flag);
  section.value("number", values.number, form::integer(1, 100));
  section.value("wait", values.wait, form::duration(500ms, 1min));
  section.value("size", values.size, form::size(1, 1 << 20));
  section.value("mode", values.mode,
                form::word<Mode>({{"auto", Mode::automatic}, {"on", Mode::on}, {"off", Mode::off}}));
  section.list("addresses", values.addresses, form::address);
  section.one_or_list("listen", values.listen, form::endpoint);
  section.value("prefix", values.prefix, form::prefix);
  section.path("file", values.file);
  section.value("secret", values.secret, form::secret);
  reader.root().section("other").value("elsewhere", values.number, form::integer(1, 100));
  const auto finished = reader.finish();
  return finished ? "" : finished.error().message;
}

std::string refusal(const std::string& json) {
  Values values;
  return read(json, values);
}

TEST(ConfigReader, WhatIsAbsentOrNullKeepsItsDefault) {
  for (const char* json : {"{}", R"({"section": null})", R"({"section": {}})", R"({"section": {"name": null}})"}) {
    Values values;
    EXPECT_EQ(read(json, values), "") << json;
    EXPECT_EQ(values.name, "default");
    EXPECT_EQ(values.number, 7);
    EXPECT_FALSE(values.prefix);
  }
}

TEST(ConfigReader, EveryKindOfValueIsRead) {
  Values values;
  ASSERT_EQ(read(R"({"section": {"name": "n", "flag": true, "number": 42, "wait": "1m", "size": "64KiB", "mode": "on",
                     "addresses": ["10.0.0.1", "fd00::1"], "listen": ":443", "prefix": "10.0.0.0/8",
                     "file": "cert.pem"}})",
                 values),
            "");
  EXPECT_EQ(values.name, "n");
  EXPECT_TRUE(values.flag);
  EXPECT_EQ(values.number, 42);
  EXPECT_EQ(values.wait, 1min);
  EXPECT_EQ(values.size, 65536U);
  EXPECT_EQ(values.mode, Mode::on);
  EXPECT_EQ(values.addresses.size(), 2U);
  ASSERT_EQ(values.listen.size(), 1U);
  EXPECT_EQ(values.listen[0].to_string(), "[::]:443");
  EXPECT_EQ(values.prefix->to_string(), "10.0.0.0/8");
  EXPECT_EQ(values.file, "conf/cert.pem") << "relative to the file's directory";
}

TEST(ConfigReader, APathFromTheCommandLineIsRelativeToTheWorkingDirectory) {
  Values values;
  ASSERT_EQ(read("{}", values, "section.file=cert.pem"), "");
  EXPECT_EQ(values.file, "cert.pem");
  ASSERT_EQ(read(R"({"section": {"file": "/etc/cert.pem"}})", values), "");
  EXPECT_EQ(values.file, "/etc/cert.pem");
}

TEST(ConfigReader, ATruthValueWhereAWordIsMeantIsThatWord) {
  const auto mode = [](std::string_view json) {
    Values values;
    EXPECT_EQ(read(json, values), "") << json;
    return values.mode;
  };
  EXPECT_EQ(mode(R"({"section": {"mode": "off"}})"), Mode::off);
  EXPECT_EQ(mode(R"({"section": {"mode": false}})"), Mode::off);
  EXPECT_EQ(mode(R"({"section": {"mode": true}})"), Mode::on);
  EXPECT_EQ(refusal(R"({"section": {"mode": "false"}})"),
            "conf/x.json:1:22: section.mode: expected auto, on or off, got \"false\"");
  EXPECT_EQ(refusal(R"({"section": {"flag": "off"}})"),
            "conf/x.json:1:22: section.flag: expected true or false without quotes, got \"off\"");
}

TEST(ConfigReader, FlagsComeInManyWords) {
  for (const char* word : {"true", "yes", "on", "True", "YES", "On"}) {
    Values values;
    EXPECT_EQ(read("{}", values, "section.flag=" + std::string(word)), "");
    EXPECT_TRUE(values.flag) << word;
  }
  for (const char* word : {"false", "no", "off", "False", "NO", "Off"}) {
    Values values{.flag = true};
    EXPECT_EQ(read("{}", values, "section.flag=" + std::string(word)), "");
    EXPECT_FALSE(values.flag) << word;
  }
}

TEST(ConfigReader, WrongValuesAreNamedWithPlacePathAndWhatWasExpected) {
  struct Case {
    const char* value;
    const char* message;
  };
  for (const auto& [value, message] : {
           Case{R"("name": "")", "name: must not be empty"},
           Case{R"("name": ["x"])", "name: expected text, got a list"},
           Case{R"("flag": 1)", "flag: expected true or false, got \"1\""},
           Case{R"("number": 101)", "number: expected a number from 1 to 100, got \"101\""},
           Case{R"("number": 1.5)", "number: expected a number from 1 to 100, got \"1.5\""},
           Case{R"("number": "5")", "number: expected a number from 1 to 100 without quotes, got \"5\""},
           Case{R"("wait": "2m")", "wait: expected a duration from 500ms to 1m, got \"2m\""},
           Case{R"("wait": 5)",
                "wait: expected a duration such as 30s or 1m30s, got \"5\"; a number needs a unit, for example 5s"},
           Case{R"("wait": {})", "wait: expected a duration such as 30s or 1m30s, got a section"},
           Case{R"("size": "2MiB")", "size: expected a size from 1B to 1MiB, got \"2MiB\""},
           Case{R"("addresses": "10.0.0.1")", "addresses: expected a list, got a single value; write [value]"},
           Case{R"("addresses": {})", "addresses: expected a list, got a section"},
           Case{R"("listen": "x")", "listen: expected an address with a port such as 0.0.0.0:443, got \"x\""},
           Case{R"("prefix": "x")", "prefix: expected a prefix such as 10.100.0.0/24, got \"x\""},
           Case{R"("prefix": "10.0.0.1/8")",
                "prefix: \"10.0.0.1/8\" has bits set after its first 8; did you mean 10.0.0.0/8?"},
           Case{R"("secret": [1])", "secret: expected text, got a list"},
       }) {
    const std::string got = refusal(std::string(R"({"section": {)") + value + "}}");
    EXPECT_TRUE(got.starts_with("conf/x.json:1:")) << got;
    EXPECT_TRUE(got.ends_with(std::string(": section.") + message)) << got;
  }
  EXPECT_EQ(refusal(R"({"section": {"addresses": ["10.0.0.1", "x"]}})"),
            "conf/x.json:1:40: section.addresses[1]: expected an IP address such as 10.100.0.1, got \"x\"");
  EXPECT_EQ(refusal(R"({"section": "hunter2"})"), "conf/x.json:1:13: section: expected a section, got a single value");
}

TEST(ConfigReader, AnUnknownKeyComesWithTheNearestKnownOne) {
  EXPECT_EQ(refusal(R"({"section": {"nmae": "x"}})"),
            "conf/x.json:1:14: section.nmae: unknown key; did you mean \"name\"?");
  EXPECT_EQ(refusal(R"({"section": {"adresses": []}})"),
            "conf/x.json:1:14: section.adresses: unknown key; did you mean \"addresses\"?");
  EXPECT_EQ(refusal(R"({"section": {"elsewhere": 1}})"),
            "conf/x.json:1:14: section.elsewhere: unknown key; did you mean \"other.elsewhere\"?");
  EXPECT_EQ(refusal(R"({"zzz": 1})"), "conf/x.json:1:2: zzz: unknown key");
  Values values;
  EXPECT_EQ(read("{}", values, "section.nmae=x"), "--set section.nmae: unknown key; did you mean \"name\"?");
  EXPECT_EQ(read("{}", values, "section.addresses=[\"x\"]"),
            "--set section.addresses: section.addresses[0]: expected an IP address such as 10.100.0.1, got \"x\"");
}

TEST(ConfigReader, AllMistakesAreReportedTogetherInTheOrderOfTheFile) {
  EXPECT_EQ(refusal("{\"zzz\": 1,\n\"section\": {\"wait\": \"x\",\n\"number\": 0}}"),
            "conf/x.json:1:2: zzz: unknown key\n"
            "conf/x.json:2:21: section.wait: expected a duration such as 30s or 1m30s, got \"x\"\n"
            "conf/x.json:3:11: section.number: expected a number from 1 to 100, got \"0\"");

  std::string many = "{";
  for (int i = 0; i < 25; ++i) many += (i == 0 ? "\"zz" : ",\"zz") + std::to_string(i) + "\": 1";
  const std::string message = refusal(many + "}");
  EXPECT_EQ(std::ranges::count(message, '\n'), 20);
  EXPECT_TRUE(message.ends_with("\n... and 5 more")) << message;
}

TEST(ConfigReader, KnowsEveryKeyThatWasAskedFor) {
  const auto document = parse_json(R"({"section": {"items": [{"a": 1}]}})", "x.json");
  ConfigReader reader(*document);
  Section section = reader.root().section("section");
  int value = 0;
  section.value("b", value, form::integer(0, 1));
  section.each("items", [&](Section item) { item.required("a", value, form::integer(0, 1)); });
  section.mark_reserved();
  EXPECT_EQ(reader.known_keys(), (std::vector<std::string>{"section.b", "section.items[].a"}));
  EXPECT_EQ(reader.reserved(), (std::vector<std::string>{"section.items"}));
  EXPECT_EQ(value, 1);
}

}  // namespace
}  // namespace penstock
