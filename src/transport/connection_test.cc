#include "transport/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

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
  std::size_t on_binary(MaskedView bytes) override {
    binary_bytes += bytes.size();
    return packets_in_each;
  }
  void on_pong() override { ++pongs; }
  void on_turn_end() override { ++turns; }
  void on_writable() override { ++writable; }
  void on_idle() override { ++idle; }
  void on_closed(const Ending& ending) override {
    ++closed;
    last = ending;
  }
  bool opened = false;
  std::vector<std::string> texts;
  std::size_t binary_bytes = 0;
  std::size_t packets_in_each = 1;
  int pongs = 0;
  int turns = 0;
  int writable = 0;
  int idle = 0;
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

TEST_F(ConnectionTest, ASlowWayIsGivenNoMoreThanItTakesInTwoMilliseconds) {
  open({.capacity = 64 * 1024, .rate = 4'000'000});
  client->detach();  // nobody reads
  const auto fill = [&] {
    const std::uint64_t before = wire->io()->bytes_written;
    while (server->writable())
      server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(1000, 'x'))), {});
    return wire->io()->bytes_written - before;
  };
  EXPECT_EQ(fill(), 64U * 1024) << "it knows of the way only when the socket is full";
  EXPECT_EQ(server->burst(), 8000U);
  client->resume(loop, buffer, timing, client_side);
  loop.run_until_idle();
  EXPECT_EQ(server_side.writable, 1);
  client->detach();
  EXPECT_LE(fill(), 8000U + 1100U);
}

TEST_F(ConnectionTest, AFastWayIsGivenWholeBurstsAndASlowOneNeverLessThanAFewPackets) {
  open({.capacity = 64 * 1024, .rate = 10'000'000'000});
  client->detach();
  const auto big = test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(60000, 'x')));
  while (server->writable()) server->send_packets(big, {});
  EXPECT_EQ(server->burst(), Connection::kMaxBurst);
  open({.capacity = 64 * 1024, .rate = 1});
  client->detach();
  while (server->writable()) server->send_packets(big, {});
  EXPECT_EQ(server->burst(), Connection::kLeastBurst);
}

// More connections than places to keep buffers in: those that came first have them.
TEST_F(ConnectionTest, OfManyConnectionsOnlyTheBusyKeepTheirBuffers) {
  struct Conversation {
    Recorder near_side, far_side;
    std::unique_ptr<Connection> near, far;
  };
  std::deque<Conversation> all(WarmPlaces::kPlaces);
  for (Conversation& one : all) {
    auto [near, far] = test::memory_socket_pair(loop, loop);
    one.near = std::make_unique<Connection>(
        loop, buffer, std::move(near), Channel::client(nullptr, "host", "/", 70000, random), timing, one.near_side);
    one.far = std::make_unique<Connection>(loop, buffer, std::move(far), Channel::server(nullptr, "/", 70000, random),
                                           timing, one.far_side);
    one.near->start();
    one.far->start();
    loop.run_until_idle();
  }
  const auto given_back_by = [&](Conversation& one) {
    const int before = one.near_side.idle + one.far_side.idle;
    one.near->send_text("hello");
    loop.run_until_idle();
    return one.near_side.idle + one.far_side.idle - before;
  };
  EXPECT_EQ(given_back_by(all.front()), 0);
  EXPECT_EQ(given_back_by(all.back()), 2) << "both ends, as soon as their turn is over";

  loop.advance(WarmPlaces::kPatience);
  EXPECT_EQ(given_back_by(all.back()), 0) << "the places are not being used";
  const auto sum = [&] {
    int idle = 0;
    for (const Conversation& one : all) idle += one.near_side.idle + one.far_side.idle;
    return idle;
  };
  const int before = sum();
  EXPECT_EQ(given_back_by(all[all.size() - 2]), 0);
  EXPECT_EQ(sum() - before, 2) << "whoever had the places that it took";
  all.clear();
  EXPECT_EQ(buffer.warm.next().holder, nullptr);
}

TEST_F(ConnectionTest, AStuckReaderIsCutOffEvenIfItGoesOnTalking) {
  open({.capacity = 4096});
  // The client sends now and then but never reads: its pongs and our packets pile up.
  auto stuck = std::move(client);
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))), {});
  stuck->detach();
  EXPECT_FALSE(server->writable());
  loop.advance(seconds(61));
  EXPECT_EQ(server_side.closed, 1);
}

TEST_F(ConnectionTest, ItSaysWhenThereIsRoomAgain) {
  open({.capacity = 4096});
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))), {});
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

TEST_F(ConnectionTest, SoManyControlMessagesMayWaitAndThenThePeerHasToGo) {
  open({.capacity = 4096});
  client->detach();  // it reads no more
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))), {});
  server->set_max_waiting(10);
  for (int i = 0; i < 10; ++i) server->send_text("{}");
  EXPECT_EQ(server->state(), Channel::State::open);
  server->send_text("{}");
  loop.advance(seconds(2));
  EXPECT_EQ(server_side.closed, 1);
  EXPECT_EQ(server_side.last.error.code, ErrorCode::exhausted);
}

TEST_F(ConnectionTest, OneThatReadsMayBeSentAnyNumberOfControlMessages) {
  open({.capacity = 4096});
  server->set_max_waiting(10);
  for (int i = 0; i < 1000; ++i) {
    server->send_text("{}");
    loop.run_until_idle();
  }
  EXPECT_EQ(client_side.texts.size(), 1000U);
  for (int i = 0; i < 1000; ++i) server->send_text("{}");  // and what the socket takes at once does not wait
  EXPECT_EQ(server_side.closed, 0);
}

