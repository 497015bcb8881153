// Who may write to a file, by owner, mode, group and directory. Run as root it also tries other owners.
#include "base/file_trust.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/atomic_file.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uid_t kStranger = 12345;

class FileTrust : public ::testing::Test {
 protected:
  FileTrust() {
    ::unsetenv("SUDO_UID");
    std::string name = ::testing::TempDir() + "penstock-file-trust-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    write("file", 0600);
  }
  ~FileTrust() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  void write(const std::string& name, mode_t mode) const {
    ASSERT_TRUE(write_file_atomically(path(name), as_bytes("x"), mode));
  }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // Empty: believed.
  std::string refusal(const std::string& name = "file") const {
    const auto checked = refuse_if_writable_by_others(path(name));
    return checked ? std::string() : checked.error().message;
  }
  static bool give(const std::string& to_change, uid_t user, gid_t group) {
    return ::chown(to_change.c_str(), user, group) == 0;
  }
  // True where this process's user has a group named like it, as on Debian and Ubuntu.
  static bool has_private_group() {
    const passwd* user = ::getpwuid(::geteuid());
    const group* own = user == nullptr ? nullptr : ::getgrgid(user->pw_gid);
    return own != nullptr && std::string(own->gr_name) == user->pw_name && own->gr_mem[0] == nullptr;
  }
  std::string directory_;
};

TEST_F(FileTrust, WhatOnlyItsOwnerMayWriteToIsBelieved) {
  for (const mode_t mode : {0400U, 0600U, 0640U, 0644U, 0755U}) {
    write("file", mode);
    EXPECT_EQ(refusal(), "") << std::oct << mode;
  }
}

TEST_F(FileTrust, WhatEverybodyMayWriteToIsRefusedWithTheCommandThatMendsIt) {
  for (const mode_t mode : {0602U, 0666U, 0646U}) {
    write("file", mode);
    EXPECT_THAT(refusal(), HasSubstr("everybody")) << std::oct << mode;
    EXPECT_THAT(refusal(), ::testing::EndsWith("run: chmod go-w " + path("file")));
  }
  EXPECT_THAT(refusal(), StartsWith(path("file") + ": it may be written to by everybody (mode 0646, owner "));
}

TEST_F(FileTrust, APrivateGroupMayWriteToIt) {
  if (!has_private_group()) GTEST_SKIP() << "this user has no group of its own";
  write("file", 0664);
  ASSERT_TRUE(give(path("file"), static_cast<uid_t>(-1), ::getpwuid(::geteuid())->pw_gid));
  ::chmod(directory_.c_str(), 0775);
  EXPECT_EQ(refusal(), "");
}

TEST_F(FileTrust, AGroupOfOthersMayNot) {
  write("file", 0660);
  if (!give(path("file"), static_cast<uid_t>(-1), kStranger)) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal(), HasSubstr("may be written to by group 12345"));
  EXPECT_THAT(refusal(), HasSubstr("chmod g-w"));
  write("file", 0640);
  ASSERT_TRUE(give(path("file"), static_cast<uid_t>(-1), kStranger));
  EXPECT_EQ(refusal(), "") << "reading is not writing";
}

TEST_F(FileTrust, AFileOfAnotherUserIsRefusedUnlessThatOneAskedSudo) {
  if (!give(path("file"), kStranger, kStranger)) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal(), HasSubstr("belongs to user 12345"));
  EXPECT_THAT(refusal(), HasSubstr("run: chown root " + path("file")));
  EXPECT_TRUE(refuse_if_writable_by_others_than_owner(path("file")));
  ::setenv("SUDO_UID", "12345", 1);
  EXPECT_EQ(refusal(), "");
  ::chmod(path("file").c_str(), 0660);
  EXPECT_EQ(refusal(), "") << "a group without a name but with the owner's number";
  ::unsetenv("SUDO_UID");
}

TEST_F(FileTrust, InADirectoryOfOthersAFileCanBeExchanged) {
  ::chmod(directory_.c_str(), 0777);
  EXPECT_THAT(refusal(), HasSubstr("its directory " + directory_ + " may be written to by everybody (mode 0777"));
  EXPECT_THAT(refusal(), HasSubstr("run: chmod go-w " + directory_));
  ::chmod(directory_.c_str(), 01777);
  EXPECT_EQ(refusal(), "") << "the sticky bit leaves files to their owners";
  ::chmod(directory_.c_str(), 0755);
  if (!give(directory_, kStranger, kStranger)) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal(), HasSubstr("its directory " + directory_ + " belongs to user 12345"));
  ::chmod(directory_.c_str(), 01777);
  EXPECT_THAT(refusal(), HasSubstr("belongs to user 12345")) << "but not from the directory's own owner";
}

