#include "dns/stream_framing.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"
#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using testing::Bytes;

TEST(StreamFramingTest, MessagesComeOutWholeHoweverTheStreamIsCut) {
  std::vector<Bytes> messages;
  Bytes stream;
  for (const char* text : {"a.test", "www.example.com", "x.y.z"}) {
    messages.push_back(testing::query(text));
    StreamFraming::frame(messages.back(), stream);
  }
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    SeededRandom random(seed);
    StreamFraming framing;
    std::vector<Bytes> out;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t size =
          seed == 0 ? stream.size() : std::min<std::size_t>(1 + random.next32() % 20, stream.size() - at);
      framing.append(ByteView(stream).subspan(at, size));
      at += size;
      while (const auto message = framing.next()) out.emplace_back(message->begin(), message->end());
    }
    EXPECT_EQ(out, messages);
    EXPECT_FALSE(framing.in_message());
    EXPECT_FALSE(framing.broken());
  }
}

TEST(StreamFramingTest, ALengthThatNoMessageHasBreaksTheStream) {
  for (const unsigned length : {0U, 11U, 513U, 65535U}) {
    StreamFraming framing(512);
    framing.append(testing::Raw().u16(length).bytes);
    EXPECT_FALSE(framing.next()) << length;
    EXPECT_TRUE(framing.broken()) << length;
    framing.append(testing::Raw().u16(12).u32(0).u32(0).u32(0).bytes);
    EXPECT_FALSE(framing.next()) << length;
  }
  StreamFraming framing(512);
  framing.append(testing::Raw().u16(512).bytes);
  EXPECT_FALSE(framing.next());
  EXPECT_FALSE(framing.broken());
  EXPECT_TRUE(framing.in_message());
}

}  // namespace
}  // namespace penstock::dns
