// Reads what an inner packet says about the fragment that it carries (RFC 791 section 3.1, RFC 8200 section 4.5), and
// writes the headers of the whole.
//
//   [ IPv4 header | payload ]                                          begin = 8 * fragment offset
//   [ IPv6 header | extensions | fragment header | payload ]
//
// Threads   pure functions, over bytes of strangers that parse_ip() believed. Nothing is read that is not there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

struct FragmentView {
  enum class Kind : std::uint8_t {
    malformed,
    no_fragment,
    atomic,    // IPv6: a fragment header, and all of the datagram behind it (RFC 6946)
    fragment,  // begin < end <= 65535, and of those that are not the last a multiple of 8 bytes
  };
  Kind kind = Kind::malformed;
  std::uint8_t protocol = 0;  // of what is carried, as this fragment says
  bool last = false;
  std::uint32_t identification = 0;
  std::size_t payload = 0;   // where it begins in the packet
  std::size_t named_at = 0;  // IPv6: where the byte is that announces the fragment header
  std::size_t begin = 0;     // of this payload in that of the datagram
  std::size_t end = 0;
};

// Malformed is what reassembly.h says of one fragment alone, and what hides behind broken extension headers.
FragmentView read_fragment(ByteView packet, const IpView& view);

// Bytes of the datagram in front of its payload, by its first fragment.
std::size_t whole_head_size(const FragmentView& first, Family family);
// Writes those to the front of `whole`, which has the size of the datagram, at most 65535.
void write_whole_head(MutableByteView whole, ByteView packet, const FragmentView& first, Family family);

// Makes an ordinary packet of one that is `atomic`.
void remove_fragment_header(Packet& packet, const FragmentView& atomic);

}  // namespace penstock
