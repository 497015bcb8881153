// Users by name and number, and what root hands to them. Most of it takes root, who alone can give files away.
#include "gateway/account.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/atomic_file.h"

namespace penstock::gateway {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kUser = 65500;
constexpr uid_t kStranger = 65501;
const Account gateway_user{.user = kUser, .group = kUser, .groups = {kUser}, .name = "65500"};

class AccountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    std::string name = ::testing::TempDir() + "penstock-account-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    ::chmod(directory_.c_str(), 0755);
  }
  void TearDown() override {
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }
  std::filesystem::path path(const std::string& name) const { return directory_ / name; }
  void write(const std::string& name, mode_t mode = 0600) const {
    ASSERT_TRUE(write_file_atomically(path(name).string(), as_bytes("x"), mode));
  }
  static struct stat look(const std::filesystem::path& at) {
    struct stat status{};
    EXPECT_EQ(::lstat(at.c_str(), &status), 0) << at;
    return status;
  }
  std::string refusal() const {
    const auto made = make_state_directory(path("state"), gateway_user);
    return made ? std::string() : made.error().message;
  }
  std::filesystem::path directory_;
};

TEST_F(AccountTest, AUserIsANumberANumberWithItsGroupOrAName) {
  const auto number = account_of({.user = "65500", .user_given = true});
  ASSERT_TRUE(number) << number.error().message;
  EXPECT_EQ(number->user, kUser);
  EXPECT_EQ(number->group, kUser) << "without an entry the group has the same number";
  EXPECT_EQ(number->groups, std::vector<gid_t>{kUser});

  const auto both = account_of({.user = "65500:65501", .user_given = true});
  ASSERT_TRUE(both);
  EXPECT_EQ(both->group, 65501U);

  const passwd* nobody = ::getpwnam("nobody");
  ASSERT_NE(nobody, nullptr);
  const uid_t nobody_id = nobody->pw_uid;
  const gid_t nobody_group = nobody->pw_gid;
  const auto name = account_of({.user = "nobody", .user_given = true});
  ASSERT_TRUE(name);
  EXPECT_EQ(name->user, nobody_id);
  EXPECT_EQ(name->group, nobody_group);
  EXPECT_EQ(name->name, "nobody");
  const auto grouped = account_of({.user = "nobody", .group = "daemon", .user_given = true});
  ASSERT_TRUE(grouped);
  EXPECT_EQ(grouped->group, ::getgrnam("daemon")->gr_gid);
}

TEST_F(AccountTest, ANamedUserThatIsNotThereIsRefusedAndTheDefaultOneStaysRoot) {
  const auto named = account_of({.user = "no-such-user", .user_given = true});
  ASSERT_FALSE(named);
  EXPECT_EQ(named.error().code, ErrorCode::not_found);
  EXPECT_THAT(named.error().message, HasSubstr("useradd --system"));
  EXPECT_THAT(account_of({.user = "nobody", .group = "no-such-group", .user_given = true}).error().message,
              HasSubstr("process.group: there is no group no-such-group"));
  EXPECT_THAT(account_of({.user = "1:no-such-group", .user_given = true}).error().message,
              HasSubstr("process.user: there is no group no-such-group"));
  EXPECT_THAT(account_of({.user = "no-such-user", .group = "no-such-group"}).error().message,
              HasSubstr("process.group: there is no group no-such-group"))
      << "also where the default user is missing";

  const auto missing = account_of({.user = "no-such-user"});
  ASSERT_TRUE(missing);
  EXPECT_TRUE(missing->missing);
  EXPECT_EQ(missing->user, 0U);
  const auto grouped = account_of({.user = "no-such-user", .group = "65500"});
  ASSERT_TRUE(grouped);
  EXPECT_EQ(grouped->group, kUser);
  EXPECT_THAT(grouped->groups, ::testing::Contains(kUser));
}

TEST(Account, AGroupIsANumberOrANameAndItsKeyIsNamedWhereItIsNot) {
  EXPECT_EQ(group_named("65500", "x").value(), 65500U);
  const gid_t daemon = ::getgrnam("daemon")->gr_gid;
  EXPECT_EQ(group_named("daemon", "x").value(), daemon);
  const auto refused = group_named("no-such-group", "server.listen_http_group");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::not_found);
  EXPECT_THAT(refused.error().message, HasSubstr("server.listen_http_group: there is no group no-such-group"));
}

