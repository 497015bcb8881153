// The PROXY protocol, versions 1 and 2: a proxy in front says first whom it speaks for.
// https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
//
//   v1   PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n             one line of at most 107 bytes
//   v2   signature (12) | version, command | family, transport | length | addresses | TLVs
//
//   READING --the header is whole, or the bytes begin otherwise--> DONE
//          \--it is malformed--> REFUSED (every later call refuses too)
//
// The header is optional here, so that one listener serves with and without it: whatever does not begin like one (TLS,
// a plain HTTP request) is left in the queue untouched. Only trusted peers may be asked at all, which is the caller's
// to know; of anybody else opening_of() tells whether it tries.
//
// Bounds      waits for at most 107 bytes (v1) or 16 + kMaxLength (v2) and keeps nothing but the result.
// Threads     one.
// Not here    Forwarded and X-Forwarded-For (websocket/forwarded.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock::ingress {

struct ProxyHeader {
  // The client as the proxy saw it, IPv4 in place of IPv4-mapped IPv6. None: LOCAL, UNKNOWN, UNSPEC, a Unix socket, or
  // a datagram, and then the proxy speaks for itself (a health check).
  std::optional<Endpoint> client;
};

// What bytes may be the beginning of; none at all may be of a header.
enum class Opening : std::uint8_t { undecided, proxy_header, something_else };
Opening opening_of(ByteView said);

class ProxyHeaderParser {
 public:
  static constexpr std::size_t kMaxLine = 107;     // of v1, with its CR LF
  static constexpr std::size_t kMaxLength = 4096;  // of v2: addresses and TLVs

  enum class Progress : std::uint8_t { more, done };

  // Consumes the header once it is whole, and nothing before. Refusal: protocol_error, with what is wrong; also where a
  // checksum (PP2_TYPE_CRC32C) is there and does not fit.
  Result<Progress> next(ByteQueue& in);
  // After done: what was read, or nothing where there was no header.
  const std::optional<ProxyHeader>& header() const { return header_; }

 private:
  Result<Progress> read_line(ByteQueue& in);
  Result<Progress> read_binary(ByteQueue& in);
  Progress finish(ByteQueue& in, std::size_t size, ProxyHeader header);

  std::optional<ProxyHeader> header_;
  std::optional<Error> refused_;
  bool done_ = false;
};

}  // namespace penstock::ingress
