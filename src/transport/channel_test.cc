#include "transport/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/support/packets.h"
#include "tls/test_certificates.h"

namespace penstock::transport {
namespace {

using State = Channel::State;

class ChannelTest : public testing::Test {
 protected:
  Channel plain_server(std::string path = "/") { return Channel::server(nullptr, std::move(path), 70000, random); }
  Channel plain_client(std::string target = "/") {
    return Channel::client(nullptr, "gateway.example", std::move(target), 70000, random);
  }
  // Carries bytes both ways, `step` at a time, until nothing moves or one end refuses.
  Result<void> exchange(Channel& one, Channel& other, std::size_t step = SIZE_MAX) {
    for (bool moved = true; moved;) {
      moved = false;
      for (auto [from, to] : {std::pair{&one, &other}, std::pair{&other, &one}}) {
        while (!from->output().empty()) {
          moved = true;
          const auto bytes = from->output().view().first(std::min(step, from->output_size()));
          const std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
          from->output().consume(copy.size());
          PENSTOCK_TRY_VOID(to->receive(copy));
        }
      }
    }
    return {};
  }
  std::vector<std::string> texts_of(Channel& channel) {
    std::vector<std::string> texts;
    for (auto next = channel.next(); next && *next; next = channel.next())
      texts.emplace_back(as_text((*next)->payload));
    return texts;
  }
  SeededRandom random{1};
};

TEST_F(ChannelTest, BothEndsOpenAndMessagesPassHoweverTheBytesAreCut) {
  const tls::TestDirectory directory;
  const auto certificate = tls::make_test_certificate(directory.path());
  auto server_context = tls::ServerContext::create(certificate.cert_path, certificate.key_path).value();
  auto client_context = tls::ClientContext::create({.ca_file = certificate.cert_path}).value();
  for (const std::size_t step : {std::size_t{1}, std::size_t{100}, SIZE_MAX}) {
    auto server = Channel::server(server_context->new_engine(), "/", 70000, random);
    auto client = Channel::client(client_context->new_engine("localhost"), "localhost", "/", 70000, random);
    ASSERT_TRUE(client.start());
    ASSERT_TRUE(exchange(client, server, step));
    ASSERT_EQ(server.state(), State::open);
    ASSERT_EQ(client.state(), State::open);
    ASSERT_TRUE(client.send_text("one"));
    ASSERT_TRUE(client.send_packets(test::batch_of(test::ip_packet("10.0.0.2", "10.0.0.3", std::string(60000, 'x')))));
    ASSERT_TRUE(client.send_text("two"));
    ASSERT_TRUE(exchange(client, server, step));
    const auto got = texts_of(server);
    ASSERT_EQ(got.size(), 3U);
    EXPECT_EQ(got[0], "one");
    EXPECT_EQ(got[1].size(), 60020U);
    EXPECT_EQ(got[2], "two");
  }
}

TEST_F(ChannelTest, ABrowserGetsASmallPageAndNotAWordAboutPenstock) {
  auto server = plain_server();
  const auto refused =
      server.receive(as_bytes("GET / HTTP/1.1\r\nHost: gateway.example\r\nUser-Agent: Mozilla\r\n\r\n"));
  EXPECT_FALSE(refused);
  const std::string page(as_text(server.output().view()));
  EXPECT_THAT(page, testing::StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(page, testing::Not(testing::ContainsRegex("[Pp]enstock|WebSocket")));
  EXPECT_EQ(server.state(), State::closed);
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
  ASSERT_TRUE(client.send_packets(test::batch_of(test::ip_packet("10.0.0.2", "10.0.0.3", std::string(60000, 'x')))));
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
