#include "ingress/websocket/proxy_header.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace penstock::ingress {
namespace {

using namespace std::string_literals;

const std::string signature = "\r\n\r\n\0\r\nQUIT\n"s;

std::string be16(std::size_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }

// A v2 header; its length field fits unless another is given.
std::string v2(unsigned command, unsigned family, const std::string& rest, std::optional<std::size_t> length = {}) {
  return signature + static_cast<char>(command) + static_cast<char>(family) + be16(length.value_or(rest.size())) + rest;
}

// 203.0.113.9:56324 to 192.0.2.1:443.
const std::string addresses4 = "\xCB\x00\x71\x09\xC0\x00\x02\x01\xDC\x04\x01\xBB"s;
const std::string addresses6 =
    "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x17\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\xDC\x04\x01\xBB"s;

std::string tlv(unsigned type, const std::string& value) {
  return static_cast<char>(type) + be16(value.size()) + value;
}

// What is made of `wire`: "none" (left alone), "proxy" (it speaks for itself), "more", the client's endpoint, or
// "refused: ..." without what all refusals have in common.
std::string outcome(const std::string& wire) {
  ProxyHeaderParser parser;
  ByteQueue in;
  in.append(as_bytes(wire));
  const auto progress = parser.next(in);
  if (!progress) {
    EXPECT_FALSE(parser.next(in)) << "a refusal is for good";
    EXPECT_EQ(progress.error().code, ErrorCode::protocol_error);
    return "refused: " + progress.error().message.substr(std::string("malformed PROXY header: ").size());
  }
  if (*progress == ProxyHeaderParser::Progress::more) return "more";
  if (!parser.header()) {
    EXPECT_EQ(as_text(in.view()), wire) << "left alone";
    return "none";
  }
  EXPECT_TRUE(in.empty()) << "consumed";
  return parser.header()->client ? parser.header()->client->to_string() : "proxy";
}

struct Case {
  std::string wire;
  std::string outcome;
};

class ProxyHeaderLine : public testing::TestWithParam<Case> {};

TEST_P(ProxyHeaderLine, IsReadStrictly) { EXPECT_EQ(outcome(GetParam().wire), GetParam().outcome) << GetParam().wire; }

const std::string no_address = "refused: an address that is none of its protocol";
const std::string no_port = "refused: a port that is not 0 to 65535";
const std::string no_words = "refused: not two addresses and two ports";
const std::string no_end = "refused: its line does not end in CR LF";

INSTANTIATE_TEST_SUITE_P(
    Version1, ProxyHeaderLine,
    testing::Values(
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", "203.0.113.9:56324"},
        Case{"PROXY TCP6 2001:db8::17 2001:db8::1 0 65535\r\n", "[2001:db8::17]:0"},
        Case{"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 56324 443\r\n", "203.0.113.9:56324"},
        Case{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 "
             "65535\r\n",
             "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
        Case{"PROXY UNKNOWN\r\n", "proxy"},
        Case{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
             "65535\r\n",
             "proxy"},
        Case{"PROXY UNKNOWN what it likes\r\n", "proxy"},
        // Not whole yet.
        Case{"", "more"}, Case{"PRO", "more"}, Case{"PROXY ", "more"}, Case{"PROXY TCP4 203.0.113.9", "more"},
        Case{"PROXY UNKNOWN\r", "more"}, Case{"PROXY " + std::string(100, 'x'), "more"},
        // Something else.
        Case{"GET / HTTP/1.1\r\n", "none"}, Case{"POST", "none"}, Case{"PROXYTCP4", "none"}, Case{"proxy ", "none"},
        Case{" PROXY ", "none"}, Case{"\x16\x03\x01", "none"},
        // Begins like one, so it must be one.
        Case{"PROXY " + std::string(101, 'x'), "refused: no end of line within 107 bytes"},
        Case{"PROXY " + std::string(100, 'x') + "\r\n", "refused: no end of line within 107 bytes"},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\n", no_end}, Case{"PROXY UNKNOWN\rx", no_end},
        Case{"PROXY \r\n", "refused: its protocol is none of TCP4, TCP6, UNKNOWN"},
        Case{"PROXY TCP5 203.0.113.9 192.0.2.1 56324 443\r\n", "refused: its protocol is none of TCP4, TCP6, UNKNOWN"},
        Case{"PROXY tcp4 203.0.113.9 192.0.2.1 56324 443\r\n", "refused: its protocol is none of TCP4, TCP6, UNKNOWN"},
        Case{"PROXY UDP4 203.0.113.9 192.0.2.1 56324 443\r\n", "refused: its protocol is none of TCP4, TCP6, UNKNOWN"},
        Case{"PROXY TCP4\r\n", no_words}, Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n", no_words},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 \r\n", no_words},
        Case{"PROXY TCP4  203.0.113.9 192.0.2.1 56324 443\r\n", no_words},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 1\r\n", no_words},
        Case{"PROXY TCP4 2001:db8::17 2001:db8::1 56324 443\r\n", no_address},
        Case{"PROXY TCP6 203.0.113.9 192.0.2.1 56324 443\r\n", no_address},
        Case{"PROXY TCP4 203.0.113.9 x 56324 443\r\n", no_address},
        Case{"PROXY TCP4 203.0.113.09 192.0.2.1 56324 443\r\n", no_address},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n", no_port},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 -1 443\r\n", no_port},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 056324 443\r\n", no_port},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 +443\r\n", no_port},
        Case{"PROXY TCP4 203.0.113.9 192.0.2.1 56324 \r\n", no_port}));

