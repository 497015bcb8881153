// Streams in memory, whose servers are the test: what a server says lies in `inbox` until it is consumed, what it is
// told in `heard`.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "egress/tcp/host_streams.h"

namespace penstock::egress::testing {

class FakeStreams final : public HostStreams {
 public:
  struct One {
    std::uint64_t cookie = 0;
    Endpoint to{};
    bool connected = false;
    std::vector<std::uint8_t> inbox;  // said by the server and not yet consumed
    bool server_ended = false;
    std::vector<std::uint8_t> heard;  // by the server
    std::size_t room = SIZE_MAX;      // that is left for what it hears
    bool ended = false;               // the server was told that nothing follows
    StreamError error = StreamError::none;
    std::size_t widened = 0;
    bool full = false;  // a write met no room: the next room is told of
  };
  struct Closed {
    Endpoint to{};
    std::vector<std::uint8_t> heard;
    bool ended = false;
    bool aborted = false;
    std::size_t unread = 0;
  };

  explicit FakeStreams(EventLoop& loop) : loop_(&loop) {}
  ~FakeStreams() override { *alive_ = false; }

  void set_events(Events& events) { events_ = &events; }

  // ---- the servers ----

  // Open ones by their numbers, which count up from 1 in the order of connecting.
  std::map<Stream, One> open;
  std::map<Stream, Closed> closed;
  std::size_t most = SIZE_MAX;                 // more are exhausted
  std::optional<StreamError> refuses_at_once;  // what connect() returns

  Stream last() const { return next_ - 1; }
  One& at(Stream stream) { return open.at(stream); }
  void accept(Stream stream) {
    at(stream).connected = true;
    tell(stream, {.writable = true});
  }
  void refuse(Stream stream, StreamError error) {
    at(stream).error = error;
    tell(stream, {.failed = true});
  }
  void say(Stream stream, ByteView bytes) {
    auto& inbox = at(stream).inbox;
    inbox.insert(inbox.end(), bytes.begin(), bytes.end());
    tell(stream, {.readable = true});
  }
  void end_of_server(Stream stream) {
    at(stream).server_ended = true;
    tell(stream, {.readable = true, .ended = true});
  }
  void reset_by_server(Stream stream) {
    at(stream).error = StreamError::reset;
    at(stream).inbox.clear();
    tell(stream, {.readable = true, .writable = true, .failed = true});
  }
  // A stream that came in from outside, for TcpTerminator::open().
  Stream incoming(const Endpoint& from) {
    const Stream stream = next_++;
    open[stream] = {.to = from, .connected = true};
    return stream;
  }
  void set_room(Stream stream, std::size_t room) {
    One& one = at(stream);
    one.room = room;
    if (room != 0 && std::exchange(one.full, false)) tell(stream, {.writable = true});
  }

  // ---- HostStreams ----

  std::expected<Stream, StreamError> connect(const Endpoint& /*from*/, const Endpoint& to,
                                             std::uint64_t cookie) override {
    if (refuses_at_once) return std::unexpected(*refuses_at_once);
    if (open.size() >= most) return std::unexpected(StreamError::exhausted);
    const Stream stream = next_++;
    open[stream] = {.cookie = cookie, .to = to};
    return stream;
  }
  void adopt(Stream stream, std::uint64_t cookie) override {
    One& one = at(stream);
    one.cookie = cookie;
    tell(stream, {.readable = !one.inbox.empty() || one.server_ended, .writable = true, .ended = one.server_ended});
  }
  StreamError error(Stream stream) override { return at(stream).error; }
  Peeked peek(Stream stream, std::size_t offset, std::span<const MutableByteView> into) override {
    One& one = at(stream);
    if (one.error != StreamError::none) return {.error = one.error};
    PENSTOCK_ASSERT(one.connected && offset <= one.inbox.size());
    Peeked result;
    for (const MutableByteView part : into) {
      const std::size_t take = std::min(part.size(), one.inbox.size() - offset);
      if (take != 0) std::memcpy(part.data(), &one.inbox[offset], take);
      offset += take;
      result.bytes += take;
    }
    result.ended = one.server_ended && offset == one.inbox.size();
    return result;
  }
  void consume(Stream stream, std::size_t bytes) override {
    One& one = at(stream);
    if (one.error != StreamError::none) return;  // a socket that was reset has lost it
    PENSTOCK_ASSERT(bytes <= one.inbox.size());
    one.inbox.erase(one.inbox.begin(), one.inbox.begin() + static_cast<std::ptrdiff_t>(bytes));
  }
  Written write(Stream stream, std::span<const ByteView> bytes) override {
    One& one = at(stream);
    if (one.error != StreamError::none) return {.error = one.error};
    PENSTOCK_ASSERT(one.connected && !one.ended);
    Written result;
    for (const ByteView part : bytes) {
      const std::size_t take = std::min(part.size(), one.room);
      one.heard.insert(one.heard.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(take));
      if (one.room != SIZE_MAX) one.room -= take;
      result.bytes += take;
      if (take < part.size()) {
        one.full = true;
        break;
      }
    }
    return result;
  }
  void widen(Stream stream, std::size_t bytes) override { at(stream).widened = bytes; }
  void end(Stream stream) override {
    PENSTOCK_ASSERT(!at(stream).ended);
    at(stream).ended = true;
  }
  void close(Stream stream, bool abort) override {
    One& one = at(stream);
    closed[stream] = {
        .to = one.to, .heard = std::move(one.heard), .ended = one.ended, .aborted = abort, .unread = one.inbox.size()};
    open.erase(stream);
  }

 private:
  void tell(Stream stream, Events::Ready what) {
    loop_->post([this, alive = alive_, stream, what] {
      if (!*alive || events_ == nullptr) return;
      const auto found = open.find(stream);
      if (found == open.end() || found->second.cookie == 0) return;
      events_->ready(found->second.cookie, what);
      events_->turn_ends();
    });
  }

  EventLoop* loop_;
  Events* events_ = nullptr;
  Stream next_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace penstock::egress::testing
