// Streams that are connected: what comes, what goes, how it ends. Real sockets, on loopback.
#include "egress/tcp/socket_streams.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "egress/tcp/socket_streams_testing.h"

namespace penstock::egress {
namespace {

INSTANTIATE_TEST_SUITE_P(Ways, SocketStreamsTest, every_way(), name_of_way);

TEST_P(SocketStreamsTest, WhatIsPeekedStaysUntilItIsConsumed) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    EXPECT_EQ(world.peeked(stream, 0), "");
    EXPECT_FALSE(world.last.ended);
    EXPECT_EQ(world.last.error, StreamError::none);
    server.say("abcdefgh");
    EXPECT_EQ(world.await_bytes(stream, 0, 8), "abcdefgh");
    EXPECT_EQ(world.peeked(stream, 0), "abcdefgh");
    EXPECT_EQ(world.peeked(stream, 3, 2), "de");
    EXPECT_EQ(world.peeked(stream, 5), "fgh");
    EXPECT_EQ(world.peeked(stream, 8), "");
    world.streams->consume(stream, 5);
    EXPECT_EQ(world.peeked(stream, 0), "fgh");
    EXPECT_EQ(world.peeked(stream, 2), "h");
    world.streams->consume(stream, 3);
    EXPECT_EQ(world.peeked(stream, 0), "");
    server.say("more");
    EXPECT_EQ(world.await_bytes(stream, 0, 4), "more");
  });
}

// Proved by moving the kernel's mark behind its back.
TEST_P(SocketStreamsTest, WhoeverPeeksOnFromWhereHeWasSetsNoMark) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    if (!by_kernel(world)) {
      EXPECT_EQ(option_of(stream, SOL_SOCKET, SO_PEEK_OFF), -1);
      return;
    }
    server.say("abcdefgh");
    world.await_bytes(stream, 0, 8);
    EXPECT_EQ(option_of(stream, SOL_SOCKET, SO_PEEK_OFF), -1) << "who is content with one peek pays for one";
    EXPECT_EQ(world.peeked(stream, 4, 2), "ef");
    EXPECT_EQ(option_of(stream, SOL_SOCKET, SO_PEEK_OFF), 6);
    world.streams->consume(stream, 5);
    EXPECT_EQ(option_of(stream, SOL_SOCKET, SO_PEEK_OFF), 1);
    const int behind_its_back = 2;
    ASSERT_EQ(::setsockopt(stream, SOL_SOCKET, SO_PEEK_OFF, &behind_its_back, sizeof behind_its_back), 0);
    EXPECT_EQ(world.peeked(stream, 1, 1), "h") << "from where it was moved to: nothing was set";
    EXPECT_EQ(world.peeked(stream, 0, 2), "fg") << "to go elsewhere it is set";
  });
}

// Against a string that bytes are appended to and erased from.
TEST_P(SocketStreamsTest, AnyOrderOfPeeksAndConsumesGivesTheBytesThatWereSent) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    SeededRandom random(20);
    const auto upto = [&](std::size_t most) { return random.next32() % (most + 1); };
    std::string lying;
    std::size_t seen = 0;  // of these, peeked at least once
    for (int step = 0; step < 2000; ++step) {
      switch (upto(3)) {
        case 0: {
          if (lying.size() > 50'000) break;
          const std::string text = net::random_text(random, 1 + upto(5000));
          server.say(text);
          lying += text;
          break;
        }
        case 1: {
          const std::size_t gone = upto(seen);
          world.streams->consume(stream, gone);
          lying.erase(0, gone);
          seen -= gone;
          break;
        }
        default: {
          const std::size_t offset = upto(1) == 0 ? seen : upto(seen);
          std::string into(upto(9000), '\0');
          auto* bytes = reinterpret_cast<std::uint8_t*>(into.data());
          const std::size_t first = upto(into.size());
          const MutableByteView parts[] = {{bytes, first}, {}, {bytes + first, into.size() - first}};
          const auto peeked = world.streams->peek(stream, offset, parts);
          ASSERT_EQ(peeked.error, StreamError::none);
          ASSERT_FALSE(peeked.ended);
          ASSERT_LE(offset + peeked.bytes, lying.size());
          ASSERT_EQ(into.substr(0, peeked.bytes), lying.substr(offset, peeked.bytes)) << "step " << step;
          seen = std::max(seen, offset + peeked.bytes);
        }
      }
    }
    EXPECT_GT(lying.size(), 0U);
    EXPECT_EQ(world.await_bytes(stream, 0, lying.size()), lying);
  });
}

