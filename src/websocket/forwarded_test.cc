#include "websocket/forwarded.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace penstock::websocket {
namespace {

const Endpoint proxy_peer{*IpAddress::parse("10.0.0.1"), 40000};

// Proxies are 10.0.0.0/8 and fd00::/8.
bool trusted(const IpAddress& address) {
  return Prefix::parse("10.0.0.0/8")->contains(address) || Prefix::parse("fd00::/8")->contains(address);
}

Result<Endpoint> client_of(const HttpHeaders& headers, const Endpoint& peer = proxy_peer) {
  UpgradeRequest request;
  request.headers = headers;
  return forwarded_client(request, peer, trusted);
}

// The client as text, or "refused".
std::string text_of(const Result<Endpoint>& client) {
  if (!client) return "refused";
  return client->port == 0 ? client->address.to_string() : client->to_string();
}

struct Case {
  std::string value;
  std::string client;
};

class XForwardedFor : public testing::TestWithParam<Case> {};

TEST_P(XForwardedFor, NamesTheClient) {
  EXPECT_EQ(text_of(client_of({{"x-forwarded-for", GetParam().value}})), GetParam().client) << GetParam().value;
}

INSTANTIATE_TEST_SUITE_P(
    Values, XForwardedFor,
    testing::Values(Case{"203.0.113.9", "203.0.113.9"}, Case{"2001:db8::17", "2001:db8::17"},
                    Case{"[2001:db8::17]", "2001:db8::17"}, Case{"[2001:db8::17]:4711", "[2001:db8::17]:4711"},
                    Case{"203.0.113.9:4711", "203.0.113.9:4711"}, Case{"::ffff:203.0.113.9", "203.0.113.9"},
                    // The rightmost that is not trusted wins.
                    Case{"1.1.1.1, 203.0.113.9", "203.0.113.9"}, Case{"203.0.113.9, 10.0.0.2", "203.0.113.9"},
                    Case{"1.1.1.1,203.0.113.9,\t10.0.0.2 , fd00::2", "203.0.113.9"},
                    Case{"203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"},
                    // Where all are trusted it is one of them that calls.
                    Case{"10.0.0.3, 10.0.0.2", "10.0.0.3"},
                    // What a stranger wrote to the left of it need not make sense.
                    Case{"unknown, 203.0.113.9", "203.0.113.9"}, Case{"\"<script>, 203.0.113.9", "203.0.113.9"},
                    Case{", ,203.0.113.9,", "203.0.113.9"},
                    // No word, no change.
                    Case{"", "10.0.0.1:40000"}, Case{" , ", "10.0.0.1:40000"},
                    // What decides must be an address.
                    Case{"203.0.113.9, unknown", "refused"}, Case{"nonsense, 10.0.0.2", "refused"},
                    Case{"203.0.113.09", "refused"}, Case{"203.0.113.9:", "refused"},
                    Case{"203.0.113.9:65536", "refused"}, Case{"203.0.113.9:-1", "refused"},
                    Case{"[203.0.113.9]", "refused"}, Case{"[2001:db8::17", "refused"},
                    Case{"2001:db8::17]", "refused"}, Case{"fe80::1%eth0", "refused"},
                    Case{"203.0.113.9 10.0.0.2", "refused"}));

class Forwarded : public testing::TestWithParam<Case> {};

TEST_P(Forwarded, NamesTheClient) {
  EXPECT_EQ(text_of(client_of({{"forwarded", GetParam().value}})), GetParam().client) << GetParam().value;
}

INSTANTIATE_TEST_SUITE_P(
    Values, Forwarded,
    testing::Values(
        Case{"for=203.0.113.9", "203.0.113.9"}, Case{"For=\"203.0.113.9\"", "203.0.113.9"},
        Case{R"(for="203.0.113.9:4711")", "203.0.113.9:4711"}, Case{R"(for="[2001:db8::17]")", "2001:db8::17"},
        Case{R"(FOR="[2001:db8:cafe::17]:4711")", "[2001:db8:cafe::17]:4711"},
        Case{R"(for="[2001:db8::17]:_obscure")", "2001:db8::17"}, Case{R"(for="203.0.113\.9")", "203.0.113.9"},
        Case{"for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"},
        Case{"proto=https; by=10.0.0.1; for=203.0.113.9;", "203.0.113.9"}, Case{";;for=203.0.113.9", "203.0.113.9"},
        Case{R"(host="a,b;for=1.1.1.1";for=203.0.113.9)", "203.0.113.9"},
        Case{"for=1.1.1.1, for=203.0.113.9", "203.0.113.9"}, Case{"for=203.0.113.9,for=10.0.0.2", "203.0.113.9"},
        Case{"for=_hidden, for=unknown, for=203.0.113.9", "203.0.113.9"},
        Case{"by=1.1.1.1, for=203.0.113.9", "203.0.113.9"}, Case{", for=203.0.113.9 ,, ", "203.0.113.9"},
        Case{"", "10.0.0.1:40000"}, Case{";", "10.0.0.1:40000"}, Case{R"(for="[fd00::3]", for=10.0.0.2)", "fd00::3"},
        // What decides must be an address.
        Case{"for=unknown", "refused"}, Case{"for=_SEVKISEK", "refused"},
        Case{"for=203.0.113.9, for=_hidden", "refused"}, Case{"proto=https", "refused"}, Case{R"(for="")", "refused"},
        Case{R"(for="2001:db8::17")", "refused"}, Case{R"(for="[203.0.113.9]")", "refused"},
        Case{R"(for="203.0.113.9:_")", "refused"}, Case{R"(for=" 203.0.113.9")", "refused"},
        // What breaks the grammar is refused wherever it stands: quotes left open would move the borders.
        Case{R"(for="x, for=203.0.113.9)", "refused"}, Case{R"(for="x, for="[2001:db8::17]")", "refused"},
        Case{R"(for="x\", for=203.0.113.9)", "refused"}, Case{"for=[2001:db8::17]", "refused"},
        Case{"for=203.0.113.9:4711", "refused"}, Case{"for =203.0.113.9", "refused"},
        Case{"for= 203.0.113.9", "refused"}, Case{"=203.0.113.9", "refused"}, Case{"for=", "refused"},
        Case{"203.0.113.9", "refused"}, Case{"for=203.0.113.9 proto=https", "refused"},
        Case{R"(for="203.0.113.9"x)", "refused"}, Case{"for=1.1.1.1;For=203.0.113.9", "refused"},
        Case{"nonsense, for=203.0.113.9", "refused"}));

TEST(ForwardedClient, SeveralFieldsOfANameAreOneListInTheirOrder) {
  EXPECT_EQ(text_of(client_of({{"x-forwarded-for", "1.1.1.1"},
                               {"host", "vpn.example"},
                               {"x-forwarded-for", "203.0.113.9, 10.0.0.3"},
                               {"x-forwarded-for", "10.0.0.2"}})),
            "203.0.113.9");
  EXPECT_EQ(text_of(client_of({{"forwarded", "for=1.1.1.1"}, {"forwarded", "for=203.0.113.9"}})), "203.0.113.9");
}

TEST(ForwardedClient, AnUntrustedPeerSpeaksForItself) {
  const Endpoint stranger{*IpAddress::parse("203.0.113.66"), 5};
  EXPECT_EQ(text_of(client_of({{"x-forwarded-for", "10.0.0.2"}}, stranger)), "203.0.113.66:5");
  EXPECT_EQ(text_of(client_of({{"forwarded", "for=\"broken"}}, stranger)), "203.0.113.66:5");
}

TEST(ForwardedClient, BothHeadersMustAgreeOnTheAddress) {
  EXPECT_EQ(text_of(client_of({{"x-forwarded-for", "203.0.113.9"}, {"forwarded", "for=\"203.0.113.9:4711\""}})),
            "203.0.113.9:4711");
  EXPECT_EQ(text_of(client_of({{"x-forwarded-for", ""}, {"forwarded", "for=203.0.113.9"}})), "203.0.113.9");
  const auto refused = client_of({{"forwarded", "for=1.1.1.1"}, {"x-forwarded-for", "203.0.113.9"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::protocol_error);
  EXPECT_EQ(refused.error().message,
            "the proxy 10.0.0.1 passes on X-Forwarded-For for 203.0.113.9 and Forwarded for 1.1.1.1: make it write one "
            "of the two and remove the other");
}

TEST(ForwardedClient, ARefusalNamesWhoWroteWhat) {
  EXPECT_EQ(client_of({{"x-forwarded-for", "so\tlong, 10.0.0.2"}}).error().message,
            "X-Forwarded-For from the proxy 10.0.0.2 names no client address (\"so?long\"): the proxy must write one");
  EXPECT_EQ(
      client_of({{"forwarded", "proto=https"}}).error().message,
      "Forwarded from the proxy 10.0.0.1 names no client address (there is no \"for\"): the proxy must write one");
}

}  // namespace
}  // namespace penstock::websocket
