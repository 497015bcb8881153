#include "gateway/listeners.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "test/support/manual_loop.h"

namespace penstock::gateway {
namespace {

namespace fs = std::filesystem;

HttpListen http(const char* address) { return {.address = *Endpoint::parse(address), .unix_path = {}}; }

TEST(Listeners, AreNamedAsTheyAreConfigured) {
  test::ManualLoop loop;
  const fs::path file = fs::path(testing::TempDir()) / ("penstock-listeners-" + std::to_string(::getpid()) + ".sock");
  ServerConfig::Server server;
  server.listen_addr = {*Endpoint::parse("127.0.0.1:0")};
  server.listen_http = {http("127.0.0.1:0"), HttpListen{.address = {}, .unix_path = file}};
  server.proxies = {*Prefix::parse("127.0.0.1")};
  Listeners listeners;
  ASSERT_TRUE(listeners.open(loop, server, {}));
  const auto names = listeners.names();
  ASSERT_EQ(names.size(), 3U);
  EXPECT_TRUE(names[0].starts_with("127.0.0.1:") && !names[0].ends_with(":0")) << names[0];
  EXPECT_TRUE(names[1].starts_with("http://127.0.0.1:") && !names[1].ends_with(":0")) << names[1];
  EXPECT_EQ(names[2], "unix:" + file.string());
  listeners.stop();
  EXPECT_FALSE(fs::exists(file));
  listeners.stop();
}

TEST(Listeners, TheFirstThatCannotBeHadIsTheRefusal) {
  test::ManualLoop loop;
  ServerConfig::Server server;
  server.listen_addr = {};
  server.listen_http = {HttpListen{.address = {}, .unix_path = "/nowhere/http.sock"}};
  const auto opened = Listeners().open(loop, server, {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message,
            "server.listen_http: there is no directory /nowhere for the socket /nowhere/http.sock: make it, or choose "
            "another path");
}

}  // namespace
}  // namespace penstock::gateway