// Answers of TLS itself, to what no owner has asked for.
class ChattyEngine final : public tls::Engine {
 public:
  Result<void> start() override { return {}; }
  Result<void> receive(ByteView ciphertext, ByteQueue& plain) override {
    const bool upgrade = as_text(ciphertext).starts_with("GET");
    (upgrade ? plain : output_).append(ciphertext);
    return {};
  }
  Result<void> send(ByteView plain) override {
    output_.append(plain);
    return {};
  }
  void close() override {}
  ByteQueue& output() override { return output_; }
  State state() const override { return State::open; }
  bool peer_closed() const override { return false; }
  std::string description() const override { return "chatty"; }
  void release_idle_memory() override {}

 private:
  ByteQueue output_;
};

TEST_F(ConnectionTest, AnswersOfTlsThatPileUpEndTheConnectionToo) {
  auto [near, far] = test::memory_socket_pair(loop, loop);
  server = std::make_unique<Connection>(loop, buffer, std::move(far),
                                        Channel::server(std::make_unique<ChattyEngine>(), "/", 70000, random), timing,
                                        server_side);
  server->start();
  ASSERT_TRUE(near->write(as_bytes(websocket::upgrade_request("host", "/", "AAAAAAAAAAAAAAAAAAAAAA=="))));
  loop.run_until_idle();
  ASSERT_TRUE(server_side.opened);
  const std::vector<std::uint8_t> flood(64 * 1024);
  std::size_t sent = 0;
  for (; sent < 10'000'000 && server_side.closed == 0; sent += flood.size()) {
    if (!near->write(flood)) break;
    loop.run_until_idle();
    loop.advance(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(server_side.closed, 1);
  EXPECT_EQ(server_side.last.error.code, ErrorCode::exhausted);
  EXPECT_LT(sent, 3'000'000U);
}

TEST_F(ConnectionTest, MessagesWithManyPacketsEachAreDeliveredInTurnsBetweenWhichOthersWork) {
  open();
  server_side.packets_in_each = 1000;
  const auto packet = test::ip_packet("10.0.0.1", "10.0.0.2", "much in little");
  for (int i = 0; i < 100; ++i) client->send_packets(std::span(&packet, 1), {});
  const int before = server_side.turns;
  loop.run_until_idle();
  EXPECT_EQ(server_side.binary_bytes, 100 * packet.size());
  EXPECT_GE(server_side.turns - before, 100 / 5);
}

TEST_F(ConnectionTest, AFloodOfControlMessagesIsDeliveredInTurnsBetweenWhichOthersWork) {
  open();
  int turns_of_others = 0;
  std::move_only_function<void()> other = [&] {
    if (server_side.texts.size() == 5000) return;
    ++turns_of_others;
    loop.post([&] { other(); });
  };
  for (int i = 0; i < 5000; ++i) client->send_text("{}");
  loop.post([&] { other(); });
  loop.run_until_idle();
  EXPECT_EQ(server_side.texts.size(), 5000U);
  EXPECT_GE(server_side.turns, 5000 * 64 / 4096);
  EXPECT_GE(turns_of_others, 5000 * 64 / 4096);
}

TEST_F(ConnectionTest, WhatWaitsForTheNextTurnIsDeliveredElsewhereIfTheConnectionMoves) {
  open();
  for (int i = 0; i < 200; ++i) client->send_text("{}");
  while (server_side.texts.empty()) loop.run_one_step();
  const std::size_t before = server_side.texts.size();
  ASSERT_LT(before, 200U);
  server->detach();
  Recorder elsewhere;
  server->resume(loop, buffer, timing, elsewhere);
  loop.run_until_idle();
  EXPECT_EQ(server_side.texts.size(), before);
  EXPECT_EQ(elsewhere.texts.size(), 200 - before);
}

TEST_F(ConnectionTest, ACloseBehindAFloodIsHeardAfterIt) {
  open();
  for (int i = 0; i < 1000; ++i) client->send_text("{}");
  client->close(1000, "enough");
  loop.run_until_idle();
  EXPECT_EQ(server_side.texts.size(), 1000U);
  EXPECT_EQ(server_side.closed, 1);
  EXPECT_EQ(server_side.last.close_code, 1000);
}

TEST_F(ConnectionTest, BytesThatWereReadBeforeItBeganAreDelivered) {
  auto [near, far] = test::memory_socket_pair(loop, loop);
  client = std::make_unique<Connection>(loop, buffer, std::move(near),
                                        Channel::client(nullptr, "host", "/", 70000, random), timing, client_side);
  client->start();
  std::array<std::uint8_t, 4096> first{};
  const auto got = far->read(first).value().value();
  server = std::make_unique<Connection>(loop, buffer, std::move(far), Channel::server(nullptr, "/", 70000, random),
                                        timing, server_side);
  server->start(ByteView(first).first(got));
  EXPECT_TRUE(server_side.opened);
  loop.run_until_idle();
  client->send_text("hello");
  loop.run_until_idle();
  EXPECT_THAT(server_side.texts, testing::ElementsAre("hello"));
}

TEST_F(ConnectionTest, ABusyDirectionDoesNotKeepAPongBack) {
  open({.capacity = 4096});
  server->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))), {});
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
    client->send_packets(test::batch_of(test::ip_packet("10.0.0.1", "10.0.0.2", std::string(20000, 'x'))), {});
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
