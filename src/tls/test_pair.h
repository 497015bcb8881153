// Two engines that face each other in memory, for tests.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "tls/engine.h"

namespace penstock::tls {

class TestPair {
 public:
  TestPair(std::unique_ptr<Engine> client_engine, std::unique_ptr<Engine> server_engine)
      : client(std::move(client_engine)), server(std::move(server_engine)) {}

  // Carries ciphertext both ways until both are silent, `piece` bytes a time. What an engine refuses is remembered and
  // its last words are still delivered.
  void carry(std::size_t piece = SIZE_MAX) {
    while (!client->output().empty() || !server->output().empty()) {
      deliver(*client, *server, server_plain, server_result, piece);
      deliver(*server, *client, client_plain, client_result, piece);
    }
  }

  // The handshake; true if both are open afterwards.
  bool connect(std::size_t piece = SIZE_MAX) {
    client_result = client->start();
    carry(piece);
    return client->state() == Engine::State::open && server->state() == Engine::State::open;
  }

  std::unique_ptr<Engine> client;
  std::unique_ptr<Engine> server;
  ByteQueue client_plain;  // what each has decrypted
  ByteQueue server_plain;
  Result<void> client_result;  // the last of receive()
  Result<void> server_result;

 private:
  static void deliver(Engine& from, Engine& to, ByteQueue& plain, Result<void>& result, std::size_t piece) {
    // Taken out first: receive() may be answered into the queue of `from` only in the next round.
    const ByteQueue wire = std::exchange(from.output(), {});
    for (ByteView left = wire.view(); !left.empty();) {
      const ByteView now = left.first(std::min(piece, left.size()));
      left = left.subspan(now.size());
      result = to.receive(now, plain);
    }
  }
};

}  // namespace penstock::tls