TEST_F(FileTrust, BehindALinkBothItAndWhatItNamesAreLookedAt) {
  std::filesystem::create_directory(path("elsewhere"));
  write("elsewhere/file", 0600);
  std::filesystem::create_symlink("elsewhere/file", path("link"));
  EXPECT_EQ(refusal("link"), "");
  ::chmod(path("elsewhere").c_str(), 0777);
  EXPECT_THAT(refusal("link"), StartsWith(path("link") + ": its directory " + path("elsewhere")));
  ::chmod(path("elsewhere").c_str(), 0755);
  ::chmod(path("elsewhere/file").c_str(), 0666);
  EXPECT_THAT(refusal("link"), HasSubstr(path("elsewhere/file") + " may be written to by everybody"));
  ::chmod(path("elsewhere/file").c_str(), 0600);
  if (::lchown(path("link").c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal("link"), HasSubstr("chown -h root"));
}

TEST_F(FileTrust, NorIsItBelievedBelowADirectoryThatCanBeExchangedWhole) {
  std::filesystem::create_directories(path("a/b/c"));
  write("a/b/c/file", 0600);
  EXPECT_EQ(refusal("a/b/c/file"), "");
  ::chmod(path("a").c_str(), 0777);
  EXPECT_THAT(refusal("a/b/c/file"), StartsWith(path("a/b/c/file") + ": directory " + path("a") +
                                                " on the way to it may be written to by everybody (mode 0777, owner "));
  EXPECT_THAT(refusal("a/b/c/file"), ::testing::EndsWith("run: chmod go-w " + path("a")));
  EXPECT_THAT(refusal("a/b/c/file"), Not(HasSubstr("\n")));
  EXPECT_THAT(refusal("a/b/../b/./c//file"), HasSubstr("directory " + path("a") + " on the way"));
  EXPECT_EQ(refusal("a/../file"), "") << "what a is in is not in a";
  ::chmod(path("a").c_str(), 01777);
  EXPECT_EQ(refusal("a/b/c/file"), "");
  ::chmod(path("a").c_str(), 0755);
  if (!give(path("a/b"), kStranger, kStranger)) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal("a/b/c/file"), HasSubstr("directory " + path("a/b") + " on the way to it belongs to user 12345"));
}

TEST_F(FileTrust, ARelativePathIsHeldToTheWorkingDirectorysOwnPath) {
  std::filesystem::create_directories(path("a/b"));
  write("a/b/file", 0600);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(path("a/b"));
  const auto refusal_of = [](const char* name) {
    const auto checked = refuse_if_writable_by_others(name);
    return checked ? std::string() : checked.error().message;
  };
  EXPECT_EQ(refusal_of("file"), "");
  ::chmod(path("a").c_str(), 0777);
  EXPECT_THAT(refusal_of("file"), StartsWith("file: directory " + path("a") + " on the way to it may be written to"));
  EXPECT_THAT(refusal_of("../b/file"), HasSubstr("directory " + path("a")));
  ::chmod(path("a").c_str(), 0755);
  ::chmod(path("a/b/file").c_str(), 0666);
  EXPECT_THAT(refusal_of("file"), StartsWith("file: it may be written to by everybody"));
  std::filesystem::current_path(before);
}

TEST_F(FileTrust, LinksOnTheWayAreFollowedOneByOne) {
  std::filesystem::create_directories(path("real/inner"));
  std::filesystem::create_directory(path("loose"));
  write("real/inner/file", 0600);
  std::filesystem::create_directory_symlink("../real", path("loose/link"));
  std::filesystem::create_directory_symlink(path("loose/link"), path("entry"));
  EXPECT_EQ(refusal("entry/inner/file"), "");
  ::chmod(path("loose").c_str(), 0777);
  EXPECT_THAT(refusal("entry/inner/file"), HasSubstr("directory " + path("loose") + " on the way"))
      << "where a link between the two can be exchanged";
  EXPECT_EQ(refusal("real/inner/file"), "");
  ::chmod(path("loose").c_str(), 0755);
  ::chmod(path("real").c_str(), 0777);
  EXPECT_THAT(refusal("entry/inner/file"), HasSubstr("directory " + path("real") + " on the way"));
  ::chmod(path("real").c_str(), 0755);
  if (::lchown(path("entry").c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  EXPECT_THAT(refusal("entry/inner/file"), HasSubstr("symbolic link " + path("entry") + " belongs to user 12345"));
}

TEST_F(FileTrust, LinksInACircleEnd) {
  std::filesystem::create_symlink("second", path("first"));
  std::filesystem::create_symlink("first", path("second"));
  EXPECT_THAT(refusal("first"), StartsWith(path("first") + ": "));
  for (int i = 0; i <= 40; ++i)
    std::filesystem::create_symlink(i == 0 ? "file" : std::to_string(i - 1), path(std::to_string(i)));
  EXPECT_EQ(refusal("39"), "");
  EXPECT_THAT(refusal("40"), StartsWith(path("40") + ": "));
}

TEST_F(FileTrust, PipesAndDevicesAreNotLookedAt) {
  EXPECT_TRUE(refuse_if_writable_by_others("/dev/null"));
  EXPECT_EQ(refuse_if_writable_by_others(path("none")).error().code, ErrorCode::not_found);
}

TEST_F(FileTrust, ReadingByEverybodyIsSeen) {
  EXPECT_FALSE(readable_by_everybody(path("file")));
  write("file", 0640);
  EXPECT_FALSE(readable_by_everybody(path("file")));
  write("file", 0644);
  EXPECT_TRUE(readable_by_everybody(path("file")));
  EXPECT_FALSE(readable_by_everybody(path("none")));
  EXPECT_THAT(describe_access(path("file")), StartsWith("mode 0644, owner "));
}

}  // namespace
}  // namespace penstock
