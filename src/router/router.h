// Decides where each packet goes. One a shard; the only place where doors and exits meet.
//
//   session --> [ parse -> source guard -> meter ] --+
//                                                    +--> [ route table ] --> a port of this shard
//   exit    --> [ parse ] ---------------------------+           |
//                                                                +--> another shard (crossing), or a counted Drop
//
//   to a session, on its own shard:  [ hop limit -> size -> MSS ] --> Session::send
//
// It is a router to its members, and behaves as one (RFC 1812 section 5, RFC 8200):
//   hop limit     one less between two sessions. Not between a session and an exit: there the next router, the kernel
//                 behind a TUN device, takes one off, and the gateway is to be one hop and not two. Not for what goes
//                 to everybody (discovery.h).
//   size          what is larger than its receiver's Session::mtu(), a super-packet by its largest segment, is refused
//                 with that number, or fragmented where that may be (packet/fragment.h). A receiver's shard knows its
//                 size, so that is where it is judged. What goes to everybody passes by those who do not take it,
//                 uncounted.
//   MSS           TCP is told in its handshake what both sides take (packet/mss.h): for the sender as its packet comes
//                 in, for the receiver as it goes out.
//   ICMP          to whom sent what is refused, by the route to its source (icmp_errors.h). What access rules deny dies
//                 in silence, whatever else is wrong with it, and so does what was for a session without a link.
//
// Broadcasts and multicasts are not routed: discovery.h judges them, and what it lets through is offered to all ports
// of all shards (Port::flood); a session takes a copy unless it is the sender, an exit unless it came from an exit.
//
// Packets of one batch that go to the same port in a row stay one batch, so a transfer costs one virtual call a batch.
//
// Always true   a packet that enters is sent to exactly one port (perhaps in fragments), offered to all, or
//               counted under exactly one Drop (RouterTest: EveryPacketIsDeliveredOrCounted), a super-packet as the
//               packets that it stands for. What came from an exit never goes back to that exit. Behind the doors here
//               every header and every Offload is true (parse_ip(), check_offload()).
// Ownership     ports are borrowed: whoever adds one removes it before it dies.
// Threads       its shard's loop only. The counters may be read by anybody.
// Not here      who may join (session/), queues and pacing (the ports), NAT (an exit).
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "packet/ip_view.h"
#include "packet/packet.h"
#include "router/discovery.h"
#include "router/drop.h"
#include "router/icmp_errors.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/route_table.h"
#include "router/session.h"

namespace penstock::router {

// Where routes of the VPN subnet point to until a session takes an address: such packets die as no_session instead of
// following the default route out.
inline constexpr PortId kNobody{.shard = 0xFFFF, .slot = 0, .generation = 1};

// Everybody on the LAN, on whatever shard: not a port, but what discovery.h lets through is routed there as one batch.
inline constexpr PortId kEverybody{.shard = 0xFFFE, .slot = 0xFFFFFFFF, .generation = 1};
// The part of it that is on one shard: what crosses is addressed so, once a packet, and copied over there.
constexpr PortId everybody_on(std::uint16_t shard) { return {shard, kEverybody.slot, kEverybody.generation}; }

class Router {
 public:
  // Takes packets for a port of another shard; leaves `batch` empty.
  using Cross = std::function<void(PortId to, PacketBatch& batch)>;
  // Runs a task in a later turn of the loop.
  using Post = std::function<void(Task)>;
  // To how many ports a packet for everybody goes in one turn: each costs its link a write of about 10 us, and who
  // talks to one other should not wait for more than a few milliseconds of them.
  static constexpr std::size_t kFloodSlice = 256;

  Router(std::uint16_t shard, Cross cross, Post post)
      : shard_(shard), cross_(std::move(cross)), post_(std::move(post)) {}

  // A port of this shard gets a name; the name of a removed port finds nothing, whoever has the slot afterwards.
  PortId add_port(Port& port) { return add({.port = &port}); }
  PortId add_port(Session& session) { return add({.port = &session, .session = &session}); }
  void remove_port(PortId id);
  // Null where there is no such port (any more).
  Port* port(PortId id) const;

  void set_routes(RouteTable routes) { routes_ = std::move(routes); }
  const RouteTable& routes() const { return routes_; }

  // Broadcasts and multicasts are judged by `discovery` from now on; `shards` is how many the gateway has. Until then
  // none goes on.
  void set_discovery(Discovery discovery, std::size_t shards) {
    discovery_ = std::move(discovery);
    shards_ = shards;
  }

  // The gateway's inner addresses, in whose name it sends ICMP errors from now on; about packets of a family without
  // one it sends none, as it does until then. `clock` is that of the shard's loop.
  void set_addresses(std::optional<IpAddress> v4, std::optional<IpAddress> v6, const Clock& clock) {
    errors_ = IcmpErrors(v4, v6, clock);
  }

  // Both leave `batch` empty.
  void from_session(Session& session, PacketBatch& batch);
  // `exit` is the port that the packets came in by, or none.
  void from_exit(PortId exit, PacketBatch& batch);
  // What another shard routed to a port of this one.
  void deliver(PortId to, PacketBatch& batch);

  DropCounters& drops() { return drops_; }
  const DropCounters& drops() const { return drops_; }
  // The last address of the VPN subnet that nobody had, for the log's summary.
  const IpAddress& last_unmatched() const { return last_unmatched_; }

 private:
  struct Slot {
    Port* port = nullptr;
    Session* session = nullptr;  // the port, where it is one
    std::uint32_t generation = 0;
  };
  struct Flood {
    PacketBatch packets;
    std::size_t next_slot = 0;
  };
  PortId add(Slot port);
  const Slot* find(PortId id) const;
  void route(const IpView& view, Packet&& packet, PortId came_from);
  // `allowed`: the sender's address is one to be heard by everybody.
  void route_to_everybody(const IpView& view, Packet&& packet, bool allowed, TokenBucket& sender);
  // Takes out of `batch` what may not go to `session`, and has the rest as it takes it.
  void fit(Session& session, PacketBatch& batch);
  // Appends `packet`, which is larger than `session` takes, in fragments to `out`, where it may be cut.
  void cut(Session& session, Packet&& packet, PacketBatch& out);
  // Counts `packet` under `reason` and has its sender told, if there is something to be told.
  void refuse(const Packet& packet, Drop reason, std::optional<Packet> error);
  // The same of a packet that was on its way into `session`; `error` is made only where the rules let its sender know.
  template <typename Error>
  void refuse_at(Session& session, const Packet& packet, Drop reason, Error error);
  void gather(PortId to, Packet&& packet);
  void flush();
  void deliver_to_everybody(PacketBatch& batch);
  // To every port of this shard, one slice a turn; one batch after the other.
  void flood(PacketBatch& batch);
  void flood_slice();

  std::uint16_t shard_;
  Cross cross_;
  Post post_;
  RouteTable routes_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  DropCounters drops_;
  IpAddress last_unmatched_;
  IcmpErrors errors_;
  Discovery discovery_;
  std::size_t shards_ = 1;
  TokenBucket exits_;  // those of this shard together are one sender
  std::deque<Flood> floods_;

  std::uint32_t identification_ = 0;  // of what was cut last

  // The run of packets to one port that is being gathered.
  PortId run_to_;
  PacketBatch run_;
};

}  // namespace penstock::router
