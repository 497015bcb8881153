#include <gtest/gtest.h>

#include "config/common.h"

namespace penstock {
namespace {

TEST(DefaultPaths, EverythingStandsBelowProgramData) {
  const auto user = UserEnvironment::current();
  ASSERT_FALSE(user.state_home.empty());
  EXPECT_FALSE(user.home.empty());
  EXPECT_FALSE(user.root);
  const auto file = user.state_home / "penstock" / "home.json";
  EXPECT_EQ(instance_name(file), "home");
  const auto paths = default_paths(file, user);
  EXPECT_EQ(paths.state_dir, user.state_home / "penstock" / "home");
  EXPECT_EQ(paths.status_socket, user.state_home / "penstock" / "home.sock");
}

TEST(DefaultPaths, FilesElsewhereDoNotShareByAccident) {
  const std::string name = instance_name("C:\\a\\client.json");
  EXPECT_TRUE(name.starts_with("client-")) << name;
  EXPECT_NE(instance_name("C:\\b\\client.json"), name);
  EXPECT_EQ(instance_name("C:/a/../a/client.json"), name);
}

}  // namespace
}  // namespace penstock
