// Which conversation a packet belongs to, and in which role: what access rules and their memory of replies ask.
//
// Pure functions over bytes that may be hostile; nothing is read that is not there.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip.h"
#include "packet/ip_view.h"
#include "packet/tcp_segment.h"
#include "router/address_bits.h"

namespace penstock::router {

// The two ends of a conversation, in the direction in which a packet travels. Ports are those of TCP and UDP; an echo
// request has its identifier as from_port, the reply to it as to_port; everything else has none (0).
struct FlowKey {
  AddressBits from;
  AddressBits to;
  std::uint16_t from_port = 0;
  std::uint16_t to_port = 0;
  Family family = Family::ipv4;
  std::uint8_t protocol = 0;

  FlowKey reversed() const { return {to, from, to_port, from_port, family, protocol}; }
  std::array<std::uint64_t, 5> words() const {
    return {from.upper, from.lower, to.upper, to.lower,
            std::uint64_t{static_cast<std::uint8_t>(family)} << 40 | std::uint64_t{protocol} << 32 |
                std::uint64_t{from_port} << 16 | to_port};
  }
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

enum class FlowRole : std::uint8_t {
  message,         // may begin a conversation and may be part of one: TCP, UDP, and protocols without ports
  echo_request,    // begins one
  echo_reply,      // only ever answers
  error,           // ICMP about the packet that it quotes
  other_control,   // other ICMP, which is part of no conversation
  later_fragment,  // has no ports: goes with its first fragment
};

struct FlowView {
  FlowKey key;
  FlowRole role = FlowRole::message;
  std::uint8_t tcp_flags = 0;
  bool fragment = false;       // the first one or a later one
  std::uint32_t datagram = 0;  // its identification, where `fragment`
  FlowKey quoted;              // of a role of error: the quoted packet's, as that one travelled
};

// Nothing where the headers are cut short, or are of a kind that has no honest use: fragments of TCP that end before
// or begin inside its header (RFC 1858 section 3, RFC 3128), ICMP errors that quote nothing whole or a later fragment.
std::optional<FlowView> read_flow(ByteView packet, const IpView& view);

}  // namespace penstock::router
