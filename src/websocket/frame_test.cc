// Frames on their way out: headers, masks, whole frames. decoder_test.cc has the way in.
#include "websocket/frame.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace penstock::websocket {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes bytes_of(const ByteQueue& queue) { return {queue.view().begin(), queue.view().end()}; }

TEST(FrameHeader, HasTheShortestLengthThatFits) {
  const struct {
    std::size_t payload;
    Bytes header;
  } cases[] = {
      {0, {0x82, 0}},
      {1, {0x82, 1}},
      {125, {0x82, 125}},
      {126, {0x82, 126, 0, 126}},
      {65535, {0x82, 126, 0xFF, 0xFF}},
      {65536, {0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
      {std::size_t{1} << 40, {0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}},
  };
  for (const auto& [payload, expected] : cases) {
    std::array<std::uint8_t, kMaxFrameHeader> header{};
    const std::size_t size = write_frame_header(header.data(), Role::server, Opcode::binary, payload, 0);
    EXPECT_EQ(Bytes(header.begin(), header.begin() + static_cast<std::ptrdiff_t>(size)), expected) << payload;
    EXPECT_EQ(size, frame_header_size(Role::server, payload));

    const std::size_t client = write_frame_header(header.data(), Role::client, Opcode::binary, payload, 0x01020304);
    EXPECT_EQ(client, size + 4);
    EXPECT_EQ(client, frame_header_size(Role::client, payload));
    EXPECT_EQ(header[1], expected[1] | 0x80);
    EXPECT_EQ(load_be32(&header[size]), 0x01020304U);
  }
}

// RFC 6455 section 5.7.
TEST(Frame, TheExamplesOfTheRfc) {
  SeededRandom random(1);
  ByteQueue out;
  append_frame(out, Role::server, Opcode::text, as_bytes("Hello"), random);
  EXPECT_EQ(bytes_of(out), (Bytes{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}));

  Bytes hello{0x48, 0x65, 0x6c, 0x6c, 0x6f};
  apply_mask(hello, 0x37fa213d);
  EXPECT_EQ(hello, (Bytes{0x7f, 0x9f, 0x4d, 0x51, 0x58}));

  out.clear();
  append_frame(out, Role::server, Opcode::ping, as_bytes("Hello"), random);
  EXPECT_EQ(bytes_of(out), (Bytes{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}));
}

TEST(Frame, AClientTakesAFreshKeyForEveryFrame) {
  SeededRandom random(1);
  ByteQueue out;
  append_frame(out, Role::client, Opcode::binary, as_bytes("same"), random);
  append_frame(out, Role::client, Opcode::binary, as_bytes("same"), random);
  const Bytes both = bytes_of(out);
  ASSERT_EQ(both.size(), 20U);
  EXPECT_NE(Bytes(both.begin() + 2, both.begin() + 6), Bytes(both.begin() + 12, both.begin() + 16));
  EXPECT_NE(Bytes(both.begin() + 6, both.begin() + 10), Bytes(both.begin() + 16, both.end()));
}

TEST(Close, HoldsTheCodeAndAReasonThatFits) {
  SeededRandom random(1);
  ByteQueue out;
  append_close(out, Role::server, kCloseGoingAway, "bye", random);
  EXPECT_EQ(bytes_of(out), (Bytes{0x88, 5, 0x03, 0xE9, 'b', 'y', 'e'}));
  out.clear();
  append_close(out, Role::server, kCloseNoStatus, "not sent", random);
  EXPECT_EQ(bytes_of(out), (Bytes{0x88, 0}));

  std::string long_reason = "x";
  for (int i = 0; i < 100; ++i) long_reason += "\xE2\x82\xAC";
  out.clear();
  append_close(out, Role::server, kCloseProtocolError, long_reason, random);
  EXPECT_LE(out.size(), 2 + kMaxControlPayload);
  EXPECT_GE(out.size(), 2 + kMaxControlPayload - 2);
  EXPECT_TRUE(is_utf8(out.view().subspan(4))) << "cut between characters";
}

TEST(Close, CodesThatMayBeSent) {
  for (const int code :
       {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999})
    EXPECT_TRUE(is_sendable_close_code(static_cast<std::uint16_t>(code))) << code;
  for (const int code : {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535})
    EXPECT_FALSE(is_sendable_close_code(static_cast<std::uint16_t>(code))) << code;
}

}  // namespace
}  // namespace penstock::websocket