TEST_P(SocketStreamsTest, ManyPartsAreFilledAndWrittenLikeOne) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    constexpr std::size_t kParts = 2500;  // more than one system call takes
    SeededRandom random(21);
    const std::string text = net::random_text(random, kParts);
    std::vector<ByteView> out;
    for (const char& byte : text) out.emplace_back(reinterpret_cast<const std::uint8_t*>(&byte), 1);
    EXPECT_EQ(world.streams->write(stream, out).bytes, kParts);
    std::string heard;
    while (heard.size() < kParts) heard += server.hear();
    EXPECT_EQ(heard, text);

    server.say(text);
    world.await_bytes(stream, 0, kParts);
    std::string copy(kParts - 7, '\0');
    std::vector<MutableByteView> in;
    for (char& byte : copy) in.emplace_back(reinterpret_cast<std::uint8_t*>(&byte), 1);
    EXPECT_EQ(world.streams->peek(stream, 7, in).bytes, kParts - 7);
    EXPECT_EQ(copy, text.substr(7));
  });
}

TEST_P(SocketStreamsTest, TheEndComesBehindWhatWasSent) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    server.say("last words");
    server.end();
    world.until([&] { return world.told_of(1).ended; });
    EXPECT_EQ(world.await_end(stream, 0), "last words");
    EXPECT_FALSE(world.told_of(1).failed);
    EXPECT_EQ(world.peeked(stream, 0, 4), "last");
    EXPECT_FALSE(world.last.ended) << "there is more";
    EXPECT_EQ(world.peeked(stream, 4), " words");
    EXPECT_TRUE(world.last.ended);
    EXPECT_EQ(world.peeked(stream, 10), "");
    EXPECT_TRUE(world.last.ended);
    world.streams->consume(stream, 10);
    EXPECT_EQ(world.peeked(stream, 0), "");
    EXPECT_TRUE(world.last.ended);
    EXPECT_EQ(world.streams->error(stream), StreamError::none);
  });
}

TEST_P(SocketStreamsTest, AnEndWithoutAWordIsTold) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    server.close();
    world.until([&] { return world.told_of(1).ended; });
    EXPECT_EQ(world.await_end(stream, 0), "");
    EXPECT_TRUE(world.told_of(1).readable);
    EXPECT_FALSE(world.told_of(1).failed);
  });
}

TEST_P(SocketStreamsTest, EachSideEndsForItself) {
  in_a_world([&](StreamsWorld& world) {
    auto [stream, server] = world.connected(way(), 1);
    const ByteView question = as_bytes("question");
    EXPECT_EQ(world.streams->write(stream, {&question, 1}).bytes, 8U);
    world.streams->end(stream);
    EXPECT_EQ(server.hear(8), "question");
    EXPECT_EQ(server.wait_for_more(), 0);
    server.say("answer");
    EXPECT_EQ(world.await_bytes(stream, 0, 6), "answer");
    EXPECT_FALSE(world.last.ended);
    server.close();
    EXPECT_EQ(world.await_end(stream, 0), "answer");
    EXPECT_FALSE(world.told_of(1).failed) << "both ended in peace";
    EXPECT_EQ(world.streams->error(stream), StreamError::none);
  });
}

