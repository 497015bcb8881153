#include "ingress/websocket/proxy_header.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>

namespace penstock::ingress {
namespace {

constexpr std::string_view kLineStart = "PROXY ";
constexpr std::string_view kSignature{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr std::size_t kFixedSize = 16;  // of v2: all before addresses and TLVs
constexpr std::size_t kTlvHead = 3;
constexpr std::uint8_t kTypeCrc32c = 0x03;

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorCode::protocol_error, "malformed PROXY header: " + std::string(what));
}

// Whether `bytes` begin with `start`, as far as they go; none are no answer yet.
bool may_begin_with(ByteView bytes, std::string_view start) {
  const std::size_t size = std::min(bytes.size(), start.size());
  return as_text(bytes.first(size)) == start.substr(0, size);
}

// ---- version 1 ----

// The text up to the next space, which is taken away too.
std::string_view take_word(std::string_view& rest) {
  const std::size_t space = std::min(rest.find(' '), rest.size());
  const std::string_view word = rest.substr(0, space);
  rest.remove_prefix(std::min(space + 1, rest.size()));
  return word;
}

std::optional<std::uint16_t> parse_port(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  const bool leading_zero = digits.size() > 1 && digits[0] == '0';
  if (error != std::errc{} || end != digits.data() + digits.size() || leading_zero) return std::nullopt;
  return port;
}

// `line` without its CR LF. Section 2.1.
Result<ProxyHeader> parse_line(std::string_view line) {
  std::string_view rest = line.substr(kLineStart.size());
  const bool more_than_protocol = rest.find(' ') != std::string_view::npos;
  const std::string_view protocol = take_word(rest);
  if (protocol == "UNKNOWN") return ProxyHeader{};  // whatever follows is to be ignored
  if (protocol != "TCP4" && protocol != "TCP6") return malformed("its protocol is none of TCP4, TCP6, UNKNOWN");
  if (!more_than_protocol || std::ranges::count(rest, ' ') != 3) return malformed("not two addresses and two ports");

  const Family family = protocol == "TCP4" ? Family::ipv4 : Family::ipv6;
  const auto client = IpAddress::parse(take_word(rest));
  const auto here = IpAddress::parse(take_word(rest));
  const auto client_port = parse_port(take_word(rest));
  const auto here_port = parse_port(rest);
  if (!client || !here || client->family() != family || here->family() != family) {
    return malformed("an address that is none of its protocol");
  }
  if (!client_port || !here_port) return malformed("a port that is not 0 to 65535");
  return ProxyHeader{Endpoint{client->unmapped(), *client_port}};
}

// ---- version 2 ----

// The CRC of RFC 4960 appendix B over the header, with the checksum's own four bytes taken as zero.
std::uint32_t crc32c(ByteView header, std::size_t checksum_at) {
  constexpr std::uint32_t kPolynomial = 0x82F63B78;  // reflected
  std::uint32_t crc = 0xFFFFFFFF;
  for (std::size_t i = 0; i < header.size(); ++i) {
    const bool own = i >= checksum_at && i < checksum_at + 4;
    crc ^= own ? 0U : header[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? kPolynomial : 0);
  }
  return ~crc;
}

// Section 2.2.1: type, length and value, one after the other to the very end.
Result<void> check_tlvs(ByteView header, std::size_t at) {
  while (at < header.size()) {
    if (header.size() - at < kTlvHead) return malformed("bytes behind the last TLV");
    const std::size_t length = load_be16(&header[at + 1]);
    const std::size_t value = at + kTlvHead;
    if (header.size() - value < length) return malformed("a TLV that reaches beyond the end");
    if (header[at] == kTypeCrc32c) {
      if (length != 4) return malformed("a checksum that is none");
      if (load_be32(&header[value]) != crc32c(header, value)) return malformed("the checksum does not fit");
    }
    at = value + length;
  }
  return {};
}

Endpoint endpoint_at(ByteView header, std::size_t address_size, std::size_t port_at) {
  return {IpAddress::from_bytes(header.subspan(kFixedSize, address_size)).unmapped(), load_be16(&header[port_at])};
}

// `header` is whole. Section 2.2.
Result<ProxyHeader> parse_binary(ByteView header) {
  constexpr std::uint8_t kLocal = 0x20;
  constexpr std::uint8_t kProxy = 0x21;
  const std::uint8_t command = header[12];
  if (command >> 4 != 2) return malformed("its version is neither 1 nor 2");
  if (command == kLocal) return ProxyHeader{};  // whatever follows is to be discarded, its family too
  if (command != kProxy) return malformed("an unknown command");

  // Family and transport in one byte; no others may be sent.
  struct Kind {
    std::uint8_t code;
    std::size_t address_size;  // of one address
    std::size_t size;          // of both, with ports
    bool names_client;
  };
  static constexpr std::array<Kind, 6> kKinds{{{0x11, 4, 12, true},
                                               {0x12, 4, 12, false},
                                               {0x21, 16, 36, true},
                                               {0x22, 16, 36, false},
                                               {0x31, 108, 216, false},
                                               {0x32, 108, 216, false}}};
  const std::uint8_t code = header[13];
  if (code == 0) return ProxyHeader{};  // UNSPEC: as LOCAL
  const auto* const kind = std::ranges::find(kKinds, code, &Kind::code);
  if (kind == kKinds.end()) return malformed("an unknown address family or transport");
  if (header.size() < kFixedSize + kind->size) return malformed("too short for its addresses");
  PENSTOCK_TRY_VOID(check_tlvs(header, kFixedSize + kind->size));
  if (!kind->names_client) return ProxyHeader{};
  return ProxyHeader{endpoint_at(header, kind->address_size, kFixedSize + 2 * kind->address_size)};
}

}  // namespace

