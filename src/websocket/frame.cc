#include "websocket/frame.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/result.h"

namespace penstock::websocket {
namespace {

// RFC 6455 section 5.2: the bits of the first two bytes.
constexpr std::uint8_t kFinal = 0x80;
constexpr std::uint8_t kReserved = 0x70;
constexpr std::uint8_t kOpcode = 0x0F;
constexpr std::uint8_t kMasked = 0x80;
constexpr std::uint8_t kLength = 0x7F;
constexpr std::uint8_t kLength16 = 126;
constexpr std::uint8_t kLength64 = 127;

bool is_control(Opcode opcode) { return static_cast<std::uint8_t>(opcode) >= 8; }

bool is_known(std::uint8_t opcode) { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

std::unexpected<Violation> violation(std::uint16_t close_code, std::string reason) {
  return std::unexpected(Violation{close_code, std::move(reason)});
}

}  // namespace

bool is_sendable_close_code(std::uint16_t code) {
  if (code >= 3000) return code <= 4999;
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

std::size_t frame_header_size(Role role, std::size_t payload_size) {
  const std::size_t key = role == Role::client ? 4 : 0;
  if (payload_size < kLength16) return 2 + key;
  return (payload_size <= 0xFFFF ? 4 : 10) + key;
}

std::size_t write_frame_header(std::uint8_t* at, Role role, Opcode opcode, std::size_t payload_size,
                               std::uint32_t mask_key) {
  const std::uint8_t masked = role == Role::client ? kMasked : 0;
  std::size_t size = 2;
  at[0] = static_cast<std::uint8_t>(kFinal | static_cast<std::uint8_t>(opcode));
  if (payload_size < kLength16) {
    at[1] = static_cast<std::uint8_t>(masked | payload_size);
  } else if (payload_size <= 0xFFFF) {
    at[1] = masked | kLength16;
    store_be16(at + 2, static_cast<std::uint16_t>(payload_size));
    size = 4;
  } else {
    at[1] = masked | kLength64;
    store_be64(at + 2, payload_size);
    size = 10;
  }
  if (masked == 0) return size;
  store_be32(at + size, mask_key);
  return size + 4;
}

void append_frame(ByteQueue& out, Role role, Opcode opcode, ByteView payload, Random& random) {
  PENSTOCK_ASSERT(!is_control(opcode) || payload.size() <= kMaxControlPayload);
  const std::uint32_t key = role == Role::client ? random.next32() : 0;
  const std::size_t size = frame_header_size(role, payload.size()) + payload.size();
  const MutableByteView frame = out.prepare(size).first(size);
  const std::size_t header = write_frame_header(frame.data(), role, opcode, payload.size(), key);
  std::uint8_t* const body = frame.data() + header;
  if (role == Role::client) {
    copy_masked(body, payload, key);
  } else {
    std::ranges::copy(payload, body);
  }
  out.commit(size);
}

void append_close(ByteQueue& out, Role role, std::uint16_t code, std::string_view reason, Random& random) {
  if (code == kCloseNoStatus) return append_frame(out, role, Opcode::close, {}, random);
  PENSTOCK_ASSERT(is_sendable_close_code(code));
  std::array<std::uint8_t, kMaxControlPayload> body{};
  std::size_t size = std::min(reason.size(), body.size() - 2);
  // Not through the middle of a character: back to where one starts.
  if (size < reason.size()) {
    while (size > 0 && (static_cast<std::uint8_t>(reason[size]) & 0xC0) == 0x80) --size;
  }
  store_be16(body.data(), code);
  std::ranges::copy(reason.substr(0, size), body.begin() + 2);
  append_frame(out, role, Opcode::close, ByteView(body).first(size + 2), random);
}

struct MessageDecoder::Header {
  Opcode opcode = Opcode::continuation;
  bool final = false;
  std::uint32_t mask_key = 0;
  std::size_t header_size = 0;
  std::size_t payload_size = 0;
};

// Refuses with the first byte that makes the frame impossible; nothing where the header is not whole yet.
std::expected<std::optional<MessageDecoder::Header>, Violation> MessageDecoder::read_header(ByteView in) const {
  if (in.empty()) return std::nullopt;
  if ((in[0] & kReserved) != 0) return violation(kCloseProtocolError, "reserved bits are set");
  if (!is_known(in[0] & kOpcode)) return violation(kCloseProtocolError, "reserved opcode");
  Header header{.opcode = Opcode{static_cast<std::uint8_t>(in[0] & kOpcode)}, .final = (in[0] & kFinal) != 0};
  const bool control = is_control(header.opcode);
  const bool inside = fragmented_ != Opcode::continuation;
  if (control && !header.final) return violation(kCloseProtocolError, "fragmented control frame");
  if (!control && !inside && header.opcode == Opcode::continuation) {
    return violation(kCloseProtocolError, "continuation of nothing");
  }
  if (!control && inside && header.opcode != Opcode::continuation) {
    return violation(kCloseProtocolError, "new message inside a fragmented one");
  }

  if (in.size() < 2) return std::nullopt;
  const bool masked = (in[1] & kMasked) != 0;
  if (masked != (own_role_ == Role::server)) {
    return violation(kCloseProtocolError, masked ? "masked frame from a server" : "unmasked frame from a client");
  }
  const std::uint8_t length = in[1] & kLength;
  if (control && length > kMaxControlPayload) return violation(kCloseProtocolError, "control frame too long");

  // The length must be written in the shortest way (section 5.2).
  std::uint64_t payload_size = length;
  header.header_size = 2;
  if (length == kLength16) {
    header.header_size = 4;
    if (in.size() < header.header_size) return std::nullopt;
    payload_size = load_be16(&in[2]);
    if (payload_size < kLength16) return violation(kCloseProtocolError, "length not in its shortest form");
  } else if (length == kLength64) {
    header.header_size = 10;
    if (in.size() < header.header_size) return std::nullopt;
    payload_size = load_be64(&in[2]);
    if (payload_size >> 63 != 0) return violation(kCloseProtocolError, "length with its highest bit set");
    if (payload_size <= 0xFFFF) return violation(kCloseProtocolError, "length not in its shortest form");
  }
  if (!control && (fragments_.size() > max_message_ || payload_size > max_message_ - fragments_.size())) {
    return violation(kCloseTooBig, "message longer than " + std::to_string(max_message_) + " bytes");
  }
  header.payload_size = static_cast<std::size_t>(payload_size);

  if (masked) {
    if (in.size() < header.header_size + 4) return std::nullopt;
    header.mask_key = load_be32(&in[header.header_size]);
    header.header_size += 4;
  }
  return header;
}

std::expected<std::optional<Message>, Violation> MessageDecoder::next(ByteQueue& in) {
  in.consume(std::exchange(returned_, 0));
  if (std::exchange(fragments_returned_, false)) fragments_.release();
  while (!dead_) {
    const std::size_t before = in.size();
    auto message = read_frame(in);
    if (!message) dead_ = true;
    if (!message || *message) return message;
    if (in.size() == before) break;  // it took no fragment: it waits for more
  }
  return std::nullopt;
}

// The message that the frame at the front of `in` completes; nothing where the frame is not whole, or was a fragment,
// which it then has consumed.
std::expected<std::optional<Message>, Violation> MessageDecoder::read_frame(ByteQueue& in) {
  const auto header = read_header(in.view());
  if (!header) return std::unexpected(header.error());
  if (!*header) return std::nullopt;
  const auto& [opcode, final, mask_key, header_size, payload_size] = **header;
  const std::size_t frame_size = header_size + payload_size;
  const bool whole = in.size() >= frame_size;
  const MutableByteView payload =
      in.mutable_view().subspan(header_size, std::min(in.size() - header_size, payload_size));

  if (is_control(opcode)) {
    if (!whole) return std::nullopt;
    apply_mask(payload, mask_key);
    returned_ = frame_size;
    if (opcode == Opcode::close) return take_close(payload);
    return Message{.kind = opcode, .payload = payload};
  }

  const Opcode kind = opcode == Opcode::continuation ? fragmented_ : opcode;
  if (kind == Opcode::text) {
    const MutableByteView fresh = payload.subspan(std::exchange(unmasked_, payload.size()));
    apply_mask(fresh, mask_key, payload.size() - fresh.size());
    if (!utf8_.feed(fresh)) return violation(kCloseInvalidPayload, "text is not UTF-8");
  }
  if (!whole) return std::nullopt;
  unmasked_ = 0;
  const std::uint32_t key_left = kind == Opcode::text ? 0 : mask_key;
  if (kind == Opcode::text && final && !utf8_.complete()) {
    return violation(kCloseInvalidPayload, "text ends inside a character");
  }

  if (final && opcode != Opcode::continuation) {
    returned_ = frame_size;
    return Message{.kind = kind, .payload = payload, .mask_key = key_left};
  }
  MaskedView(payload, key_left).copy_to(fragments_.prepare(payload.size()).data());
  fragments_.commit(payload.size());
  in.consume(frame_size);
  fragmented_ = final ? Opcode::continuation : kind;
  if (!final) return std::nullopt;
  fragments_returned_ = true;
  return Message{.kind = kind, .payload = fragments_.mutable_view()};
}

MutableByteView Message::unmask() {
  apply_mask(payload, std::exchange(mask_key, 0));
  return payload;
}

// Section 5.5.1: nothing, or a code and a reason.
std::expected<std::optional<Message>, Violation> MessageDecoder::take_close(MutableByteView payload) {
  dead_ = true;
  if (payload.empty()) return Message{.kind = Opcode::close, .payload = payload, .close_code = kCloseNoStatus};
  if (payload.size() == 1) return violation(kCloseProtocolError, "close code cut in half");
  const std::uint16_t code = load_be16(payload.data());
  if (!is_sendable_close_code(code)) return violation(kCloseProtocolError, "close code that nobody may send");
  const MutableByteView reason = payload.subspan(2);
  if (!is_utf8(reason)) return violation(kCloseInvalidPayload, "close reason is not UTF-8");
  return Message{.kind = Opcode::close, .payload = reason, .close_code = code};
}

}  // namespace penstock::websocket