TEST_F(AccountTest, TheStateDirectoryIsMadeForTheUserAlone) {
  const mode_t before = ::umask(077);
  EXPECT_TRUE(make_state_directory(path("a/b/state/"), gateway_user));
  ::umask(before);
  EXPECT_EQ(look(path("a/b")).st_mode & 07777U, 0755U) << "others pass through";
  EXPECT_EQ(look(path("a/b")).st_uid, 0U);
  EXPECT_EQ(look(path("a/b/state")).st_mode & 07777U, 0700U);
  EXPECT_EQ(look(path("a/b/state")).st_uid, kUser);
  EXPECT_EQ(look(path("a/b/state")).st_gid, kUser);
}

TEST_F(AccountTest, WhatRootKeptThereIsGivenToTheUserAndBack) {
  std::filesystem::create_directory(path("state"));
  write("state/lease.key");
  write("state/tokens.json");
  write("state/sessions.json.a1B2c3");
  EXPECT_EQ(refusal(), "");
  for (const char* file : {"state", "state/lease.key", "state/tokens.json"}) EXPECT_EQ(look(path(file)).st_uid, kUser);
  write("state/tokens.json");  // root's again
  EXPECT_EQ(refusal(), "");
  EXPECT_EQ(look(path("state/tokens.json")).st_uid, kUser);

  const Account other{.user = kStranger, .group = kStranger, .groups = {kStranger}, .name = "65501"};
  EXPECT_TRUE(make_state_directory(path("state"), other));
  EXPECT_EQ(look(path("state/lease.key")).st_uid, kStranger);
}

TEST_F(AccountTest, ADirectoryOfSomethingElseIsNotGivenAway) {
  std::filesystem::create_directory(path("state"));
  write("state/passwd");
  EXPECT_THAT(refusal(), HasSubstr("holds passwd, which is none of the gateway's files"));
  EXPECT_EQ(look(path("state")).st_uid, 0U);
}

TEST_F(AccountTest, PlantedLinksAreRefused) {
  write("shadow");
  ASSERT_TRUE(make_state_directory(path("state"), gateway_user));
  std::filesystem::create_symlink(path("shadow"), path("state/lease.key"));
  EXPECT_THAT(refusal(), HasSubstr("lease.key: is a link"));
  std::filesystem::remove(path("state/lease.key"));
  std::filesystem::create_hard_link(path("shadow"), path("state/lease.key"));
  EXPECT_THAT(refusal(), HasSubstr("lease.key: is a link"));
  EXPECT_EQ(look(path("shadow")).st_uid, 0U);

  std::filesystem::remove_all(path("state"));
  std::filesystem::create_directory(path("etc"));
  std::filesystem::create_directory_symlink(path("etc"), path("state"));
  ASSERT_EQ(::lchown(path("state").c_str(), kUser, kUser), 0);
  EXPECT_THAT(refusal(), HasSubstr("is a link that somebody else made"));
  EXPECT_EQ(look(path("etc")).st_uid, 0U);
  ASSERT_EQ(::lchown(path("state").c_str(), 0, 0), 0);
  EXPECT_EQ(refusal(), "") << "root's own link is meant";
  EXPECT_EQ(look(path("etc")).st_uid, kUser);
}

// Where everybody may make directories, one that is there already may hold keys and tokens of its maker's.
TEST_F(AccountTest, AStrangersStateDirectoryIsRefused) {
  ASSERT_EQ(::chmod(directory_.c_str(), 01777), 0);
  std::filesystem::create_directory(path("state"));
  ASSERT_EQ(::chown(path("state").c_str(), kStranger, kStranger), 0);
  write("state/tokens.json");
  EXPECT_THAT(refusal(), HasSubstr("belongs to user 65501, who could have put keys and tokens there"));
  EXPECT_THAT(refusal(), HasSubstr("chown -R 0 " + path("state").string()));
  EXPECT_EQ(look(path("state")).st_uid, kStranger);
  EXPECT_EQ(look(path("state/tokens.json")).st_uid, 0U);

  ::setenv("SUDO_UID", "65501", 1);
  EXPECT_EQ(refusal(), "") << "whoever asked sudo is no stranger";
  ::unsetenv("SUDO_UID");
  EXPECT_EQ(look(path("state/tokens.json")).st_uid, kUser);
}

