// The vocabulary of the conformance tables: what a peer sends, what must be heard of it, and what goes back.
//
//   {"PingBetweenFragments",
//    {sent::first_text("a"), sent::ping("p"), sent::last("b")},
//    {heard::ping("p"), heard::text("ab")},
//    kStaysOpen},
//
// A case runs for both receivers, the server and the client, unless it names one; its frames are masked accordingly. It
// is delivered in one read, frame by frame, byte by byte and in random pieces, to the decoder alone and to a whole
// Channel, and everything must be the same each time (websocket_conformance_test.cc).
//
// Frames are put together here by code of its own, so that an error of our encoder cannot hide one of our decoder.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "websocket/frame.h"

namespace penstock::conformance {

using websocket::Opcode;
using websocket::Role;
using Bytes = std::vector<std::uint8_t>;

// A frame as it is sent, lawful or not.
struct Frame {
  enum class Length : std::uint8_t { shortest, in_16_bits, in_64_bits };
  enum class Mask : std::uint8_t { as_demanded, always, never };
  static constexpr std::uint64_t kHonest = ~std::uint64_t{0};
  static constexpr std::size_t kWhole = ~std::size_t{0};

  std::uint8_t first_byte = 0x82;
  std::string payload;
  Length length = Length::shortest;
  Mask mask = Mask::as_demanded;
  std::uint32_t mask_key = 0xA1B2C3D4;
  std::uint64_t announced = kHonest;  // the length that the header says
  std::size_t arriving = kWhole;      // bytes of the payload that arrive before the wire falls silent

  Frame with_length(Length how) const {
    return changed([&](Frame& frame) { frame.length = how; });
  }
  Frame with_mask(Mask how) const {
    return changed([&](Frame& frame) { frame.mask = how; });
  }
  Frame with_key(std::uint32_t key) const {
    return changed([&](Frame& frame) { frame.mask_key = key; });
  }
  // The header announces `size`, whatever the payload is.
  Frame announcing(std::uint64_t size) const {
    return changed([&](Frame& frame) { frame.announced = size; });
  }
  // The header and so many bytes of the payload; the rest never comes.
  Frame cut_after(std::size_t size) const {
    return changed([&](Frame& frame) { frame.arriving = size; });
  }

  Bytes encoded(Role sender) const;

 private:
  template <typename Change>
  Frame changed(Change change) const {
    Frame frame = *this;
    change(frame);
    return frame;
  }
};

namespace sent {
// Any first byte: final bit, reserved bits, opcode.
inline Frame frame(int first_byte, std::string payload = "") {
  return {.first_byte = static_cast<std::uint8_t>(first_byte), .payload = std::move(payload)};
}
inline Frame text(std::string payload) { return frame(0x81, std::move(payload)); }
inline Frame binary(std::string payload) { return frame(0x82, std::move(payload)); }
inline Frame first_text(std::string payload) { return frame(0x01, std::move(payload)); }
inline Frame first_binary(std::string payload) { return frame(0x02, std::move(payload)); }
inline Frame more(std::string payload) { return frame(0x00, std::move(payload)); }
inline Frame last(std::string payload) { return frame(0x80, std::move(payload)); }
inline Frame ping(std::string payload = "") { return frame(0x89, std::move(payload)); }
inline Frame pong(std::string payload = "") { return frame(0x8A, std::move(payload)); }
inline Frame empty_close() { return frame(0x88); }
inline Frame close(int code, const std::string& reason = "") {
  return frame(0x88, std::string{static_cast<char>(code >> 8), static_cast<char>(code)} + reason);
}
}  // namespace sent

// A message that came out of the decoder.
struct Event {
  Opcode kind = Opcode::binary;
  std::string payload;
  std::uint16_t close_code = 0;
  bool operator==(const Event&) const = default;
};

namespace heard {
inline Event text(std::string payload) { return {Opcode::text, std::move(payload)}; }
inline Event binary(std::string payload) { return {Opcode::binary, std::move(payload)}; }
inline Event ping(std::string payload = "") { return {Opcode::ping, std::move(payload)}; }
inline Event pong(std::string payload = "") { return {Opcode::pong, std::move(payload)}; }
inline Event close(std::uint16_t code, std::string reason = "") { return {Opcode::close, std::move(reason), code}; }
}  // namespace heard

// The code of the close frame that goes back; these two where there is none.
inline constexpr std::uint16_t kStaysOpen = 0;  // and the next message is heard
inline constexpr std::uint16_t kWaits = 1;      // open, but nothing can be heard before more of the last frame comes

enum class Receiver : std::uint8_t { both, server, client };

struct Case {
  std::string name;  // CamelCase: it becomes the name of a test
  std::vector<Frame> wire;
  std::vector<Event> heard;
  // Where the peer broke the rules (it is heard up to there) or closed: the code it is answered with.
  std::uint16_t answer = kStaysOpen;
  Receiver receiver = Receiver::both;
  std::size_t max_message = std::size_t{1} << 20;
  // Bytes a read; 0: in every way there is.
  std::size_t piece = 0;
};

struct Section {
  std::string name;  // "Section5_4_Fragmentation"
  std::vector<Case> cases;
};

Section framing_section();        // 5.2: lengths, reserved bits, opcodes
Section masking_section();        // 5.1, 5.3
Section fragmentation_section();  // 5.4
Section control_section();        // 5.5: limits of control frames, ping, pong
Section close_section();          // 5.5.1, 7.4
Section utf8_section();           // 5.6, 8.1
Section limits_section();         // 10.4: messages that are too big
Section delivery_section();       // no section: TCP may cut anywhere

// `count` bytes that look like nothing in particular, the same every time.
std::string noise(std::size_t count);
// `count` bytes of text, characters of one to four bytes, whole at the end.
std::string prose(std::size_t count);

}  // namespace penstock::conformance
