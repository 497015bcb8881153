#include "transport/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"
#include "test/support/packets.h"

namespace penstock::transport {
namespace {

using std::chrono::seconds;

class Recorder final : public Connection::Handler {
 public:
  void on_open() override { opened = true; }
  void on_text(std::string_view text) override { texts.emplace_back(text); }
  void on_binary(ByteView bytes) override { binary_bytes += bytes.size(); }
  void on_pong() override { ++pongs; }
  void on_turn_end() override { ++turns; }
  void on_writable() override { ++writable; }
  void on_closed(const Ending& ending) override {
    ++closed;
    last = ending;
  }
  bool opened = false;
  std::vector<std::string> texts;
  std::size_t binary_bytes = 0;
  int pongs = 0;
  int turns = 0;
  int writable = 0;
  int closed = 0;
  Ending last;
};

// A client's and a server's connection over a socket in memory, without TLS.
class ConnectionTest : public testing::Test {
 protected:
  void open(test::MemorySocketOptions options = {}) {
    auto [near, far] = test::memory_socket_pair(loop, loop, std::move(options));
    wire = near.get();
    client = std::make_unique<Connection>(loop, buffer, std::move(near),
                                          Channel::client(nullptr, "host", "/", 70000, random), timing, client_side);
    server = std::make_unique<Connection>(loop, buffer, std::move(far), Channel::server(nullptr, "/", 70000, random),
                                          timing, server_side);
    client->start();
    server->start();
    loop.run_until_idle();
  }
  test::ManualLoop loop;
  SeededRandom random{1};
  ReadBuffer buffer;
  Connection::Timing timing{.ping_interval = seconds(20), .silence_limit = seconds(60)};
  Recorder client_side;
  Recorder server_side;
  test::MemorySocket* wire = nullptr;
  std::unique_ptr<Connection> client;
  std::unique_ptr<Connection> server;
};

TEST_F(ConnectionTest, OpensAndCarriesMessagesEvenAByteAtATime) {
  open({.capacity = 64, .max_read = 1, .max_write = 3});
  EXPECT_TRUE(client_side.opened && server_side.opened);
  client->send_text("hello");
  loop.run_until_idle();
  EXPECT_THAT(server_side.texts, testing::ElementsAre("hello"));
}

TEST_F(ConnectionTest, PingsKeepAQuietConnectionAlive) {
  open();
  loop.advance(std::chrono::hours(1));
  EXPECT_EQ(client_side.closed + server_side.closed, 0);
  EXPECT_GE(client_side.pongs, 170);
}

TEST_F(ConnectionTest, ASilentWireIsNoticedAfterTheSilenceLimitByBothEnds) {
  open();
  wire->cut();
  loop.advance(seconds(59));
  EXPECT_EQ(client_side.closed + server_side.closed, 0);
  loop.advance(seconds(1));
  EXPECT_EQ(client_side.closed, 1);
  EXPECT_EQ(server_side.closed, 1);
  EXPECT_EQ(client_side.last.error.code, ErrorCode::timed_out);
  EXPECT_EQ(client_side.last.error.message, "nothing was received for 60 s");
}

TEST_F(ConnectionTest, AStuckReaderIsCutOffEvenIfItGoesOnTalking) {
  open({.capacity = 4096});
  // The client sends now and then but never reads: its pongs and our packets pile up.
  auto stuck = std::move(client);
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))));
  stuck->detach();
  EXPECT_FALSE(server->writable());
  loop.advance(seconds(61));
  EXPECT_EQ(server_side.closed, 1);
}

TEST_F(ConnectionTest, ItSaysWhenThereIsRoomAgain) {
  open({.capacity = 4096});
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))));
  EXPECT_FALSE(server->writable());
  loop.run_until_idle();
  EXPECT_TRUE(server->writable());
  EXPECT_EQ(server_side.writable, 1);
  EXPECT_EQ(client_side.binary_bytes, 20020U);
}

