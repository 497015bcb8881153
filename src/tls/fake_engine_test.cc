// The fake keeps the promises of engine.h that its users rest on.
#include "tls/fake_engine.h"

#include <gtest/gtest.h>

#include "tls/test_pair.h"

namespace penstock::tls {
namespace {

TestPair new_pair() {
  return {std::make_unique<FakeEngine>(FakeEngine::Role::client),
          std::make_unique<FakeEngine>(FakeEngine::Role::server)};
}

TEST(FakeEngine, WhatIsSentArrivesHoweverItIsCut) {
  const std::string text(40000, 'x');
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, SIZE_MAX}) {
    TestPair pair = new_pair();
    ASSERT_TRUE(pair.connect(piece));
    ASSERT_TRUE(pair.client->send(as_bytes(text)));
    EXPECT_EQ(as_text(pair.client->output().view()).find('x'), std::string_view::npos) << "not as plain text";
    pair.carry(piece);
    EXPECT_EQ(as_text(pair.server_plain.view()), text);
    pair.server->close();
    pair.carry(piece);
    EXPECT_TRUE(pair.client->peer_closed());
    EXPECT_TRUE(pair.client->send(as_bytes("still")));
  }
}

TEST(FakeEngine, NothingIsSentBeforeTheHandshakeAndARefusalRepeats) {
  TestPair pair = new_pair();
  EXPECT_FALSE(pair.client->send(as_bytes("early")));
  ByteQueue plain;
  EXPECT_FALSE(pair.server->receive(as_bytes("GET / HTTP/1.1\r\n"), plain));
  EXPECT_FALSE(pair.server->receive({}, plain));
  EXPECT_EQ(pair.server->state(), Engine::State::closed);
  EXPECT_TRUE(plain.empty());
}

}  // namespace
}  // namespace penstock::tls
