// A whole UDP packet taken apart and made: for services that stand on an inner address and have no socket there.
//
//   Packet --read_udp()--> UdpView: both ends, payload        make_udp() --> Packet with finished checksums
//
// What read_udp() says yes to   is unfragmented, without IPv6 extension headers, with lengths that agree, an Offload
//               that can be true of it, and a good UDP checksum where there is one: that of IPv4 may be 0 for none (RFC
//               768), that of IPv6 not (RFC 8200 section 8.1), and a partial one is nobody's to verify.
// Super-packets   are one view over several datagrams: for_each_datagram().
// Hostile input   anything may come in; nothing is read that is not there.
// Threads       pure functions; a view lives as long as the packet's bytes.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/packet.h"

namespace penstock {

struct UdpView {
  Endpoint from;
  Endpoint to;
  ByteView payload;                // what the UDP header says there is, which may be less than the packet holds
  std::uint16_t segment_size = 0;  // of each datagram but the last; 0: `payload` is one

  // Calls `take(ByteView)` for each datagram, in order. An empty one is one too.
  template <typename Take>
  void for_each_datagram(Take take) const {
    ByteView rest = payload;
    for (; segment_size != 0 && rest.size() > segment_size; rest = rest.subspan(segment_size))
      take(rest.first(segment_size));
    take(rest);
  }
};

std::optional<UdpView> read_udp(const Packet& packet);

struct UdpHeaders {
  std::uint8_t hops = 64;
  std::uint8_t tos = 0;  // or traffic class
  // Of IPv4, whose packet may be fragmented on its way: another one for each packet between two hosts (RFC 6864).
  std::uint16_t identification = 0;
};

// From one end to another, both of one family. An empty packet where the payload is larger than one can hold.
Packet make_udp(const Endpoint& from, const Endpoint& to, ByteView payload, const UdpHeaders& headers = {});

}  // namespace penstock
