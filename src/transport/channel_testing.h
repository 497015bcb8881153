// Two channels face to face, for the tests of channel.h.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "test/support/packets.h"
#include "transport/channel.h"

namespace penstock::transport {

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
      texts.emplace_back(as_text((*next)->unmask()));
    return texts;
  }
  // A new pair says all that it is given, cut into pieces of each size.
  template <typename NewServer, typename NewClient>
  void expect_messages_pass(NewServer new_server, NewClient new_client) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{100}, SIZE_MAX}) {
      Channel server = new_server();
      Channel client = new_client();
      ASSERT_TRUE(client.start());
      ASSERT_TRUE(exchange(client, server, step));
      ASSERT_EQ(server.state(), Channel::State::open);
      ASSERT_EQ(client.state(), Channel::State::open);
      ASSERT_TRUE(client.send_text("one"));
      const Packet packet = test::ip_packet("10.0.0.2", "10.0.0.3", std::string(60000, 'x'));
      ASSERT_TRUE(client.send_packets(test::batch_of(Packet::copy_of(packet.bytes())), {}));
      ASSERT_TRUE(client.send_text("two"));
      ASSERT_TRUE(exchange(client, server, step));
      EXPECT_THAT(texts_of(server), testing::ElementsAre("one", as_text(packet.bytes()), "two"));
    }
  }
  SeededRandom random{1};
};

}  // namespace penstock::transport