TEST_P(SocketStreamsTest, AResetIsToldAndStaysAndWhatCameBeforeItCanStillBeHad) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    auto [stream, server] = world.connected(way(), 1);
    server.say("before");
    EXPECT_EQ(world.await_bytes(stream, 0, 6), "before");
    server.reset();
    world.until([&] { return world.told_of(1).failed; });
    EXPECT_FALSE(world.told_of(1).ended);
    EXPECT_EQ(world.streams->error(stream), StreamError::reset);
    EXPECT_EQ(world.peeked(stream, 2), "fore");
    EXPECT_FALSE(world.last.ended);
    EXPECT_EQ(world.peeked(stream, 6), "");
    EXPECT_EQ(world.last.error, StreamError::reset);
    world.streams->consume(stream, 6);
    EXPECT_EQ(world.peeked(stream, 0), "");
    EXPECT_EQ(world.last.error, StreamError::reset);
    EXPECT_FALSE(world.last.ended);
    const ByteView word = as_bytes("word");
    EXPECT_EQ(world.streams->write(stream, {&word, 1}).error, StreamError::reset);
    EXPECT_EQ(world.streams->error(stream), StreamError::reset);
    world.streams->close(stream, true);
  });
}

TEST_P(SocketStreamsTest, AResetAfterTheEndIsAResetStill) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    auto [stream, server] = world.connected(way(), 1);
    server.say("last words");
    server.end();
    world.until([&] { return world.told_of(1).ended; });
    server.reset();
    world.until([&] { return world.told_of(1).failed; });
    EXPECT_EQ(world.streams->error(stream), StreamError::reset);
    EXPECT_EQ(world.peeked(stream, 0), "last words");
    EXPECT_FALSE(world.last.ended);
    EXPECT_EQ(world.peeked(stream, 10), "");
    EXPECT_EQ(world.last.error, StreamError::reset);
  });
}

TEST_P(SocketStreamsTest, AResetThatPeekMeetsFirstIsToldAllTheSame) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    auto [stream, server] = world.connected(way(), 1);
    server.reset();
    while (world.peeked(stream, 0).empty() && world.last.error == StreamError::none) {
    }
    EXPECT_EQ(world.last.error, StreamError::reset);
    EXPECT_EQ(world.streams->error(stream), StreamError::reset);
    world.until([&] { return world.told_of(1).failed; });
    EXPECT_EQ(world.streams->error(stream), StreamError::reset);
  });
}

TEST_P(SocketStreamsTest, ClosingTellsThePeerAnEndAndAbortingAReset) {
  in_a_world([&](StreamsWorld& world) {
    auto [closed, server] = world.connected(way(), 1);
    world.streams->close(closed, false);
    EXPECT_EQ(server.wait_for_more(), 0);
    if (!is_tcp()) return;
    auto [aborted, other] = world.connected(way(), 2);
    world.streams->close(aborted, true);
    EXPECT_EQ(other.wait_for_more(), -ECONNRESET);
    EXPECT_EQ(world.streams->streams(), 0U);
  });
}

TEST_P(SocketStreamsTest, UrgentDataIsDataLikeAllOther) {
  in_a_world([&](StreamsWorld& world) {
    if (!is_tcp()) return;
    auto [stream, server] = world.connected(way(), 1);
    server.say("calm ");
    ASSERT_EQ(::send(server.fd(), "urgent!", 7, MSG_OOB), 7);  // the last byte is marked
    server.say(" and calm again");
    server.end();
    const std::string_view all = "calm urgent! and calm again";
    world.until([&] { return world.told_of(1).ended; });
    EXPECT_TRUE(!by_kernel(world) || world.peeked(stream, 0) == all) << "one peek gets all";
    // As whoever forwards: peek on from what was seen, consume a bit, whenever something is told.
    std::string seen;
    std::size_t consumed = 0;
    bool ended = false;
    world.until([&] {
      for (;;) {
        const std::string more = world.peeked(stream, seen.size() - consumed);
        seen += more;
        EXPECT_TRUE(all.starts_with(seen)) << seen;
        ended = world.last.ended;
        if (more.empty()) break;
      }
      world.streams->consume(stream, seen.size() - consumed);
      consumed = seen.size();
      return ended;
    });
    EXPECT_EQ(seen, all);
  });
}

}  // namespace
}  // namespace penstock::egress
