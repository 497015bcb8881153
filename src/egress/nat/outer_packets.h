// Packets of the outer wire, made of what sockets give: they know payloads, errors and addresses, and no headers.
//
// Threads   pure functions.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ip.h"
#include "egress/nat/rewrite.h"
#include "net/datagram.h"
#include "packet/packet.h"

namespace penstock::egress {

// What arrived in a UDP socket bound to `to`, with a partial checksum; a super-packet where it stands for several
// datagrams. `identification` is IPv4's, which may have to be fragmented on its way to a client; nothing where it is
// larger than a packet can be.
Packet udp_packet_of(const net::Received& datagram, const Endpoint& to, std::uint16_t identification);
// The same of an ICMP message that arrived in a ping socket.
Packet echo_packet_of(const net::Received& message, const Endpoint& to, std::uint16_t identification);

// The ICMP error that was about a datagram from `from`: its reporter's words, quoting as much as the system kept.
// Nothing (an empty packet) where the system does not say who reports it.
Packet error_packet_of(const net::SocketError& error, Transport transport, const Endpoint& from);

}  // namespace penstock::egress
