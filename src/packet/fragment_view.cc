#include "packet/fragment_view.h"

#include <algorithm>

#include "packet/checksum.h"
#include "packet/extension_header.h"

namespace penstock {
namespace {

using extension::kFragment;
using extension::kFragmentHeader;

constexpr std::size_t kHeader4 = 20;
constexpr std::size_t kHeader6 = 40;

struct Header {
  std::uint8_t protocol = 0;  // of what stands at `at`
  std::size_t at = 0;
  std::size_t named_at = 0;  // the byte that says so
  int extensions = 0;        // that were passed
};

// Steps over extension headers, up to a fragment header or what is none. False where one is cut short, or there are
// more than honest packets have.
bool walk(ByteView packet, Header& header) {
  while (header.extensions <= extension::kMost) {
    const ByteView rest = packet.subspan(header.at);
    const std::size_t size = header.protocol == kFragment ? 0 : extension::size_of(header.protocol, rest);
    if (size == 0) return true;
    if (size > rest.size()) return false;
    header = {.protocol = rest[0], .at = header.at + size, .named_at = header.at, .extensions = header.extensions + 1};
  }
  return false;
}

// RFC 7112 section 5, RFC 1858 section 3. `packet` has the first fragment, or all; those in front of its fragment
// header count too, or the whole would have more than anybody reads.
bool has_all_headers(ByteView packet, const FragmentView& piece, Family family, int extensions) {
  Header upper{.protocol = piece.protocol, .at = piece.payload, .extensions = extensions};
  if (family == Family::ipv6 && (!walk(packet, upper) || upper.protocol == kFragment)) return false;
  const ByteView rest = packet.subspan(upper.at);
  switch (upper.protocol) {
    case kProtocolTcp: return rest.size() >= 20 && rest.size() >= (rest[12] >> 4) * 4U;
    case kProtocolUdp:
    case kProtocolIcmp:
    case kProtocolIcmp6: return rest.size() >= 8;
    default: return true;
  }
}

}  // namespace

FragmentView read_fragment(ByteView packet, const IpView& view) {
  FragmentView piece;
  std::uint16_t field = 0;  // the offset in its upper 13 bits
  bool more = false;
  int extensions = 0;
  if (view.family == Family::ipv4) {
    // RFC 791 section 3.1.
    const std::uint16_t flags = load_be16(&packet[6]);
    more = (flags & 0x2000) != 0;
    field = static_cast<std::uint16_t>(flags << 3);
    piece.identification = load_be16(&packet[4]);
    piece.protocol = view.protocol;
    piece.payload = view.header_size;
    if (!more && field == 0) {
      piece.kind = FragmentView::Kind::no_fragment;
      return piece;
    }
  } else {
    Header header{.protocol = view.protocol, .at = kHeader6, .named_at = 6};
    if (!walk(packet, header)) return piece;
    if (header.protocol != kFragment) {
      piece.kind = FragmentView::Kind::no_fragment;
      return piece;
    }
    // RFC 8200 section 4.5.
    const ByteView rest = packet.subspan(header.at);
    if (rest.size() < kFragmentHeader) return piece;
    field = static_cast<std::uint16_t>(load_be16(&rest[2]) & 0xFFF8);
    more = (rest[3] & 1) != 0;
    piece.identification = load_be32(&rest[4]);
    piece.protocol = rest[0];
    piece.named_at = header.named_at;
    extensions = header.extensions;
    piece.payload = header.at + kFragmentHeader;
  }
  const std::size_t size = packet.size() - piece.payload;
  piece.last = !more;
  piece.begin = field;
  piece.end = piece.begin + size;
  if (piece.begin == 0 && !has_all_headers(packet, piece, view.family, extensions)) return piece;
  if (piece.begin == 0 && piece.last) {
    piece.kind = FragmentView::Kind::atomic;
    return piece;
  }
  const std::size_t least_in_front = view.family == Family::ipv4 ? kHeader4 : kHeader6;
  if (size == 0 || (more && size % 8 != 0) || least_in_front + piece.end > Packet::kMaxSize) return piece;
  piece.kind = FragmentView::Kind::fragment;
  return piece;
}

std::size_t whole_head_size(const FragmentView& first, Family family) {
  return family == Family::ipv4 ? first.payload : first.payload - kFragmentHeader;
}

void write_whole_head(MutableByteView whole, ByteView packet, const FragmentView& first, Family family) {
  const MutableByteView head = whole.first(whole_head_size(first, family));
  std::ranges::copy(packet.first(head.size()), head.begin());
  if (family == Family::ipv4) {
    store_be16(&head[2], static_cast<std::uint16_t>(whole.size()));
    store_be16(&head[6], 0);
    store_be16(&head[10], 0);
    store_be16(&head[10], internet_checksum(head));
  } else {
    store_be16(&head[4], static_cast<std::uint16_t>(whole.size() - kHeader6));
    head[first.named_at] = first.protocol;
  }
}

void remove_fragment_header(Packet& packet, const FragmentView& atomic) {
  const MutableByteView bytes = packet.mutable_bytes();
  std::ranges::copy(bytes.subspan(atomic.payload), bytes.subspan(atomic.payload - kFragmentHeader).begin());
  bytes[atomic.named_at] = atomic.protocol;
  store_be16(&bytes[4], static_cast<std::uint16_t>(bytes.size() - kFragmentHeader - kHeader6));
  packet.truncate(bytes.size() - kFragmentHeader);
}

}  // namespace penstock
