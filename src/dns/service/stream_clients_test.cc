#include "dns/service/stream_clients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <optional>

#include "dns/dns_testing.h"
#include "dns/stream_framing.h"
#include "test/support/manual_loop.h"
#include "test/support/memory_socket.h"

namespace penstock::dns {
namespace {

using std::chrono::seconds;
using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::query;

// The far end of a connection, as a client has it.
class Peer {
 public:
  Peer(test::ManualLoop& loop, std::unique_ptr<test::MemorySocket> socket) : loop_(&loop), socket_(std::move(socket)) {}

  void write(ByteView bytes) {
    loop_->run_until_idle();
    ASSERT_EQ(socket_->write(bytes).value_or(0), bytes.size());
    loop_->run_until_idle();
  }
  void ask(std::uint16_t id) { write(framed(query("a.example", {.id = id}))); }
  static Bytes framed(ByteView message) {
    Bytes bytes;
    StreamFraming::frame(message, bytes);
    return bytes;
  }
  // The ids of the answers that have come, in their order.
  std::vector<std::uint16_t> ids() {
    read();
    std::vector<std::uint16_t> all;
    while (const auto message = framing_.next()) all.push_back(load_be16(message->data()));
    return all;
  }
  bool closed() {
    read();
    return closed_;
  }
  test::MemorySocket& socket() { return *socket_; }

 private:
  void read() {
    loop_->run_until_idle();
    std::array<std::uint8_t, 4096> block;
    for (;;) {
      const auto size = socket_->read(block);
      if (size && !*size) return;
      if (!size || **size == 0) {
        closed_ = true;
        return;
      }
      framing_.append(ByteView(block).first(**size));
      loop_->run_until_idle();
    }
  }

  test::ManualLoop* loop_;
  std::unique_ptr<test::MemorySocket> socket_;
  StreamFraming framing_;
  bool closed_ = false;
};

class StreamClientsTest : public ::testing::Test {
 protected:
  StreamClientsTest() { start({}); }
  void start(const StreamClients::Limits& limits) {
    clients_.emplace(loop_, limits,
                     StreamClients::Events{.on_query =
                                               [this](const ClientKey& key, ByteView bytes) {
                                                 asked_.push_back({key, Bytes(bytes.begin(), bytes.end())});
                                                 return on_query_ ? on_query_(asked_.back()) : true;
                                               },
                                           .on_closed = [this](std::uint64_t stream) { closed_.push_back(stream); }});
  }
  std::unique_ptr<Peer> connect(std::uint64_t client = 1, const test::MemorySocketOptions& options = {}) {
    auto [far, near] = test::memory_socket_pair(loop_, loop_, options);
    clients_->add(std::move(near), client);
    return std::make_unique<Peer>(loop_, std::move(far));
  }
  struct Asked {
    ClientKey key;
    Bytes bytes;
    std::uint16_t id() const { return load_be16(bytes.data()); }
  };
  std::vector<std::uint16_t> asked_ids() const {
    std::vector<std::uint16_t> ids;
    for (const Asked& asked : asked_) ids.push_back(asked.id());
    return ids;
  }
  void answer(const Asked& asked, std::size_t size = kHeaderSize) {
    Bytes bytes(std::max(size, kHeaderSize));
    std::copy_n(asked.bytes.begin(), 2, bytes.begin());
    clients_->answer(asked.key.stream, bytes);
  }
  void answer_first(std::size_t size = kHeaderSize) {
    const Asked asked = asked_.front();
    asked_.pop_front();
    answer(asked, size);
  }

