// An engine without a library: enough of one to test what stands on engine.h, on systems whose library is not here too.
//
//   H               a greeting, the client's first, the server's in answer: the whole handshake
//   D size bytes    data (the size as two bytes), every bit turned round: plain text never stands on the wire
//   C               the end, as close_notify
//
// Nothing is secret and nobody is verified.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tls/engine.h"

namespace penstock::tls {

class FakeEngine final : public Engine {
 public:
  enum class Role { client, server };

  explicit FakeEngine(Role role) : role_(role) {}

  Result<void> start() override {
    if (role_ == Role::client) output_.append(as_bytes("H"));
    return {};
  }

  Result<void> receive(ByteView ciphertext, ByteQueue& plain) override {
    if (refused_) return fail(ErrorCode::protocol_error, "not a record of a fake engine");
    if (state_ == State::closed) return {};
    input_.append(ciphertext);
    while (!input_.empty() && !refused_) {
      const std::size_t taken = take_record(plain);
      if (taken == 0) return {};
      input_.consume(taken);
    }
    return refused_ ? receive({}, plain) : Result<void>{};
  }

  Result<void> send(ByteView plain) override {
    if (state_ != State::open) return fail(ErrorCode::closed, "the connection is not open");
    while (!plain.empty()) {
      const ByteView now = plain.first(std::min(plain.size(), kMaxRecordPlaintext));
      const MutableByteView record = output_.prepare(kHead + now.size());
      record[0] = 'D';
      store_be16(&record[1], static_cast<std::uint16_t>(now.size()));
      std::ranges::transform(now, record.begin() + kHead, turned_round);
      output_.commit(kHead + now.size());
      plain = plain.subspan(now.size());
    }
    return {};
  }

  void close() override {
    if (state_ == State::open) output_.append(as_bytes("C"));
    state_ = State::closed;
  }

  ByteQueue& output() override { return output_; }
  State state() const override { return state_; }
  bool peer_closed() const override { return peer_closed_; }
  std::string description() const override { return state_ == State::handshaking ? "handshaking" : "fake"; }
  void release_idle_memory() override {
    if (input_.empty()) input_.release();
    if (output_.empty()) output_.release();
  }

 private:
  static constexpr std::size_t kHead = 3;

  static std::uint8_t turned_round(std::uint8_t byte) { return static_cast<std::uint8_t>(~byte); }

  // How much of the input it was; 0: not all of it is there, or it is none.
  std::size_t take_record(ByteQueue& plain) {
    const ByteView in = input_.view();
    if (in[0] == 'H' && state_ == State::handshaking) {
      if (role_ == Role::server) output_.append(as_bytes("H"));
      state_ = State::open;
      return 1;
    }
    if (in[0] == 'C' && state_ == State::open) {
      peer_closed_ = true;
      return 1;
    }
    if (in[0] != 'D' || state_ != State::open) {
      refused_ = true;
      state_ = State::closed;
      return 1;
    }
    if (in.size() < kHead || in.size() < kHead + load_be16(&in[1])) return 0;
    const std::size_t size = load_be16(&in[1]);
    std::ranges::transform(in.subspan(kHead, size), plain.prepare(size).begin(), turned_round);
    plain.commit(size);
    return kHead + size;
  }

  Role role_;
  State state_ = State::handshaking;
  bool peer_closed_ = false;
  bool refused_ = false;
  ByteQueue input_;
  ByteQueue output_;
};

class FakeClientContext final : public ClientContext {
 public:
  std::unique_ptr<Engine> new_engine(const std::string& server_name) override {
    server_names.push_back(server_name);
    return std::make_unique<FakeEngine>(FakeEngine::Role::client);
  }
  std::vector<std::string> server_names;
};

}  // namespace penstock::tls