Opening opening_of(ByteView said) {
  for (const std::string_view start : {kLineStart, kSignature}) {
    if (may_begin_with(said, start)) return said.size() < start.size() ? Opening::undecided : Opening::proxy_header;
  }
  return Opening::something_else;
}

Result<ProxyHeaderParser::Progress> ProxyHeaderParser::next(ByteQueue& in) {
  if (refused_) return std::unexpected(*refused_);
  if (done_) return Progress::done;
  const ByteView bytes = in.view();
  Result<Progress> progress = Progress::more;
  if (may_begin_with(bytes, kLineStart)) {
    if (bytes.size() >= kLineStart.size()) progress = read_line(in);
  } else if (may_begin_with(bytes, kSignature)) {
    if (bytes.size() >= kSignature.size()) progress = read_binary(in);
  } else {
    done_ = true;
    return Progress::done;
  }
  if (!progress) refused_ = progress.error();
  return progress;
}

Result<ProxyHeaderParser::Progress> ProxyHeaderParser::read_line(ByteQueue& in) {
  const std::string_view text = as_text(in.view().first(std::min(in.size(), kMaxLine)));
  const std::size_t end = text.find_first_of("\r\n");
  if (end == std::string_view::npos || (text[end] == '\r' && end + 1 == text.size())) {
    if (text.size() == kMaxLine) return malformed("no end of line within 107 bytes");
    return Progress::more;
  }
  if (text.substr(end, 2) != "\r\n") return malformed("its line does not end in CR LF");
  PENSTOCK_TRY(ProxyHeader header, parse_line(text.substr(0, end)));
  return finish(in, end + 2, header);
}

Result<ProxyHeaderParser::Progress> ProxyHeaderParser::read_binary(ByteQueue& in) {
  if (in.size() < kFixedSize) return Progress::more;
  const std::size_t length = load_be16(&in.view()[14]);
  if (length > kMaxLength) return malformed("longer than " + std::to_string(kMaxLength) + " bytes");
  if (in.size() < kFixedSize + length) return Progress::more;
  PENSTOCK_TRY(ProxyHeader header, parse_binary(in.view().first(kFixedSize + length)));
  return finish(in, kFixedSize + length, header);
}

ProxyHeaderParser::Progress ProxyHeaderParser::finish(ByteQueue& in, std::size_t size, ProxyHeader header) {
  in.consume(size);
  header_ = header;
  done_ = true;
  return Progress::done;
}

}  // namespace penstock::ingress