TEST_F(ConnectionTest, ClosingDeliversTheLastWordsAndTheCode) {
  open();
  server->send_text("goodbye");
  server->close(1001, "stopping");
  loop.run_until_idle();
  EXPECT_THAT(client_side.texts, testing::ElementsAre("goodbye"));
  EXPECT_EQ(client_side.closed, 1);
  EXPECT_EQ(client_side.last.close_code, 1001);
  EXPECT_THAT(client_side.last.error.message, testing::HasSubstr("stopping"));
  EXPECT_EQ(server_side.closed, 1);
}

TEST_F(ConnectionTest, APeerThatNeverAnswersTheCloseIsLeftAfterALittleWhile) {
  open();
  wire->cut();
  server->close(1000, "bye");
  loop.advance(seconds(1));
  EXPECT_EQ(server_side.closed, 0);
  loop.advance(seconds(1));
  EXPECT_EQ(server_side.closed, 1);
}

TEST_F(ConnectionTest, APeerThatAsksAndNeverReadsCannotGrowMemory) {
  open({.capacity = 4096});
  client->detach();  // it reads no more
  for (int i = 0; i < 100000 && server_side.closed == 0; ++i) {
    server->send_text(R"({"type":"pong"})");
    if (i % 1000 == 0) loop.run_until_idle();
  }
  loop.advance(seconds(2));
  EXPECT_EQ(server_side.closed, 1);
  EXPECT_EQ(server_side.last.error.code, ErrorCode::exhausted);
}

TEST_F(ConnectionTest, ABusyDirectionDoesNotKeepAPongBack) {
  open({.capacity = 4096});
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))));
  client->send_ping();
  ASSERT_FALSE(server->writable());
  loop.run_until_idle();
  EXPECT_EQ(client_side.pongs, 1);
}

// One who is being thrown out cannot use the time until then to fill our memory.
TEST_F(ConnectionTest, WhatComesAfterTheEndIsReadOnlyToBeRidOfIt) {
  open();
  server->close(1008, "out");
  const auto before = server_side.binary_bytes;
  for (int i = 0; i < 1000; ++i)
    client->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))));
  loop.run_until_idle();
  EXPECT_EQ(server_side.binary_bytes, before);
  EXPECT_TRUE(server_side.texts.empty());
}

TEST_F(ConnectionTest, ItMovesToAnotherLoopAndHandlerBetweenTwoMessages) {
  open();
  client->send_text("before");
  loop.run_until_idle();
  test::ManualLoop other;
  ReadBuffer other_buffer;
  Recorder elsewhere;
  server->detach();
  client->send_text("between");
  loop.run_until_idle();
  server->resume(other, other_buffer, timing, elsewhere);
  other.run_until_idle();
  client->send_text("after");
  loop.run_until_idle();
  other.run_until_idle();
  EXPECT_THAT(server_side.texts, testing::ElementsAre("before"));
  EXPECT_THAT(elsewhere.texts, testing::ElementsAre("between", "after"));
  server.reset();
}

TEST_F(ConnectionTest, AConnectionThatBrokeOnItsWayToAnotherLoopSaysSoThere) {
  open();
  wire->reset();
  server->send_text("into the void");
  server->detach();
  Recorder elsewhere;
  server->resume(loop, buffer, timing, elsewhere);
  loop.run_until_idle();
  EXPECT_EQ(elsewhere.closed, 1);
  EXPECT_EQ(server_side.closed, 0);
}

// Whatever operation fails, each end hears of the end exactly once and nothing goes on afterwards.
TEST_F(ConnectionTest, AFailureAtAnyStepIsToldOnce) {
  for (std::uint64_t step = 1; step < 60; ++step) {
    client_side = {};
    server_side = {};
    auto io = std::make_shared<test::MemoryIo>();
    io->fail_at = step;
    open({.io = io});
    client->send_text("hello");
    server->send_text("hello");
    loop.run_until_idle();
    const bool failed = io->operations >= step;
    loop.advance(seconds(200));
    if (failed) {
      EXPECT_EQ(client_side.closed, 1) << step;
      EXPECT_EQ(server_side.closed, 1) << step;
    }
    client.reset();
    server.reset();
    EXPECT_EQ(loop.timers(), 0U) << step;
  }
}

}  // namespace
}  // namespace penstock::transport
