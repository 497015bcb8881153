// MessageDecoder, both roles: never more memory than its limit, the same messages however the bytes are cut, and the
// same as a naive decoder makes of them. And what append_frame() writes is read again.
//
// Input: a byte for the role, then pieces.h.
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "pieces.h"
#include "websocket/frame.h"

namespace {

using namespace penstock;
using namespace penstock::websocket;

constexpr std::size_t kLimit = 4096;

struct Event {
  int kind = -1;  // -1: a violation
  std::string payload;
  int close_code = 0;
  bool operator==(const Event&) const = default;
};
using Heard = std::vector<Event>;

void drain(MessageDecoder& decoder, ByteQueue& in, Heard& heard) {
  while (true) {
    auto message = decoder.next(in);
    if (!message) {
      heard.push_back({-1, "", message.error().close_code});
      PENSTOCK_ASSERT(decoder.dead() && !message.error().reason.empty());
      return;
    }
    if (!*message) break;
    PENSTOCK_ASSERT((*message)->payload.size() <= kLimit);
    heard.push_back(
        {static_cast<int>((*message)->kind), std::string(as_text((*message)->unmask())), (*message)->close_code});
  }
  PENSTOCK_ASSERT(decoder.dead() || in.size() <= kLimit + kMaxFrameHeader);
}

Heard decode(Role role, fuzz::Pieces pieces, bool at_once) {
  MessageDecoder decoder(role, kLimit);
  ByteQueue in;
  Heard heard;
  while (!pieces.done() && !decoder.dead()) {
    in.append(at_once ? pieces.whole() : pieces.next());
    drain(decoder, in, heard);
    if (at_once) break;
  }
  return heard;
}

// Whether `text` is UTF-8 as far as it goes; `ends`: and ends with a whole character. By value, not by byte ranges.
bool is_text(const std::string& text, bool ends) {
  for (std::size_t at = 0; at < text.size();) {
    const unsigned first = static_cast<std::uint8_t>(text[at]);
    std::size_t length = 1;
    if (first >= 0xC0) length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if ((first >= 0x80 && first < 0xC0) || first >= 0xF8) return false;
    // What is missing could be anything from the least to the greatest continuation byte.
    unsigned least = length == 1 ? first : first & (0x7FU >> length);
    unsigned greatest = least;
    for (std::size_t i = 1; i < length; ++i) {
      const bool here = at + i < text.size();
      if (!here && ends) return false;
      const unsigned byte = here ? static_cast<std::uint8_t>(text[at + i]) : 0x80;
      if ((byte & 0xC0) != 0x80) return false;
      least = least << 6 | (byte & 0x3F);
      greatest = greatest << 6 | (here ? byte & 0x3F : 0x3F);
    }
    constexpr unsigned kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    least = std::max(least, kLeast[length]);
    greatest = std::min(greatest, 0x10FFFFU);
    if (least > greatest || (least >= 0xD800 && greatest <= 0xDFFF)) return false;
    at += length;
  }
  return true;
}

bool may_close_with(int code) {
  const bool ours = code >= 3000 && code <= 4999;
  return ours || (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006);
}

// RFC 6455 in the order in which its bytes arrive, over everything at once: copies, shifts, and no state between frames
// but the message under way.
Heard decode_naively(Role role, ByteView wire) {
  Heard heard;
  std::optional<Event> open;  // the fragmented message
  const auto refuse = [&](int code) {
    heard.push_back({-1, "", code});
    return heard;
  };
  for (std::size_t at = 0; at < wire.size();) {
    const auto left = [&](std::size_t from) { return wire.size() - at - from; };
    const std::uint8_t first = wire[at];
    const int opcode = first & 15;
    const bool final = first >= 0x80;
    const bool control = opcode >= 8;
    if ((first >> 4 & 7) != 0 || (opcode > 2 && opcode < 8) || opcode > 10) return refuse(1002);
    if (control ? !final : open.has_value() != (opcode == 0)) return refuse(1002);
    if (left(0) < 2) break;
    const bool masked = wire[at + 1] >= 0x80;
    std::uint64_t size = wire[at + 1] & 0x7F;
    if (masked != (role == Role::server) || (control && size > 125)) return refuse(1002);
    std::size_t header = 2;
    if (size >= 126) {
      const std::size_t width = size == 126 ? 2 : 8;
      if (left(header) < width) break;
      size = 0;
      for (std::size_t i = 0; i < width; ++i) size = size << 8 | wire[at + header + i];
      header += width;
      if (size >> 63 != 0 || size < (width == 2 ? 126U : 65536U)) return refuse(1002);
    }
    if (!control && size + (open ? open->payload.size() : 0) > kLimit) return refuse(1009);
    std::uint8_t key[4] = {};
    if (masked) {
      if (left(header) < 4) break;
      for (std::uint8_t& byte : key) byte = wire[at + header++];
    }
    const bool whole = left(header) >= size;
    std::string payload;
    for (std::size_t i = 0; i < size && i < left(header); ++i) {
      payload += static_cast<char>(wire[at + header + i] ^ key[i % 4]);
    }

    if (control) {
      if (!whole) break;
      if (opcode != 8) {
        heard.push_back({opcode, payload, 0});
      } else {
        if (payload.empty()) return heard.push_back({8, "", 1005}), heard;
        if (payload.size() == 1) return refuse(1002);
        const int code = static_cast<std::uint8_t>(payload[0]) << 8 | static_cast<std::uint8_t>(payload[1]);
        if (!may_close_with(code)) return refuse(1002);
        if (!is_text(payload.substr(2), true)) return refuse(1007);
        return heard.push_back({8, payload.substr(2), code}), heard;
      }
    } else {
      Event message = open.value_or(Event{opcode, "", 0});
      message.payload += payload;
      if (message.kind == 1 && !is_text(message.payload, whole && final)) return refuse(1007);
      if (!whole) break;
      open = message;
      if (final) {
        heard.push_back(message);
        open.reset();
      }
    }
    at += header + size;
  }
  return heard;
}

// The input once more, as the payloads of lawful messages: what is appended is heard.
void check_round_trip(Role sender, fuzz::Pieces pieces) {
  SeededRandom random(1);
  ByteQueue wire;
  Heard sent;
  while (!pieces.done() && sent.size() < 64) {
    const ByteView piece = pieces.next();
    const bool ping = piece.size() <= kMaxControlPayload && piece[0] % 4 == 0;
    append_frame(wire, sender, ping ? Opcode::ping : Opcode::binary, piece.first(std::min(piece.size(), kLimit)),
                 random);
    sent.push_back({ping ? 9 : 2, std::string(as_text(piece.first(std::min(piece.size(), kLimit)))), 0});
  }
  append_close(wire, sender, kCloseGoingAway, as_text(pieces.whole()), random);
  MessageDecoder decoder(sender == Role::client ? Role::server : Role::client, kLimit);
  Heard heard;
  drain(decoder, wire, heard);
  PENSTOCK_ASSERT(!heard.empty());
  const Event last = heard.back();
  heard.pop_back();
  PENSTOCK_ASSERT(heard == sent);
  // A reason that is UTF-8 stays so when it is cut to fit.
  const bool text = is_utf8(pieces.whole());
  PENSTOCK_ASSERT(last.close_code == (last.kind == 8 ? kCloseGoingAway : kCloseInvalidPayload));
  PENSTOCK_ASSERT(!text || (last.kind == 8 && as_text(pieces.whole()).starts_with(last.payload)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Role role = (data[0] & 1) != 0 ? Role::client : Role::server;
  const fuzz::Pieces pieces(ByteView(data, size).subspan(1));
  const Heard heard = decode(role, pieces, true);
  PENSTOCK_ASSERT(decode(role, pieces, false) == heard);
  PENSTOCK_ASSERT(decode_naively(role, pieces.whole()) == heard);
  check_round_trip(role, pieces);
  return 0;
}
