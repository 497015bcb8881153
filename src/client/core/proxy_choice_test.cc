#include "client/core/proxy_choice.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace penstock::client {
namespace {

TEST(NoProxy, IsReadAsCurlReadsIt) {
  struct Case {
    const char* no_proxy;
    const char* host;
    bool without;
  };
  for (const Case& c : {Case{"", "vpn.example.org", false},
                        {"*", "vpn.example.org", true},
                        {"*", "192.0.2.1", true},
                        {"example.org", "example.org", true},
                        {"example.org", "vpn.example.org", true},
                        {"example.org", "myexample.org", false},
                        {"example.org", "example.org.evil.test", false},
                        {".example.org", "vpn.example.org", true},
                        {".example.org", "example.org", true},
                        {"EXAMPLE.org.", "vpn.Example.ORG", true},
                        {"example.org", "vpn.example.org.", true},
                        {"vpn.example.org", "example.org", false},
                        {"localhost,127.0.0.1, example.org", "vpn.example.org", true},
                        {" one.test\ttwo.test ,,three.test", "two.test", true},
                        {".", "vpn.example.org", false},
                        {"*.example.org", "vpn.example.org", false},
                        {"192.0.2.1", "192.0.2.1", true},
                        {"192.0.2.1", "192.0.2.10", false},
                        {"2.1", "192.0.2.1", false},
                        {"192.0.2.0/24", "192.0.2.77", true},
                        {"192.0.2.9/24", "192.0.2.77", true},
                        {"192.0.2.0/24", "192.0.3.1", false},
                        {"192.0.2.0/33", "192.0.2.1", false},
                        {"192.0.2.0/", "192.0.2.0", false},
                        {"10.0.0.0/8", "10.example.org", false},
                        {"2001:db8::/32", "2001:db8::17", true},
                        {"2001:db8::/32", "[2001:db8::17]", true},
                        {"[2001:db8::17]", "2001:db8::17", true},
                        {"2001:db8::/32", "2001:db9::17", false},
                        {"0.0.0.0/0", "2001:db8::17", false}}) {
    EXPECT_EQ(goes_without_proxy(c.no_proxy, c.host), c.without) << c.no_proxy << " and " << c.host;
  }
}

class ProxyFor : public testing::Test {
 protected:
  Result<std::optional<ProxyChoice>> choice() const {
    return proxy_for(*GatewayUrl::parse("wss://vpn.example.org/"), server_,
                     ProxyEnvironment::read([this](const char* name) {
                       const auto found = environment_.find(name);
                       return found == environment_.end() ? nullptr : found->second.c_str();
                     }));
  }
  // "proxy:3128 by setting", "none" or the refusal.
  std::string chosen() const {
    const auto found = choice();
    if (!found) return found.error().message;
    return *found ? (*found)->to_string() + " by " + (*found)->setting : "none";
  }

  ClientConfig::Server server_;
  std::map<std::string, std::string> environment_;
};

TEST_F(ProxyFor, TheEnvironmentCountsWhereTheConfigurationIsSilent) {
  EXPECT_EQ(chosen(), "none");
  environment_["HTTPS_PROXY"] = "http://upper.test:3128/";
  EXPECT_EQ(chosen(), "upper.test:3128 by HTTPS_PROXY");
  environment_["https_proxy"] = "lower.test:8080";
  EXPECT_EQ(chosen(), "lower.test:8080 by https_proxy");
  environment_["https_proxy"] = "";
  EXPECT_EQ(chosen(), "upper.test:3128 by HTTPS_PROXY");
  environment_["HTTPS_PROXY"] = "http://user:secret@[2001:db8::1]:3128";
  EXPECT_EQ(chosen(), "[2001:db8::1]:3128 by HTTPS_PROXY") << "and not a word of the password";
  EXPECT_EQ((*choice())->url.credentials, "user:secret");
  environment_["NO_PROXY"] = "example.org";
  EXPECT_EQ(chosen(), "none");
  environment_["no_proxy"] = "example.net";
  EXPECT_EQ(chosen(), "[2001:db8::1]:3128 by HTTPS_PROXY");
}

TEST_F(ProxyFor, TheConfigurationHasTheLastWord) {
  environment_ = {{"https_proxy", "http://lower.test:8080"}, {"no_proxy", "*"}};
  server_.proxy = *ProxyUrl::parse("http://own.test:3128");
  EXPECT_EQ(chosen(), "own.test:3128 by server.proxy");
  server_.proxy.reset();
  server_.proxy_from_environment = false;
  environment_.erase("no_proxy");
  EXPECT_EQ(chosen(), "none");
}

TEST_F(ProxyFor, WhatIsNoProxyOfOursIsRefusedWithoutItsPassword) {
  for (const char* value : {"socks5://user:secret@proxy.test:1080", "https://user:secret@proxy.test:443", "proxy.test",
                            "http://user:secret@:1"}) {
    environment_["https_proxy"] = value;
    const std::string message = chosen();
    EXPECT_TRUE(message.starts_with("https_proxy in the environment: expected a proxy such as")) << message;
    EXPECT_EQ(message.find("secret@"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace penstock::client
