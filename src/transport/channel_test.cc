#include "transport/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/support/packets.h"
#include "tls/fake_engine.h"
#include "transport/channel_testing.h"

namespace penstock::transport {
namespace {

using State = Channel::State;

TEST_F(ChannelTest, BothEndsOpenAndMessagesPassHoweverTheBytesAreCut) {
  using tls::FakeEngine;
  expect_messages_pass([&] { return plain_server(); }, [&] { return plain_client(); });
  expect_messages_pass(
      [&] { return Channel::server(std::make_unique<FakeEngine>(FakeEngine::Role::server), "/", 70000, random); },
      [&] {
        auto engine = std::make_unique<FakeEngine>(FakeEngine::Role::client);
        return Channel::client(std::move(engine), "localhost", "/", 70000, random);
      });
}

TEST_F(ChannelTest, ABrowserGetsASmallPageAndNotAWordAboutPenstock) {
  auto server = plain_server();
  const auto refused =
      server.receive(as_bytes("GET / HTTP/1.1\r\nHost: gateway.example\r\nUser-Agent: Mozilla\r\n\r\n"));
  EXPECT_FALSE(refused);
  const std::string page(as_text(server.output().view()));
  EXPECT_THAT(page, testing::StartsWith("HTTP/1.1 404 "));
  for (const char* word : {"enstock", "WebSocket"}) EXPECT_THAT(page, testing::Not(testing::HasSubstr(word)));
  EXPECT_EQ(server.state(), State::closed);
}

TEST_F(ChannelTest, TheOwnerDecidesOnAValidUpgradeBeforeItIsAnswered) {
  std::vector<std::string> asked;
  const auto server_that_says = [&](const std::optional<UpgradeRefusal>& answer) {
    return Channel::server(nullptr, "/", 70000, random, [&asked, answer](const websocket::UpgradeRequest& request) {
      asked.emplace_back(request.find("x-forwarded-for").value_or("nobody"));
      return answer;
    });
  };
  const std::string fields =
      " HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Forwarded-For: "
      "192.0.2.1\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
  auto willing = server_that_says(std::nullopt);
  EXPECT_TRUE(willing.receive(as_bytes("GET /" + fields)));
  EXPECT_EQ(willing.state(), State::open);

  auto busy = server_that_says(
      UpgradeRefusal{.refusal = {.status = 429, .reason = "too often"}, .headers = {{"Retry-After", "17"}}});
  const auto refused = busy.receive(as_bytes("GET /" + fields));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("429 (too often)"));
  EXPECT_THAT(std::string(as_text(busy.output().view())),
              testing::AllOf(testing::StartsWith("HTTP/1.1 429 Too Many Requests\r\n"),
                             testing::HasSubstr("\r\nRetry-After: 17\r\n"), testing::HasSubstr("Connection: close"),
                             testing::Not(testing::HasSubstr("too often"))));

  auto elsewhere = server_that_says(std::nullopt);
  EXPECT_FALSE(elsewhere.receive(as_bytes("GET /wrong" + fields)));
  EXPECT_THAT(asked, testing::ElementsAre("192.0.2.1", "192.0.2.1"))
      << "a request that fails anyway is not asked about";
}

TEST_F(ChannelTest, AClientIsToldWhatTheServerAnsweredInstead) {
  auto server = plain_server("/secret");
  auto client = plain_client("/wrong");
  ASSERT_TRUE(client.start());
  const auto request = std::string(as_text(client.output().view()));
  client.output().clear();
  EXPECT_FALSE(server.receive(as_bytes(request)));
  const auto answer = std::string(as_text(server.output().view()));
  const auto refused = client.receive(as_bytes(answer));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("404"));
}

TEST_F(ChannelTest, ABrokenFrameIsAnsweredWithItsCloseCode) {
  auto server = plain_server();
  auto client = plain_client();
  ASSERT_TRUE(client.start());
  ASSERT_TRUE(exchange(client, server));
  const std::array<std::uint8_t, 2> unmasked{0x81, 0x00};
  ASSERT_TRUE(server.receive(unmasked));
  const auto next = server.next();
  ASSERT_FALSE(next);
  EXPECT_THAT(next.error().message, testing::HasSubstr("1002"));
  EXPECT_EQ(load_be16(server.output().view().data() + 2), 1002);
  EXPECT_EQ(server.state(), State::closed);
}

TEST_F(ChannelTest, ACloseFrameIsEchoedAndThenNothingCanBeSent) {
  auto server = plain_server();
  auto client = plain_client();
  ASSERT_TRUE(client.start());
  ASSERT_TRUE(exchange(client, server));
  client.close(1001, "going");
  EXPECT_FALSE(client.send_text("more"));
  ASSERT_TRUE(exchange(client, server));
  const auto message = server.next();
  ASSERT_TRUE(message && *message);
  EXPECT_EQ((*message)->kind, websocket::Opcode::close);
  EXPECT_EQ((*message)->close_code, 1001);
  EXPECT_TRUE(server.peer_closed());
  EXPECT_EQ(load_be16(server.output().view().data() + 2), 1001);
}

TEST_F(ChannelTest, AnIdleConversationHoldsNextToNothing) {
  auto server = plain_server();
  auto client = plain_client();
  ASSERT_TRUE(client.start());
  ASSERT_TRUE(exchange(client, server));
  ASSERT_TRUE(
      client.send_packets(test::batch_of(test::ip_packet("10.0.0.2", "10.0.0.3", std::string(60000, 'x'))), {}));
  ASSERT_TRUE(exchange(client, server));
  EXPECT_EQ(texts_of(server).size(), 1U);
  server.release_idle_memory();
  client.release_idle_memory();
  EXPECT_EQ(client.output().capacity(), 0U);
  ASSERT_TRUE(client.send_text("still here"));
  ASSERT_TRUE(exchange(client, server));
  EXPECT_THAT(texts_of(server), testing::ElementsAre("still here"));
}

}  // namespace
}  // namespace penstock::transport
