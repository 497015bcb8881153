#include "session/state_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/random.h"

namespace penstock::session {
namespace {

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() {
    SystemRandom random;
    directory = std::filesystem::temp_directory_path() / ("penstock-state-" + std::to_string(random.next64()));
    std::filesystem::create_directories(directory);
    path = (directory / "sessions.json").string();
  }
  ~StateFileTest() override { std::filesystem::remove_all(directory); }
  std::filesystem::path directory;
  std::string path;
  std::vector<SavedSession> sessions{
      {.key = {1, 2, 3}, .credential = "alice", .epoch = UINT64_MAX, .address = IpAddress::v4(0x0A640002)},
      {.key = {9}, .credential = "bob \"quoted\"", .epoch = 7, .address = IpAddress::v4(0x0A640003)}};
};

TEST_F(StateFileTest, WhatWasSavedComesBack) {
  {
    StateFile(path).save(sessions);
  }
  EXPECT_EQ(StateFile(path).load().value(), sessions);
}

TEST_F(StateFileTest, TheLastOfManyListsIsTheOneOnDisk) {
  {
    StateFile file(path);
    for (int i = 0; i < 100; ++i) file.save({});
    file.save(sessions);
  }
  EXPECT_EQ(StateFile(path).load().value().size(), 2U);
}

TEST_F(StateFileTest, NoFileIsNoSessions) { EXPECT_TRUE(StateFile(path).load().value().empty()); }

TEST_F(StateFileTest, ABrokenFileIsRefusedByNameAndLeftAlone) {
  for (const char* text :
       {"", "{", "[]", R"({"version":2,"sessions":[]})", R"({"version":1,"sessions":[{"key":"00"}]})",
        R"({"version":1,"sessions":[{"key":"zz","credential":"a","epoch":1,"address":"10.0.0.1"}]})"}) {
    std::ofstream(path) << text;
    const auto loaded = StateFile(path).load();
    ASSERT_FALSE(loaded) << text;
    EXPECT_NE(loaded.error().message.find(path), std::string::npos);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
}

}  // namespace
}  // namespace penstock::session
