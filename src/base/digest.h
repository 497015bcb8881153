// SHA-256, HMAC-SHA-256, SHA-1, comparison in constant time, and the texts that digests and keys are written as.
//
// Decoding is strict, so that each value has one text: no white space, no missing or surplus padding, no stray bits in
// the last character.
//
// Threads     pure functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace penstock {

using Digest160 = std::array<std::uint8_t, 20>;
using Digest256 = std::array<std::uint8_t, 32>;

Digest256 sha256(ByteView data);

// For the WebSocket upgrade, which wants it (RFC 6455 section 1.3). It has been broken: nothing that must hold may rest
// on it.
Digest160 sha1(ByteView data);

// RFC 2104. A key of any length, 32 bytes being right.
Digest256 hmac_sha256(ByteView key, ByteView data);

// Takes as long for equal inputs as for different ones of that length. Lengths are no secret.
bool constant_time_equal(ByteView left, ByteView right);

// Lower case, two characters a byte. Reading takes both cases. Refusal: invalid_argument.
std::string to_hex(ByteView data);
Result<std::vector<std::uint8_t>> from_hex(std::string_view text);

// RFC 4648 section 4, with padding. Refusal: invalid_argument.
std::string base64_encode(ByteView data);
Result<std::vector<std::uint8_t>> base64_decode(std::string_view text);

// RFC 4648 section 5, without padding: for URLs, cookies and tickets. Refusal: invalid_argument.
std::string base64url_encode(ByteView data);
Result<std::vector<std::uint8_t>> base64url_decode(std::string_view text);

}  // namespace penstock
