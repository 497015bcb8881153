#include <gtest/gtest.h>

#include "config/common.h"

namespace penstock {
namespace {

TEST(DefaultPaths, TheStandardPlacesGiveNiceNames) {
  EXPECT_EQ(instance_name("/etc/penstock/server.yaml"), "server");
  EXPECT_EQ(instance_name("/etc/penstock/../penstock/office.json"), "office");
  EXPECT_EQ(instance_name("/etc/penstock/clients/home.yaml"), "home");
}

TEST(DefaultPaths, FilesElsewhereDoNotShareByAccident) {
  const std::string name = instance_name("/srv/a/server.yaml");
  EXPECT_EQ(name, "server-4d0088a5");
  EXPECT_NE(instance_name("/srv/b/server.yaml"), name);
  EXPECT_NE(instance_name("/srv/a/server.json"), name);
  EXPECT_EQ(instance_name("/srv/a/../a/server.yaml"), name);
}

TEST(DefaultPaths, RootAndOthersHaveTheirOwnPlaces) {
  const auto root = default_paths("/etc/penstock/server.yaml", {.root = true});
  EXPECT_EQ(root.state_dir, "/var/lib/penstock/server");
  EXPECT_EQ(root.status_socket, "/run/penstock/server.sock");

  const auto plain = default_paths("/etc/penstock/server.yaml", {.user_id = 1000, .home = "/home/alice"});
  EXPECT_EQ(plain.state_dir, "/home/alice/.local/state/penstock/server");
  EXPECT_EQ(plain.status_socket, "/tmp/penstock-1000/server.sock");

  const auto desktop = default_paths(
      "/etc/penstock/server.yaml",
      {.user_id = 1000, .home = "/home/alice", .state_home = "/data/state", .runtime_dir = "/run/user/1000"});
  EXPECT_EQ(desktop.state_dir, "/data/state/penstock/server");
  EXPECT_EQ(desktop.status_socket, "/run/user/1000/penstock/server.sock");
}

}  // namespace
}  // namespace penstock