class ProxyHeaderBinary : public testing::TestWithParam<Case> {};

TEST_P(ProxyHeaderBinary, IsReadStrictly) { EXPECT_EQ(outcome(GetParam().wire), GetParam().outcome); }

INSTANTIATE_TEST_SUITE_P(
    Version2, ProxyHeaderBinary,
    testing::Values(
        Case{v2(0x21, 0x11, addresses4), "203.0.113.9:56324"}, Case{v2(0x21, 0x21, addresses6), "[2001:db8::17]:56324"},
        Case{v2(0x21, 0x21, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xCB\0\x71\x09"s + addresses6.substr(16)),
             "203.0.113.9:56324"},
        Case{v2(0x21, 0x11, addresses4 + tlv(0x04, "") + tlv(0x02, "vpn.example")), "203.0.113.9:56324"},
        Case{v2(0x21, 0x11, addresses4 + tlv(0x04, std::string(ProxyHeaderParser::kMaxLength - 15, '\0'))),
             "203.0.113.9:56324"},
        // The proxy speaks for itself, or for somebody without an address.
        Case{v2(0x20, 0x00, ""), "proxy"}, Case{v2(0x20, 0x11, addresses4), "proxy"},
        Case{v2(0x20, 0xFF, "junk"), "proxy"}, Case{v2(0x21, 0x00, ""), "proxy"}, Case{v2(0x21, 0x00, "junk"), "proxy"},
        Case{v2(0x21, 0x12, addresses4), "proxy"}, Case{v2(0x21, 0x31, std::string(216, 'u')), "proxy"},
        Case{v2(0x21, 0x32, std::string(216, 'u')), "proxy"},
        // Not whole yet.
        Case{"\r", "more"}, Case{signature, "more"}, Case{v2(0x21, 0x11, addresses4).substr(0, 15), "more"},
        Case{v2(0x21, 0x11, addresses4).substr(0, 27), "more"}, Case{v2(0x21, 0x11, addresses4, 13), "more"},
        // Something else.
        Case{"\r\n\r\n\0\r\nQUIX"s, "none"}, Case{"\r\nGET", "none"},
        // Begins like one, so it must be one.
        Case{v2(0x11, 0x11, addresses4), "refused: its version is neither 1 nor 2"},
        Case{v2(0x31, 0x11, addresses4), "refused: its version is neither 1 nor 2"},
        Case{v2(0x22, 0x11, addresses4), "refused: an unknown command"},
        Case{v2(0x21, 0x41, addresses4), "refused: an unknown address family or transport"},
        Case{v2(0x21, 0x13, addresses4), "refused: an unknown address family or transport"},
        Case{v2(0x21, 0x10, addresses4), "refused: an unknown address family or transport"},
        Case{v2(0x21, 0x01, addresses4), "refused: an unknown address family or transport"},
        Case{v2(0x21, 0x11, addresses4.substr(1)), "refused: too short for its addresses"},
        Case{v2(0x21, 0x21, addresses4), "refused: too short for its addresses"},
        Case{v2(0x21, 0x31, std::string(215, 'u')), "refused: too short for its addresses"},
        Case{v2(0x21, 0x11, addresses4, ProxyHeaderParser::kMaxLength + 1), "refused: longer than 4096 bytes"},
        Case{v2(0x20, 0x00, "", 65535), "refused: longer than 4096 bytes"},
        Case{v2(0x21, 0x11, addresses4 + "\x04"), "refused: bytes behind the last TLV"},
        Case{v2(0x21, 0x11, addresses4 + "\x04\0"s), "refused: bytes behind the last TLV"},
        Case{v2(0x21, 0x11, addresses4 + "\x04\0\x01"s), "refused: a TLV that reaches beyond the end"},
        Case{v2(0x21, 0x11, addresses4 + "\x04\xFF\xFFxyz"s), "refused: a TLV that reaches beyond the end"},
        // Checksums.
        Case{v2(0x21, 0x11, addresses4 + tlv(0x03, "@CRC@")), "refused: a checksum that is none"},
        Case{v2(0x21, 0x11, addresses4 + tlv(0x03, "\0\0\0\0"s)), "refused: the checksum does not fit"}));

// 0x9A25B72B was computed by another implementation.
TEST(ProxyHeader, AChecksumThatFitsIsAccepted) {
  const std::string right = tlv(0x03, "\x9A\x25\xB7\x2B");
  EXPECT_EQ(outcome(v2(0x21, 0x11, addresses4 + tlv(0x02, "vpn.example") + right)), "203.0.113.9:56324");
  EXPECT_EQ(outcome(v2(0x21, 0x11, addresses4 + tlv(0x02, "vpn.exampla") + right)),
            "refused: the checksum does not fit");
}

TEST(ProxyHeader, AnyPiecesGiveTheSameAndWhatFollowsStays) {
  for (const std::string& header : {"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n"s, v2(0x21, 0x11, addresses4)}) {
    ProxyHeaderParser parser;
    ByteQueue in;
    for (std::size_t i = 0; i < header.size(); ++i) {
      EXPECT_EQ(*parser.next(in), ProxyHeaderParser::Progress::more) << i;
      EXPECT_FALSE(parser.header());
      in.append(as_bytes(header.substr(i, 1)));
    }
    in.append(as_bytes("PROXY and more"));
    EXPECT_EQ(*parser.next(in), ProxyHeaderParser::Progress::done);
    EXPECT_EQ(parser.header()->client->to_string(), "203.0.113.9:56324");
    EXPECT_EQ(*parser.next(in), ProxyHeaderParser::Progress::done) << "one header, not two";
    EXPECT_EQ(as_text(in.view()), "PROXY and more");
  }
}

TEST(ProxyHeader, ItsOpeningIsToldFromATlsClientsAndAnHttpClientsAsSoonAsTheyDiffer) {
  using namespace std::string_view_literals;
  const auto opening = [](std::string_view said) { return opening_of(as_bytes(said)); };
  for (const auto said : {""sv, "P"sv, "PROXY"sv, "\r\n\r\n"sv, "\r\n\r\n\0\r\nQUIT"sv})
    EXPECT_EQ(opening(said), Opening::undecided) << said;
  for (const auto said : {"PROXY "sv, "PROXY nonsense"sv, "\r\n\r\n\0\r\nQUIT\n"sv, "\r\n\r\n\0\r\nQUIT\n\x21\x11"sv})
    EXPECT_EQ(opening(said), Opening::proxy_header) << said;
  for (const auto said : {"\x16\x03\x01"sv, "GET / HTTP/1.1"sv, "POST /"sv, "PROXY:"sv, "\r\n\r\nGET"sv})
    EXPECT_EQ(opening(said), Opening::something_else) << said;
}

}  // namespace
}  // namespace penstock::ingress
