// DNS messages in a stream: two bytes of length in front of each (RFC 1035 section 4.2.2, RFC 7766 section 8).
//
//   OPEN --a length that no message has--> BROKEN: close the stream, nothing more comes out of it
//
// Bounds      at most `max_message` and its length, beside what one append() brings: take all messages after each. How
//             many queries of one stream are in flight is the reader's to bound, by not reading on.
// Ownership   a message is a view until the next call.
// Threads     one.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "dns/message.h"

namespace penstock::dns {

class StreamFraming {
 public:
  // The largest message that is taken: clients' queries are small, upstreams' answers are not.
  explicit StreamFraming(std::size_t max_message = kMaxMessage) : max_message_(max_message) {}

  void append(ByteView bytes) {
    in_.consume(std::exchange(taken_, 0));
    if (!broken_) in_.append(bytes);
  }
  // Nothing where none is whole yet.
  std::optional<ByteView> next() {
    in_.consume(std::exchange(taken_, 0));
    if (broken_ || in_.size() < 2) return std::nullopt;
    const std::size_t size = load_be16(in_.view().data());
    if (size < kHeaderSize || size > max_message_) {
      broken_ = true;
      in_.release();
      return std::nullopt;
    }
    if (in_.size() - 2 < size) return std::nullopt;
    taken_ = 2 + size;
    return in_.view().subspan(2, size);
  }
  bool broken() const { return broken_; }
  // Whether the beginning of a message waits for its rest.
  bool in_message() const { return in_.size() > taken_; }

  // `message`, of at most kMaxMessage bytes, as it travels.
  static void frame(ByteView message, std::vector<std::uint8_t>& out) {
    PENSTOCK_ASSERT(message.size() <= kMaxMessage);
    out.push_back(static_cast<std::uint8_t>(message.size() >> 8));
    out.push_back(static_cast<std::uint8_t>(message.size()));
    out.insert(out.end(), message.begin(), message.end());
  }

 private:
  std::size_t max_message_;
  ByteQueue in_;
  std::size_t taken_ = 0;  // bytes at the front that were given out
  bool broken_ = false;
};

}  // namespace penstock::dns