TEST_F(AccountTest, WhereOnlyRootMakesDirectoriesRootGaveItAway) {
  std::filesystem::create_directory(path("state"));
  ASSERT_EQ(::chown(path("state").c_str(), kStranger, kStranger), 0);
  EXPECT_EQ(refusal(), "");
  EXPECT_EQ(look(path("state")).st_uid, kUser);
}

TEST_F(AccountTest, ASocketsDirectoryIsTheUsersIfItIsMadeHere) {
  EXPECT_TRUE(make_socket_directory(path("a/run"), gateway_user));
  EXPECT_EQ(look(path("a/run")).st_uid, kUser);
  EXPECT_TRUE(make_socket_directory(path("a/run"), gateway_user)) << "the second start";
  EXPECT_FALSE(make_socket_directory(directory_, gateway_user)) << "root's stays root's";
  EXPECT_EQ(look(directory_).st_uid, 0U);
  EXPECT_TRUE(make_socket_directory("/tmp", gateway_user));
}

TEST_F(AccountTest, TheCommandsThatLetAUserReadAreTold) {
  std::filesystem::create_directory(path("live"));
  ::chmod(path("live").c_str(), 0700);
  write("live/key");
  write("open", 0644);
  EXPECT_EQ(commands_to_let_read(gateway_user, path("open")), "");
  const std::string live = path("live").string();
  EXPECT_EQ(commands_to_let_read(gateway_user, path("live/key")), "chgrp 65500 " + live + " && chmod g+x " + live +
                                                                      " && chgrp 65500 " + live + "/key && chmod g+r " +
                                                                      live + "/key");
  ASSERT_EQ(std::system(commands_to_let_read(gateway_user, path("live/key")).c_str()), 0);
  EXPECT_EQ(commands_to_let_read(gateway_user, path("live/key")), "");
  std::filesystem::create_symlink("live/key", path("link"));
  ::chmod(path("live/key").c_str(), 0600);
  EXPECT_EQ(commands_to_let_read(gateway_user, path("link")), "chmod g+r " + live + "/key");
}

TEST_F(AccountTest, WhatMendsAReloadIsRememberedWhereTheUserDoesNotSeeIt) {
  std::filesystem::create_directory(path("live"));
  ::chmod(path("live").c_str(), 0700);
  write("live/key");
  write("key");
  write("open", 0644);
  const FilesToReread files(gateway_user, {path("live/key"), path("key"), path("open"), ""});
  EXPECT_EQ(files.commands_for(path("live/key")), "") << "root can read it";
  const std::string hidden = commands_to_let_read(gateway_user, path("live/key"));
  EXPECT_EXIT(
      {
        if (::setgroups(0, nullptr) != 0 || ::setresgid(kUser, kUser, kUser) != 0 ||
            ::setresuid(kUser, kUser, kUser) != 0)
          std::_Exit(100);
        if (files.unreadable() != std::vector{path("live/key"), path("key")}) std::_Exit(1);
        if (commands_to_let_read(gateway_user, path("live/key")) == hidden) std::_Exit(2);
        if (files.commands_for(path("live/key")) != hidden) std::_Exit(3);
        if (!files.commands_for(path("key")).ends_with("chmod g+r " + path("key").string())) std::_Exit(4);
        std::_Exit(files.commands_for(path("open")).empty() && files.commands_for("").empty() ? 0 : 5);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(AccountTest, RootActsAsTheOwnerOfADirectoryAndIsRootAgain) {
  ASSERT_TRUE(make_state_directory(path("state"), gateway_user));
  {
    const auto acting = ActingAs::owner_of(path("state"));
    ASSERT_TRUE(acting) << acting.error().message;
    EXPECT_EQ(::geteuid(), kUser);
    write("state/tokens.json");
    EXPECT_FALSE(write_file_atomically(path("mine").string(), as_bytes("x"), 0600)) << "not with root's rights";
  }
  EXPECT_EQ(::geteuid(), 0U);
  EXPECT_EQ(look(path("state/tokens.json")).st_uid, kUser);
  write("mine");
  {
    const auto acting = ActingAs::owner_of(directory_);
  }
  EXPECT_EQ(::geteuid(), 0U);
}

TEST(Account, WhoeverIsNotRootStaysWhoItIs) {
  if (::geteuid() == 0) GTEST_SKIP() << "is root";
  const auto account = account_of({.user = "no-such-user", .user_given = true});
  ASSERT_TRUE(account);
  EXPECT_EQ(account->user, ::geteuid());
  EXPECT_FALSE(account->missing);
}

}  // namespace
}  // namespace penstock::gateway
