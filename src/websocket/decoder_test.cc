// MessageDecoder: what it makes of frames, and that it makes the same of them however they are cut into pieces.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "websocket/frame.h"

namespace penstock::websocket {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kLimit = 100000;

// A message by value, or how it ended.
struct Heard {
  Opcode kind = Opcode::binary;
  std::string payload;
  std::uint16_t close_code = 0;
  std::uint16_t violation = 0;
  bool operator==(const Heard&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Heard& heard) {
  return out << "kind " << static_cast<int>(heard.kind) << " size " << heard.payload.size() << " close "
             << heard.close_code << " violation " << heard.violation;
}

Heard text(std::string payload) { return {.kind = Opcode::text, .payload = std::move(payload)}; }
Heard binary(std::string payload) { return {.kind = Opcode::binary, .payload = std::move(payload)}; }
Heard violated(std::uint16_t code) { return {.violation = code}; }
Heard closed(std::uint16_t code, std::string reason = "") {
  return {.kind = Opcode::close, .payload = std::move(reason), .close_code = code};
}

void drain(MessageDecoder& decoder, ByteQueue& in, std::vector<Heard>& heard) {
  while (true) {
    auto message = decoder.next(in);
    if (!message) {
      heard.push_back(violated(message.error().close_code));
      EXPECT_FALSE(message.error().reason.empty());
      EXPECT_TRUE(decoder.dead());
      continue;
    }
    if (!*message) return;
    heard.push_back({(*message)->kind, std::string(as_text((*message)->unmask())), (*message)->close_code});
  }
}

// Delivers `wire` in pieces whose sizes `piece_size` chooses.
template <typename PieceSize>
std::vector<Heard> deliver(Role role, const Bytes& wire, PieceSize piece_size, std::size_t limit = kLimit) {
  MessageDecoder decoder(role, limit);
  ByteQueue in;
  std::vector<Heard> heard;
  for (std::size_t at = 0; at < wire.size();) {
    const std::size_t size = std::min<std::size_t>(piece_size(), wire.size() - at);
    in.append(ByteView(wire).subspan(at, size));
    at += size;
    drain(decoder, in, heard);
  }
  return heard;
}

std::vector<Heard> deliver_whole(Role role, const Bytes& wire, std::size_t limit = kLimit) {
  return deliver(role, wire, [&] { return wire.size(); }, limit);
}

// One frame of any kind, also of impossible ones.
Bytes frame(int first_byte, std::string_view payload, Role sender = Role::server) {
  Bytes bytes(frame_header_size(sender, payload.size()));
  const std::uint32_t key = 0xA1B2C3D4;
  write_frame_header(bytes.data(), sender, Opcode::binary, payload.size(), key);
  bytes[0] = static_cast<std::uint8_t>(first_byte);
  const std::size_t header = bytes.size();
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  if (sender == Role::client) apply_mask(MutableByteView(bytes).subspan(header), key);
  return bytes;
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

TEST(MessageDecoder, EveryLengthClassBothWays) {
  for (const Role sender : {Role::client, Role::server}) {
    const Role receiver = sender == Role::client ? Role::server : Role::client;
    SeededRandom random(1);
    for (const std::size_t size : {0U, 1U, 2U, 31U, 32U, 33U, 125U, 126U, 127U, 1420U, 65535U, 65536U, 70000U}) {
      std::string payload(size, '\0');
      random.fill({reinterpret_cast<std::uint8_t*>(payload.data()), size});
      ByteQueue wire;
      append_frame(wire, sender, Opcode::binary, as_bytes(payload), random);
      const Bytes bytes(wire.view().begin(), wire.view().end());
      EXPECT_EQ(deliver_whole(receiver, bytes), std::vector{binary(payload)}) << size;
      if (size < 3000) {
        EXPECT_EQ(deliver(receiver, bytes, [] { return 1; }), std::vector{binary(payload)}) << size;
      }
    }
  }
}

TEST(MessageDecoder, ABinaryMessageIsLeftMaskedForItsReader) {
  SeededRandom random(1);
  ByteQueue in;
  append_frame(in, Role::client, Opcode::binary, as_bytes("a packet"), random);
  append_frame(in, Role::client, Opcode::text, as_bytes("a text"), random);
  MessageDecoder decoder(Role::server, kLimit);
  auto packet = decoder.next(in);
  EXPECT_NE(as_text((*packet)->payload), "a packet");
  std::string copy((*packet)->payload.size(), '\0');
  (*packet)->masked().copy_to(reinterpret_cast<std::uint8_t*>(copy.data()));
  EXPECT_EQ(copy, "a packet");
  EXPECT_EQ(as_text((*packet)->unmask()), "a packet");
  EXPECT_EQ(as_text((*packet)->masked().bytes()), "a packet") << "once";
  auto text = decoder.next(in);
  EXPECT_EQ(as_text((*text)->payload), "a text");
  EXPECT_EQ((*text)->mask_key, 0U);
}

TEST(MessageDecoder, AWholeMessageIsAViewIntoTheQueue) {
  SeededRandom random(1);
  ByteQueue in;
  append_frame(in, Role::client, Opcode::binary, as_bytes("first"), random);
  append_frame(in, Role::client, Opcode::binary, as_bytes("second"), random);
  const std::size_t frame_size = in.size() - (6 + 6);
  const auto* begin = in.view().data();
  MessageDecoder decoder(Role::server, kLimit);
  const auto first = decoder.next(in);
  EXPECT_EQ((*first)->payload.data(), begin + 6);
  EXPECT_EQ(in.view().data(), begin) << "consumed only by the next call";
  auto second = decoder.next(in);
  EXPECT_EQ(as_text((*second)->unmask()), "second");
  EXPECT_EQ(in.view().data(), begin + frame_size);
  EXPECT_FALSE(decoder.next(in)->has_value());
  EXPECT_TRUE(in.empty());
}

TEST(MessageDecoder, RulesOfRfc6455) {
  const Bytes long_control{0x89, 126, 0, 126};
  const struct {
    const char* name;
    Bytes wire;
    std::vector<Heard> heard;
  } cases[] = {
      {"text", frame(0x81, "hi"), {text("hi")}},
      {"empty text", frame(0x81, ""), {text("")}},
      {"ping and pong with data", frame(0x89, "a") + frame(0x8A, "b"), {{Opcode::ping, "a"}, {Opcode::pong, "b"}}},
      {"control frame of 125", frame(0x89, std::string(125, 'x')), {{Opcode::ping, std::string(125, 'x')}}},
      {"control frame of 126", frame(0x89, std::string(126, 'x')), {violated(1002)}},
      {"control frame with a long length", long_control, {violated(1002)}},
      {"fragmented control frame", frame(0x09, "x"), {violated(1002)}},
      {"reserved bit 1", frame(0xC2, "x"), {violated(1002)}},
      {"reserved bit 2", frame(0xA2, "x"), {violated(1002)}},
      {"reserved bit 3", frame(0x92, "x"), {violated(1002)}},
      {"opcode 3", frame(0x83, "x"), {violated(1002)}},
      {"opcode 7", frame(0x87, "x"), {violated(1002)}},
      {"opcode 11", frame(0x8B, "x"), {violated(1002)}},
      {"opcode 15", frame(0x8F, "x"), {violated(1002)}},
      {"length 125 in 16 bits", Bytes{0x82, 126, 0, 125} + Bytes(125), {violated(1002)}},
      {"length 65535 in 64 bits", Bytes{0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, {violated(1002)}},
      {"length with the highest bit", Bytes{0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0}, {violated(1002)}},
      {"masked by a server", frame(0x82, "x", Role::client), {violated(1002)}},
      {"fragments", frame(0x01, "a") + frame(0x00, "") + frame(0x00, "b") + frame(0x80, "c"), {text("abc")}},
      {"empty last fragment", frame(0x02, "ab") + frame(0x80, ""), {binary("ab")}},
      {"all fragments empty", frame(0x02, "") + frame(0x80, ""), {binary("")}},
      {"ping between fragments",
       frame(0x01, "a") + frame(0x89, "p") + frame(0x80, "b") + frame(0x82, "c"),
       {{Opcode::ping, "p"}, text("ab"), binary("c")}},
      {"two fragmented messages",
       frame(0x01, "a") + frame(0x80, "b") + frame(0x02, "c") + frame(0x80, "d"),
       {text("ab"), binary("cd")}},
      {"close between fragments", frame(0x01, "a") + frame(0x88, ""), {closed(1005)}},
      {"continuation of nothing", frame(0x80, "x"), {violated(1002)}},
      {"continuation after a message", frame(0x82, "x") + frame(0x00, "y"), {binary("x"), violated(1002)}},
      {"text inside a fragmented message", frame(0x01, "a") + frame(0x81, "b"), {violated(1002)}},
      {"first fragment twice", frame(0x02, "a") + frame(0x02, "b"), {violated(1002)}},
      {"nothing is heard after a violation", frame(0x83, "") + frame(0x82, "x"), {violated(1002)}},

      {"close without a code", frame(0x88, ""), {closed(1005)}},
      {"close with a code", frame(0x88, "\x03\xE8"), {closed(1000)}},
      {"close with a reason", frame(0x88, "\x03\xE9going"), {closed(1001, "going")}},
      {"close of one byte", frame(0x88, "\x03"), {violated(1002)}},
      {"close with 1005", frame(0x88, "\x03\xED"), {violated(1002)}},
      {"close with 1006", frame(0x88, "\x03\xEE"), {violated(1002)}},
      {"close with 999", frame(0x88, "\x03\xE7"), {violated(1002)}},
      {"close with 4999", frame(0x88, "\x13\x87"), {closed(4999)}},
      {"close with 5000", frame(0x88, "\x13\x88"), {violated(1002)}},
      {"close with a broken reason", frame(0x88, "\x03\xE8\xFF"), {violated(1007)}},
      {"close with half a character", frame(0x88, "\x03\xE8\xC3"), {violated(1007)}},
      {"nothing is heard after a close", frame(0x88, "") + frame(0x82, "x"), {closed(1005)}},

      {"broken text", frame(0x81, "ab\xFF"), {violated(1007)}},
      {"text that ends inside a character", frame(0x81, "ab\xC3"), {violated(1007)}},
      {"a character over two fragments", frame(0x01, "\xC3") + frame(0x80, "\xA9"), {text("\xC3\xA9")}},
      {"a character over two messages", frame(0x81, "\xC3") + frame(0x81, "\xA9"), {violated(1007)}},
      {"a character around a ping",
       frame(0x01, "\xC3") + frame(0x89, "\xFF") + frame(0x80, "\xA9"),
       {{Opcode::ping, "\xFF"}, text("\xC3\xA9")}},
      {"a bad first fragment", frame(0x01, "\xFF"), {violated(1007)}},
      {"fragments that end inside a character", frame(0x01, "\xC3") + frame(0x80, ""), {violated(1007)}},
      {"binary is not text", frame(0x82, "\xFF"), {binary("\xFF")}},
  };
  for (const auto& [name, wire, heard] : cases) {
    EXPECT_EQ(deliver_whole(Role::client, wire), heard) << name;
    EXPECT_EQ(deliver(Role::client, wire, [] { return 1; }), heard) << name << ", byte by byte";
  }
  EXPECT_EQ(deliver_whole(Role::server, frame(0x82, "x")), std::vector{violated(1002)}) << "unmasked from a client";
}

// How many bytes of `wire` arrive before the decoder refuses.
std::size_t refused_after(Role role, const Bytes& wire, std::size_t limit = kLimit) {
  MessageDecoder decoder(role, limit);
  ByteQueue in;
  for (std::size_t i = 0; i < wire.size(); ++i) {
    in.append(ByteView(wire).subspan(i, 1));
    if (!decoder.next(in)) return i + 1;
  }
  return 0;
}

TEST(MessageDecoder, RefusesWithTheFirstByteThatMakesItImpossible) {
  EXPECT_EQ(refused_after(Role::client, frame(0x83, "abc")), 1U);
  EXPECT_EQ(refused_after(Role::client, frame(0x80, "abc")), 1U);
  EXPECT_EQ(refused_after(Role::server, frame(0x82, "abc")), 2U);
  EXPECT_EQ(refused_after(Role::client, frame(0x89, std::string(200, 'x'))), 2U);
  EXPECT_EQ(refused_after(Role::client, frame(0x81, "ab\xC0 and more")), 2U + 3U) << "inside a frame";
  EXPECT_EQ(refused_after(Role::server, frame(0x81, "ab\xC0 and more", Role::client)), 6U + 3U);
}

TEST(MessageDecoder, RefusesTooMuchBeforeItArrives) {
  EXPECT_EQ(refused_after(Role::client, frame(0x82, std::string(1001, 'x')), 1000), 4U);
  EXPECT_EQ(refused_after(Role::client, frame(0x82, std::string(1000, 'x')), 1000), 0U);
  EXPECT_EQ(deliver_whole(Role::client, frame(0x82, std::string(1001, 'x')), 1000), std::vector{violated(1009)});

  const Bytes first = frame(0x02, std::string(600, 'x'));
  EXPECT_EQ(refused_after(Role::client, first + frame(0x80, std::string(401, 'x')), 1000), first.size() + 4)
      << "fragments count together";
  EXPECT_EQ(refused_after(Role::client, first + frame(0x80, std::string(400, 'x')), 1000), 0U);
  EXPECT_EQ(refused_after(Role::client, first + frame(0x89, std::string(125, 'x')), 600), 0U)
      << "control frames do not count";
}

TEST(MessageDecoder, TheLimitMayChangeBetweenMessages) {
  MessageDecoder decoder(Role::client, 10);
  ByteQueue in;
  decoder.set_max_message(20);
  in.append(frame(0x82, std::string(20, 'x')));
  EXPECT_TRUE(decoder.next(in)->has_value());
  EXPECT_FALSE(decoder.next(in)->has_value());
  in.append(frame(0x02, std::string(15, 'x')));
  EXPECT_FALSE(decoder.next(in)->has_value());
  decoder.set_max_message(10);
  in.append(frame(0x80, ""));
  const auto refused = decoder.next(in);
  ASSERT_FALSE(refused) << "what was collected is above the new limit";
  EXPECT_EQ(refused.error().close_code, kCloseTooBig);
}

// A conversation of random frames, and what a receiver must hear of it.
struct Conversation {
  Bytes wire;
  std::vector<Heard> heard;
};

Conversation random_conversation(Random& random, Role sender) {
  Conversation conversation;
  const auto random_text = [&](std::size_t size) {
    std::string payload(size, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(payload.data()), size});
    return payload;
  };
  const auto maybe_ping = [&] {
    if (random.next32() % 4 != 0) return;
    const std::string payload = random_text(random.next32() % 126);
    const bool ping = random.next32() % 2 == 0;
    conversation.wire = std::move(conversation.wire) + frame(ping ? 0x89 : 0x8A, payload, sender);
    conversation.heard.push_back({ping ? Opcode::ping : Opcode::pong, payload});
  };
  const std::size_t messages = 1 + random.next32() % 20;
  for (std::size_t i = 0; i < messages; ++i) {
    constexpr std::uint32_t kBounds[] = {1, 10, 130, 1500, 70000};
    std::size_t size = random.next32() % kBounds[random.next32() % 5];
    std::string payload;
    const bool is_text = random.next32() % 3 == 0;
    if (is_text) {
      while (payload.size() < size / 8) payload += random.next32() % 2 == 0 ? "a" : "\xF0\x9F\x98\x80\xC3\xA9";
    } else {
      payload = random_text(size);
    }
    std::string_view rest = payload;
    int opcode = is_text ? 1 : 2;
    while (random.next32() % 3 == 0) {
      const std::size_t part = random.next32() % (rest.size() + 1);
      conversation.wire = std::move(conversation.wire) + frame(opcode, rest.substr(0, part), sender);
      rest.remove_prefix(part);
      opcode = 0;
      maybe_ping();
    }
    conversation.wire = std::move(conversation.wire) + frame(0x80 | opcode, rest, sender);
    conversation.heard.push_back(is_text ? text(payload) : binary(payload));
    maybe_ping();
  }
  conversation.wire = std::move(conversation.wire) + frame(0x88,
                                                           "\x03\xE8"
                                                           "done",
                                                           sender);
  conversation.heard.push_back(closed(1000, "done"));
  return conversation;
}

TEST(MessageDecoder, RandomConversationsInRandomPiecesAreHeardWhole) {
  SeededRandom random(7);
  for (int round = 0; round < 150; ++round) {
    const Role sender = round % 2 == 0 ? Role::client : Role::server;
    const Role receiver = round % 2 == 0 ? Role::server : Role::client;
    const Conversation conversation = random_conversation(random, sender);
    ASSERT_EQ(deliver_whole(receiver, conversation.wire), conversation.heard) << round;
    ASSERT_EQ(deliver(receiver, conversation.wire, [&] { return 1 + random.next32() % 3000; }), conversation.heard)
        << round;
    if (conversation.wire.size() < 20000) {
      ASSERT_EQ(deliver(receiver, conversation.wire, [&] { return 1 + random.next32() % 3; }), conversation.heard)
          << round;
    }
  }
}

// Whatever is broken in a conversation, the pieces in which it arrives change nothing in what is heard of it.
TEST(MessageDecoder, BrokenConversationsAreHeardTheSameInAnyPieces) {
  SeededRandom random(8);
  for (int round = 0; round < 400; ++round) {
    Conversation conversation = random_conversation(random, Role::client);
    conversation.wire[random.next32() % std::min<std::size_t>(conversation.wire.size(), 300)] ^=
        static_cast<std::uint8_t>(1U << random.next32() % 8);
    if (conversation.wire.size() > 5000) conversation.wire.resize(5000);
    const auto whole = deliver_whole(Role::server, conversation.wire);
    ASSERT_EQ(deliver(Role::server, conversation.wire, [] { return 1; }), whole) << round;
    ASSERT_EQ(deliver(Role::server, conversation.wire, [&] { return 1 + random.next32() % 200; }), whole) << round;
  }
}

}  // namespace
}  // namespace penstock::websocket
