#include "config/common.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(GatewayUrl, PortAndPathHaveDefaults) {
  struct Case {
    const char* text;
    GatewayUrl url;
    const char* printed;
  };
  for (const auto& [text, url, printed] :
       {Case{"wss://vpn.example.org", {"vpn.example.org", 443, "/"}, "wss://vpn.example.org/"},
        Case{"wss://vpn.example.org:443/", {"vpn.example.org", 443, "/"}, "wss://vpn.example.org/"},
        Case{"wss://192.0.2.1:8443/vpn", {"192.0.2.1", 8443, "/vpn"}, "wss://192.0.2.1:8443/vpn"},
        Case{"wss://[2001:db8::1]/", {"2001:db8::1", 443, "/"}, "wss://[2001:db8::1]/"},
        Case{"wss://[2001:db8::1]:444/a?b=c", {"2001:db8::1", 444, "/a?b=c"}, "wss://[2001:db8::1]:444/a?b=c"}}) {
    const auto parsed = GatewayUrl::parse(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().message;
    EXPECT_EQ(*parsed, url) << text;
    EXPECT_EQ(parsed->to_string(), printed);
  }
}

TEST(GatewayUrl, AnythingElseIsRefused) {
  for (const char* text : {"",
                           "vpn.example.org",
                           "ws://vpn.example.org",
                           "https://vpn.example.org",
                           "wss://",
                           "wss:///",
                           "wss://:443",
                           "wss://h:0",
                           "wss://h:65536",
                           "wss://h:",
                           "wss://h:x",
                           "wss://h h/",
                           "wss://h/a b",
                           "wss://h/#a",
                           "wss://[::1",
                           "wss://[1.2.3.4]/",
                           "wss://1.2.3/",
                           "wss://h\n/",
                           "wss://::1/",
                           "wss://h?x"}) {
    EXPECT_FALSE(GatewayUrl::parse(text)) << text;
  }
  EXPECT_EQ(GatewayUrl::parse("https://h/").error().message,
            "expected a URL such as wss://vpn.example.org/, got \"https://h/\"");
  EXPECT_EQ(GatewayUrl::parse("wss://me:hunter2@h/").error().message,
            "a gateway's URL names no user or password; the token goes to auth.token");
}

TEST(ProxyUrl, CredentialsAreOptionalAndNeverRepeated) {
  EXPECT_EQ(ProxyUrl::parse("http://proxy:3128"), (ProxyUrl{"proxy", 3128, ""}));
  EXPECT_EQ(ProxyUrl::parse("http://me:p@ss@10.0.0.1:8080/"), (ProxyUrl{"10.0.0.1", 8080, "me:p@ss"}));
  for (const char* text :
       {"proxy:3128", "https://proxy:3128", "http://proxy", "http://me:hunter2@", "http://hunter2"}) {
    const auto parsed = ProxyUrl::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message.find("hunter2"), std::string::npos);
  }
}

}  // namespace
}  // namespace penstock
