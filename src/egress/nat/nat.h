// Network address translation, as a function from packets and time to packets: many inner ends behind few outer ones.
//
//   session --> translate_outbound() --> packet from the outer end --> external gateway --> internet
//   session <-- translate_inbound()  <-- packet to the outer end   <-- external gateway <-- internet
//
// Mapping     endpoint-independent (RFC 4787 REQ-1, RFC 5508 REQ-1): an inner end has one outer end, whomever it speaks
//             to, so peers can tell each other how to be reached.
// Filtering   whoever was spoken to may answer, by address and port, by address, or everybody (REQ-8). By default the
//             first, since nobody else has business here. Of TCP it is always the first (RFC 5382 REQ-3 leaves it
//             open): a flow is a connection there, and who hears of its end must know between whom it was.
// Time        UDP 5 minutes (REQ-5; 2 would be the least), echo 2 (RFC 5508 REQ-2 asks for one; a client may be away
//             for as long, and go on), TCP 2 hours and 4 minutes once an ACK without RST has come in, 4 minutes until
//             then (RFC 5382 REQ-5). Any packet that passes begins it anew, in either direction: what comes in passes
//             only from who was spoken to.
// TCP         a flow begins by what opens a connection alone, SYN without ACK and RST: everything else of which nothing
//             is known belongs to a connection that is gone, and whoever sent it is to be told (no_connection). FIN and
//             RST end no flow, since what is seen of them here may be forged, lost further on, or sent again: whoever
//             ends the connection outside knows, and says so (end_flow()). For a gateway that only carries packets
//             there are the timeouts, and the bounds of mapping_table.h, by which the silent go first.
// Forwards    what comes to one passes whoever sends it, and leaves no flow, for it has no owner. Of TCP that is a SYN
//             (again and again, until it is answered); the SYN-ACK of the inner end opens the flow for the session that
//             answers, and with that the rest may pass: so a connection from outside counts among the flows of who
//             serves it, and goes with that session. The RST of one who does not serve passes and leaves nothing.
// Hairpin     what goes to an outer end of ours comes back in, as from the sender's own outer end (RFC 4787 REQ-9,
//             RFC 5508 REQ-7): the caller gives it to translate_inbound(). Of TCP both have a flow then, and no gateway
//             has seen them.
// Errors      of ICMP go through with the packet that they quote translated as well (RFC 5508 section 4): of those
//             that come in, only about what such a flow has really sent. They begin no time anew.
// Checksums   are updated and never made good; that of an ICMP error, which is made anew, is looked at first, and so is
//             that of a SYN that would open a flow.
//
// Not here    who may go where (exit_policy.h), fragments (packet/reassembly.h puts them together first), hop limits
//             (the caller's, which is the router in between), what of TCP lies in which window, sockets.
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
  not_translatable,  // neither TCP nor UDP nor an echo nor an ICMP error about those, or a fragment
  malformed,         // headers that are cut short, or a bad checksum where it is looked at
  no_port,           // there is no outer end left
  no_outside,        // there are none of its kind: of IPv6 where the machine has no way there, of pings that it forbids
  no_mapping,        // to an outer end that nobody has
  filtered,          // to somebody who did not speak to its sender
  flow_rate,         // its sender begins too many conversations a second
  no_connection,     // TCP that opens none, of a connection that nobody knows: whoever sent it is owed a RST
};

class Nat {
 public:
  enum class Filtering : std::uint8_t { address_and_port, address, none };

  struct Settings {
    Filtering filtering = Filtering::address_and_port;  // of UDP
    Duration udp_timeout = std::chrono::minutes(5);
    Duration echo_timeout = std::chrono::minutes(2);
    Duration tcp_timeout = std::chrono::minutes(124);
    Duration tcp_transitory_timeout = std::chrono::minutes(4);  // at most the other
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
  std::expected<Outbound, NatDrop> translate_outbound(Packet& packet, const IpView& view, TimePoint now) {
    return translate_outbound(packet, view, translation_of(packet.bytes(), view), now);
  }
  // From then on its destination is the inner end.
  std::expected<Inbound, NatDrop> translate_inbound(Packet& packet, const IpView& view, TimePoint now);
  // The same for whoever has asked translation_of() already.
  std::expected<Outbound, NatDrop> translate_outbound(Packet& packet, const IpView& view,
                                                      const std::optional<TranslationView>& at, TimePoint now);

  // Whether this is somebody's outer end: a forward, or one with flows. Of echo none is: what is pinged there is the
  // machine.
  bool is_outer_end(const Endpoint& to, std::uint8_t protocol) const;

  // Always open from outside, and known by this outer end from inside.
  Binding forward(Transport transport, const Endpoint& external, const Endpoint& inner) {
    return table_.add_static(MappingTable::End::of(inner, transport), MappingTable::End::of(external, transport));
  }
  void remove_forward(Binding forward) { table_.remove_static(forward); }
  // What has its outer end at an address that the machine no longer has.
  void forget_external(const IpAddress& external) { table_.close_external(external); }
  // Whoever ends connections outside says that this one of TCP is over. Nothing happens where it is not known (any
  // more).
  void end_flow(const Endpoint& external, const Endpoint& remote);
  // Likewise all flows of which `over(mapping, remote end)` is true.
  template <typename Over>
  void break_off_where(Over over) {
    table_.break_off_where(over);
  }
  // The flow of an outbound packet, if there is one, shall be no more: whoever ends it outside is told.
  void break_off(const IpView& view, const TransportEnds& ends);
  // All that a session has goes with it.
  void forget(SessionId session) { table_.close_all(session); }
  // Takes away what is over; true: call again soon, there is more.
  bool expire(TimePoint now) { return table_.expire(now); }

  const MappingTable& table() const { return table_; }

 private:
  using End = MappingTable::End;
  // Of a flow that begins.
  Duration timeout_of(Transport transport) const {
    switch (transport) {
      case Transport::udp: return settings_.udp_timeout;
      case Transport::tcp: return settings_.tcp_transitory_timeout;
      case Transport::echo: return settings_.echo_timeout;
    }
    return settings_.udp_timeout;
  }
  // What the filter asks of who speaks from outside.
  End as_filtered(End remote) const;
  bool may_begin(SessionId session, TimePoint now);
  // Why this packet opens no flow of `mapping`, or of a new one where there is none.
  std::optional<NatDrop> may_not_open(const Packet& packet, const IpView& view, const TranslationView& at,
                                      const MappingTable::Mapping* mapping, TimePoint now);
  std::expected<Outbound, NatDrop> error_outbound(Packet& packet, const IpView& view, TimePoint now);
  std::expected<Inbound, NatDrop> error_inbound(Packet& packet, const IpView& view, TimePoint now);

  Settings settings_;
  MappingTable table_;
  std::vector<router::TokenBucket> beginnings_;  // of flows, by the session's slot
};

}  // namespace penstock::egress