  test::ManualLoop loop_;
  std::deque<Asked> asked_;
  std::function<bool(const Asked&)> on_query_;
  std::vector<std::uint64_t> closed_;
  std::optional<StreamClients> clients_;
};

TEST_F(StreamClientsTest, QueriesAreTakenAsTheyComeAndAnsweredInAnyOrder) {
  const auto peer = connect(7);
  Bytes three;
  for (const std::uint16_t id : std::array<std::uint16_t, 3>{1, 2, 3})
    StreamFraming::frame(query("a.example", {.id = id}), three);
  peer->write(three);
  EXPECT_THAT(asked_ids(), ElementsAre(1, 2, 3));
  EXPECT_EQ(asked_[0].key.client, 7U);
  EXPECT_EQ(asked_[0].key.from, peer->socket().local());
  EXPECT_EQ(asked_[0].key.to, peer->socket().peer());
  EXPECT_NE(asked_[0].key.stream, 0U);
  answer(asked_[2]);
  answer(asked_[0]);
  EXPECT_THAT(peer->ids(), ElementsAre(3, 1));
  peer->ask(4);
  answer(asked_[3]);
  answer(asked_[1]);
  EXPECT_THAT(peer->ids(), ElementsAre(4, 2));
  EXPECT_FALSE(peer->closed());
}

TEST_F(StreamClientsTest, AQueryMayComeByteByByteAndItsAnswerLeaveSo) {
  const auto peer = connect(1, {.max_read = 1, .max_write = 1});
  const Bytes bytes = Peer::framed(query("a.example", {.id = 9}));
  for (const std::uint8_t byte : bytes) peer->write({&byte, 1});
  ASSERT_THAT(asked_ids(), ElementsAre(9));
  answer_first(600);
  EXPECT_THAT(peer->ids(), ElementsAre(9));
}

TEST_F(StreamClientsTest, AnswersThatComeAtOnceAreAsGood) {
  on_query_ = [this](const Asked& asked) {
    answer(asked);
    return true;
  };
  const auto peer = connect();
  Bytes many;
  for (std::uint16_t id = 0; id < 500; ++id) StreamFraming::frame(query("a.example", {.id = id}), many);
  peer->write(many);
  EXPECT_EQ(peer->ids().size(), 500U);
}

TEST_F(StreamClientsTest, NoMoreQueriesAreTakenThanMayWait) {
  const auto peer = connect();
  Bytes many;
  for (std::uint16_t id = 0; id < 100; ++id) StreamFraming::frame(query("a.example", {.id = id}), many);
  peer->write(many);
  EXPECT_EQ(asked_.size(), StreamClients::kMaxWaiting);
  answer_first();
  EXPECT_EQ(asked_.size(), StreamClients::kMaxWaiting);
  while (!asked_.empty()) {
    answer_first();
    loop_.run_until_idle();
  }
  EXPECT_EQ(peer->ids().size(), 100U) << "the rest, as soon as there is room";
}

TEST_F(StreamClientsTest, WhatIsDroppedWaitsForNothing) {
  on_query_ = [](const Asked&) { return false; };
  const auto peer = connect();
  for (std::uint16_t id = 0; id < 2 * StreamClients::kMaxWaiting; ++id) peer->ask(id);
  EXPECT_EQ(asked_.size(), 2 * StreamClients::kMaxWaiting);
}

TEST_F(StreamClientsTest, WhoEndsItsSideIsStillAnswered) {
  const auto peer = connect();
  peer->ask(1);
  peer->ask(2);
  peer->socket().shutdown_write();
  loop_.run_until_idle();
  answer_first();
  EXPECT_FALSE(peer->closed());
  answer_first();
  EXPECT_THAT(peer->ids(), ElementsAre(1, 2));
  EXPECT_TRUE(peer->closed());
  EXPECT_EQ(closed_.size(), 1U);
}

TEST_F(StreamClientsTest, AnIdleConnectionIsClosedAndABusyOneIsNot) {
  const auto idle = connect();
  const auto busy = connect();
  for (std::uint16_t id = 0; id < 3; ++id) {
    loop_.advance(seconds(6));
    busy->ask(id);
    answer_first();
  }
  EXPECT_TRUE(idle->closed());
  EXPECT_EQ(busy->ids().size(), 3U);
  EXPECT_FALSE(busy->closed());
  EXPECT_EQ(clients_->counters().idle, 1U);
  loop_.advance(seconds(10));
  EXPECT_TRUE(busy->closed());
  EXPECT_EQ(clients_->open(), 0U);
}

TEST_F(StreamClientsTest, WhoTricklesBytesIsIdle) {
  const auto peer = connect();
  const Bytes bytes = Peer::framed(query("a.example"));
  for (std::size_t i = 0; i < 4; ++i) {
    peer->write({&bytes[i], 1});
    loop_.advance(seconds(3));
  }
  EXPECT_TRUE(peer->closed());
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(StreamClientsTest, WhoFetchesNoAnswersIsReadNoMoreAndThenClosed) {
  on_query_ = [this](const Asked& asked) {
    answer(asked, 20'000);
    return true;
  };
  const auto peer = connect(1, {.capacity = 50'000});
  Bytes many;
  for (std::uint16_t id = 0; id < 60; ++id) StreamFraming::frame(query("a.example", {.id = id}), many);
  peer->write(many);
  EXPECT_LT(asked_.size(), 10U);
  EXPECT_EQ(clients_->open(), 1U);
  loop_.advance(seconds(10));
  EXPECT_EQ(clients_->open(), 0U);
}

TEST_F(StreamClientsTest, WhoWaitsForMoreAnswersThanIsHeldIsClosed) {
  const auto peer = connect(1, {.capacity = 1000});
  for (std::uint16_t id = 0; id < 10; ++id) peer->ask(id);
  ASSERT_EQ(asked_.size(), 10U);
  while (!asked_.empty()) answer_first(60'000);
  EXPECT_EQ(clients_->open(), 0U);
  EXPECT_EQ(closed_.size(), 1U);
  EXPECT_EQ(clients_->counters().broken, 1U);
}

TEST_F(StreamClientsTest, NoDnsIsClosed) {
  const auto peer = connect();
  peer->write(as_bytes("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(peer->closed()) << "'GE' is a length that no query has";
  const auto tiny = connect();
  tiny->write(Bytes{0, 3, 1, 2, 3});
  EXPECT_TRUE(tiny->closed());
  EXPECT_EQ(clients_->counters().broken, 2U);
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(StreamClientsTest, QueriesInFrontOfNonsenseAreTakenButNotAnswered) {
  const auto peer = connect();
  Bytes bytes = Peer::framed(query("a.example", {.id = 1}));
  bytes.insert(bytes.end(), {0, 0});
  peer->write(bytes);
  ASSERT_THAT(asked_ids(), ElementsAre(1));
  EXPECT_THAT(closed_, ElementsAre(asked_[0].key.stream));
  answer_first();
  EXPECT_THAT(peer->ids(), IsEmpty());
}

TEST_F(StreamClientsTest, ThereAreNoMoreThanSoManyInAllAndOfAClient) {
  start({.connections = 5, .of_client = 2});
  std::vector<std::unique_ptr<Peer>> peers;
  for (const std::uint64_t client : std::array<std::uint64_t, 8>{1, 1, 1, 2, 2, 2, 3, 4})
    peers.push_back(connect(client));
  std::vector<bool> closed;
  for (const auto& peer : peers) closed.push_back(peer->closed());
  EXPECT_THAT(closed, ElementsAre(false, false, true, false, false, true, false, true));
  EXPECT_EQ(clients_->counters().too_many, 3U);
  EXPECT_EQ(clients_->open(), 5U);
  peers[0].reset();
  loop_.run_until_idle();
  peers.push_back(connect(1));
  EXPECT_FALSE(peers.back()->closed()) << "there is room again";
}

TEST_F(StreamClientsTest, AForgottenClientsConnectionsAreClosedAndNoOthers) {
  const auto first = connect(1);
  const auto second = connect(1);
  const auto other = connect(2);
  first->ask(1);
  clients_->forget(1);
  EXPECT_TRUE(first->closed());
  EXPECT_TRUE(second->closed());
  EXPECT_FALSE(other->closed());
  EXPECT_EQ(closed_.size(), 2U);
  answer_first();
}

// Each read and write in turn is the one at which the connection is reset.
TEST_F(StreamClientsTest, AConnectionMayBreakAtAnyTime) {
  for (std::uint64_t n = 1; n < 40; ++n) {
    closed_.clear();
    asked_.clear();
    const auto peer = connect();
    peer->socket().fail_at(n);
    Bytes bytes;
    for (const std::uint16_t id : std::array<std::uint16_t, 3>{1, 2, 3})
      StreamFraming::frame(query("a.example", {.id = id}), bytes);
    static_cast<void>(peer->socket().write(bytes));
    loop_.run_until_idle();
    while (!asked_.empty()) answer_first();
    peer->ids();
    loop_.advance(seconds(20));
    EXPECT_EQ(clients_->open(), 0U);
    EXPECT_EQ(closed_.size(), 1U);
  }
}

}  // namespace
}  // namespace penstock::dns
