// Gives a packet another source or destination, as a translator does: the address in the IP header, the port or the
// echo identifier behind it, and every checksum that covers them.
//
// Checksums are updated by what changed (RFC 1624), so one that was wrong stays wrong and is found by whoever receives
// it. One that is partial (packet/super_packet.h) is updated as the uncomplemented sum of the pseudo header that it is.
//
// Threads   pure functions.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock::egress {

// What a translator maps: each has ports of its own.
enum class Transport : std::uint8_t { udp, tcp, echo };

// One end of a conversation; of `echo` the port is the identifier (RFC 5508 section 3.1).
struct TransportEnds {
  Transport transport = Transport::udp;
  std::uint16_t source = 0;
  std::uint16_t destination = 0;
};

// Where the numbers lie that are to be changed, and whose they are.
struct TranslationView {
  TransportEnds ends;
  std::uint16_t offset = 0;  // of the UDP, TCP or ICMP header, from the start of the packet
  bool echo_reply = false;   // of `echo`: it has its number as destination, a request as source
};

// Nothing where the packet is none that can be translated by itself: another protocol, an ICMP that is no echo, a
// fragment, a header that is cut short.
std::optional<TranslationView> translation_of(ByteView packet, const IpView& view);

enum class Side : std::uint8_t { source, destination };

// `to` is of the packet's family. The packet is one that translation_of() found `at` in.
void rewrite(Packet& packet, const TranslationView& at, Side side, const Endpoint& to);

// Its address alone, and the IPv4 header's checksum: those behind it are the caller's to make anew.
void rewrite_address(Packet& packet, Side side, const IpAddress& to);

// As rewrite(), in a packet that an ICMP error quotes, from its IP header on; what is cut off is left alone, and so is
// a checksum in it that is cut off. `transport` bytes into it begins what the header carries. The quoted packet's own
// checksums are updated; that of the ICMP message around it is the caller's.
void rewrite_quoted(MutableByteView quoted, std::size_t transport, Transport kind, Side side, const Endpoint& to);

}  // namespace penstock::egress
