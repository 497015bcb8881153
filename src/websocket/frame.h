// WebSocket frames (RFC 6455 section 5), sans-I/O: bytes in a queue to messages and back.
//
//   writing   append_frame(), or write_frame_header() in front of a payload that lies in place already
//   reading   MessageDecoder::next() until it has nothing more, then append what arrived, then next() again
//
// A message travels out as one frame; incoming fragments are put together. No extension is spoken, so the reserved
// bits are always zero. The opening handshake is upgrade.h; when to ping, to answer and to close is the link's affair.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/mask.h"
#include "base/random.h"
#include "base/utf8.h"

namespace penstock::websocket {

enum class Role : std::uint8_t { client, server };

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

// Close codes of RFC 6455 section 7.4.1 by the names that Penstock uses them under (docs/PROTOCOL.md has the table).
inline constexpr std::uint16_t kCloseNormal = 1000;
inline constexpr std::uint16_t kCloseGoingAway = 1001;
inline constexpr std::uint16_t kCloseProtocolError = 1002;
inline constexpr std::uint16_t kCloseUnsupportedData = 1003;
inline constexpr std::uint16_t kCloseNoStatus = 1005;  // never on the wire: the close frame had no code
inline constexpr std::uint16_t kCloseAbnormal = 1006;  // never on the wire: the connection ended without a close frame
inline constexpr std::uint16_t kCloseInvalidPayload = 1007;
inline constexpr std::uint16_t kClosePolicyViolation = 1008;
inline constexpr std::uint16_t kCloseTooBig = 1009;
inline constexpr std::uint16_t kCloseInternalError = 1011;
inline constexpr std::uint16_t kCloseTryAgainLater = 1013;

// Whether a peer may send `code` in a close frame (section 7.4.2 and the IANA registry).
bool is_sendable_close_code(std::uint16_t code);

// Section 5.5: the largest payload of close, ping and pong.
inline constexpr std::size_t kMaxControlPayload = 125;
inline constexpr std::size_t kMaxFrameHeader = 14;

// 2, 4 or 10 bytes, and 4 more for a client's key.
std::size_t frame_header_size(Role role, std::size_t payload_size);
// Writes the header of one final frame at `at` (room for frame_header_size()) and returns its size. `mask_key` is the
// key as a big-endian number and means nothing for a server. A client masks the payload itself (base/mask.h).
std::size_t write_frame_header(std::uint8_t* at, Role role, Opcode opcode, std::size_t payload_size,
                               std::uint32_t mask_key);

// Fresh masking keys, drawn many at a time: asking the system's generator costs more than masking a small frame does.
class MaskKeys {
 public:
  std::uint32_t next(Random& random) {
    if (left_ == 0) {
      random.fill({reinterpret_cast<std::uint8_t*>(keys_.data()), sizeof keys_});
      left_ = keys_.size();
    }
    // A key that was used is known to the peer; one to come must not be.
    return keys_[--left_];
  }

 private:
  std::array<std::uint32_t, 32> keys_{};
  std::size_t left_ = 0;
};

// Appends one final frame. A client masks with a fresh key from `random` (sections 5.1, 5.3). Control frames: at most
// kMaxControlPayload.
void append_frame(ByteQueue& out, Role role, Opcode opcode, ByteView payload, Random& random);
// A close frame; `reason` is cut to fit, on a character's border. kCloseNoStatus makes an empty one.
void append_close(ByteQueue& out, Role role, std::uint16_t code, std::string_view reason, Random& random);

struct Message {
  Opcode kind = Opcode::binary;  // text, binary, ping, pong or close
  // For close: the reason, without the code. Of a binary message it may still be masked.
  MutableByteView payload;
  std::uint32_t mask_key = 0;
  std::uint16_t close_code = 0;  // for close: kCloseNoStatus where there was none

  MaskedView masked() const { return {payload, mask_key}; }
  // In place, where that was left undone.
  MutableByteView unmask();
};

// How the peer broke RFC 6455, and the code to close the link with: 1002, 1007 or 1009.
struct Violation {
  std::uint16_t close_code = 0;
  std::string reason;  // for the close frame and the log
};

// Takes frames apart into messages.
//
//   OPEN --close message--> DEAD        DEAD: next() returns nothing more, and consumes nothing
//   OPEN --violation------> DEAD
//
// Memory      a data message of one frame stays where it lies in `in`: no copy. Text is unmasked there, while it
//             arrives; a binary message is left masked for its reader to unmask. Fragments are collected here,
//             unmasked, at most max_message bytes, and the memory is given back after the message. A frame whose header
//             announces more than may follow is refused before its payload is waited for.
// Lifetime    a Message's payload is a view, valid until the next call of next() or the next append to `in`: call
//             next() until it returns nothing, and only then append. The frame it lies in is consumed by that next().
// Text        is checked as UTF-8 while it arrives, so that the first impossible byte ends it.
// Threads     one. The same `in` on every call.
class MessageDecoder {
 public:
  // `max_message`: the largest data message, in bytes of payload.
  MessageDecoder(Role own_role, std::size_t max_message) : own_role_(own_role), max_message_(max_message) {}

  // Counts from the next frame header on.
  void set_max_message(std::size_t max_message) { max_message_ = max_message; }

  std::expected<std::optional<Message>, Violation> next(ByteQueue& in);

  // A violation or a close message ended it.
  bool dead() const { return dead_; }

 private:
  struct Header;
  std::expected<std::optional<Header>, Violation> read_header(ByteView in) const;
  std::expected<std::optional<Message>, Violation> read_frame(ByteQueue& in);
  std::expected<std::optional<Message>, Violation> take_close(MutableByteView payload);

  Role own_role_;
  std::size_t max_message_;
  bool dead_ = false;
  // Bytes at the front of `in` that the message returned last still lies in.
  std::size_t returned_ = 0;
  // Bytes of the text at the front of `in` that are unmasked and checked already.
  std::size_t unmasked_ = 0;
  // The message that fragments are being collected for; continuation: none.
  Opcode fragmented_ = Opcode::continuation;
  bool fragments_returned_ = false;
  ByteQueue fragments_;
  Utf8Validator utf8_;
};

}  // namespace penstock::websocket
