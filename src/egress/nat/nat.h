// Network address translation, as a function from packets and time to packets: many inner ends behind few outer ones.
//
//   session --> translate_outbound() --> packet from the outer end --> external gateway --> internet
//   session <-- translate_inbound()  <-- packet to the outer end   <-- external gateway <-- internet
//
// Mapping     endpoint-independent (RFC 4787 REQ-1, RFC 5508 REQ-1): an inner end has one outer end, whomever it speaks
//             to, so peers can tell each other how to be reached.
// Filtering   whoever was spoken to may answer, by address and port, by address, or everybody (REQ-8). By default the
//             first, since nobody else has business here.
// Time        UDP 5 minutes (REQ-5; 2 would be the least), echo 2 (RFC 5508 REQ-2 asks for one; a client may be away
//             for as long, and go on). Any packet that passes begins it anew, in either direction: what comes in passes
//             only from who was spoken to.
// Hairpin     what goes to an outer end of ours comes back in, as from the sender's own outer end (RFC 4787 REQ-9,
//             RFC 5508 REQ-7): the caller gives it to translate_inbound().
// Errors      of ICMP go through with the packet that they quote translated as well (RFC 5508 section 4): of those
//             that come in, only about what such a flow has really sent. They begin no time anew.
// Checksums   are updated and never made good; that of an ICMP error, which is made anew, is looked at first.
//
// Not here    who may go where (exit_policy.h), fragments (packet/reassembly.h puts them together first), hop limits
//             (the caller's, which is the router in between), TCP, sockets.
// Threads     one.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "egress/nat/mapping_table.h"
#include "egress/nat/rewrite.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/discovery.h"

namespace penstock::egress {

enum class NatDrop : std::uint8_t {
  not_translatable,  // neither UDP nor an echo nor an ICMP error about those, or a fragment
  malformed,         // headers that are cut short, or an ICMP error with a bad checksum
  no_port,           // there is no outer end left
  no_outside,        // there are none of its kind: of IPv6 where the machine has no way there, of pings that it forbids
  no_mapping,        // to an outer end that nobody has
  filtered,          // to somebody who did not speak to its sender
  flow_rate,         // its sender begins too many conversations a second
};

class Nat {
 public:
  enum class Filtering : std::uint8_t { address_and_port, address, none };

  struct Settings {
    Filtering filtering = Filtering::address_and_port;
    Duration udp_timeout = std::chrono::minutes(5);
    Duration echo_timeout = std::chrono::minutes(2);
    MappingTable::Bounds bounds;
    std::uint32_t flow_rate = 500;  // flows that a session may begin a second, twice as many at once; 0: any number
  };

  struct Outbound {
    Binding binding;
    bool hairpin = false;  // it is for an outer end of ours
  };
  struct Inbound {
    Binding binding;
    SessionId owner;
  };

  // `ports` outlives this.
  Nat(const router::SipKey& key, const Settings& settings, ExternalPorts& ports, TimePoint now);

  // `packet` is a session's (Packet::source), with headers that parse_ip() believed as `view`, a super-packet that
  // check_offload() believed. From then on its source is the outer end. It is changed only where it is not dropped.
  std::expected<Outbound, NatDrop> translate_outbound(Packet& packet, const IpView& view, TimePoint now);
  // From then on its destination is the inner end.
  std::expected<Inbound, NatDrop> translate_inbound(Packet& packet, const IpView& view, TimePoint now);

  // Whether this is somebody's outer end. Of echo none is: what is pinged there is the machine.
  bool is_outer_end(const Endpoint& to, std::uint8_t protocol) const;

  // Always open from outside, and known by this outer end from inside.
  Binding forward(Transport transport, const Endpoint& external, const Endpoint& inner) {
    return table_.add_static(MappingTable::End::of(inner, transport), MappingTable::End::of(external, transport));
  }
  void remove_forward(Binding forward) { table_.remove_static(forward); }
  // What has its outer end at an address that the machine no longer has.
  void forget_external(const IpAddress& external) { table_.close_external(external); }
  // All that a session has goes with it.
  void forget(SessionId session) { table_.close_all(session); }
  // Takes away what is over; true: call again soon, there is more.
  bool expire(TimePoint now) { return table_.expire(now); }

  const MappingTable& table() const { return table_; }

 private:
  using End = MappingTable::End;
  Duration timeout_of(Transport transport) const {
    return transport == Transport::echo ? settings_.echo_timeout : settings_.udp_timeout;
  }
  // What the filter asks of who speaks from outside.
  End as_filtered(End remote) const;
  bool may_begin(SessionId session, TimePoint now);
  std::expected<Outbound, NatDrop> error_outbound(Packet& packet, const IpView& view, TimePoint now);
  std::expected<Inbound, NatDrop> error_inbound(Packet& packet, const IpView& view, TimePoint now);

  Settings settings_;
  MappingTable table_;
  std::vector<router::TokenBucket> beginnings_;  // of flows, by the session's slot
};

}  // namespace penstock::egress
