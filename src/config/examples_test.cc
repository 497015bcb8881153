// The files in configs/ are what people start from: they must load, and know every key.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "config/client_config.h"
#include "config/server_config.h"

namespace penstock {
namespace {

std::string text_of(const std::string& name) {
  const std::ifstream file(std::string(PENSTOCK_EXAMPLES) + "/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The paths of all keys, those behind "#" too, by their indentation; lists leave no trace: "auth.tokens.name". A word
// of prose with a colon after it becomes a key as well, which does no harm.
std::set<std::string> keys_of(const std::string& text) {
  std::vector<std::pair<std::size_t, std::string>> open;
  std::set<std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t comment = line.find_first_not_of(' ');
    if (comment != std::string::npos && line.compare(comment, 2, "# ") == 0) line.erase(comment, 2);
    const std::size_t begin = line.find_first_not_of(" -");
    if (begin == std::string::npos) continue;
    const std::size_t end = line.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_", begin);
    if (end == begin || end == std::string::npos || line[end] != ':') continue;
    while (!open.empty() && open.back().first >= begin) open.pop_back();
    const std::string above = open.empty() ? "" : open.back().second + ".";
    open.emplace_back(begin, above + line.substr(begin, end - begin));
    keys.insert(open.back().second);
  }
  return keys;
}

std::string without_brackets(std::string key) {
  for (auto at = key.find("[]"); at != std::string::npos; at = key.find("[]")) key.erase(at, 2);
  return key;
}

TEST(Examples, TheServersLoads) {
  const auto config = server_config_from_text(text_of("server.yaml.example"), "/etc/penstock/server.yaml", {},
                                              UserEnvironment{.root = true});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->paths.state_dir, "/var/lib/penstock/server");
  EXPECT_EQ(config->reserved, std::vector<std::string>{});
  EXPECT_EQ(config->vpn.subnet, ServerConfig().vpn.subnet);
}

TEST(Examples, TheClientsLoads) {
  const auto config = client_config_from_text(text_of("client.yaml.example"), "/etc/penstock/clients/home.yaml", {},
                                              UserEnvironment{.root = true});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->paths.status_socket, "/run/penstock/home.sock");
  EXPECT_EQ(config->vpn.interface_name, "VPN");
}

TEST(Examples, EveryKeyIsShown) {
  const auto server = keys_of(text_of("server.yaml.example"));
  for (const std::string& key : server_config_keys()) {
    EXPECT_TRUE(server.contains(without_brackets(key))) << key << " is not in configs/server.yaml.example";
  }
  const auto client = keys_of(text_of("client.yaml.example"));
  for (const std::string& key : client_config_keys()) {
    EXPECT_TRUE(client.contains(without_brackets(key))) << key << " is not in configs/client.yaml.example";
  }
}

}  // namespace
}  // namespace penstock
