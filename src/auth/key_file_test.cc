#include "auth/key_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace penstock::auth {
namespace {

using std::filesystem::perms;

class KeyFile : public testing::Test {
 protected:
  KeyFile() { std::filesystem::create_directory(directory_); }
  ~KeyFile() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& text, perms mode = perms::owner_read | perms::owner_write) {
    std::ofstream(path_) << text;
    std::filesystem::permissions(path_, mode);
  }
  ErrorCode refusal() {
    const auto key = load_or_create_key(path_, random_);
    EXPECT_FALSE(key);
    return key ? ErrorCode::system_error : key.error().code;
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(testing::TempDir()) /
      ("penstock_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  const std::string path_ = (directory_ / "lease.key").string();
  SeededRandom random_{5};
};

TEST_F(KeyFile, IsMadeOnceAndReadFromThenOn) {
  const auto made = load_or_create_key(path_, random_);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(std::filesystem::status(path_).permissions(), perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::file_size(path_), 65U);
  EXPECT_EQ(load_or_create_key(path_, random_).value(), *made);
}

TEST_F(KeyFile, ThatHoldsNoKeyIsRefusedAndKept) {
  const std::string digits(64, 'a');
  for (const std::string& text : {std::string(), std::string("\n"), digits, digits.substr(1) + "\n", digits + "a\n",
                                  digits + "\n\n", digits.substr(1) + "g\n"}) {
    write(text);
    EXPECT_EQ(refusal(), ErrorCode::invalid_argument) << text;
    EXPECT_EQ(std::filesystem::file_size(path_), text.size());
  }
  write(digits + "\n");
  EXPECT_EQ(load_or_create_key(path_, random_).value()[31], 0xAA);
}

TEST_F(KeyFile, ThatOthersMayReadIsRefused) {
  for (const perms others : {perms::group_read, perms::others_read, perms::others_write}) {
    write(std::string(64, 'a') + "\n", perms::owner_read | perms::owner_write | others);
    EXPECT_EQ(refusal(), ErrorCode::permission_denied);
  }
}

TEST_F(KeyFile, ThatCannotBeMadeIsRefusedByItsPath) {
  const auto refused = load_or_create_key((directory_ / "missing" / "lease.key").string(), random_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("lease.key"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace penstock::auth
