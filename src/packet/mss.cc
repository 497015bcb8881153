#include "packet/mss.h"

#include <optional>

#include "packet/checksum.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kTcpChecksum = 16;

// RFC 9293 section 3.1.
constexpr std::uint8_t kEndOfOptions = 0;
constexpr std::uint8_t kNoOperation = 1;
constexpr std::uint8_t kMss = 2;
constexpr std::size_t kMssLength = 4;

// Where in `options` the value of the MSS option stands.
std::optional<std::size_t> find_mss(ByteView options) {
  for (std::size_t at = 0; at < options.size() && options[at] != kEndOfOptions;) {
    if (options[at] == kNoOperation) {
      ++at;
      continue;
    }
    if (options.size() - at < 2) return std::nullopt;
    const std::size_t length = options[at + 1];
    if (length < 2 || length > options.size() - at) return std::nullopt;
    if (options[at] == kMss) return length == kMssLength ? std::optional(at + 2) : std::nullopt;
    at += length;
  }
  return std::nullopt;
}

std::uint16_t swapped(std::uint16_t word) { return __builtin_bswap16(word); }

}  // namespace

bool clamp_mss(Packet& packet, std::size_t mtu) {
  const auto view = parse_ip(packet.bytes());
  if (!view) return false;
  const auto parts = transport_of(packet.bytes(), *view);
  if (!parts || parts->protocol != kProtocolTcp) return false;

  const MutableByteView tcp = packet.mutable_bytes().subspan(parts->transport);
  const std::size_t header = parts->payload - parts->transport;
  const auto place = find_mss(tcp.first(header).subspan(kTcpHeader));
  if (!place) return false;
  // RFC 6691 section 2: what options cost is for each sender to subtract.
  const std::size_t headers = (view->family == Family::ipv4 ? 20U : 40U) + kTcpHeader;
  std::uint8_t* value = &tcp[kTcpHeader + *place];
  const std::uint16_t said = load_be16(value);
  if (mtu <= headers || said <= mtu - headers) return false;
  const auto lowered = static_cast<std::uint16_t>(mtu - headers);
  store_be16(value, lowered);

  // A partial checksum covers the pseudo header alone.
  if (packet.offload.needs_checksum) return true;
  std::uint8_t* checksum = &tcp[kTcpChecksum];
  const bool across_two_words = *place % 2 != 0;
  store_be16(checksum, across_two_words ? checksum_update(load_be16(checksum), swapped(said), swapped(lowered))
                                        : checksum_update(load_be16(checksum), said, lowered));
  return true;
}

}  // namespace penstock
