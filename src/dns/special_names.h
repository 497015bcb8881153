// Names that are answered here whatever an upstream would say, for it knows nothing of them or must not hear of them.
//
//   localhost                       127.0.0.1 and ::1                                            RFC 6761 section 6.3
//   invalid, test, onion            no such name                                                 RFC 6761, RFC 7686
//   resolver.arpa                   no such name: it would lead around this gateway              RFC 9462
//   home.arpa                       no such name                                                 RFC 8375
//   reverse zones of this machine, of links, documentation and broadcast
//                                   no such name                                                 RFC 6303 section 4
//   reverse zones of private and shared addresses
//                                   the same, unless the upstream is one that knows them         RFC 6303, RFC 7793
//
// Threads   pure functions of constant tables.
#pragma once

#include <optional>
#include <string_view>

#include "base/ip.h"
#include "dns/name.h"

namespace penstock::dns {

enum class SpecialKind : std::uint8_t {
  loopback,         // localhost
  empty,            // a zone with nothing in it
  private_reverse,  // the same, but for an upstream of one's own
};

struct SpecialZone {
  Name zone;
  SpecialKind kind;
};

std::optional<SpecialZone> special_zone_of(const Name& name);

// What a name below in-addr.arpa or ip6.arpa is about (RFC 1035 section 3.5, RFC 3596 section 2.5).
struct ReverseName {
  Prefix prefix;      // of as many bits as its labels say; an address where that is all of them
  bool whole = true;  // false: in front of them stand labels that are no part of an address
};
// Nothing for names elsewhere.
std::optional<ReverseName> parse_reverse(const Name& name);
// The name whose prefix this is, its length down to whole labels: octets, or nibbles of IPv6.
Name reverse_name(const Prefix& prefix);

}  // namespace penstock::dns
